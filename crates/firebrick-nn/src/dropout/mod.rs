//! Dropout in its shapes: of activations, channels, samples, regions and weights.
//!
//! All of them act where burn's own [`Dropout`] does: in a module that is trained, on a device with autodiff. They draw from the device's
//! generator, which `device.seed` sets. What is kept is scaled so that the mean stays. `forward` draws a mask and calls `apply`, which has
//! nothing random left.

mod alpha;
mod block;
mod connect;
mod path;
mod spatial;

pub use alpha::AlphaDropout;
pub use block::DropBlock;
pub use burn::nn::{Dropout, DropoutConfig};
pub use connect::DropConnect;
pub use path::DropPath;
pub use spatial::SpatialDropout;

use burn::tensor::{Distribution, Tensor};

use crate::LayerError;

/// Burn's dropout of a probability in `[0, 1)`.
pub(crate) fn dropout(layer: &'static str, p: f64) -> Result<Dropout, LayerError> {
    LayerError::unless(
        (0.0..1.0).contains(&p),
        layer,
        "p",
        p,
        "a probability of at least 0 and less than 1",
    )?;
    Ok(DropoutConfig::new(p).init())
}

/// Whether a dropout changes anything that lies beside `x`.
fn acts<const D: usize>(dropout: &Dropout, x: &Tensor<D>) -> bool {
    dropout.prob > 0.0 && dropout.training.is_enabled() && x.device().is_autodiff()
}

/// What is kept, 1, and what is not, 0, drawn beside `x` for the axes that are true, each for all of the others.
fn kept<const D: usize>(dropout: &Dropout, x: &Tensor<D>, drawn: impl Fn(usize) -> bool) -> Tensor<D> {
    let dims = x.dims();
    let shape: [usize; D] = std::array::from_fn(|axis| if drawn(axis) { dims[axis] } else { 1 });
    Tensor::random(shape, Distribution::Bernoulli(1.0 - dropout.prob), (&x.device(), x.dtype()))
}

/// `x · kept / (1 - p)`.
fn scaled<const D: usize>(dropout: &Dropout, x: Tensor<D>, kept: Tensor<D>) -> Tensor<D> {
    x * (kept * (1.0 / (1.0 - dropout.prob)))
}
