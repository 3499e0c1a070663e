//! What keeps parameters small and steps noisy: penalties, constraints, gradient noise.

use std::str::FromStr;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use crate::gradients::{ChangeGradient, ChangeValue, Place, change_gradients, change_trained};
use crate::{OptimError, setting};

/// ε in the quotients of the constraints (Keras).
const EPSILON: f64 = 1e-7;
/// Part of the noise's key, which nothing else that is drawn has.
const NOISE: u64 = 0x006e_6f69_7365;

/// Regularisation of weights, i.e. of trained parameters of rank 2 and above; biases and norms are left alone. As text
/// `l1=1e-5,l2=1e-4,max_norm=3`; by default there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegularizeConfig {
    /// λ₁ of the penalty `λ₁ Σ |w|`, at least 0; 0 by default. With `l2` it is the elastic net (Zou & Hastie 2005).
    pub l1: f64,
    /// λ₂ of the penalty `λ₂ Σ w²` (Keras' form; PyTorch's `weight_decay` of SGD is twice this), at least 0; 0 by default.
    pub l2: f64,
    /// Greatest length of the weights into a unit, greater than 0: Srivastava et al. 2014, Keras' `MaxNorm`; none by default.
    ///
    /// A unit is a column of a matrix `[in, out]`, and a kernel `[in, ..]` of `[out, in, ..]`.
    pub max_norm: Option<f64>,
    /// The weights into a unit have length 1: Keras' `UnitNorm`; false by default.
    pub unit_norm: bool,
    /// Weights below 0 become 0: Keras' `NonNeg`; false by default.
    pub non_negative: bool,
    /// η of the noise `N(0, η / (1 + t)^γ)` on every gradient in step `t`, at least 0: Neelakantan et al. 2015 (arXiv:1511.06807),
    /// who tried 0.01, 0.3 and 1; 0 by default.
    pub noise: f64,
    /// γ, at least 0; 0.55 by default (paper).
    pub noise_decay: f64,
    /// Penalties and constraints are of weights whose path has this in it, e.g. `"output"`; all by default.
    pub only: Option<String>,
}

impl Default for RegularizeConfig {
    fn default() -> Self {
        Self {
            l1: 0.0,
            l2: 0.0,
            max_norm: None,
            unit_norm: false,
            non_negative: false,
            noise: 0.0,
            noise_decay: 0.55,
            only: None,
        }
    }
}

impl FromStr for RegularizeConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let config: Self = setting::parse_settings("regularize", text)?;
        config.validate()?;
        Ok(config)
    }
}

impl RegularizeConfig {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// [`OptimError::Regularize`] names the first one that is outside its range.
    pub fn validate(&self) -> Result<(), OptimError> {
        let wrong = |field, value, range| Err(OptimError::Regularize { field, value, range });
        for (field, value) in
            [("l1", self.l1), ("l2", self.l2), ("noise", self.noise), ("noise_decay", self.noise_decay)]
        {
            if !value.is_finite() || value < 0.0 {
                return wrong(field, value, "a number of at least 0");
            }
        }
        match self.max_norm {
            Some(limit) if !limit.is_finite() || limit <= 0.0 => {
                wrong("max_norm", limit, "a number greater than 0")
            }
            Some(limit) if self.unit_norm => wrong("max_norm", limit, "left out where unit_norm is true"),
            _ => Ok(()),
        }
    }

    fn has_penalty(&self) -> bool {
        self.l1 > 0.0 || self.l2 > 0.0
    }

    fn has_constraint(&self) -> bool {
        self.max_norm.is_some() || self.unit_norm || self.non_negative
    }

    fn is_meant(&self, path: &str, rank: usize) -> bool {
        rank >= 2 && self.only.as_ref().is_none_or(|only| path.contains(only.as_str()))
    }

    /// `Σ λ₁ |w| + λ₂ w²` of the trained weights; none where both are 0.
    pub fn penalty<M: Module>(&self, module: &M) -> Option<f64> {
        if !self.has_penalty() {
            return None;
        }
        let mut walk = Sum { config: self, path: Vec::new(), sum: 0.0 };
        module.visit(&mut walk);
        Some(walk.sum)
    }

