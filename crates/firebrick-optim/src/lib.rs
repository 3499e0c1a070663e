//! Optimizers with every hyper-parameter named: what acts on parameters and gradients.
//!
//! The update rules are burn's. Its defaults are neither Keras' nor PyTorch's (Adam's epsilon is 1e-5, RMSprop has
//! momentum 0.9), so nothing here relies on them: an [`OptimizerConfig`] holds every number, its presets
//! say whose numbers they are, and [`OptimizerConfig::validate`] refuses one that makes no sense.
//!
//! ```
//! use firebrick_optim::OptimizerConfig;
//!
//! let config = OptimizerConfig::adam_keras();
//! let optimizer = config.init()?;
//! # Ok::<(), firebrick_optim::OptimError>(())
//! ```

mod config;
mod error;

pub use config::OptimizerConfig;
pub use error::OptimError;
