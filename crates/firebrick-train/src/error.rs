//! What can go wrong while training.

use std::path::{Path, PathBuf};

/// An error of the training loop; its message names the file or value and the way out.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Images or folders.
    #[error(transparent)]
    Data(#[from] firebrick_data::DataError),
    /// Optimizer settings.
    #[error(transparent)]
    Optim(#[from] firebrick_optim::OptimError),
    /// Settings of a loss.
    #[error(transparent)]
    Loss(#[from] firebrick_nn::LossError),
    /// A file that could not be written or read.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A device that this build or this machine does not have.
    #[error("device `{name}`: {reason}")]
    Device {
        /// Its name.
        name: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A setting outside its range.
    #[error("`{field}` is {value}, it must be {range}")]
    OutOfRange {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        range: &'static str,
    },
    /// Inputs and labels that do not belong together, or none at all.
    #[error("{0}")]
    Batches(String),
    /// A figure that cannot be computed from what it was given.
    #[error("{metric}: {reason}")]
    Metric {
        /// The figure.
        metric: &'static str,
        /// Why not.
        reason: String,
    },
    /// A callback's own failure, e.g. of saving.
    #[error(transparent)]
    Callback(Box<dyn std::error::Error + Send + Sync>),
}

impl TrainError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
