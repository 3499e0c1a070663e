//! What a user can get wrong about an optimizer.

/// A hyper-parameter outside its range, or a name that is no optimizer's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptimError {
    /// A value outside its range.
    #[error("optimizer setting `{field}` is {value}, it must be {range}")]
    OutOfRange {
        /// Name of the hyper-parameter.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What would be right.
        range: &'static str,
    },
    /// A name that is no optimizer's.
    #[error("unknown optimizer `{0}`; there are {names}", names = crate::OptimizerConfig::NAMES.join(", "))]
    UnknownName(String),
}
