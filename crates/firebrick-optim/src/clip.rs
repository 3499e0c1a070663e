//! Gradient clipping.

use std::str::FromStr;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::gradients::{ChangeGradient, Place, change_gradients};
use crate::{OptimError, setting};

/// How gradients are kept small: Pascanu et al. 2013 (arXiv:1211.5063). As text `value=0.5`, `norm=1` or `global_norm=1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Clip {
    /// Every entry into `-c..=c`: Keras' `clipvalue`, PyTorch's `clip_grad_value_`.
    Value(f64),
    /// Every parameter's gradient apart: `g ← g min(1, c / ‖g‖₂)`: Keras' `clipnorm`.
    Norm(f64),
    /// All gradients by one factor, `min(1, c / n)` of the norm `n` of all together: Keras' `global_clipnorm`; PyTorch's
    /// `clip_grad_norm_`, which divides by `n + 1e-6`.
    GlobalNorm(f64),
}

impl Clip {
    /// Checks the limit.
    ///
    /// # Errors
    ///
    /// [`OptimError::OutOfRange`] if it is not a number greater than 0.
    pub fn validate(&self) -> Result<(), OptimError> {
        let (field, value) = match *self {
            Self::Value(limit) => ("clip value", limit),
            Self::Norm(limit) => ("clip norm", limit),
            Self::GlobalNorm(limit) => ("clip global_norm", limit),
        };
        match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange { field, value, range: "a number greater than 0" }),
        }
    }

    /// Clips the gradients of `module`.
    pub fn apply<M: Module>(&self, module: &M, gradients: &mut GradientsParams) {
        if let Self::GlobalNorm(limit) = *self {
            let mut squares = Squares(0.0);
            change_gradients(module, gradients, &mut squares);
            let norm = squares.0.sqrt();
            // Not `<=`: what is no number is left as it is, so that the loss tells of it.
            if norm > limit {
                change_gradients(module, gradients, &mut Scale(limit / norm));
            }
        } else {
            change_gradients(module, gradients, &mut Apart(*self));
        }
    }
}

impl FromStr for Clip {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let clip: Self = setting::parse_settings("clip", text)?;
        clip.validate()?;
        Ok(clip)
    }
}

/// `‖x‖₂²`, read from the device.
pub(crate) fn square<const D: usize>(tensor: Tensor<D>) -> f64 {
    tensor.square().sum().into_data().convert::<f64>().try_to_vec::<f64>().map_or(f64::NAN, |sum| sum[0])
}

/// Sums the squares of all gradients.
pub(crate) struct Squares(pub(crate) f64);

impl ChangeGradient for Squares {
    fn change<const D: usize>(
        &mut self,
        _: &Place<'_>,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        self.0 += square(gradient.clone());
        gradient
    }
}

/// Multiplies all gradients.
pub(crate) struct Scale(pub(crate) f64);

impl ChangeGradient for Scale {
    fn change<const D: usize>(
        &mut self,
        _: &Place<'_>,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        gradient * self.0
    }
}

struct Apart(Clip);

impl ChangeGradient for Apart {
    fn change<const D: usize>(
        &mut self,
        _: &Place<'_>,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        match self.0 {
            Clip::Value(limit) => gradient.clamp(-limit, limit),
            Clip::Norm(limit) | Clip::GlobalNorm(limit) => {
                let norm = square(gradient.clone()).sqrt();
                if norm > limit { gradient * (limit / norm) } else { gradient }
            }
        }
    }
}
