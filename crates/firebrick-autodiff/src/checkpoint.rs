//! Computing a block again instead of keeping what it computed (Chen et al. 2016).

use crate::custom::{self, Rule};
use crate::tensors::{AnyTensor, Inputs};
use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{GradientCheckpointingStrategy, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// `forward(block, x)`, of which only `x` and the result are kept; the backward pass computes the block again and differentiates it
/// then. The gradients of `x` and of the block's parameters are the same, for half again of the forward pass' time.
///
/// - The block must compute the same again: no dropout and no other randomness. A running statistic is updated by the first
///   computation alone.
/// - `forward` must use no other tracked tensors than `x` and those of the block; through others no gradient flows.
/// - For element-wise operations alone burn has a lighter means: a device with `gradient_checkpointing()` recomputes those whose
///   inputs are kept anyway, everywhere in a network, without a call.
///
/// Without a tape it is the block and nothing else.
///
/// # Panics
/// In the backward pass, if the block is another one the second time: its result has another shape.
pub fn checkpoint<M, const D: usize, const E: usize>(
    block: &M,
    x: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + Send + Sync + 'static,
) -> Tensor<E>
where
    M: Module + Send + Sync + 'static,
{
    let Some(strategy) = x.device().gradient_checkpointing_strategy() else {
        return forward(block, x);
    };
    let mut inputs = vec![AnyTensor::from(x)];
    inputs.extend(Tracked::of(block));
    let rule = Checkpoint::<M, _, D, E> {
        // Without a tape, but with the layers' training behaviour; dropped after the first use, lest the tape hold on to itself.
        first: Mutex::new(Some(block.clone().no_grad())),
        again: block.valid(),
        forward,
        strategy,
    };
    Tensor::from_dispatch(custom::apply(inputs, Arc::new(rule)))
}

/// Collects a module's tracked parameters in the order of its fields.
#[derive(Default)]
struct Tracked(Vec<AnyTensor>);

impl Tracked {
    fn of(module: &impl Module) -> Vec<AnyTensor> {
        let mut tracked = Self::default();
        module.visit(&mut tracked);
        tracked.0
    }
}

impl ModuleVisitor for Tracked {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            self.0.push(value.into());
        }
    }
}

/// Takes the parameters' gradients in the same order.
struct Harvest<'a> {
    gradients: &'a burn::tensor::Gradients,
    taken: Vec<Option<AnyTensor>>,
}

impl ModuleVisitor for Harvest<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            // A parameter that the block does not use has none.
            let gradient = value.grad(self.gradients);
            self.taken.push(Some(gradient.unwrap_or_else(|| value.inner().zeros_like()).into()));
        }
    }
}

struct Checkpoint<M, F, const D: usize, const E: usize> {
    first: Mutex<Option<M>>,
    again: M,
    forward: F,
    strategy: GradientCheckpointingStrategy,
}

impl<M, F, const D: usize, const E: usize> Rule for Checkpoint<M, F, D, E>
where
    M: Module + Send + Sync,
    F: Fn(&M, Tensor<D>) -> Tensor<E> + Send + Sync,
{
    fn forward(&self, inputs: &Inputs) -> DispatchTensor {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let block = first.expect("a rule is applied once");
        // Layers ask the input's device whether they train.
        let x = Tensor::from_inner(inputs.tensor::<D>(0)).with_gradient_checkpointing_strategy(self.strategy);
        (self.forward)(&block, x).inner().into_dispatch()
    }

    fn backward(
        &self,
        inputs: &Inputs,
        _output: Option<DispatchTensor>,
        grad: DispatchTensor,
        wanted: &[bool],
    ) -> Vec<Option<AnyTensor>> {
        // New leaves, on a tape of their own: the one that this runs on is locked.
        let block = self.again.clone().train();
        let mut x = Tensor::from_inner(inputs.tensor::<D>(0));
        if wanted[0] {
            x = x.require_grad();
        }
        let y = (self.forward)(&block, x.clone());
        let grad = Tensor::<E>::from_inner(Tensor::from_dispatch(grad));
        assert_eq!(y.dims(), grad.dims(), "checkpoint: the block's result has another shape the second time");
        let gradients = (y * grad).sum().backward();
        let input = wanted[0].then(|| x.grad(&gradients).unwrap_or_else(|| x.inner().zeros_like()).into());
        let mut harvest = Harvest { gradients: &gradients, taken: vec![input] };
        block.visit(&mut harvest);
        harvest.taken
    }

    fn needs_output(&self) -> bool {
        false
    }
}
