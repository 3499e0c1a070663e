//! Putting an operation with a hand-written backward pass on the tape.

use crate::backend::InputGradients;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// The way back of an operation, with what it kept on the way there.
pub(crate) trait Step<B: Backend>: Clone + Debug + Send + 'static {
    /// The inputs' gradients for that of the output. One that is not wanted is not used and need not be computed.
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B>;
}

/// A [`Step`] as burn's tape takes it.
struct OnTape<S>(PhantomData<fn() -> S>);

impl<S> Debug for OnTape<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(std::any::type_name::<S>())
    }
}

impl<B: Backend, S: Step<B>, const N: usize> Backward<B, N> for OnTape<S> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.gradients(grad, &wanted);
        assert_eq!(gradients.len(), N, "a step returns a place for each input's gradient");
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                let gradient = gradient.expect("a step returns each gradient that is wanted");
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Computes `forward` of the inputs and records its step.
///
/// `forward` gets the plain tensors and whether they are tracked; it returns the output, the step, and anything else, which is
/// handed through. An input that is not tracked is a constant; if none is, the step is dropped.
///
/// # Panics
/// With no input or more than 16.
pub(crate) fn record<B, C, S, T>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    forward: impl FnOnce(Vec<FloatTensor<B>>, bool) -> (FloatTensor<B>, S, T),
) -> (FloatTensor<Autodiff<B, C>>, T)
where
    B: Backend,
    C: CheckpointStrategy,
    S: Step<B>,
{
    let (tensors, guards): (Vec<_>, Vec<_>) = inputs.into_iter().map(|input| input.into_parts()).unzip();
    // The number of parents is a part of burn's types.
    macro_rules! counts {
        ($($count:literal)*) => {
            match guards.len() {
                $($count => record_of::<B, C, S, T, $count>(tensors, guards, forward),)*
                count => panic!("an operation of {count} inputs: 1 to 16 can be recorded"),
            }
        };
    }
    counts!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}

/// Records the step of an operation that is computed already.
///
/// # Panics
/// As [`record`].
pub(crate) fn known<B, C, S>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    output: FloatTensor<B>,
    step: S,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Step<B>,
{
    record::<B, C, S, ()>(inputs, |_, _| (output, step, ())).0
}

/// As [`known`], for any number of inputs.
///
/// Burn counts an operation's inputs in a type. Those beyond the fifteenth become the inputs of an operation of their own, whose
/// result is the sixteenth: it has no value, but a place on the tape, and hands on gradients that the first one computed.
pub(crate) fn known_of_many<B, C, S>(
    mut inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    output: FloatTensor<B>,
    step: S,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Step<B>,
{
    if inputs.len() <= DIRECT + 1 {
        return known::<B, C, S>(inputs, output, step);
    }
    let others = inputs.split_off(DIRECT);
    let (count, handed_on) = (others.len(), HandedOn::default());
    inputs.push(hand_on::<B, C>(others, 0, &handed_on));
    known::<B, C, _>(inputs, output, First { step, others: count, handed_on })
}

/// Inputs of an operation whose number is not limited; one more is for those behind them.
const DIRECT: usize = 15;

/// Gradients on their way from the operation that computed them to the one that has their inputs.
type HandedOn<T> = Arc<Mutex<Vec<Option<T>>>>;

/// Records the inputs from number `first` on.
fn hand_on<B: Backend, C: CheckpointStrategy>(
    mut inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    first: usize,
    handed_on: &HandedOn<FloatTensor<B>>,
) -> FloatTensor<Autodiff<B, C>> {
    let behind = inputs.split_off(inputs.len().min(DIRECT));
    let own = inputs.len();
    if !behind.is_empty() {
        inputs.push(hand_on::<B, C>(behind, first + own, handed_on));
    }
    let plain = inputs[0].primitive();
    let nothing = B::float_zeros(Shape::from([1]), &plain.device(), plain.dtype().into());
    known::<B, C, _>(inputs, nothing, Others { first, own, handed_on: handed_on.clone() })
}

#[derive(Debug, Clone)]
struct First<B: Backend, S> {
    step: S,
    /// Inputs beyond the direct ones.
    others: usize,
    handed_on: HandedOn<FloatTensor<B>>,
}

impl<B: Backend, S: Step<B>> Step<B> for First<B, S> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        let nothing = B::float_zeros(Shape::from([1]), &grad.device(), grad.dtype().into());
        let mut all = wanted[..DIRECT].to_vec();
        all.resize(DIRECT + self.others, wanted[DIRECT]);
        let mut gradients = self.step.gradients(grad, &all);
        *self.handed_on.lock().unwrap_or_else(PoisonError::into_inner) = gradients.split_off(DIRECT);
        gradients.push(Some(nothing));
        gradients
    }
}

