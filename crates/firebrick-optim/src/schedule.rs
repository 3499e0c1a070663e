//! Learning-rate schedules as data.

use std::f64::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{OptimError, setting};

/// How the learning rate changes over a run: a pure function of the step, so that a resumed run needs no state.
///
/// `η` is the base rate, `t` the step counted from 0, `T` the steps of the run; a step is one of the optimizer. As data it is a
/// table whose `name` is one of [`NAMES`](Self::NAMES), as text `name:key=value,key=value` (a list is `[30,60]`), where `warmup` and
/// `warmup_start` put a [`Warmup`](Self::Warmup) before any other: `cosine:warmup=500`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// `η`.
    Constant {},
    /// `η f^⌊t / every⌋`: PyTorch's `StepLR`.
    Step {
        /// Steps between two drops, at least 1.
        every: usize,
        /// f, greater than 0; 0.1 by default (PyTorch).
        #[serde(default = "defaults::tenth")]
        factor: f64,
    },
    /// `η f^n` after `n` of the given steps: PyTorch's `MultiStepLR`.
    MultiStep {
        /// The steps at which the rate drops, in growing order.
        at: Vec<usize>,
        /// f, greater than 0; 0.1 by default (PyTorch).
        #[serde(default = "defaults::tenth")]
        factor: f64,
    },
    /// `η f^(t / every)`: PyTorch's `ExponentialLR` with `every` 1, Keras' `ExponentialDecay` with its `decay_steps`.
    Exponential {
        /// f, greater than 0.
        factor: f64,
        /// Steps for a whole factor, at least 1; 1 by default (PyTorch).
        #[serde(default = "defaults::one_step")]
        every: usize,
    },
    /// `η (e + (1 - e) (1 - t / T)^p)`: PyTorch's `PolynomialLR` (e = 0), Keras' `PolynomialDecay`.
    Polynomial {
        /// p, greater than 0; 1 by default (PyTorch, Keras).
        #[serde(default = "defaults::one")]
        power: f64,
        /// e, the share of the rate at the end, in `0..=1`; 0 by default (PyTorch).
        #[serde(default)]
        end: f64,
    },
    /// `η (e + (1 - e) (1 + cos(π t / T)) / 2)`: Loshchilov & Hutter 2017 (arXiv:1608.03983); PyTorch's `CosineAnnealingLR`.
    Cosine {
        /// e, the share of the rate at the end, in `0..=1`; 0 by default (PyTorch, Keras).
        #[serde(default)]
        end: f64,
    },
    /// Cosines that start again, each `growth` times as long: the same paper; PyTorch's `CosineAnnealingWarmRestarts`.
    CosineRestarts {
        /// Steps of the first cosine, at least 1.
        first: usize,
        /// Whole factor from one length to the next, at least 1; 1 by default (PyTorch).
        #[serde(default = "defaults::one_step")]
        growth: usize,
        /// The share of the rate at the end of each, in `0..=1`; 0 by default (PyTorch).
        #[serde(default)]
        end: f64,
    },
    /// A straight line from `η start` to `η end` at `T`: PyTorch's `LinearLR` over the run.
    Linear {
        /// Share of the rate at the start, in `0..=1`; 1 by default.
        #[serde(default = "defaults::one")]
        start: f64,
        /// Share of the rate at the end, in `0..=1`; 0 by default.
        #[serde(default)]
        end: f64,
    },
    /// Up from `η / start_division` to `η`, then down to `η / start_division / end_division`, on cosines: Smith & Topin 2018
    /// (arXiv:1708.07120) in the form of PyTorch's `OneCycleLR` with two phases.
    OneCycle {
        /// Share of the run that goes up, between 0 and 1; 0.3 by default (PyTorch).
        #[serde(default = "defaults::rise")]
        rise: f64,
        /// At least 1; 25 by default (PyTorch).
        #[serde(default = "defaults::start_division")]
        start_division: f64,
        /// At least 1; 1e4 by default (PyTorch).
        #[serde(default = "defaults::end_division")]
        end_division: f64,
    },
    /// `η d^-½ min(n^-½, n w^-1.5)` with `n = t + 1`: Vaswani et al. 2017 (arXiv:1706.03762), equation 3.
    Noam {
        /// d, the width of the model, at least 1; 512 by default (paper).
        #[serde(default = "defaults::width")]
        width: usize,
        /// w, the steps that go up, at least 1; 4000 by default (paper).
        #[serde(default = "defaults::noam_warmup")]
        warmup_steps: usize,
    },
    /// A straight line from `η start` to `η` over `steps`, then another schedule for the steps that are left, from its own step
    /// 0: PyTorch's `SequentialLR` of a `LinearLR` and another.
    Warmup {
        /// Steps of the warm-up: at least 1 and less than the run has.
        steps: usize,
        /// Share of the rate at the start, in `0..=1`; 0 by default.
        #[serde(default)]
        start: f64,
        /// What comes after.
        then: Box<ScheduleConfig>,
    },
}

