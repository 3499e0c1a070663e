//! A choice written in one line: `name` or `name:key=value,key=value`.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::OptimError;

/// What `text` chooses among the variants of `T`, whose tag is `name`; `what` is said in errors.
pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, OptimError> {
    parse_with(what, text, |_| ())
}

/// As [`parse`], with a change to the table before it is read.
pub(crate) fn parse_with<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<T, OptimError> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
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
    for pair in rest.split(separates).map(str::trim).filter(|pair| !pair.is_empty()) {
        let wrong = |why: &str| OptimError::Setting { what, text: text.to_owned(), why: why.to_owned() };
        let (key, value) =
            pair.split_once('=').ok_or_else(|| wrong(&format!("`{pair}` is not `key=value`")))?;
        let (key, value) = (key.trim(), value.trim());
        let value: Value = serde_json::from_str(value)
            .or_else(|error| {
                // JSON wants a digit before the point and a bare word in quotes; a command line does not.
                let number: Option<f64> = value.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Value::from).ok_or(error)
            })
            .map_err(|_| {
                wrong(&format!("`{key}` is `{value}`, it must be a number, a list of numbers, true or false"))
            })?;
        if key == "name" || map.insert(key.to_owned(), value).is_some() {
            return Err(wrong(&format!("`{key}` is given twice")));
        }
    }
    map.insert("name".to_owned(), name.trim().into());
    change(&mut map);
    serde_json::from_value(map.into()).map_err(|error| OptimError::Setting {
        what,
        text: text.to_owned(),
        why: error.to_string(),
    })
}
