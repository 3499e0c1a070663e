//! Optimizers with every hyper-parameter named: what acts on parameters and gradients.
//!
//! The rules are this crate's own, with bias corrections in f64 (Adam, AdamW and SGD in one pass over memory on the CPU),
//! each checked against PyTorch or Keras (`docs/optimization.md` has the table), and all of them run in burn's `ModuleOptimizer`. Burn's defaults are neither Keras' nor PyTorch's (Adam's epsilon is 1e-5, RMSprop has
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

mod accumulator;
mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod amsgrad;
mod average;
mod clip;
mod config;
mod error;
mod gradients;
mod groups;
mod lamb;
mod lars;
mod lbfgs;
mod lion;
mod lookahead;
mod measure;
mod muon;
mod nadam;
mod plateau;
mod radam;
mod rate;
mod regularize;
mod rmsprop;
mod sam;
mod schedule;
mod setting;
mod sgd;
mod slots;
mod stepper;

pub use accumulator::Accumulator;
pub use average::AverageConfig;
pub use clip::Clip;
pub use config::OptimizerConfig;
pub use error::OptimError;
pub use groups::GroupConfig;
pub use lbfgs::LbfgsConfig;
pub use lookahead::LookaheadConfig;
pub use plateau::{ReduceOnPlateau, ReduceOnPlateauConfig};
pub use rate::{Rate, RateConfig};
pub use regularize::RegularizeConfig;
pub use sam::sam_ascent;
pub use schedule::ScheduleConfig;
pub use setting::{parse_setting, parse_settings};
pub use stepper::{StepConfig, Stepper};
