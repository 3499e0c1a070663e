//! Optimizers with every hyper-parameter named: what acts on parameters and gradients.
//!
//! Adam, AdamW and SGD are this crate's own, with bias corrections in f64 and one pass over memory on the CPU; RMSprop is burn's,
//! and all of them run in burn's `ModuleOptimizer`. Burn's defaults are neither Keras' nor PyTorch's (Adam's epsilon is 1e-5, RMSprop has
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

mod adam;
mod config;
mod error;
mod sgd;

pub use config::OptimizerConfig;
pub use error::OptimError;
