//! Bars with their names and values as a picture, in letters of three by five dots.

use image::{Rgb, RgbImage};

/// A group of bars of one name.
pub struct Group {
    /// In capitals, figures and `.-%+=,:()`.
    pub name: String,
    /// What is written at the end of the group.
    pub note: String,
    /// Value and the color of its bar; values are from `low` to `high` of [`bars`].
    pub bars: Vec<(f64, Rgb<u8>)>,
}

const SCALE: u32 = 2;
const BAR: u32 = 10;
const GAP: u32 = 12;
const LEFT: u32 = 150;
const WIDTH: u32 = 480;
const RIGHT: u32 = 190;
const TOP: u32 = 64;
const BLACK: Rgb<u8> = Rgb([40, 40, 40]);
const GRID: Rgb<u8> = Rgb([215, 215, 215]);

/// Draws horizontal bars from `low` to `high`, with a title and a legend above them.
pub fn bars(title: &str, legend: &[(&str, Rgb<u8>)], groups: &[Group], low: f64, high: f64) -> RgbImage {
    let heights: Vec<u32> = groups.iter().map(|group| group.bars.len() as u32 * BAR + GAP).collect();
    let height = TOP + heights.iter().sum::<u32>() + 30;
    let mut image = RgbImage::from_pixel(LEFT + WIDTH + RIGHT, height, Rgb([255, 255, 255]));
    write(&mut image, 12, 12, title, BLACK);
    let mut x = LEFT;
    for (name, color) in legend {
        fill(&mut image, x, 36, 12, 10, *color);
        write(&mut image, x + 18, 36, name, BLACK);
        x += 40 + name.chars().count() as u32 * 4 * SCALE;
    }
    let place = |value: f64| (((value - low) / (high - low)).clamp(0.0, 1.0) * f64::from(WIDTH)) as u32;
    for tick in 0..=5 {
        let value = low + (high - low) * f64::from(tick) / 5.0;
        fill(&mut image, LEFT + place(value), TOP - 4, 1, height - TOP - 20, GRID);
        write(&mut image, LEFT + place(value) - 12, height - 20, &format!("{value:.2}"), BLACK);
    }
    let mut y = TOP;
    for (group, height) in groups.iter().zip(heights) {
        let middle = y + (height - GAP) / 2 - 5;
        write(&mut image, 12, middle, &group.name, BLACK);
        for (value, color) in &group.bars {
            fill(&mut image, LEFT, y, place(*value).max(1), BAR - 1, *color);
            y += BAR;
        }
        write(&mut image, LEFT + WIDTH + 12, middle, &group.note, BLACK);
        y += GAP;
    }
    image
}

fn fill(image: &mut RgbImage, left: u32, top: u32, width: u32, height: u32, color: Rgb<u8>) {
    for y in top..(top + height).min(image.height()) {
        for x in left..(left + width).min(image.width()) {
            image.put_pixel(x, y, color);
        }
    }
}

fn write(image: &mut RgbImage, left: u32, top: u32, text: &str, color: Rgb<u8>) {
    for (place, letter) in text.chars().enumerate() {
        let dots = glyph(letter.to_ascii_uppercase());
        for dot in 0..15 {
            if dots >> (14 - dot) & 1 == 1 {
                let (x, y) = (place as u32 * 4 + dot % 3, dot / 3);
                fill(image, left + x * SCALE, top + y * SCALE, SCALE, SCALE, color);
            }
        }
    }
}

/// Five rows of three dots, an octal digit a row.
fn glyph(letter: char) -> u16 {
    const LETTERS: [u16; 26] = [
        0o25755, 0o65656, 0o34443, 0o65556, 0o74647, 0o74644, 0o34553, 0o55755, 0o72227, 0o11152, 0o55655,
        0o44447, 0o57755, 0o65555, 0o25552, 0o65644, 0o25563, 0o65655, 0o34216, 0o72222, 0o55557, 0o55552,
        0o55575, 0o55255, 0o55222, 0o71247,
    ];
    const FIGURES: [u16; 10] =
        [0o75557, 0o26227, 0o61247, 0o71317, 0o55711, 0o74616, 0o34757, 0o71122, 0o75757, 0o75716];
    match letter {
        'A'..='Z' => LETTERS[letter as usize - 'A' as usize],
        '0'..='9' => FIGURES[letter as usize - '0' as usize],
        '.' => 0o00002,
        '-' => 0o00700,
        '%' => 0o51245,
        '+' => 0o02720,
        '=' => 0o07070,
        ',' => 0o00024,
        ':' => 0o02020,
        '(' => 0o12221,
        ')' => 0o42224,
        _ => 0,
    }
}
