//! What a user can get wrong about a layer.

/// A setting of a layer outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{layer} setting `{field}` is {value}, it must be {expected}")]
pub struct LayerError {
    /// The layer.
    pub layer: &'static str,
    /// Name of the setting.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl LayerError {
    pub(crate) fn unless(
        fits: bool,
        layer: &'static str,
        field: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Result<(), Self> {
        if fits {
            Ok(())
        } else {
            Err(Self { layer, field, value: value.to_string(), expected: expected.into() })
        }
    }
}
