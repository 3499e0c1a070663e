//! Differentiable operations on tensors with hand-written backward passes, and tools to write and check gradients.
//!
//! Everything here is a function of [burn] tensors; which backend computes it is the device's business. On the CPU backends
//! (ndarray, flex) the arithmetic is `firebrick-kernels`'; on the others, and for other types than `f32`, it is made of burn's
//! own operations. Both give the same values but for rounding, and the tests compare them.
//!
//! # Operations
//! - [`conv_chain`]: convolutions with BatchNorm and activation, one after another; [`conv2d`]: one with a bias
//! - [`linear`]: a linear layer with its activation
//! - [`layer_norm`]: layer normalisation over the last axis
//! - [`attention`] and [`self_attention`]: scaled dot-product attention, with masks
//! - [`arrange`]: rows in another order, such as windows of an image
//! - [`embedding`]: rows of a table, such as the vectors of words
//! - [`softmax`]; [`cross_entropy`] and [`soft_cross_entropy`] of logits
//! - [`max_pool`], [`average_pool`], [`adaptive_average_pool`], [`global_average_pool`]
//! - [`adam_update`], [`sgd_update`]: the optimizers' rules, in place where they can
//!
//! # Tools
//! - [`check_gradient`]: gradients of any function against differences in f64
//! - [`CustomGradient`]: a function whose gradient you write; [`straight_through`] and [`gradient_reversal`] are two
//! - [`checkpoint`]: a block that is computed again in the backward pass instead of kept
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebrick_autodiff::layer_norm;
//!
//! # #[allow(deprecated)]
//! let device = Device::ndarray().autodiff();
//! let x = Tensor::<2>::from_floats([[1.0, 2.0, 4.0], [0.0, 3.0, -1.0]], &device).require_grad();
//! let (gamma, beta) = (Tensor::ones([3], &device), Tensor::zeros([3], &device));
//! let y = layer_norm(x.clone(), gamma, beta, 1e-5);
//! let gradients = y.powi_scalar(3).sum().backward();
//! assert_eq!(x.grad(&gradients).expect("x is tracked").dims(), [2, 3]);
//! ```
//!
//! # How an operation is made
//! One file holds an operation from end to end, [`softmax`]'s for instance:
//! 1. slices: forward and backward kernels in `firebrick_kernels::grad`, which know no tensor;
//! 2. the reference: the function of burn's operations, generic over the backend, and therefore right on each; burn differentiates
//!    it;
//! 3. the adapter: tensors that are `f32` and lie in this process' memory (`host.rs`) to slices and back, or nothing; in that case
//!    the reference answers;
//! 4. `DiffBackend` in `backend.rs` has a method for it: a plain backend computes it by 3 or 2, and `Autodiff` records a `Step`
//!    (`record.rs`) or lets burn differentiate 2. `Kernels` is for what a backend computes in a way of its own;
//! 5. the function on tensors, which checks shapes.
//!
//! A step may have any number of inputs, known only at run time (`TensorList`), return further tensors through which no
//! gradient flows, and keep tensors or an opaque value of the kernel's for the way back (`Saved`). The tests of `record.rs`
//! show an operation that does all three.

// Without a backend in this process' memory nobody asks for slices; the crate compiles nevertheless.
#![cfg_attr(
    not(any(feature = "ndarray", feature = "flex")),
    allow(dead_code, unused_imports, unused_macros, unused_variables, unreachable_code)
)]

mod activate;
mod arrange;
mod attention;
mod backend;
mod check;
mod check_gradient;
mod checkpoint;
mod conv_chain;
mod cross_entropy;
mod custom;
mod embedding;
mod host;
mod layer_norm;
mod linear;
mod list;
mod pool;
mod record;
mod saved;
mod softmax;
mod tensors;
mod update;

pub use arrange::{Arrangement, arrange};
pub use attention::{AttentionOptions, attention, self_attention};
pub use check_gradient::{GradientCheck, GradientError, check_gradient};
pub use checkpoint::checkpoint;
pub use conv_chain::{ChainMoments, ChainParameters, ConvGeometry, conv_chain, conv2d};
pub use cross_entropy::{cross_entropy, soft_cross_entropy};
pub use custom::{CustomGradient, gradient_reversal, straight_through};
pub use embedding::embedding;
pub use firebrick_kernels::grad::{AdamStep, SgdStep};
pub use firebrick_kernels::{Activation, ChainBlock, ChainSpec, ChainUnit, Shortcut, UnitNorm};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use pool::{CountPadding, Window, adaptive_average_pool, average_pool, global_average_pool, max_pool};
pub use softmax::softmax;
pub use tensors::{AnyTensor, Inputs};
pub use update::{adam_update, sgd_update};
