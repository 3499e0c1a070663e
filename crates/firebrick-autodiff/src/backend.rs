//! The operations as burn's backends see them.
// burn's ndarray backend is deprecated upstream; it is first class here.
#![allow(deprecated)]

use crate::layer_norm;
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};

/// A gradient for each input of an operation; nothing where none is asked for.
pub type InputGradients<B> = Vec<Option<FloatTensor<B>>>;

/// How numbers are computed: both directions of each operation, on plain tensors.
///
/// The default bodies are made of burn's own operations, so they are right on every backend. A backward method gets `wanted`:
/// which inputs need a gradient, in the order of the forward method's tensors.
pub trait Kernels: Backend {
    /// See [`layer_norm`](crate::layer_norm()).
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, Saved<Self>) {
        layer_norm::reference_forward::<Self>(x, gamma, beta, epsilon)
    }

    /// The gradients of `x`, `gamma` and `beta`.
    fn layer_norm_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        saved: Saved<Self>,
        wanted: &[bool],
    ) -> InputGradients<Self> {
        layer_norm::reference_backward::<Self>(grad, x, gamma, saved, wanted)
    }
}

/// How they are differentiated: the operations that a tensor's function calls. Burn's macro makes the way there from a tensor
/// whose backend is known at run time only.
#[backend_extension(
    NdArray: cfg(feature = "ndarray"),
    Flex: cfg(feature = "flex"),
    // With the feature `fusion` this is the fusing backend, whose operations the default bodies then are.
    Cube: cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda")),
    Autodiff
)]
pub trait DiffBackend: Kernels {
    /// See [`layer_norm`](crate::layer_norm()).
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm_forward(x, gamma, beta, epsilon).0
    }
}

impl<B: Kernels, C: CheckpointStrategy> DiffBackend for Autodiff<B, C> {
    fn layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        layer_norm::record::<B, C>(x, gamma, beta, epsilon)
    }
}

// Asked for by the trait's bounds; nobody calls these.
impl Kernels for Dispatch {}
impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {}

/// The kernels of a backend whose tensors lie in this process' memory.
macro_rules! on_the_host {
    ($backend:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        impl DiffBackend for burn::backend::$backend {}

        #[cfg(feature = $feature)]
        impl Kernels for burn::backend::$backend {
            fn layer_norm_forward(
                x: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                epsilon: f64,
            ) -> (FloatTensor<Self>, Saved<Self>) {
                layer_norm::host_forward::<Self>(&x, &gamma, &beta, epsilon)
                    .unwrap_or_else(|| layer_norm::reference_forward::<Self>(x, gamma, beta, epsilon))
            }

            fn layer_norm_backward(
                grad: FloatTensor<Self>,
                x: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                saved: Saved<Self>,
                wanted: &[bool],
            ) -> InputGradients<Self> {
                layer_norm::host_backward::<Self>(&grad, &x, &gamma, &saved, wanted)
                    .unwrap_or_else(|| layer_norm::reference_backward::<Self>(grad, x, gamma, saved, wanted))
            }
        }
    };
}

on_the_host!(NdArray, "ndarray");
on_the_host!(Flex, "flex");

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda"))]
impl Kernels for burn::backend::Cube {}
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda"))]
impl DiffBackend for burn::backend::Cube {}
