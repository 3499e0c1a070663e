//! Kernels with a backward pass: the arithmetic under `firebrick-autodiff`'s operations.
//!
//! Slices in, slices out, `f32`; nothing here knows a tensor. A forward kernel returns, beside its result, the few values
//! that its backward kernel needs. Every function takes the [`SimdLevel`](crate::SimdLevel) to compute with
//! ([`SimdLevel::in_use`](crate::SimdLevel::in_use) is the usual one) and uses rayon's current pool; the results do not depend
//! on the number of threads, to the last bit.

mod lanes;
mod layer_norm;
mod rows;
#[cfg(test)]
mod testing;

pub use layer_norm::{LayerNorm, LayerNormGradients, layer_norm, layer_norm_backward};
