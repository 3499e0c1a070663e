//! A layer's name in Keras beside that in the zoo, read in either direction.

/// A layer, or layers that differ in their numbers: `#` stands for a number in either name, `@` for one that is written as a letter.
#[derive(Debug)]
pub(super) struct Pair {
    pub keras: &'static str,
    pub published: &'static str,
    /// Of each `#` and `@`, in their order.
    pub numbers: &'static [Numbers],
}

/// Consecutive numbers.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The first one in Keras.
    pub keras: usize,
    /// The same one in the zoo.
    pub published: usize,
    pub count: usize,
}

/// One layer.
pub(super) const fn one(keras: &'static str, published: &'static str) -> Pair {
    Pair { keras, published, numbers: &[] }
}

/// Layers that differ in their numbers.
pub(super) const fn many(keras: &'static str, published: &'static str, numbers: &'static [Numbers]) -> Pair {
    Pair { keras, published, numbers }
}

/// `count` numbers from `keras` there and `published` here.
pub(super) const fn from(keras: usize, published: usize, count: usize) -> Numbers {
    Numbers { keras, published, count }
}

impl Pair {
    pub fn published(&self, keras: &str) -> Option<String> {
        let numbers = read(self.keras, keras)?;
        let moved = numbers.into_iter().zip(self.numbers);
        write(self.published, moved.map(|(n, by)| moved_by(n, by.keras, by.published, by.count)))
    }

    pub fn keras(&self, published: &str) -> Option<String> {
        let numbers = read(self.published, published)?;
        let moved = numbers.into_iter().zip(self.numbers);
        write(self.keras, moved.map(|(n, by)| moved_by(n, by.published, by.keras, by.count)))
    }
}

fn moved_by(number: usize, from: usize, to: usize, count: usize) -> Option<usize> {
    let place = number.checked_sub(from)?;
    (place < count).then_some(to + place)
}

/// The numbers of a name that is made after a template.
fn read(template: &str, mut name: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in template.chars() {
        let number = match part {
            '#' => {
                let digits = name.bytes().take_while(u8::is_ascii_digit).count();
                let (number, rest) = name.split_at(digits);
                name = rest;
                whole(number)
            }
            '@' => {
                let letter = name.bytes().next().filter(u8::is_ascii_lowercase)?;
                name = &name[1..];
                Some(usize::from(letter - b'a'))
            }
            literal => {
                name = name.strip_prefix(literal)?;
                continue;
            }
        };
        numbers.push(number?);
    }
    name.is_empty().then_some(numbers)
}

fn write(template: &str, mut numbers: impl Iterator<Item = Option<usize>>) -> Option<String> {
    let mut name = String::new();
    for part in template.chars() {
        match part {
            '#' => name += &numbers.next()??.to_string(),
            '@' => name.push(char::from(b'a' + u8::try_from(numbers.next()??).ok().filter(|n| *n < 26)?)),
            literal => name.push(literal),
        }
    }
    Some(name)
}

/// A number as it is written without zeros before it.
fn whole(digits: &str) -> Option<usize> {
    let number = digits.parse().ok()?;
    (!digits.starts_with('0') || digits == "0").then_some(number)
}

/// Layers that Keras names by their class and counts as it makes them.
#[derive(Debug)]
pub(super) struct Counted {
    /// Where they are in the zoo, in Keras' order: modules, and their parts.
    pub places: &'static [(&'static str, &'static [&'static str])],
    /// Keras' word, and the word here for the layer at a place.
    pub layers: &'static [(&'static str, &'static str)],
}

impl Counted {
    fn places(&self) -> impl Iterator<Item = String> {
        self.places.iter().flat_map(|(module, parts)| parts.iter().map(move |part| format!("{module}{part}")))
    }

    pub fn published(&self, keras: &str) -> Option<String> {
        self.layers.iter().find_map(|(word, layer)| {
            let place = self.places().nth(counted_layer(keras, word)?)?;
            Some(format!("{place}.{layer}"))
        })
    }

    pub fn keras(&self, published: &str) -> Option<String> {
        let (place, layer) = published.rsplit_once('.')?;
        let (word, _) = self.layers.iter().find(|(_, own)| *own == layer)?;
        match self.places().position(|own| own == place)? {
            0 => Some((*word).to_owned()),
            number => Some(format!("{word}_{number}")),
        }
    }
}

/// Which of the layers called by this word a layer is: `conv2d` is the first, `conv2d_1` the second; none if it is called otherwise.
pub(crate) fn counted_layer(name: &str, word: &str) -> Option<usize> {
    match name.strip_prefix(word)? {
        "" => Some(0),
        rest => whole(rest.strip_prefix('_')?).filter(|number| *number > 0),
    }
}
