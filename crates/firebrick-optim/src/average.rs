//! Averages of weights over the steps or epochs of a run.

use std::str::FromStr;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::gradients::Values;
use crate::{OptimError, setting};

/// Which average of the weights is used for validation and kept in the end. As text `ema=0.999` or `swa=5`.
///
/// Running statistics are averaged as weights are: PyTorch's `AveragedModel(use_buffers=True)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AverageConfig {
    /// After every step `a ← β a + (1 - β) θ`, from the weights after the first step on; β in `0..1`: Polyak & Juditsky 1992;
    /// PyTorch's `AveragedModel` with `get_ema_multi_avg_fn`.
    Ema(f64),
    /// The mean of the weights after this epoch, counted from 1, and all later ones: Izmailov et al. 2018 (arXiv:1803.05407);
    /// PyTorch's `AveragedModel` with `get_swa_multi_avg_fn`.
    Swa(usize),
}

impl AverageConfig {
    /// Checks the setting for a run of `epochs` epochs.
    ///
    /// # Errors
    ///
    /// [`OptimError::Average`] if it is outside its range.
    pub fn validate(&self, epochs: usize) -> Result<(), OptimError> {
        match *self {
            Self::Ema(decay) if !(0.0..1.0).contains(&decay) => Err(OptimError::Average {
                field: "ema",
                value: decay,
                range: "at least 0 and less than 1".to_owned(),
            }),
            Self::Swa(first) if first == 0 || first > epochs => Err(OptimError::Average {
                field: "swa",
                value: first as f64,
                range: format!("1 to the {epochs} epochs of the run"),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for AverageConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        setting::parse_settings("average", text)
    }
}

/// A running average.
pub(crate) struct Average {
    config: AverageConfig,
    averaged: Option<(usize, Values)>,
}

impl Average {
    pub(crate) fn new(config: AverageConfig) -> Self {
        Self { config, averaged: None }
    }

    /// A step was taken.
    pub(crate) fn stepped<M: Module>(&mut self, module: &M) {
        if let AverageConfig::Ema(decay) = self.config {
            self.take_in(module, |_| decay);
        }
    }

    /// An epoch, counted from 1, ended.
    pub(crate) fn epoch_ended<M: Module>(&mut self, module: &M, epoch: usize) {
        if let AverageConfig::Swa(first) = self.config
            && epoch >= first
        {
            self.take_in(module, |taken| taken as f64 / (taken + 1) as f64);
        }
    }

    fn take_in<M: Module>(&mut self, module: &M, keep: impl Fn(usize) -> f64) {
        match &mut self.averaged {
            None => self.averaged = Some((1, Values::of(module))),
            Some((taken, values)) => {
                values.blend(module, keep(*taken));
                *taken += 1;
            }
        }
    }

    /// `module` in evaluation mode with the averaged weights, or its own where there is no average yet.
    pub(crate) fn of<M: Module>(&self, module: &M) -> M {
        match &self.averaged {
            Some((_, values)) => values.put_into(module),
            None => module.valid(),
        }
    }
}
