//! Sharpness-aware minimisation.

use burn::module::{Module, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::clip::Squares;
use crate::gradients::{ChangeValue, change_gradients, change_trained};

/// `module` where its loss is nearly the greatest within `rho`: `θ + ρ g / (‖g‖ + 1e-12)` with the norm of all gradients together.
///
/// The gradient there, applied to `module` itself, is a step of SAM: Foret et al. 2021 (arXiv:2010.01412), equations 2 and 3; the
/// paper's ρ is 0.05.
pub fn sam_ascent<M: Module>(module: M, gradients: &mut GradientsParams, rho: f64) -> M {
    let mut squares = Squares(0.0);
    change_gradients(&module, gradients, &mut squares);
    let factor = rho / (squares.0.sqrt() + 1e-12);
    change_trained(module, &mut Ascend { gradients, factor })
}

struct Ascend<'a> {
    gradients: &'a GradientsParams,
    factor: f64,
}

impl ChangeValue for Ascend<'_> {
    fn change<const D: usize>(&mut self, _: &str, id: ParamId, value: Tensor<D>) -> Tensor<D> {
        match self.gradients.get::<D>(id) {
            Some(gradient) => value + gradient * self.factor,
            None => value,
        }
    }
}
