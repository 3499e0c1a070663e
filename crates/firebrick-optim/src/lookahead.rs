//! Lookahead.

use std::str::FromStr;

use burn::module::{Module, ParamId};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::gradients::{ChangeValue, Values, change_trained};
use crate::{OptimError, setting};

/// Every `k` steps of any optimizer `φ ← φ + α (θ - φ)`, `θ ← φ`: Zhang et al. 2019 (arXiv:1907.08610), algorithm 1. As text
/// `k=5,alpha=0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookaheadConfig {
    /// Steps between two updates of the slow weights, at least 1; 5 by default (paper, CIFAR).
    pub k: usize,
    /// α, greater than 0 and at most 1; 0.5 by default (paper, ImageNet).
    pub alpha: f64,
}

impl Default for LookaheadConfig {
    fn default() -> Self {
        Self { k: 5, alpha: 0.5 }
    }
}

impl LookaheadConfig {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// [`OptimError::OutOfRange`] names the first one that is outside its range.
    pub fn validate(&self) -> Result<(), OptimError> {
        if self.k == 0 {
            return Err(OptimError::OutOfRange { field: "lookahead k", value: 0.0, range: "at least 1" });
        }
        match self.alpha > 0.0 && self.alpha <= 1.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange {
                field: "lookahead alpha",
                value: self.alpha,
                range: "greater than 0 and at most 1",
            }),
        }
    }
}

impl FromStr for LookaheadConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let config: Self = setting::parse_settings("lookahead", text)?;
        config.validate()?;
        Ok(config)
    }
}

/// The slow weights.
pub(crate) struct Lookahead {
    config: LookaheadConfig,
    steps: usize,
    slow: Values,
}

impl Lookahead {
    /// Starts from the weights before the first step.
    pub(crate) fn new<M: Module>(config: LookaheadConfig, module: &M) -> Self {
        Self { config, steps: 0, slow: Values::of(module) }
    }

    /// The fast weights after a step.
    pub(crate) fn stepped<M: Module>(&mut self, module: M) -> M {
        self.steps += 1;
        match self.steps.is_multiple_of(self.config.k) {
            true => change_trained(module, self),
            false => module,
        }
    }
}

impl ChangeValue for Lookahead {
    fn change<const D: usize>(&mut self, _: &str, id: ParamId, fast: Tensor<D>) -> Tensor<D> {
        let alpha = self.config.alpha;
        self.slow.update(id, fast, |slow, fast| slow.clone() + (fast - slow) * alpha)
    }
}
