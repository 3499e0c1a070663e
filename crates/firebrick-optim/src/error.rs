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
    /// A setting of a schedule that does not go with its own range or the length of the run.
    #[error("schedule setting `{field}` is {value}, it must be {range}")]
    Schedule {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What would be right.
        range: String,
    },
    /// A regulariser outside its range.
    #[error("regularize setting `{field}` is {value}, it must be {range}")]
    Regularize {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What would be right.
        range: &'static str,
    },
    /// An average of weights that does not go with its range or the length of the run.
    #[error("`{field}` is {value}, it must be {range}")]
    Average {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What would be right.
        range: String,
    },
    /// `no_decay` with an optimizer that has no weight decay.
    #[error(
        "groups setting `no_decay` is true, but the optimizer `{0}` has no weight decay; use adamw, sgd, lion, lamb, lars, adafactor or muon"
    )]
    NoDecay(&'static str),
    /// A line that chooses no member, or has a key or a value that the member does not take.
    #[error("{what} `{text}`: {why}")]
    Setting {
        /// What was to be chosen.
        what: &'static str,
        /// What was given.
        text: String,
        /// The key or the value that is wrong, and what would be right.
        why: String,
    },
    /// A name that is no optimizer's.
    #[error("unknown optimizer `{0}`; there are {names}", names = crate::OptimizerConfig::NAMES.join(", "))]
    UnknownName(String),
    /// A name that is no schedule's.
    #[error("unknown schedule `{0}`; there are {names}, plateau", names = crate::ScheduleConfig::NAMES.join(", "))]
    UnknownSchedule(String),
}
