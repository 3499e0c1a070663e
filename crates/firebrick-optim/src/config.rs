//! The optimizers as data.

use std::str::FromStr;

use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{ModuleOptimizer, RmsPropConfig};
use serde::{Deserialize, Serialize};

use crate::OptimError;
use crate::adam::Adam;
use crate::sgd::Sgd;

/// An optimizer and all its hyper-parameters but the learning rate, which belongs to the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// `v ← μ v + g`, `θ ← θ - η v` (PyTorch's form); with Nesterov `θ ← θ - η (g + μ v)`. Sutskever et al. 2013.
    Sgd {
        /// μ, in `0..1`.
        momentum: f64,
        /// Look ahead by one momentum step; needs `momentum > 0`.
        nesterov: bool,
        /// λ of the L2 term `λ θ` added to the gradient, at least 0.
        weight_decay: f64,
    },
    /// Adam: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.
    Adam {
        /// β₁ of the mean of gradients, in `0..1`.
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`.
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0.
        epsilon: f64,
    },
    /// Adam with decoupled weight decay: Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2.
    AdamW {
        /// β₁ of the mean of gradients, in `0..1`.
        beta_1: f64,
        /// β₂ of the mean of squared gradients, in `0..1`.
        beta_2: f64,
        /// ε added to the root of the corrected second moment, greater than 0.
        epsilon: f64,
        /// λ: each step also does `θ ← θ - η λ θ`, at least 0.
        weight_decay: f64,
    },
    /// RMSprop: Tieleman & Hinton 2012, lecture 6.5.
    RmsProp {
        /// Share of the old mean of squared gradients that is kept, in `0..1`.
        rho: f64,
        /// Momentum on the scaled gradient, in `0..1`.
        momentum: f64,
        /// ε added to the root, greater than 0.
        epsilon: f64,
    },
}

impl OptimizerConfig {
    /// The names that [`FromStr`] knows.
    pub const NAMES: [&'static str; 4] = ["adam", "adamw", "rmsprop", "sgd"];

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
        Self::RmsProp { rho: 0.9, momentum: 0.0, epsilon: 1e-7 }
    }

    /// Plain stochastic gradient descent: no momentum, no decay.
    pub const fn sgd() -> Self {
        Self::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }
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
        let decay = |value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange { field: "weight_decay", value, range: "at least 0" }),
        };
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                if nesterov {
                    positive("momentum (with nesterov)", momentum)?;
                }
                decay(weight_decay)
            }
            Self::Adam { beta_1, beta_2, epsilon } => {
                share("beta_1", beta_1)?;
                share("beta_2", beta_2)?;
                positive("epsilon", epsilon)
            }
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                share("beta_1", beta_1)?;
                share("beta_2", beta_2)?;
                positive("epsilon", epsilon)?;
                decay(weight_decay)
            }
            Self::RmsProp { rho, momentum, epsilon } => {
                share("rho", rho)?;
                share("momentum", momentum)?;
                positive("epsilon", epsilon)
            }
        }
    }

    /// The optimizer, with no state yet.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn init(&self) -> Result<ModuleOptimizer, OptimError> {
        self.validate()?;
        const NO_CLIPPING: Option<GradientClippingConfig> = None;
        Ok(match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => Sgd { momentum, nesterov, weight_decay }.into(),
            Self::Adam { beta_1, beta_2, epsilon } => {
                Adam { beta_1, beta_2, epsilon, weight_decay: 0.0 }.into()
            }
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                Adam { beta_1, beta_2, epsilon, weight_decay }.into()
            }
            Self::RmsProp { rho, momentum, epsilon } => RmsPropConfig::new()
                .with_alpha(rho as f32)
                .with_momentum(momentum as f32)
                .with_epsilon(epsilon as f32)
                .with_centered(false)
                .with_weight_decay(None)
                .with_grad_clipping(NO_CLIPPING)
                .init(),
        })
    }
}

impl FromStr for OptimizerConfig {
    type Err = OptimError;

    /// The optimizer of this name with its preset: Keras' for `adam` and `rmsprop`, PyTorch's for `adamw`, plain `sgd`.
    fn from_str(name: &str) -> Result<Self, OptimError> {
        match name {
            "adam" => Ok(Self::adam_keras()),
            "adamw" => Ok(Self::adamw_torch()),
            "rmsprop" => Ok(Self::rmsprop_keras()),
            "sgd" => Ok(Self::sgd()),
            other => Err(OptimError::UnknownName(other.to_owned())),
        }
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
        for name in OptimizerConfig::NAMES {
            name.parse::<OptimizerConfig>().expect(name).init().expect(name);
        }
        let message = "adan".parse::<OptimizerConfig>().expect_err("unknown").to_string();
        assert!(message.contains("adan") && message.contains("adamw"), "{message}");
    }
}
