//! The training loop: fit, evaluate, predict; callbacks, history and curves.
//!
//! - [`fit`] trains any [`Network`](firebrick_nn::Network) on any [`Batches`], on the device that it lives on
//! - [`find_rate`] suggests a learning rate
//! - [`evaluate`] and [`predict`] use one without changing it
//! - [`fit_regression`] trains on [`Numbers`] instead of classes
//! - [`ImageBatches`] are images from files; [`InMemory`] batches are tensors; [`Extracted`] ones are the
//!   outputs of a frozen network
//! - [`Callback`]s watch: [`EarlyStopping`] exactly as Keras', [`WriteHistory`], [`SaveWeights`]
//! - [`metrics`] are scikit-learn's, to the sixth digit and in the degenerate cases
//! - [`DeviceChoice`] opens a device by name
//!
//! ```
//! use burn::tensor::Tensor;
//! use firebrick_nn::HeadConfig;
//! use firebrick_optim::OptimizerConfig;
//! use firebrick_train::{DeviceChoice, EarlyStopping, FitOptions, InMemory, Monitor, fit};
//!
//! let device = DeviceChoice::Auto.open()?;
//! let inputs = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.0]], &device);
//! let mut train = InMemory::new(inputs.clone(), vec![0, 1], 2)?.shuffled(0);
//! let mut validation = InMemory::new(inputs, vec![0, 1], 2)?;
//! let network = HeadConfig::new(2, 2).init(0, &device);
//! let outcome = fit(
//!     network,
//!     OptimizerConfig::adam_keras().init()?,
//!     &mut train,
//!     Some(&mut validation),
//!     &FitOptions { epochs: 3, learning_rate: 0.1, ..FitOptions::default() },
//!     &mut [&mut EarlyStopping::new(Monitor::ValLoss).with_patience(10)],
//! )?;
//! assert_eq!(outcome.history.epochs.len(), 3);
//! # Ok::<(), firebrick_train::TrainError>(())
//! ```

mod batches;
mod callback;
mod curves;
mod device;
mod early_stopping;
mod error;
mod evaluate;
mod extracted;
mod file;
mod fit;
mod fit_regression;
mod history;
mod images;
mod in_memory;
mod loss;
pub mod metrics;
mod mixing;
mod pairs;
mod rate_finder;
mod report;
mod scores;
mod whole_set;

pub use batches::{Batch, Batches, Mix};
pub use callback::{BatchEnd, Callback, Flow, SaveWeights, TrainBegin, WriteHistory};
pub use curves::{write_curves, write_regression_curves};
pub use device::DeviceChoice;
pub use early_stopping::{EarlyStopping, Mode, Monitor};
pub use error::TrainError;
pub use evaluate::{evaluate, evaluate_by, predict};
pub use extracted::{Extracted, extract};
pub use fit::{FitOptions, Outcome, Stop, fit};
pub use fit_regression::{Numbers, evaluate_regression, fit_regression};
pub use history::{EpochRecord, History};
pub use images::{ImageBatches, ImageOptions, ImageTransform, featurewise_statistics};
pub use in_memory::InMemory;
pub use loss::{Balanced, ClassWeights, LossConfig};
pub use metrics::ClassFigures;
pub use mixing::{MixConfig, MixDraw, Mixing};
pub use rate_finder::{RateCurve, RateFinder, find_rate, find_rate_regression};
pub use report::Evaluation;
pub use scores::{Scores, score};
