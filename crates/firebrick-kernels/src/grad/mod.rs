//! Kernels with a backward pass: the arithmetic under `firebrick-autodiff`'s operations.
//!
//! Slices in, slices out, `f32`; nothing here knows a tensor. A forward kernel returns, beside its result, the few values
//! that its backward kernel needs. Every function that computes with vectors takes the [`SimdLevel`](crate::SimdLevel) to use
//! ([`SimdLevel::in_use`](crate::SimdLevel::in_use) is the usual one) and uses rayon's current pool; the results do not depend
//! on the number of threads, to the last bit.

mod arrange;
mod attention;
mod embedding;
mod lanes;
mod layer_norm;
mod linear;
mod matmul;
mod one_row;
mod pool;
mod rows;
mod softmax;
#[cfg(test)]
pub(crate) mod testing;
mod update;

pub use arrange::arrange;
pub use attention::{
    Attention, AttentionGradients, AttentionResult, AttentionShape, MASKED, RowOrder, ScoreBias, Tokens,
    attention, attention_backward, packed_attention_backward, packed_tokens,
};
pub use embedding::{embedding, embedding_backward};
pub(crate) use lanes::{read, write};
pub use layer_norm::{LayerNorm, LayerNormGradients, layer_norm, layer_norm_backward};
pub use linear::{Linear, LinearGradients, Weight, linear, linear_backward};
pub use pool::{
    Axis, MaxPool, PoolShape, average_pool, average_pool_backward, max_pool, max_pool_backward, row_means,
    row_means_backward,
};
pub use softmax::{
    CrossEntropy, Targets, cross_entropy, cross_entropy_backward, cross_entropy_shares_backward, softmax,
    softmax_backward,
};
pub use update::{AdamSlices, AdamStep, SgdSlices, SgdStep, adam, sgd};
