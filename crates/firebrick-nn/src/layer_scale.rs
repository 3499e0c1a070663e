//! A factor a channel on a residual branch.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::{Initializer, LayerError};

/// Multiplies the last axis with learnt factors that start small (Touvron et al. 2021, arXiv:2103.17239).
#[derive(Module, Debug)]
pub struct LayerScale {
    /// `[width]`.
    pub gamma: Param<Tensor<1>>,
}

impl LayerScale {
    /// Factors that start at `initial`; 1e-5 in timm, 1e-6 in ConvNeXt.
    ///
    /// # Errors
    /// [`LayerError`] for no width or an initial value that is not finite.
    pub fn new(width: usize, initial: f32, device: &Device) -> Result<Self, LayerError> {
        LayerError::unless(width > 0, "LayerScale", "width", width, "at least 1")?;
        LayerError::unless(initial.is_finite(), "LayerScale", "initial", initial, "a finite number")?;
        Ok(Self { gamma: Initializer::Constant { value: initial }.init([width], width, width, 0, device) })
    }

    /// `[..., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        x * self.gamma.val().unsqueeze()
    }
}
