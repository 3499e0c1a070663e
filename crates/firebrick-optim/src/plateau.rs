//! A learning rate that drops when a figure stands still.

use serde::{Deserialize, Serialize};

use crate::OptimError;

/// Settings of [`ReduceOnPlateau`]; the defaults are those of Keras' `ReduceLROnPlateau`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReduceOnPlateauConfig {
    /// What the rate is multiplied by, between 0 and 1; 0.1 by default.
    pub factor: f64,
    /// Epochs without improvement before a drop; 10 by default.
    pub patience: usize,
    /// Least change that is an improvement, at least 0; 1e-4 by default.
    pub min_delta: f64,
    /// Epochs after a drop that are not counted; 0 by default.
    pub cooldown: usize,
    /// The rate goes no lower, at least 0; 0 by default.
    pub min_rate: f64,
    /// Greater is better (an accuracy), not less (a loss); false by default.
    pub maximize: bool,
    /// Steps of a straight line before the whole rate, as of [`ScheduleConfig::Warmup`](crate::ScheduleConfig::Warmup); 0 by default (Keras
    /// has none). Less than the run has.
    pub warmup: usize,
    /// Share of the rate at the start of the warm-up, 0 to 1; 0 by default.
    pub warmup_start: f64,
}

impl Default for ReduceOnPlateauConfig {
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            min_delta: 1e-4,
            cooldown: 0,
            min_rate: 0.0,
            maximize: false,
            warmup: 0,
            warmup_start: 0.0,
        }
    }
}

impl ReduceOnPlateauConfig {
    /// The rule, before its first epoch.
    ///
    /// # Errors
    ///
    /// [`OptimError::Schedule`] names the first setting that is outside its range.
    pub fn init(self) -> Result<ReduceOnPlateau, OptimError> {
        let wrong =
            |field, value, range: &str| OptimError::Schedule { field, value, range: range.to_owned() };
        if !(self.factor > 0.0 && self.factor < 1.0) {
            return Err(wrong("factor", self.factor, "between 0 and 1"));
        }
        for (field, value) in [("min_delta", self.min_delta), ("min_rate", self.min_rate)] {
            if !value.is_finite() || value < 0.0 {
                return Err(wrong(field, value, "a number of at least 0"));
            }
        }
        if !(0.0..=1.0).contains(&self.warmup_start) {
            return Err(wrong("warmup_start", self.warmup_start, "a number from 0 to 1"));
        }
        Ok(ReduceOnPlateau { config: self, best: None, wait: 0, cooldown: 0 })
    }
}

/// Keras' `ReduceLROnPlateau`. Its state is plain data, to be kept with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReduceOnPlateau {
    config: ReduceOnPlateauConfig,
    best: Option<f64>,
    wait: usize,
    cooldown: usize,
}

impl ReduceOnPlateau {
    /// The rate after an epoch with this figure, from the `rate` before. A figure that is no number is no improvement.
    pub fn observe(&mut self, figure: f64, rate: f64) -> f64 {
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.wait = 0;
        }
        let worst = if self.config.maximize { f64::NEG_INFINITY } else { f64::INFINITY };
        let best = self.best.unwrap_or(worst);
        let better = match self.config.maximize {
            true => figure > best + self.config.min_delta,
            false => figure < best - self.config.min_delta,
        };
        if better {
            self.best = Some(figure);
            self.wait = 0;
        } else if self.cooldown == 0 {
            self.wait += 1;
            if self.wait >= self.config.patience && rate > self.config.min_rate {
                self.cooldown = self.config.cooldown;
                self.wait = 0;
                return (rate * self.config.factor).max(self.config.min_rate);
            }
        }
        rate
    }
}