mod defaults {
    pub(super) const fn tenth() -> f64 {
        0.1
    }
    pub(super) const fn one() -> f64 {
        1.0
    }
    pub(super) const fn one_step() -> usize {
        1
    }
    pub(super) const fn rise() -> f64 {
        0.3
    }
    pub(super) const fn start_division() -> f64 {
        25.0
    }
    pub(super) const fn end_division() -> f64 {
        1e4
    }
    pub(super) const fn width() -> usize {
        512
    }
    pub(super) const fn noam_warmup() -> usize {
        4000
    }
}

/// From `1` at 0 to `0` at 1, along half a cosine.
fn half_cosine(share: f64) -> f64 {
    (1.0 + (PI * share).cos()) / 2.0
}

/// From `start` to `end` as `share` goes from 0 to 1.
fn between(start: f64, end: f64, share: f64) -> f64 {
    start + (end - start) * share
}

fn wrong(field: &'static str, value: f64, range: impl Into<String>) -> Result<(), OptimError> {
    Err(OptimError::Schedule { field, value, range: range.into() })
}

fn share(field: &'static str, value: f64) -> Result<(), OptimError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { wrong(field, value, "a number from 0 to 1") }
}

fn positive(field: &'static str, value: f64) -> Result<(), OptimError> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { wrong(field, value, "a number greater than 0") }
}

fn at_least_1(field: &'static str, value: f64) -> Result<(), OptimError> {
    if value.is_finite() && value >= 1.0 { Ok(()) } else { wrong(field, value, "at least 1") }
}

impl ScheduleConfig {
    /// The names that [`FromStr`] knows.
    pub const NAMES: [&'static str; 10] = [
        "constant",
        "cosine",
        "cosine_restarts",
        "exponential",
        "linear",
        "multi_step",
        "noam",
        "one_cycle",
        "polynomial",
        "step",
    ];

    /// Checks every setting, for a run of `steps` steps.
    ///
    /// # Errors
    ///
    /// [`OptimError::Schedule`] names the first one that is outside its range; so does a warm-up as long as the run or longer.
    pub fn validate(&self, steps: usize) -> Result<(), OptimError> {
        match self {
            Self::Constant {} => Ok(()),
            Self::Step { every, factor } | Self::Exponential { every, factor } => {
                at_least_1("every", *every as f64)?;
                positive("factor", *factor)
            }
            Self::MultiStep { at, factor } => {
                if let Some(pair) = at.windows(2).find(|pair| pair[0] >= pair[1]) {
                    return wrong("at", pair[1] as f64, format!("greater than {} before it", pair[0]));
                }
                positive("factor", *factor)
            }
            Self::Polynomial { power, end } => {
                positive("power", *power)?;
                share("end", *end)
            }
            Self::Cosine { end } => share("end", *end),
            Self::CosineRestarts { first, growth, end } => {
                at_least_1("first", *first as f64)?;
                at_least_1("growth", *growth as f64)?;
                share("end", *end)
            }
            Self::Linear { start, end } => {
                share("start", *start)?;
                share("end", *end)
            }
            Self::OneCycle { rise, start_division, end_division } => {
                if !(*rise > 0.0 && *rise < 1.0) {
                    return wrong("rise", *rise, "between 0 and 1");
                }
                at_least_1("start_division", *start_division)?;
                at_least_1("end_division", *end_division)
            }
            Self::Noam { width, warmup_steps } => {
                at_least_1("width", *width as f64)?;
                at_least_1("warmup_steps", *warmup_steps as f64)
            }
            Self::Warmup { steps: warmup, start, then } => {
                if *warmup == 0 || *warmup >= steps {
                    let range = format!("at least 1 and less than the {steps} steps of the run");
                    return wrong("warmup", *warmup as f64, range);
                }
                share("warmup_start", *start)?;
                then.validate(steps - warmup)
            }
        }
    }

