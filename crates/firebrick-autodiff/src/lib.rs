//! Differentiable operations on tensors with hand-written backward passes, and tools to write and check gradients.
//!
//! Everything here is a function of [burn] tensors; which backend computes it is the device's business. On the CPU backends
//! (ndarray, flex) the arithmetic is `firebrick-kernels`'; on the others, and for other types than `f32`, it is made of burn's
//! own operations. Both give the same values but for rounding, and the tests compare them.
//!
//! # Operations
//! - [`conv_chain`]: convolutions with BatchNorm and activation, one after another
//! - [`layer_norm`]: layer normalisation over the last axis
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
//! One file holds an operation from end to end, [`layer_norm`]'s for instance:
//! 1. slices: forward and backward kernels in `firebrick_kernels::grad`, which know no tensor;
//! 2. the reference: the same of burn's operations, generic over the backend, and therefore right on each;
//! 3. the adapter: for a backend whose tensors lie in this process' memory (`host.rs`), tensors to slices and back, or nothing
//!    if they are not `f32`; in that case the reference answers;
//! 4. `Kernels` in `backend.rs` has a method for each direction, whose default body is 2 and which the CPU backends replace by
//!    3; `DiffBackend` has the differentiable operation, which `Autodiff` replaces by one that records a `Step` (`record.rs`);
//! 5. the function on tensors, which checks shapes.
//!
//! A step may have any number of inputs, known only at run time (`TensorList`), return further tensors through which no
//! gradient flows, and keep tensors or an opaque value of the kernel's for the way back (`Saved`). The tests of `record.rs`
//! show an operation that does all three.

mod backend;
mod check;
mod conv_chain;
mod host;
mod layer_norm;
mod list;
mod record;
mod saved;

pub use conv_chain::{ChainMoments, ChainParameters, conv_chain};
pub use firebrick_kernels::{Activation, ChainSpec, ChainUnit};
pub use layer_norm::layer_norm;
