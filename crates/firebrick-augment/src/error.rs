//! The one error type of this crate.

/// What can be wrong with settings that come from outside.
///
/// Applying a draw or a preprocessing never fails: everything that can be wrong is found by the `validate` methods
/// and by parsing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// A setting lies outside its range.
    #[error("`{field}` is {value}, but it must be {expected}")]
    InvalidSetting {
        /// The setting's name, as written in a configuration file.
        field: &'static str,
        /// The offending value.
        value: String,
        /// The range that would be right, and how to turn the setting off.
        expected: &'static str,
    },
    /// A name stands where one of a few known names is expected.
    #[error("unknown {kind} `{value}`: choose one of {known}")]
    UnknownName {
        /// What the name is for, such as "interpolation".
        kind: &'static str,
        /// The offending name.
        value: String,
        /// The names that would be right, separated by commas.
        known: &'static str,
    },
    /// A pipeline that cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// A step of a pipeline that is wrong.
    #[error("step {number} ({name}): {reason}")]
    Step {
        /// Its place, counted from 1.
        number: usize,
        /// Its name.
        name: String,
        /// The field and the value, and what would be right.
        reason: String,
    },
}

impl AugmentError {
    /// An [`AugmentError::InvalidSetting`] for any printable value.
    pub(crate) fn invalid(field: &'static str, value: impl std::fmt::Debug, expected: &'static str) -> Self {
        Self::InvalidSetting { field, value: format!("{value:?}"), expected }
    }
}
