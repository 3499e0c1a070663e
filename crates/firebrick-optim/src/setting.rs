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
    serde_json::from_value(map.into()).map_err(|error| wrong(what, text, error.to_string()))
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
                number.map(Value::from).ok_or(error)
            })
            .map_err(|_| {
                let right = "a number, a list of numbers, true or false";
                wrong(what, text, format!("`{key}` is `{value}`, it must be {right}"))
            })?;
        if map.insert(key.to_owned(), value).is_some() {
            return Err(wrong(what, text, format!("`{key}` is given twice")));
        }
    }
    Ok(map)
}
