//! What a user can get wrong about a loss.

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("loss setting `{field}` is {value}, it must be {expected}")]
pub struct LossError {
    /// Name of the setting.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl LossError {
    pub(super) fn new(field: &'static str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self { field, value: value.to_string(), expected: expected.into() }
    }

    /// Refuses a `value` that is not within `range`, which is said in words by `expected`.
    pub(super) fn unless(fits: bool, field: &'static str, value: f64, expected: &str) -> Result<(), Self> {
        if fits { Ok(()) } else { Err(Self::new(field, value, expected)) }
    }
}
