//! Functions whose gradient the caller writes.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::list::TensorList;
use crate::record::{self, Step};
use crate::tensors::{AnyTensor, Inputs};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensor};
use burn::tensor::Tensor;
use std::fmt;
use std::sync::Arc;

/// Builds a differentiable function of two closures: the function, and its gradient.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_autodiff::CustomGradient;
///
/// # #[allow(deprecated)]
/// let device = Device::ndarray().autodiff();
/// let x = Tensor::<1>::from_floats([0.5, 2.0], &device).require_grad();
/// // The exponential, whose gradient is cut off above 5.
/// let y = CustomGradient::of(x.clone()).apply(
///     |inputs| inputs.tensor::<1>(0).exp(),
///     |_inputs, y: Tensor<1>, grad| vec![(grad * y.clamp_max(5.0)).into()],
/// );
/// let gradients = y.sum().backward();
/// let data = x.grad(&gradients).expect("x is tracked").into_data();
/// assert_eq!(data.try_to_vec::<f32>().expect("f32")[1], 5.0);
/// ```
#[derive(Debug, Clone)]
pub struct CustomGradient {
    inputs: Vec<AnyTensor>,
}

impl CustomGradient {
    /// A function of this input.
    pub fn of(input: impl Into<AnyTensor>) -> Self {
        Self { inputs: vec![input.into()] }
    }

    /// And of this one, on the same device.
    pub fn and(mut self, input: impl Into<AnyTensor>) -> Self {
        self.inputs.push(input.into());
        self
    }

    /// Computes `forward` of the inputs, and records `backward` as its gradient.
    ///
    /// Both get plain tensors, without a tape. `backward` gets the inputs, the result, and the result's gradient; it returns the
    /// gradient of each input, of the input's shape. Those of inputs that are not tracked are thrown away.
    ///
    /// # Panics
    /// In the backward pass, if `backward` returns another number of gradients than there are
    /// inputs, or one of another shape than its input.
    pub fn apply<const D: usize>(
        self,
        forward: impl Fn(&Inputs) -> Tensor<D> + Send + Sync + 'static,
        backward: impl Fn(&Inputs, Tensor<D>, Tensor<D>) -> Vec<AnyTensor> + Send + Sync + 'static,
    ) -> Tensor<D> {
        let rule = Closures { forward, backward };
        Tensor::from_dispatch(apply(self.inputs, Arc::new(rule)))
    }
}

/// `forward(x)`, with the gradient of the identity: straight through a function that has none, such as rounding (Bengio, Léonard
/// and Courville 2013).
///
/// # Panics
/// If the result has another shape than `x`.
pub fn straight_through<const D: usize>(
    x: Tensor<D>,
    forward: impl Fn(Tensor<D>) -> Tensor<D> + Send + Sync + 'static,
) -> Tensor<D> {
    let dims = x.dims();
    let y = CustomGradient::of(x)
        .apply(move |inputs| forward(inputs.tensor(0)), |_inputs, _output, grad| vec![grad.into()]);
    assert_eq!(y.dims(), dims, "straight_through: the function changes the shape");
    y
}

/// `x`, with its gradient multiplied by `-lambda`: what follows is minimised, what precedes maximises it (Ganin and Lempitsky 2015).
pub fn gradient_reversal<const D: usize>(x: Tensor<D>, lambda: f64) -> Tensor<D> {
    CustomGradient::of(x).apply(
        |inputs| inputs.tensor(0),
        move |_inputs, _output, grad: Tensor<D>| vec![(grad * -lambda).into()],
    )
}

/// A function of plain tensors that knows its gradient.
pub trait Rule: Send + Sync {
    /// The function.
    fn forward(&self, inputs: &Inputs) -> DispatchTensor;

    /// The gradients of the inputs, where `wanted`.
    fn backward(
        &self,
        inputs: &Inputs,
        output: Option<DispatchTensor>,
        grad: DispatchTensor,
        wanted: &[bool],
    ) -> Vec<Option<AnyTensor>>;

    /// Whether `backward` looks at the output.
    fn needs_output(&self) -> bool;
}

impl fmt::Debug for dyn Rule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Rule")
    }
}

/// Applies a rule to inputs on one device.
pub(crate) fn apply(inputs: Vec<AnyTensor>, rule: Arc<dyn Rule>) -> DispatchTensor {
    let inputs = inputs.into_iter().map(|input| input.0).collect();
    <Dispatch as DiffBackend>::apply_rule(TensorList(inputs), rule)
}

struct Closures<F, G> {
    forward: F,
    backward: G,
}

impl<F, G, const D: usize> Rule for Closures<F, G>
where
    F: Fn(&Inputs) -> Tensor<D> + Send + Sync,
    G: Fn(&Inputs, Tensor<D>, Tensor<D>) -> Vec<AnyTensor> + Send + Sync,
{
    fn forward(&self, inputs: &Inputs) -> DispatchTensor {
        (self.forward)(inputs).into_dispatch()
    }

    fn backward(
        &self,
        inputs: &Inputs,
        output: Option<DispatchTensor>,
        grad: DispatchTensor,
        _wanted: &[bool],
    ) -> Vec<Option<AnyTensor>> {
        let output = output.expect("a rule of closures needs the output");
        let gradients = (self.backward)(inputs, Tensor::from_dispatch(output), Tensor::from_dispatch(grad));
        let (count, expected) = (gradients.len(), inputs.len());
        assert_eq!(count, expected, "a custom gradient of {expected} inputs returned {count} gradients");
        for (index, (gradient, input)) in gradients.iter().zip(&inputs.tensors).enumerate() {
            let (actual, expected) = (gradient.dims(), input.dims());
            assert_eq!(actual, expected, "a custom gradient of input {index} has another shape than it");
        }
        gradients.into_iter().map(Some).collect()
    }

    fn needs_output(&self) -> bool {
        true
    }
}

fn inputs_of<B: Kernels>(tensors: Vec<FloatTensor<B>>) -> Inputs {
    Inputs { tensors: tensors.into_iter().map(|tensor| AnyTensor(B::to_dispatch(tensor))).collect() }
}

pub(crate) fn run<B: Kernels>(tensors: Vec<FloatTensor<B>>, rule: &dyn Rule) -> FloatTensor<B> {
    B::of_dispatch(rule.forward(&inputs_of::<B>(tensors)))
}

#[derive(Debug, Clone)]
struct RuleStep<B: Backend> {
    inputs: Vec<FloatTensor<B>>,
    output: Option<FloatTensor<B>>,
    rule: Arc<dyn Rule>,
}

impl<B: Kernels> Step<B> for RuleStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        let (inputs, output) = (inputs_of::<B>(self.inputs), self.output.map(B::to_dispatch));
        let gradients = self.rule.backward(&inputs, output, B::to_dispatch(grad), wanted);
        let plain = |gradient: AnyTensor| B::of_dispatch(gradient.0);
        gradients.into_iter().map(|gradient| gradient.map(plain)).collect()
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    rule: Arc<dyn Rule>,
) -> FloatTensor<Autodiff<B, C>> {
    let plain: Vec<_> = inputs.iter().map(|input| input.primitive().clone()).collect();
    let output = run::<B>(plain.clone(), &*rule);
    let kept = rule.needs_output().then(|| output.clone());
    record::known_of_many::<B, C, _>(inputs, output, RuleStep { inputs: plain, output: kept, rule })
}