    /// Adds the penalty's gradient `λ₁ sign(w) + 2 λ₂ w`, which is 0 for `w = 0`.
    pub fn add_gradients<M: Module>(&self, module: &M, gradients: &mut GradientsParams) {
        if self.has_penalty() {
            change_gradients(module, gradients, &mut AddPenalty(self));
        }
    }

    /// Adds noise to the gradients of step `step`, counted from 0. It depends on `seed`, the step, and the parameter's place alone.
    pub fn add_noise<M: Module>(&self, module: &M, gradients: &mut GradientsParams, seed: u64, step: u64) {
        if self.noise > 0.0 {
            let deviation = (self.noise / (1.0 + step as f64).powf(self.noise_decay)).sqrt();
            change_gradients(module, gradients, &mut AddNoise { seed, step, deviation });
        }
    }

    /// Applies the constraints, as Keras does after each step.
    pub fn constrain<M: Module>(&self, module: M) -> M {
        match self.has_constraint() {
            true => change_trained(module, &mut Constrain(self)),
            false => module,
        }
    }
}

struct Sum<'a> {
    config: &'a RegularizeConfig,
    path: Vec<String>,
    sum: f64,
}

impl ModuleVisitor for Sum<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let weights = parameter.val();
        if !self.config.is_meant(&self.path.join("."), D) || !weights.is_require_grad() {
            return;
        }
        let weights = weights.inner();
        let read = |sum: Tensor<1>| {
            sum.into_data().convert::<f64>().try_to_vec::<f64>().map_or(f64::NAN, |sum| sum[0])
        };
        if self.config.l1 > 0.0 {
            self.sum += self.config.l1 * read(weights.clone().abs().sum());
        }
        if self.config.l2 > 0.0 {
            self.sum += self.config.l2 * read(weights.square().sum());
        }
    }
}

struct AddPenalty<'a>(&'a RegularizeConfig);

impl ChangeGradient for AddPenalty<'_> {
    fn change<const D: usize>(
        &mut self,
        place: &Place<'_>,
        parameter: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        if !self.0.is_meant(place.path, D) {
            return gradient;
        }
        let weights = parameter.val().inner();
        let mut gradient = gradient;
        if self.0.l1 > 0.0 {
            gradient = gradient + weights.clone().sign() * self.0.l1;
        }
        if self.0.l2 > 0.0 {
            gradient = gradient + weights * (2.0 * self.0.l2);
        }
        gradient
    }
}

struct AddNoise {
    seed: u64,
    step: u64,
    deviation: f64,
}

impl ChangeGradient for AddNoise {
    fn change<const D: usize>(
        &mut self,
        place: &Place<'_>,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let mut key = [0; 32];
        for (part, number) in key.chunks_mut(8).zip([self.seed, self.step, place.index, NOISE]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        let shape = gradient.shape();
        let deviation = self.deviation as f32;
        let noise: Vec<f32> = ChaCha8Rng::from_seed(key)
            .sample_iter(StandardNormal)
            .take(shape.num_elements())
            .map(|draw: f32| draw * deviation)
            .collect();
        let noise = Tensor::<D>::from_data(TensorData::new(noise, shape), &gradient.device());
        let kind = gradient.dtype();
        gradient + noise.cast(kind)
    }
}

struct Constrain<'a>(&'a RegularizeConfig);

impl ChangeValue for Constrain<'_> {
    fn change<const D: usize>(&mut self, path: &str, _: ParamId, weights: Tensor<D>) -> Tensor<D> {
        let config = self.0;
        if !config.is_meant(path, D) {
            return weights;
        }
        let weights = if config.non_negative { weights.clamp_min(0.0) } else { weights };
        if config.max_norm.is_none() && !config.unit_norm {
            return weights;
        }
        let squares = weights.clone().square();
        let length = match D {
            2 => squares.sum_dim(0),
            _ => (1..D).fold(squares, |sum, dim| sum.sum_dim(dim)),
        }
        .sqrt();
        let wanted = match config.max_norm {
            Some(limit) => length.clone().clamp_max(limit),
            None => length.ones_like(),
        };
        weights * (wanted / (length + EPSILON))
    }
}