#[derive(Debug, Clone)]
struct Others<B: Backend> {
    /// The number of the first input, among all those beyond the direct ones.
    first: usize,
    own: usize,
    handed_on: HandedOn<FloatTensor<B>>,
}

impl<B: Backend> Step<B> for Others<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        let mut handed_on = self.handed_on.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gradients: Vec<_> =
            handed_on[self.first..self.first + self.own].iter_mut().map(Option::take).collect();
        gradients.resize(wanted.len(), Some(grad));
        gradients
    }
}

fn record_of<B, C, S, T, const N: usize>(
    tensors: Vec<FloatTensor<B>>,
    guards: Vec<NodeGuard>,
    forward: impl FnOnce(Vec<FloatTensor<B>>, bool) -> (FloatTensor<B>, S, T),
) -> (FloatTensor<Autodiff<B, C>>, T)
where
    B: Backend,
    C: CheckpointStrategy,
    S: Step<B>,
{
    let guards: [NodeGuard; N] = guards.try_into().expect("the caller matched on their number");
    // Compute bound: burn's checkpointing keeps the result of such an operation instead of computing it again.
    match OnTape::<S>(PhantomData).prepare::<C>(guards).compute_bound().stateful() {
        OpsKind::Tracked(tape) => {
            let (output, step, rest) = forward(tensors, true);
            (tape.finish(step, output), rest)
        }
        OpsKind::UnTracked(tape) => {
            let (output, _, rest) = forward(tensors, false);
            (tape.finish(output), rest)
        }
    }
}

#[cfg(test)]
mod tests {
    //! An operation with all that a step can have: inputs whose number is known at run time, a second output without gradient,
    //! and a value of the host's for the way back. It is how a chain of fused layers is written.
    #![allow(deprecated)]

    use super::*;
    use crate::list::TensorList;
    use crate::saved::Saved;
    use burn::backend::{AutodiffBackend, Dispatch, backend_extension};
    use burn::tensor::{Device, Tensor};

