//! The optimizers as data.

use std::str::FromStr;

use burn::optim::{ModuleOptimizer, Optimizer};
use serde::{Deserialize, Serialize};

use crate::OptimError;
use crate::adadelta::Adadelta;
use crate::adafactor::Adafactor;
use crate::adagrad::AdaGrad;
use crate::adam::Adam;
use crate::adamax::Adamax;
use crate::amsgrad::AmsGrad;
use crate::lamb::Lamb;
use crate::lars::Lars;
use crate::lion::Lion;
use crate::muon::Muon;
use crate::nadam::NAdam;
use crate::radam::RAdam;
use crate::rmsprop::RmsProp;
use crate::setting;
use crate::sgd::Sgd;

/// An optimizer and all its hyper-parameters but the learning rate, which belongs to the schedule.
///
/// As data it is a table whose `name` is one of [`NAMES`](Self::NAMES) (`{ name = "adamw", weight_decay = 0.05 }`), as text
/// `name` or `name:key=value,key=value`. What is left out has the default that its field names; other keys are refused. In text,
/// `preset=keras` or `preset=torch` takes what is left out from [`keras`](Self::keras) or [`torch`](Self::torch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// `v ← μ v + g`, `θ ← θ - η v` (PyTorch's form); with Nesterov `θ ← θ - η (g + μ v)`. Sutskever et al. 2013.
    Sgd {
        /// μ, in `0..1`; 0 by default (PyTorch, Keras).
        #[serde(default)]
        momentum: f64,
        /// Look ahead by one momentum step; needs `momentum > 0`; false by default (PyTorch, Keras).
        #[serde(default)]
        nesterov: bool,
        /// λ of the L2 term `λ θ` added to the gradient, at least 0; 0 by default (PyTorch).
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.
    Adam {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-7 by default (Keras; PyTorch has 1e-8).
        #[serde(default = "defaults::epsilon_keras")]
        epsilon: f64,
    },
    /// Adam with decoupled weight decay: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2.
    #[serde(rename = "adamw", alias = "adam_w")]
    AdamW {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-8 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_torch")]
        epsilon: f64,
        /// λ of the decoupled decay: each step also does `θ ← θ - η λ θ`; at least 0, 0.01 (PyTorch; Keras has 0.004) by default.
        #[serde(default = "defaults::hundredth")]
        weight_decay: f64,
    },
    /// Adam with the greatest second moment so far: Reddi et al. 2018 (arXiv:1904.09237).
    #[serde(rename = "amsgrad")]
    AmsGrad {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-8 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_torch")]
        epsilon: f64,
    },
    /// Adam with the infinity norm, `u ← max(β₂ u, |g| + ε)`: Kingma & Ba 2015, algorithm 2.
    Adamax {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to `|g|`, greater than 0; 1e-8 by default (PyTorch; Keras adds 1e-7 to `u`).
        #[serde(default = "defaults::epsilon_torch")]
        epsilon: f64,
    },
    /// Adam with Nesterov momentum `μₜ = β₁ (1 - 0.96^(t ψ) / 2)`: Dozat 2016.
    #[serde(rename = "nadam")]
    NAdam {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-8 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_torch")]
        epsilon: f64,
        /// ψ, at least 0; 0.004 by default (PyTorch; Keras has 1).
        #[serde(default = "defaults::momentum_decay")]
        momentum_decay: f64,
    },
    /// Rectified Adam: Liu et al. 2020 (arXiv:1908.03265), algorithm 2.
    #[serde(rename = "radam")]
    RAdam {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0.6..1` (below, the rectification never applies); 0.999 by default (PyTorch).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-8 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_torch")]
        epsilon: f64,
    },
    /// `s ← s + g²`, `θ ← θ - η g / √s`: Duchi et al. 2011.
    #[serde(rename = "adagrad")]
    AdaGrad {
        /// `s` at the start, at least 0; 0 by default (PyTorch; Keras has 0.1).
        #[serde(default)]
        initial_accumulator: f64,
        /// ε, greater than 0; 1e-10 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_adagrad")]
        epsilon: f64,
        /// `√(s + ε)` as Keras instead of `√s + ε`; false by default (PyTorch).
        #[serde(default)]
        epsilon_in_root: bool,
    },
    /// `Δ = √(d + ε) / √(s + ε) · g` of running means of `g²` and `Δ²`: Zeiler 2012 (arXiv:1212.5701).
    Adadelta {
        /// Share of the old means that is kept, in `0..1`; 0.9 by default (PyTorch; Keras has 0.95).
        #[serde(default = "defaults::nine_tenths")]
        rho: f64,
        /// ε in both roots, greater than 0; 1e-6 by default (PyTorch; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_millionth")]
        epsilon: f64,
    },
    /// RMSprop: Tieleman & Hinton 2012, lecture 6.5.
    #[serde(rename = "rmsprop", alias = "rms_prop")]
    RmsProp {
        /// Share of the old mean of squared gradients that is kept, in `0..1`; 0.9 by default (Keras; PyTorch has 0.99).
        #[serde(default = "defaults::nine_tenths")]
        rho: f64,
        /// Momentum on the scaled gradient, in `0..1`; 0 by default (Keras, PyTorch).
        #[serde(default)]
        momentum: f64,
        /// ε, greater than 0; 1e-7 by default (Keras; PyTorch has 1e-8).
        #[serde(default = "defaults::epsilon_keras")]
        epsilon: f64,
        /// `√(v + ε)` and the rate inside the momentum, as Keras; false: `√v + ε` and the rate outside, as PyTorch; true by default (Keras).
        #[serde(default = "defaults::yes")]
        epsilon_in_root: bool,
        /// Divide by the deviation, not the root mean square; false by default (Keras, PyTorch).
        #[serde(default)]
        centered: bool,
    },
    /// The sign of a blend of momentum and gradient: Chen et al. 2023 (arXiv:2302.06675), algorithm 2.
    Lion {
        /// Share of the momentum in the step, in `0..1`; 0.9 by default (paper, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// Share of the old momentum that is kept, in `0..1`; 0.99 by default (paper, Keras).
        #[serde(default = "defaults::lion_beta_2")]
        beta_2: f64,
        /// λ of the decoupled decay: each step also does `θ ← θ - η λ θ`; at least 0, 0 (Keras) by default.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with a trust ratio `‖θ‖ / ‖r + λ θ‖` per tensor: You et al. 2020 (arXiv:1904.00962), algorithm 2.
    Lamb {
        /// β₁ of the mean of gradients, in `0..1`; 0.9 by default (PyTorch, Keras).
        #[serde(default = "defaults::nine_tenths")]
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`; 0.999 by default (PyTorch, Keras).
        #[serde(default = "defaults::second_moment")]
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0; 1e-6 by default (paper; Keras has 1e-7).
        #[serde(default = "defaults::epsilon_millionth")]
        epsilon: f64,
        /// λ, inside the trust ratio; at least 0, 0 by default (paper: 0.01 for BERT).
        #[serde(default)]
        weight_decay: f64,
    },
    /// Momentum with a local rate `c ‖θ‖ / (‖g‖ + λ ‖θ‖)` per tensor: You et al. 2017 (arXiv:1708.03888), algorithm 1.
    Lars {
        /// Momentum, in `0..1`; 0.9 by default (paper).
        #[serde(default = "defaults::nine_tenths")]
        momentum: f64,
        /// λ of the L2 term, at least 0; 1e-4 by default (the authors' Caffe and TensorFlow code).
        #[serde(default = "defaults::lars_decay")]
        weight_decay: f64,
        /// c, greater than 0; 0.001 by default (paper).
        #[serde(default = "defaults::lars_trust")]
        trust_coefficient: f64,
    },
    /// Adam with a factored second moment and clipped steps: Shazeer & Stern 2018 (arXiv:1804.04235), in PyTorch's form.
    Adafactor {
        /// Exponent of `1 - t^d`, the share of the old second moment that is kept; at most 0, -0.8 by default (paper, PyTorch).
        #[serde(default = "defaults::adafactor_decay")]
        beta_2_decay: f64,
        /// Least factor of the second moment, greater than 0; 2⁻²³ by default (PyTorch for f32; paper: 1e-30).
        #[serde(default = "defaults::epsilon_f32")]
        epsilon_1: f64,
        /// Least size of a parameter that scales the rate, greater than 0; 1e-3 by default (paper, PyTorch).
        #[serde(default = "defaults::thousandth")]
        epsilon_2: f64,
        /// Greatest root mean square of a step before the rate, greater than 0; 1 by default (paper, PyTorch).
        #[serde(default = "defaults::one")]
        clip_threshold: f64,
        /// λ of the decoupled decay: each step also does `θ ← θ - η λ θ`; at least 0, 0 (PyTorch) by default.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Momentum with orthogonal steps for matrices and kernels (`[out, in · ..]`), AdamW (0.9, 0.999, 1e-8) for vectors: Jordan et al. 2024.
    Muon {
        /// Share of the old mean gradient that is kept, in `0..1`; 0.95 by default (PyTorch).
        #[serde(default = "defaults::muon_momentum")]
        momentum: f64,
        /// Blend the gradient in once more; true by default (PyTorch).
        #[serde(default = "defaults::yes")]
        nesterov: bool,
        /// λ of the decoupled decay: each step also does `θ ← θ - η λ θ`; at least 0, 0.1 (PyTorch) by default.
        #[serde(default = "defaults::tenth")]
        weight_decay: f64,
        /// Least norm that the step is divided by, greater than 0; 1e-7 by default (PyTorch).
        #[serde(default = "defaults::epsilon_keras")]
        epsilon: f64,
        /// Newton-Schulz iterations, 1 to 99; 5 by default (PyTorch).
        #[serde(default = "defaults::muon_steps")]
        steps: usize,
    },
}

/// The defaults that are no zero.
mod defaults {
    pub(super) const fn one() -> f64 {
        1.0
    }
    pub(super) const fn nine_tenths() -> f64 {
        0.9
    }
    pub(super) const fn tenth() -> f64 {
        0.1
    }
    pub(super) const fn hundredth() -> f64 {
        0.01
    }
    pub(super) const fn thousandth() -> f64 {
        1e-3
    }
    pub(super) const fn second_moment() -> f64 {
        0.999
    }
    pub(super) const fn lion_beta_2() -> f64 {
        0.99
    }
    pub(super) const fn epsilon_torch() -> f64 {
        1e-8
    }
    pub(super) const fn epsilon_keras() -> f64 {
        1e-7
    }
    pub(super) const fn epsilon_millionth() -> f64 {
        1e-6
    }
    pub(super) const fn epsilon_adagrad() -> f64 {
        1e-10
    }
    pub(super) const fn epsilon_f32() -> f64 {
        f32::EPSILON as f64
    }
    pub(super) const fn momentum_decay() -> f64 {
        0.004
    }
    pub(super) const fn adafactor_decay() -> f64 {
        -0.8
    }
    pub(super) const fn lars_decay() -> f64 {
        1e-4
    }
    pub(super) const fn lars_trust() -> f64 {
        1e-3
    }
    pub(super) const fn muon_momentum() -> f64 {
        0.95
    }
    pub(super) const fn muon_steps() -> usize {
        5
    }
    pub(super) const fn yes() -> bool {
        true
    }
}

impl OptimizerConfig {
    /// The names that [`FromStr`] knows.
    pub const NAMES: [&'static str; 15] = [
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "amsgrad",
        "lamb",
        "lars",
        "lion",
        "muon",
        "nadam",
        "radam",
        "rmsprop",
        "sgd",
    ];

    /// Keras 3's `Adam`: β₁ 0.9, β₂ 0.999, ε 1e-7.
    pub const fn adam_keras() -> Self {
        Self::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }

    /// PyTorch's `Adam`: β₁ 0.9, β₂ 0.999, ε 1e-8.
    pub const fn adam_torch() -> Self {
        Self::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 }
    }

    /// PyTorch's `AdamW`: β₁ 0.9, β₂ 0.999, ε 1e-8, weight decay 0.01.
    pub const fn adamw_torch() -> Self {
        Self::AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }

    /// Keras 3's `RMSprop`: ρ 0.9, momentum 0, ε 1e-7.
    pub const fn rmsprop_keras() -> Self {
        Self::RmsProp { rho: 0.9, momentum: 0.0, epsilon: 1e-7, epsilon_in_root: true, centered: false }
    }

    /// Plain stochastic gradient descent: no momentum, no decay.
    pub const fn sgd() -> Self {
        Self::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Keras 3's optimizer of this name with Keras' defaults; none where Keras has none or a rule of another form (Adafactor, Muon).
    ///
    /// Keras adds the epsilon of its Adams to the root of the second moment before its correction, ours comes after, as in the paper: what
    /// this changes is below 1e-5 where gradients are not much smaller than 1e-2.
    pub fn keras(name: &str) -> Option<Self> {
        let [beta_1, beta_2, epsilon] = [0.9, 0.999, 1e-7];
        Some(match name {
            "sgd" => Self::sgd(),
            "adam" => Self::adam_keras(),
            "adamw" => Self::AdamW { beta_1, beta_2, epsilon, weight_decay: 0.004 },
            "amsgrad" => Self::AmsGrad { beta_1, beta_2, epsilon },
            "adamax" => Self::Adamax { beta_1, beta_2, epsilon },
            "nadam" => Self::NAdam { beta_1, beta_2, epsilon, momentum_decay: 1.0 },
            "adagrad" => Self::AdaGrad { initial_accumulator: 0.1, epsilon, epsilon_in_root: true },
            "adadelta" => Self::Adadelta { rho: 0.95, epsilon },
            "rmsprop" => Self::rmsprop_keras(),
            "lion" => Self::Lion { beta_1, beta_2: 0.99, weight_decay: 0.0 },
            "lamb" => Self::Lamb { beta_1, beta_2, epsilon, weight_decay: 0.0 },
            _ => return None,
        })
    }

    /// PyTorch's optimizer of this name with PyTorch's defaults; none where PyTorch has none (Lion, LAMB, LARS).
    pub fn torch(name: &str) -> Option<Self> {
        let [beta_1, beta_2, epsilon] = [0.9, 0.999, 1e-8];
        Some(match name {
            "sgd" => Self::sgd(),
            "adam" => Self::adam_torch(),
            "adamw" => Self::adamw_torch(),
            "amsgrad" => Self::AmsGrad { beta_1, beta_2, epsilon },
            "adamax" => Self::Adamax { beta_1, beta_2, epsilon },
            "nadam" => Self::NAdam { beta_1, beta_2, epsilon, momentum_decay: 0.004 },
            "radam" => Self::RAdam { beta_1, beta_2, epsilon },
            "adagrad" => Self::AdaGrad { initial_accumulator: 0.0, epsilon: 1e-10, epsilon_in_root: false },
            "adadelta" => Self::Adadelta { rho: 0.9, epsilon: 1e-6 },
            "rmsprop" => {
                Self::RmsProp { rho: 0.99, momentum: 0.0, epsilon, epsilon_in_root: false, centered: false }
            }
            "adafactor" => Self::Adafactor {
                beta_2_decay: -0.8,
                epsilon_1: f64::from(f32::EPSILON),
                epsilon_2: 1e-3,
                clip_threshold: 1.0,
                weight_decay: 0.0,
            },
            "muon" => {
                Self::Muon { momentum: 0.95, nesterov: true, weight_decay: 0.1, epsilon: 1e-7, steps: 5 }
            }
            _ => return None,
        })
    }

    /// Checks every hyper-parameter.
    ///
    /// # Errors
    ///
    /// [`OptimError::OutOfRange`] names the first one that is outside its range.
    pub fn validate(&self) -> Result<(), OptimError> {
        let share = |field, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(OptimError::OutOfRange { field, value, range: "at least 0 and less than 1" }),
        };
        let positive = |field, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange { field, value, range: "a number greater than 0" }),
        };
        let not_negative = |field, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange { field, value, range: "a number of at least 0" }),
        };
        let adam = |beta_1, beta_2, epsilon| {
            share("beta_1", beta_1)?;
            share("beta_2", beta_2)?;
            positive("epsilon", epsilon)
        };
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                if nesterov {
                    positive("momentum (with nesterov)", momentum)?;
                }
                not_negative("weight_decay", weight_decay)
            }
            Self::Adam { beta_1, beta_2, epsilon }
            | Self::AmsGrad { beta_1, beta_2, epsilon }
            | Self::Adamax { beta_1, beta_2, epsilon } => adam(beta_1, beta_2, epsilon),
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay }
            | Self::Lamb { beta_1, beta_2, epsilon, weight_decay } => {
                adam(beta_1, beta_2, epsilon)?;
                not_negative("weight_decay", weight_decay)
            }
            Self::NAdam { beta_1, beta_2, epsilon, momentum_decay } => {
                adam(beta_1, beta_2, epsilon)?;
                not_negative("momentum_decay", momentum_decay)
            }
            Self::RAdam { beta_1, beta_2, epsilon } => {
                adam(beta_1, beta_2, epsilon)?;
                // The longest average, 2 / (1 - β₂) - 1, must be above 4 for the rectification to be a number.
                if beta_2 <= 0.6 {
                    let range = "greater than 0.6 and less than 1";
                    return Err(OptimError::OutOfRange { field: "beta_2", value: beta_2, range });
                }
                Ok(())
            }
            Self::AdaGrad { initial_accumulator, epsilon, .. } => {
                not_negative("initial_accumulator", initial_accumulator)?;
                positive("epsilon", epsilon)
            }
            Self::Adadelta { rho, epsilon } => {
                share("rho", rho)?;
                positive("epsilon", epsilon)
            }
            Self::RmsProp { rho, momentum, epsilon, .. } => {
                share("rho", rho)?;
                share("momentum", momentum)?;
                positive("epsilon", epsilon)
            }
            Self::Lion { beta_1, beta_2, weight_decay } => {
                share("beta_1", beta_1)?;
                share("beta_2", beta_2)?;
                not_negative("weight_decay", weight_decay)
            }
            Self::Lars { momentum, weight_decay, trust_coefficient } => {
                share("momentum", momentum)?;
                not_negative("weight_decay", weight_decay)?;
                positive("trust_coefficient", trust_coefficient)
            }
            Self::Adafactor { beta_2_decay, epsilon_1, epsilon_2, clip_threshold, weight_decay } => {
                if !beta_2_decay.is_finite() || beta_2_decay > 0.0 {
                    let range = "a number of at most 0";
                    return Err(OptimError::OutOfRange { field: "beta_2_decay", value: beta_2_decay, range });
                }
                positive("epsilon_1", epsilon_1)?;
                positive("epsilon_2", epsilon_2)?;
                positive("clip_threshold", clip_threshold)?;
                not_negative("weight_decay", weight_decay)
            }
            Self::Muon { momentum, weight_decay, epsilon, steps, .. } => {
                share("momentum", momentum)?;
                not_negative("weight_decay", weight_decay)?;
                positive("epsilon", epsilon)?;
                if !(1..=99).contains(&steps) {
                    let range = "1 to 99";
                    return Err(OptimError::OutOfRange { field: "steps", value: steps as f64, range });
                }
                Ok(())
            }
        }
    }

    /// The optimizer, with no state yet.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self) -> Result<ModuleOptimizer, OptimError> {
        struct Whole;
        impl Build for Whole {
            fn build<O: Optimizer>(self, rule: O) -> ModuleOptimizer {
                rule.into()
            }
        }
        self.validate()?;
        Ok(self.build(Whole))
    }

    /// Gives the rule itself to `with`.
    pub(crate) fn build(&self, with: impl Build) -> ModuleOptimizer {
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                with.build(Sgd { momentum, nesterov, weight_decay })
            }
            Self::Adam { beta_1, beta_2, epsilon } => {
                with.build(Adam { beta_1, beta_2, epsilon, weight_decay: 0.0 })
            }
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                with.build(Adam { beta_1, beta_2, epsilon, weight_decay })
            }
            Self::AmsGrad { beta_1, beta_2, epsilon } => with.build(AmsGrad { beta_1, beta_2, epsilon }),
            Self::Adamax { beta_1, beta_2, epsilon } => with.build(Adamax { beta_1, beta_2, epsilon }),
            Self::NAdam { beta_1, beta_2, epsilon, momentum_decay } => {
                with.build(NAdam { beta_1, beta_2, epsilon, momentum_decay })
            }
            Self::RAdam { beta_1, beta_2, epsilon } => with.build(RAdam { beta_1, beta_2, epsilon }),
            Self::AdaGrad { initial_accumulator, epsilon, epsilon_in_root } => {
                with.build(AdaGrad { initial_accumulator, epsilon, epsilon_in_root })
            }
            Self::Adadelta { rho, epsilon } => with.build(Adadelta { rho, epsilon }),
            Self::RmsProp { rho, momentum, epsilon, epsilon_in_root, centered } => {
                with.build(RmsProp { rho, momentum, epsilon, epsilon_in_root, centered })
            }
            Self::Lion { beta_1, beta_2, weight_decay } => with.build(Lion { beta_1, beta_2, weight_decay }),
            Self::Lamb { beta_1, beta_2, epsilon, weight_decay } => {
                with.build(Lamb { beta_1, beta_2, epsilon, weight_decay })
            }
            Self::Lars { momentum, weight_decay, trust_coefficient } => {
                with.build(Lars { momentum, weight_decay, trust_coefficient })
            }
            Self::Adafactor { beta_2_decay, epsilon_1, epsilon_2, clip_threshold, weight_decay } => {
                with.build(Adafactor { beta_2_decay, epsilon_1, epsilon_2, clip_threshold, weight_decay })
            }
            Self::Muon { momentum, nesterov, weight_decay, epsilon, steps } => {
                with.build(Muon { momentum, nesterov, weight_decay, epsilon, steps })
            }
        }
    }

    /// The name by which [`FromStr`] knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
            Self::AmsGrad { .. } => "amsgrad",
            Self::Adamax { .. } => "adamax",
            Self::NAdam { .. } => "nadam",
            Self::RAdam { .. } => "radam",
            Self::AdaGrad { .. } => "adagrad",
            Self::Adadelta { .. } => "adadelta",
            Self::RmsProp { .. } => "rmsprop",
            Self::Lion { .. } => "lion",
            Self::Lamb { .. } => "lamb",
            Self::Lars { .. } => "lars",
            Self::Adafactor { .. } => "adafactor",
            Self::Muon { .. } => "muon",
        }
    }

    /// The same without weight decay; none where the rule has no such setting.
    #[must_use]
    pub fn without_decay(&self) -> Option<Self> {
        let mut config = self.clone();
        match &mut config {
            Self::Sgd { weight_decay, .. }
            | Self::AdamW { weight_decay, .. }
            | Self::Lion { weight_decay, .. }
            | Self::Lamb { weight_decay, .. }
            | Self::Lars { weight_decay, .. }
            | Self::Adafactor { weight_decay, .. }
            | Self::Muon { weight_decay, .. } => *weight_decay = 0.0,
            _ => return None,
        }
        Some(config)
    }
}

