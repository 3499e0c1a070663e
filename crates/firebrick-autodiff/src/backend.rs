//! The operations as burn's backends see them.
// burn's ndarray backend is deprecated upstream; it is first class here.
#![allow(deprecated)]

use crate::arrange::{self, Arrangement};
use crate::attention::AttentionForm;
use crate::custom::{self, Rule};
use crate::host::HostBackend;
use crate::list::TensorList;
use crate::pool::{self, Pooling};
use crate::saved::Saved;
use crate::{attention, conv_chain, cross_entropy, embedding, layer_norm, linear, softmax, update};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Autodiff, BackendTensor, Dispatch, DispatchKindConversion, DispatchTensor, backend_extension,
};
use firebrick_kernels::grad::{AdamStep, SgdStep};
use firebrick_kernels::{Activation, ChainSpec};
use std::sync::Arc;

/// A gradient for each input of an operation; nothing where none is asked for.
pub type InputGradients<B> = Vec<Option<FloatTensor<B>>>;

/// How numbers are computed, on plain tensors.
///
/// An operation whose kernel reads tensors in this process' memory ([`HostBackend`]) needs no method here. One that a backend
/// computes in its own way has one for each direction, whose default bodies are made of burn's own operations and so are right on
/// every backend. A backward method gets `wanted`: which inputs need a gradient, in the order of the forward method's tensors.
pub trait Kernels: HostBackend {
    /// The tensor as one whose backend is known at run time.
    fn to_dispatch(_tensor: FloatTensor<Self>) -> DispatchTensor {
        unreachable!("asked of the backends of devices only")
    }

    /// The tensor of this backend.
    fn of_dispatch(_tensor: DispatchTensor) -> FloatTensor<Self> {
        unreachable!("asked of the backends of devices only")
    }

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

    /// See [`softmax`](crate::softmax()), along the last axis.
    fn softmax(x: FloatTensor<Self>) -> FloatTensor<Self> {
        softmax::run::<Self>(x)
    }

    /// See [`cross_entropy`](crate::cross_entropy()).
    fn cross_entropy(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        cross_entropy::run::<Self>(logits, targets)
    }

    /// See [`soft_cross_entropy`](crate::soft_cross_entropy).
    fn soft_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        cross_entropy::run_soft::<Self>(logits, targets)
    }

    /// See [`linear`](crate::linear()): the input, the weight and, if there is one, the bias.
    fn linear(#[extension_type] inputs: TensorList<Self>, activation: Activation) -> FloatTensor<Self> {
        linear::run::<Self>(inputs.0, activation)
    }

    /// See [`attention`](crate::attention()) and [`self_attention`](crate::self_attention): queries, keys and values, or one tensor of them,
    /// and, if there is one, what is added to the scores.
    fn attention(#[extension_type] inputs: TensorList<Self>, form: AttentionForm) -> FloatTensor<Self> {
        attention::run::<Self>(inputs.0, form)
    }

    /// See [`arrange`](crate::arrange()).
    fn arrange(x: FloatTensor<Self>, arrangement: Arrangement) -> FloatTensor<Self> {
        arrange::run::<Self>(x, &arrangement)
    }

    /// See [`embedding`](crate::embedding()).
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        embedding::run::<Self>(table, ids)
    }

    /// See [`max_pool`](crate::max_pool) and its neighbours.
    fn pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        pool::run::<Self>(x, pooling)
    }

    /// See [`adam_update`](crate::adam_update).
    fn adam_update(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        update::adam::<Self>(parameter, gradient, moment_1, moment_2, step)
    }

    /// See [`sgd_update`](crate::sgd_update).
    fn sgd_update(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        update::sgd::<Self>(parameter, gradient, velocity, step)
    }

    /// Applies a rule whose gradient it brings along, see [`CustomGradient`](crate::CustomGradient).
    fn apply_rule(#[extension_type] inputs: TensorList<Self>, rule: Arc<dyn Rule>) -> FloatTensor<Self> {
        custom::run::<Self>(inputs.0, &*rule)
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

    fn softmax(x: FloatTensor<Self>) -> FloatTensor<Self> {
        softmax::record::<B, C>(x)
    }

    fn cross_entropy(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        cross_entropy::record::<B, C>(logits, targets)
    }

    fn soft_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        cross_entropy::record_soft::<B, C>(logits, targets)
    }

    fn linear(inputs: TensorList<Self>, activation: Activation) -> FloatTensor<Self> {
        linear::record::<B, C>(inputs.0, activation)
    }

    fn attention(inputs: TensorList<Self>, form: AttentionForm) -> FloatTensor<Self> {
        attention::record::<B, C>(inputs.0, form)
    }

    fn arrange(x: FloatTensor<Self>, arrangement: Arrangement) -> FloatTensor<Self> {
        arrange::record::<B, C>(x, arrangement)
    }

    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        embedding::record::<B, C>(table, ids)
    }

    fn pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        pool::record::<B, C>(x, pooling)
    }

    fn apply_rule(inputs: TensorList<Self>, rule: Arc<dyn Rule>) -> FloatTensor<Self> {
        custom::record::<B, C>(inputs.0, rule)
    }
}

// Asked for by the trait's bounds; nobody calls these.
impl Kernels for Dispatch {}
impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {}

/// The way between a device's backend and tensors whose backend is known at run time.
macro_rules! of_a_device {
    () => {
        fn to_dispatch(tensor: FloatTensor<Self>) -> DispatchTensor {
            <DispatchTensor as DispatchKindConversion<Self>>::from_backend(BackendTensor::Float(tensor))
        }

        fn of_dispatch(tensor: DispatchTensor) -> FloatTensor<Self> {
            let tensor = <DispatchTensor as DispatchKindConversion<Self>>::try_into_backend(tensor);
            tensor.unwrap_or_else(|error| panic!("a tensor of another device: {error}")).float()
        }
    };
}

/// The kernels of a backend whose tensors lie in this process' memory.
macro_rules! on_the_host {
    ($backend:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        impl DiffBackend for burn::backend::$backend {}

        #[cfg(feature = $feature)]
        impl Kernels for burn::backend::$backend {
            of_a_device!();

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
impl Kernels for burn::backend::Cube {
    of_a_device!();
}
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda"))]
impl DiffBackend for burn::backend::Cube {}