    /// What the chain looks like beside its parameters.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct ChainSpec {
        scale: f64,
    }

    /// `scale * x * p1 * p2 * ...`, and the statistics: `x + 1`.
    #[backend_extension(NdArray, Flex: cfg(feature = "flex"), Autodiff)]
    pub trait ChainBackend: Backend {
        fn chain(
            x: FloatTensor<Self>,
            #[extension_type] parameters: TensorList<Self>,
            spec: ChainSpec,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let (output, statistics, _) = chain_forward::<Self>(x, parameters.0, spec);
            (output, statistics)
        }
    }

    fn chain_forward<B: Backend>(
        x: FloatTensor<B>,
        parameters: Vec<FloatTensor<B>>,
        spec: ChainSpec,
    ) -> (FloatTensor<B>, FloatTensor<B>, Saved<B>) {
        let statistics = B::float_add_scalar(x.clone(), 1.0.into());
        let output = parameters.into_iter().fold(x, B::float_mul);
        (B::float_mul_scalar(output, spec.scale.into()), statistics, Saved::host(spec))
    }

    impl ChainBackend for burn::backend::NdArray {}
    #[cfg(feature = "flex")]
    impl ChainBackend for burn::backend::Flex {}

    #[derive(Debug, Clone)]
    struct ChainStep<B: Backend> {
        inputs: Vec<FloatTensor<B>>,
        saved: Saved<B>,
    }

    impl<B: Backend> Step<B> for ChainStep<B> {
        fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
            let spec = self.saved.as_host::<ChainSpec>().expect("what chain_forward has saved");
            let grad = B::float_mul_scalar(grad, spec.scale.into());
            let product_without = |skipped: usize| {
                let others = self.inputs.iter().enumerate().filter(|(index, _)| *index != skipped);
                others.fold(grad.clone(), |product, (_, input)| B::float_mul(product, input.clone()))
            };
            (0..wanted.len()).map(|index| wanted[index].then(|| product_without(index))).collect()
        }
    }

    impl<B: Backend, C: CheckpointStrategy> ChainBackend for Autodiff<B, C> {
        fn chain(
            x: FloatTensor<Self>,
            parameters: TensorList<Self>,
            spec: ChainSpec,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let inputs = std::iter::once(x).chain(parameters.0).collect();
            let (output, statistics) = record::<B, C, _, _>(inputs, |tensors, _tracked| {
                let mut parameters = tensors.clone();
                let x = parameters.remove(0);
                let (output, statistics, saved) = chain_forward::<B>(x, parameters, spec);
                (output, ChainStep { inputs: tensors, saved }, statistics)
            });
            (output, <Self as AutodiffBackend>::from_inner(statistics))
        }
    }

    fn chain(x: Tensor<1>, parameters: Vec<Tensor<1>>, spec: ChainSpec) -> (Tensor<1>, Tensor<1>) {
        let parameters = TensorList(parameters.into_iter().map(Tensor::into_dispatch).collect());
        let (output, statistics) = <Dispatch as ChainBackend>::chain(x.into_dispatch(), parameters, spec);
        (Tensor::from_dispatch(output), Tensor::from_dispatch(statistics))
    }

    fn assert_values(tensor: Tensor<1>, expected: [f32; 2]) {
        assert_eq!(tensor.into_data().try_to_vec::<f32>().unwrap(), expected);
    }

    /// Three, six and nine parameters, of which the last is frozen and the first on a device without a tape.
    fn differentiates(device: &Device) {
        let spec = ChainSpec { scale: 3.0 };
        let tracked = device.clone().autodiff();
        for count in [3usize, 6, 9] {
            let x = Tensor::<1>::from_floats([1.0, 2.0], &tracked).require_grad();
            let mut parameters = vec![Tensor::<1>::from_floats([2.0, 0.5], device)];
            for _ in 2..count {
                parameters.push(Tensor::<1>::from_floats([-1.0, 2.0], &tracked).require_grad());
            }
            parameters.push(Tensor::<1>::from_floats([1.0, 4.0], &tracked));
            let (output, statistics) = chain(x.clone(), parameters.clone(), spec);

            let middle = (count - 2) as i32;
            let product = [3.0 * 2.0 * (-1f32).powi(middle), 3.0 * 0.5 * 2f32.powi(middle) * 4.0];
            assert_values(output.clone(), [product[0], 2.0 * product[1]]);
            assert_values(statistics.clone(), [2.0, 3.0]);
            assert!(!statistics.is_require_grad());

            let gradients = (output.sum() + statistics.sum()).backward();
            assert_values(x.grad(&gradients).expect("x is tracked"), product);
            let middle = parameters[1].grad(&gradients).expect("a parameter");
            assert_values(middle, [-product[0], product[1]]);
            assert!(parameters[count - 1].grad(&gradients).is_none());
        }
    }

    #[test]
    fn records_any_number_of_parameters() {
        differentiates(&Device::ndarray());
        #[cfg(feature = "flex")]
        differentiates(&Device::flex());
    }

    #[test]
    fn computes_without_a_tape() {
        let x = Tensor::<1>::from_floats([1.0, 2.0], &Device::ndarray());
        let (output, statistics) = chain(x.clone(), vec![x.clone(), x], ChainSpec { scale: 1.0 });
        assert_values(output, [1.0, 8.0]);
        assert_values(statistics, [2.0, 3.0]);
    }
}