/// Makes something of the rule that a configuration stands for.
pub(crate) trait Build {
    fn build<O: Optimizer>(self, rule: O) -> ModuleOptimizer;
}

impl FromStr for OptimizerConfig {
    type Err = OptimError;

    /// `name` or `name:key=value,key=value`; what is left out has the default of its field.
    fn from_str(text: &str) -> Result<Self, OptimError> {
        let name = text.split(':').next().unwrap_or_default().trim();
        if !Self::NAMES.contains(&name) {
            return Err(OptimError::UnknownName(name.to_owned()));
        }
        let mut refused = None;
        let config: Result<Self, OptimError> = setting::parse_with("optimizer", text, |map| {
            let Some(preset) = map.remove("preset") else { return };
            let (config, whose) = match preset.as_str() {
                Some("keras") => (Self::keras(name), "Keras"),
                Some("torch") => (Self::torch(name), "PyTorch"),
                _ => {
                    refused = Some(format!("`preset` is {preset}, it must be keras or torch"));
                    return;
                }
            };
            match config.map(serde_json::to_value) {
                Some(Ok(serde_json::Value::Object(preset))) => {
                    for (key, value) in preset {
                        map.entry(key).or_insert(value);
                    }
                }
                _ => {
                    refused = Some(format!("`preset` is {preset}, but {whose} has no `{name}` of this form"))
                }
            }
        });
        if let Some(why) = refused {
            return Err(OptimError::Setting { what: "optimizer", text: text.to_owned(), why });
        }
        let config = config?;
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Vector {
        theta: Param<Tensor<1>>,
    }

    const START: [f32; 3] = [1.0, -2.0, 0.5];
    const CURVATURE: [f32; 3] = [1.0, 10.0, 0.1];

    /// 50 steps on `½ Σ cᵢ θᵢ²`.
    fn run(config: &OptimizerConfig, rate: f64) -> Vec<f32> {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let mut optimizer = config.init().expect("a preset is valid");
        let mut module = Vector { theta: Param::from_tensor(Tensor::from_floats(START, &device)) };
        let curvature = Tensor::<1>::from_floats(CURVATURE, &device);
        for _ in 0..50 {
            let theta = module.theta.val();
            let loss = (theta.clone() * theta * curvature.clone()).sum() * 0.5;
            let grads = GradientsParams::from_grads(loss.backward(), &module);
            module = optimizer.step(rate, module, grads);
        }
        module.theta.val().into_data().try_to_vec().expect("f32")
    }

    /// The same 50 steps of a one-dimensional rule in f64; `rule(θ, g, step)` returns the new θ.
    fn scalar<S: Default>(rule: impl Fn(f64, f64, i32, &mut S) -> f64) -> Vec<f64> {
        START
            .iter()
            .zip(CURVATURE)
            .map(|(&start, c)| {
                let (mut theta, mut state) = (f64::from(start), S::default());
                for step in 1..=50 {
                    theta = rule(theta, f64::from(c) * theta, step, &mut state);
                }
                theta
            })
            .collect()
    }

    fn assert_close(got: &[f32], want: &[f64], relative: f64) {
        for (g, w) in got.iter().zip(want) {
            assert!((f64::from(*g) - w).abs() <= relative * w.abs(), "{got:?} != {want:?}");
        }
    }

    /// Fifty roundings of values near 1.
    const FIFTY_STEPS: f64 = 2e-6;

    fn adam(theta: f64, g: f64, t: i32, (m, v): &mut (f64, f64), eps: f64, rate: f64, decay: f64) -> f64 {
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        let (mh, vh) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
        theta - rate * decay * theta - rate * mh / (vh.sqrt() + eps)
    }

    #[test]
    fn adam_follows_algorithm_1() {
        let want = scalar(|th, g, t, s| adam(th, g, t, s, 1e-7, 0.01, 0.0));
        assert_close(&run(&OptimizerConfig::adam_keras(), 0.01), &want, FIFTY_STEPS);
    }

    #[test]
    fn adamw_decays_apart_from_the_gradient() {
        let want = scalar(|th, g, t, s| adam(th, g, t, s, 1e-8, 0.01, 0.01));
        assert_close(&run(&OptimizerConfig::adamw_torch(), 0.01), &want, FIFTY_STEPS);
    }

    #[test]
    fn sgd_with_momentum_is_pytorchs() {
        let want = scalar(|th, g, _, v: &mut f64| {
            *v = 0.9 * *v + g;
            th - 0.01 * *v
        });
        let config = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        assert_close(&run(&config, 0.01), &want, FIFTY_STEPS);
    }

    #[test]
    fn sgd_with_nesterov_looks_ahead() {
        let want = scalar(|th, g, _, v: &mut f64| {
            let g = g + 0.1 * th;
            *v = 0.9 * *v + g;
            th - 0.01 * (g + 0.9 * *v)
        });
        let config = OptimizerConfig::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
        assert_close(&run(&config, 0.01), &want, FIFTY_STEPS);
    }

    /// The next step of an optimizer that was written and read back is that of the original.
    #[test]
    fn goes_on_from_its_own_record() {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let momentum = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        for config in [OptimizerConfig::adam_keras(), OptimizerConfig::adamw_torch(), momentum] {
            let mut module = Vector { theta: Param::from_tensor(Tensor::from_floats(START, &device)) };
            let step = |optimizer: &mut ModuleOptimizer, module: Vector| {
                let theta = module.theta.val();
                let grads = GradientsParams::from_grads((theta.clone() * theta).sum().backward(), &module);
                optimizer.step(0.1, module, grads)
            };
            let mut original = config.init().expect("a preset is valid");
            for _ in 0..3 {
                module = step(&mut original, module);
            }
            let bytes = original.clone().into_bytes().expect("bytes");
            let mut restored = config.init().expect("a preset is valid").from_bytes(bytes).expect("bytes");
            let read = |module: Vector| module.theta.val().into_data();
            assert_eq!(
                read(step(&mut original, module.clone())),
                read(step(&mut restored, module)),
                "{config:?}"
            );
        }
    }

    #[test]
    fn a_value_outside_its_range_is_named() {
        let bad = [
            (OptimizerConfig::Adam { beta_1: 1.0, beta_2: 0.9, epsilon: 1e-7 }, "beta_1"),
            (OptimizerConfig::Adam { beta_1: 0.9, beta_2: -0.1, epsilon: 1e-7 }, "beta_2"),
            (OptimizerConfig::Adam { beta_1: 0.9, beta_2: 0.9, epsilon: f64::NAN }, "epsilon"),
            (OptimizerConfig::Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0 }, "nesterov"),
            (OptimizerConfig::Sgd { momentum: 0.0, nesterov: false, weight_decay: -1.0 }, "weight_decay"),
        ];
        for (config, field) in bad {
            let message = config.validate().expect_err("out of range").to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn every_name_is_an_optimizer_and_others_are_refused() {
        let preset = |text: &str| text.parse::<OptimizerConfig>().expect(text);
        assert_eq!(preset("adam"), OptimizerConfig::adam_keras());
        assert_eq!(preset("adamw"), OptimizerConfig::adamw_torch());
        assert_eq!(preset("rmsprop"), OptimizerConfig::rmsprop_keras());
        assert_eq!(preset("sgd"), OptimizerConfig::sgd());
        for name in OptimizerConfig::NAMES {
            name.parse::<OptimizerConfig>().expect(name).init().expect(name);
        }
        let message = "adan".parse::<OptimizerConfig>().expect_err("unknown").to_string();
        assert!(message.contains("adan") && message.contains("adamw"), "{message}");
    }
}