    /// The learning rate of step `step`, counted from 0, in a run of `steps`; after the run, what it ended with (where a rule
    /// has an end).
    #[must_use]
    pub fn rate(&self, base: f64, step: usize, steps: usize) -> f64 {
        let total = steps.max(1) as f64;
        let done = (step as f64 / total).min(1.0);
        let factor = match self {
            Self::Constant {} => 1.0,
            Self::Step { every, factor } => factor.powf((step / (*every).max(1)) as f64),
            Self::MultiStep { at, factor } => factor.powf(at.iter().filter(|at| **at <= step).count() as f64),
            Self::Exponential { factor, every } => factor.powf(step as f64 / *every as f64),
            Self::Polynomial { power, end } => between(*end, 1.0, (1.0 - done).powf(*power)),
            Self::Cosine { end } => between(*end, 1.0, half_cosine(done)),
            Self::CosineRestarts { first, growth, end } => {
                let (mut length, mut step) = ((*first).max(1), step);
                if *growth <= 1 {
                    step %= length;
                }
                while step >= length {
                    step -= length;
                    length = length.saturating_mul(*growth);
                }
                between(*end, 1.0, half_cosine(step as f64 / length as f64))
            }
            Self::Linear { start, end } => between(*start, *end, done),
            Self::OneCycle { rise, start_division, end_division } => {
                let (step, last) = ((step as f64).min(total - 1.0), total - 1.0);
                let top = rise * total - 1.0;
                let start = 1.0 / start_division;
                if step <= top {
                    let share = if top > 0.0 { step / top } else { 1.0 };
                    between(1.0, start, half_cosine(share))
                } else {
                    between(start / end_division, 1.0, half_cosine((step - top) / (last - top)))
                }
            }
            Self::Noam { width, warmup_steps } => {
                let n = step as f64 + 1.0;
                (*width as f64).powf(-0.5) * n.powf(-0.5).min(n * (*warmup_steps as f64).powf(-1.5))
            }
            Self::Warmup { steps: warmup, start, then } => {
                if step >= *warmup {
                    return then.rate(base, step - warmup, steps.saturating_sub(*warmup));
                }
                between(*start, 1.0, step as f64 / *warmup as f64)
            }
        };
        base * factor
    }
}

impl FromStr for ScheduleConfig {
    type Err = OptimError;

    /// `name` or `name:key=value,key=value`; its settings are checked by [`validate`](Self::validate), which knows the run.
    fn from_str(text: &str) -> Result<Self, OptimError> {
        setting::parse_with("schedule", text, |map| {
            let Some(steps) = map.remove("warmup") else { return };
            let start = map.remove("warmup_start").unwrap_or_else(|| 0.0.into());
            let then = std::mem::take(map);
            map.insert("name".to_owned(), "warmup".into());
            map.insert("steps".to_owned(), steps);
            map.insert("start".to_owned(), start);
            map.insert("then".to_owned(), then.into());
        })
    }
}
