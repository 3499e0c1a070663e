//! A choice written in one line: `name`, `name:key=value,key=value`, or `key=value,key=value` alone.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::OptimError;

/// What a line `name:key=value,...` chooses among the variants of `T`, whose tag is `name`; `what` is said in errors.
///
/// # Errors
///
/// [`OptimError::Setting`] for a name, a key or a value that `T` does not have.
pub fn parse_setting<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, OptimError> {
    parse_with(what, text, |_| ())
}

/// As [`parse_setting`], with a change to the table before it is read.
pub(crate) fn parse_with<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<T, OptimError> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let mut map = table(what, text, rest)?;
    if map.insert("name".to_owned(), name.trim().into()).is_some() {
        return Err(wrong(what, text, "`name` is given twice"));
    }
    change(&mut map);
    read(what, text, map)
}

/// The `T` whose fields a line `key=value,...` gives; `what` is said in errors.
///
/// # Errors
///
/// [`OptimError::Setting`] for a key or a value that `T` does not have.
pub fn parse_settings<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, OptimError> {
    read(what, text, table(what, text, text)?)
}

fn wrong(what: &'static str, text: &str, why: impl Into<String>) -> OptimError {
    OptimError::Setting { what, text: text.to_owned(), why: why.into() }
}

fn read<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
    map: Map<String, Value>,
) -> Result<T, OptimError> {
    let words: Vec<(String, String)> = text
        .split([':', ','])
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(_, value)| is_word(value))
        .collect();
    serde_json::from_value(map.into()).map_err(|error| {
        let message = error.to_string();
        // A word where there is none to be: serde says which word, a user wants to know which key.
        let found = |word: &str| message.starts_with(&format!("invalid type: string \"{word}\""));
        match words.iter().find(|(_, word)| found(word)) {
            Some((key, word)) => no_number(what, text, key, word),
            None => wrong(what, text, message),
        }
    })
}

/// Whether a value is a name, such as that of a preset or a part of a parameter's path.
fn is_word(value: &str) -> bool {
    let mut letters = value.chars();
    letters.next().is_some_and(|letter| letter.is_alphabetic() || letter == '_')
        && letters.all(|letter| letter.is_alphanumeric() || "_-.".contains(letter))
}

fn no_number(what: &'static str, text: &str, key: &str, value: &str) -> OptimError {
    wrong(what, text, format!("`{key}` is `{value}`, it must be a number, a list of numbers, true or false"))
}

/// The `key=value` of `pairs`, a part of `text`.
fn table(what: &'static str, text: &str, pairs: &str) -> Result<Map<String, Value>, OptimError> {
    let mut map = Map::new();
    let mut depth = 0;
    // A comma within brackets belongs to a list.
    let separates = |letter: char| {
        depth += match letter {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        letter == ',' && depth == 0
    };
    for pair in pairs.split(separates).map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| wrong(what, text, format!("`{pair}` is not `key=value`")))?;
        let (key, value) = (key.trim(), value.trim());
        let value: Value = serde_json::from_str(value)
            .or_else(|error| {
                // JSON wants a digit before the point and a bare word in quotes; a command line does not.
                let number: Option<f64> = value.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Value::from).or_else(|| is_word(value).then(|| value.into())).ok_or(error)
            })
            .map_err(|_| no_number(what, text, key, value))?;
        if map.insert(key.to_owned(), value).is_some() {
            return Err(wrong(what, text, format!("`{key}` is given twice")));
        }
    }
    Ok(map)
}
