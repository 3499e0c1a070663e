//! SIMD kernels for CPUs and the inference plan: a network folded, packed and laid out once, then run without allocation.
//!
//! [`PlanBuilder`] takes the operations of a network in evaluation mode, any graph without cycles, with weights as PyTorch stores
//! them, and compiles them into a [`Plan`]. Images go in as `[batch, height, width, channels]` in `f32`; what comes out is the same for any number of
//! threads and any split into batches, byte for byte.
//!
//! [`EncoderPlanBuilder`] does the same for transformer encoders (BERT, ViT and the like): tokens or features in, hidden states out.
//!
//! What makes it fast:
//! - BatchNorm is folded into the weights, and bias, activation and residual are applied while results are in registers.
//! - A dense 3x3 convolution is computed in Winograd's form, with a quarter of the multiplications, where that pays.
//! - Values of a network share memory where their lives do not overlap, and concatenated ones are made in their places.
//! - Activations are blocked by channels as wide as a vector, weights are packed in the order in which they are read.
//! - An inverted residual is computed depth first, a band of rows at a time, so that its expanded tensor stays in the cache.
//! - Attention is computed tile by tile with a running softmax; the rest of a transformer layer runs a block of tokens at a time.
//! - Threads enter a forward pass once and meet at barriers; memory is reused from run to run.
//!
//! The instruction set is chosen when a plan is built, see [`SimdLevel`]. `FIREBRICK_SIMD=scalar|neon|avx2|avx512` forces one.

mod activation;
mod buffer;
mod chain;
mod depthwise;
mod encoder;
mod error;
pub mod grad;
mod layout;
mod level;
mod loan;
mod pack;
mod params;
mod peak;
mod plan;
mod pool;
mod pool_window;
mod product;
#[cfg(test)]
mod reference;
mod simd;
mod team;
mod winograd;

pub use activation::Activation;
pub use chain::{
    BatchMoments, ChainBlock, ChainGradients, ChainOutput, ChainSpec, ChainTape, ChainUnit, ConvChain,
    Shortcut, UnitGradients, UnitNorm, UnitParams, release_idle_memory,
};
pub use encoder::{
    AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput, EncoderLayerParams,
    EncoderPlan, EncoderPlanBuilder, KeyMask, LayerNormParams, LinearParams, NormOrder,
};
pub use error::KernelError;
pub use level::SimdLevel;
pub use params::{BatchNormParams, ConvParams};
pub use peak::multiply_add_peak;
pub use plan::{Plan, PlanBuilder, StepTime, Value};
pub use pool_window::PoolParams;
