//! The operations as burn's backends see them.
// burn's ndarray backend is deprecated upstream; it is first class here.
#![allow(deprecated)]

use crate::conv_chain;
use crate::layer_norm;
use crate::list::TensorList;
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use firebrick_kernels::ChainSpec;

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

    /// See [`conv_chain`](crate::conv_chain()): result, moments, and what the way back needs. Nothing where no kernel can
    /// compute the chain; then it is made of burn's operations, which burn differentiates.
    fn conv_chain_forward(
        _x: &FloatTensor<Self>,
        _parameters: &[FloatTensor<Self>],
        _spec: &ChainSpec,
    ) -> Option<(FloatTensor<Self>, FloatTensor<Self>, Saved<Self>)> {
        None
    }

    /// The gradients of the input and the parameters of a chain that [`conv_chain_forward`](Self::conv_chain_forward) computed.
    fn conv_chain_backward(
        _grad: FloatTensor<Self>,
        _parameters: &[FloatTensor<Self>],
        _saved: Saved<Self>,
        _wanted: &[bool],
    ) -> InputGradients<Self> {
        unreachable!("no kernel has computed the chain")
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

    /// See [`conv_chain`](crate::conv_chain()): the result, and `[2, channels of all units]`, their means and variances.
    fn conv_chain(
        x: FloatTensor<Self>,
        #[extension_type] parameters: TensorList<Self>,
        spec: ChainSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match Self::conv_chain_forward(&x, &parameters.0, &spec) {
            Some((output, moments, _)) => (output, moments),
            None => conv_chain::reference::<Self>(x, parameters.0, &spec),
        }
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

    fn conv_chain(
        x: FloatTensor<Self>,
        parameters: TensorList<Self>,
        spec: ChainSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        conv_chain::record::<B, C>(x, parameters.0, &spec)
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

            fn conv_chain_forward(
                x: &FloatTensor<Self>,
                parameters: &[FloatTensor<Self>],
                spec: &ChainSpec,
            ) -> Option<(FloatTensor<Self>, FloatTensor<Self>, Saved<Self>)> {
                conv_chain::host_forward::<Self>(x, parameters, spec)
            }

            fn conv_chain_backward(
                grad: FloatTensor<Self>,
                parameters: &[FloatTensor<Self>],
                saved: Saved<Self>,
                wanted: &[bool],
            ) -> InputGradients<Self> {
                conv_chain::host_backward::<Self>(&grad, parameters, &saved, wanted)
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
