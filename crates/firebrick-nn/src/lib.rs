//! Layers, blocks, heads and losses: what acts on activations.
//!
//! Everything here is a plain [burn] module: `#[derive(Module)]`, `f32` tensors whose backend is their
//! device's, shapes written `[batch, channels, height, width]`. What burn already has is used as it is;
//! this crate adds what a model zoo and a training loop need around it:
//!
//! - [`Network`]: a module from a batch of inputs to a batch of logits, which is all the training loop asks for
//! - [`ConvNormAct`]: convolution + BatchNorm + activation, the brick of every convolutional backbone
//! - [`ClassifierHead`]: pooled features to logits, with hidden layers if wanted
//! - [`Initializer`]: seeded initial weights, the same on every backend
//! - [`dense`]: burn's linear layer and an activation as one operation
//! - [`Activation`], and [`dropout`] of channels, samples, regions and weights
//! - [`MultiHeadAttention`], positions, [`Recurrent`] layers, [`TransformerEncoder`] and [`TransformerDecoder`]
//! - [`SeparableConv2d`], [`BlurPool`], [`AdaptiveMaxPool2d`], [`SqueezeExcite`], [`LayerScale`], [`PatchEmbedding`]
//! - [`presets`]: burn's norms with PyTorch's and Keras' settings
//! - [`loss`]: what is minimised, with [`cross_entropy`] from logits the usual one
//! - [`LayerSummary`]: what a layer costs, for tables of shapes, parameters and multiply-adds
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebrick_nn::{HeadConfig, Network};
//!
//! # #[allow(deprecated)]
//! let device = Device::ndarray();
//! let head = HeadConfig::new(1280, 10).with_hidden([128]).init(0, &device);
//! let logits = head.forward(Tensor::<2>::zeros([32, 1280], &device));
//! assert_eq!(logits.dims(), [32, 10]);
//! ```

mod activation;
mod adaptive_max_pool;
mod attention;
mod blur_pool;
mod chain;
mod conv_norm_act;
mod dense;
pub mod dropout;
mod head;
mod initializer;
mod layer_error;
mod layer_scale;
pub mod loss;
mod network;
mod patch_embedding;
mod positions;
pub mod presets;
mod recurrent;
mod separable_conv;
mod squeeze_excite;
mod summary;
mod transformer;

pub use activation::Activation;
pub use adaptive_max_pool::AdaptiveMaxPool2d;
pub use attention::{AttentionConfig, AttentionMask, MultiHeadAttention};
pub use blur_pool::BlurPool;
pub use chain::{ChainLayer, Residual, ResidualBlock, forward_chain};
pub use conv_norm_act::{ConvNormAct, ConvNormActConfig, Padding};
pub use dense::dense;
pub use head::{ClassifierHead, HeadConfig};
pub use initializer::{Initializer, seed_of};
pub use layer_error::LayerError;
pub use layer_scale::LayerScale;
pub use loss::{LossError, cross_entropy};
pub use network::Network;
pub use patch_embedding::PatchEmbedding;
pub use positions::{LearnedPositions, Rotary, RotaryLayout, sinusoidal_positions};
pub use recurrent::{Bidirectional, Cell, Recurrent, RecurrentConfig, RecurrentState};
pub use separable_conv::SeparableConv2d;
pub use squeeze_excite::SqueezeExcite;
pub use summary::LayerSummary;
pub use transformer::{
    DecoderLayer, EncoderLayer, FeedForward, Norm, TransformerConfig, TransformerDecoder, TransformerEncoder,
};
