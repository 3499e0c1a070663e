//! The learning rate of a run, step by step.

use std::str::FromStr;

use crate::{OptimError, ReduceOnPlateau, ReduceOnPlateauConfig, ScheduleConfig, setting};

/// What moves the learning rate: the steps of the run, or a figure that stands still.
///
/// As text a schedule's, or `plateau:key=value,key=value` with the fields of [`ReduceOnPlateauConfig`].
#[derive(Clone, Debug, PartialEq)]
pub enum RateConfig {
    /// A function of the step.
    Schedule(ScheduleConfig),
    /// Keras' `ReduceLROnPlateau`, epoch by epoch.
    Plateau(ReduceOnPlateauConfig),
}

/// Constant.
impl Default for RateConfig {
    fn default() -> Self {
        Self::Schedule(ScheduleConfig::Constant {})
    }
}

impl RateConfig {
    /// Checks every setting, for a run of `steps` steps.
    ///
    /// # Errors
    ///
    /// [`OptimError::Schedule`] names the first one that is outside its range.
    pub fn validate(&self, steps: usize) -> Result<(), OptimError> {
        match self {
            Self::Schedule(schedule) => schedule.validate(steps),
            Self::Plateau(config) if config.warmup > 0 && config.warmup >= steps => {
                Err(OptimError::Schedule {
                    field: "warmup",
                    value: config.warmup as f64,
                    range: format!("less than the {steps} steps of the run"),
                })
            }
            Self::Plateau(config) => config.init().map(|_| ()),
        }
    }

    /// The rates of a run of `steps` steps, from `base` on.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self, base: f64, steps: usize) -> Result<Rate, OptimError> {
        self.validate(steps)?;
        let plateau = match self {
            Self::Schedule(_) => None,
            Self::Plateau(config) => Some(config.init()?),
        };
        Ok(Rate { config: self.clone(), plateau, base, step: 0, steps })
    }
}

impl FromStr for RateConfig {
    type Err = OptimError;

    /// `name` or `name:key=value,key=value`, checked by [`validate`](Self::validate), which knows the run.
    fn from_str(text: &str) -> Result<Self, OptimError> {
        match text.split(':').next().unwrap_or_default().trim() {
            "plateau" => {
                let config = setting::parse_with("schedule", text, |map| {
                    map.remove("name");
                })?;
                Ok(Self::Plateau(config))
            }
            name if ScheduleConfig::NAMES.contains(&name) => Ok(Self::Schedule(text.parse()?)),
            name => Err(OptimError::UnknownSchedule(name.to_owned())),
        }
    }
}

/// The learning rate of a run.
#[derive(Clone, Debug)]
pub struct Rate {
    config: RateConfig,
    plateau: Option<ReduceOnPlateau>,
    base: f64,
    step: usize,
    steps: usize,
}

impl Rate {
    /// The rate of the step that is to be taken.
    pub fn now(&self) -> f64 {
        match &self.config {
            RateConfig::Schedule(schedule) => schedule.rate(self.base, self.step, self.steps),
            RateConfig::Plateau(config) if self.step < config.warmup => {
                let start = config.warmup_start;
                self.base * (start + (1.0 - start) * self.step as f64 / config.warmup as f64)
            }
            RateConfig::Plateau(_) => self.base,
        }
    }

    /// A step was taken.
    pub fn stepped(&mut self) {
        self.step += 1;
    }

    /// An epoch ended with this loss and this accuracy, those of the validation if there is one; a plateau watches the loss, or
    /// the accuracy if it is told to maximize.
    pub fn epoch_ended(&mut self, loss: f64, accuracy: f64) {
        if let (Some(plateau), RateConfig::Plateau(config)) = (&mut self.plateau, &self.config) {
            let figure = if config.maximize { accuracy } else { loss };
            self.base = plateau.observe(figure, self.base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_is_watched_by_the_epoch_and_a_schedule_moves_by_the_step() {
        let rates = |text: &str| {
            let mut rate = text.parse::<RateConfig>().expect(text).init(1.0, 8).expect(text);
            let mut rates = Vec::new();
            for epoch in 0..4 {
                for _ in 0..2 {
                    rates.push(rate.now());
                    rate.stepped();
                }
                // The loss stands still from the first epoch on, the accuracy grows.
                rate.epoch_ended(0.5, f64::from(epoch));
            }
            rates
        };
        assert_eq!(rates("constant"), [1.0; 8]);
        assert_eq!(rates("step:every=3,factor=0.5"), [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
        assert_eq!(
            rates("plateau:patience=2,factor=0.5,min_delta=0"),
            [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
        );
        assert_eq!(rates("plateau:patience=1,maximize=true"), [1.0; 8]);
        assert_eq!(
            rates("plateau:patience=2,factor=0.5,min_delta=0,warmup=4"),
            [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
        );
        assert_eq!(rates("plateau:warmup=2,warmup_start=0.5")[..3], [0.5, 0.75, 1.0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("plato", "plateau"),
            ("cosin:warmup=3", "cosine"),
            ("plateau:patients=3", "patience"),
            ("plateau:factor=2", "factor"),
            ("cosine:warmup=8", "8 steps of the run"),
            ("plateau:warmup=8", "`warmup` is 8, it must be less than the 8 steps of the run"),
            ("plateau:warmup=3,warmup_start=2", "`warmup_start` is 2"),
        ] {
            let result = text.parse::<RateConfig>().and_then(|config| config.validate(8));
            let message = result.expect_err(text).to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
