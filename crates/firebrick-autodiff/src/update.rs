//! The optimizers' update rules, one pass over memory on the CPU backends.

use crate::backend::{DiffBackend, Kernels};
use crate::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::Tensor;
use firebrick_kernels::SimdLevel;
use firebrick_kernels::grad::{self, AdamSlices, AdamStep, SgdSlices, SgdStep};

/// A step of Adam or AdamW for one parameter: the new parameter and the new moments. See [`AdamStep`] for the rule; its bias
/// corrections are taken in f64.
///
/// All tensors are of one shape; the moments are zeros before the first step. Memory that nobody else holds is updated in place.
///
/// # Panics
/// If the shapes differ.
pub fn adam_update<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    step: &AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let dims = parameter.dims();
    let [moment_1, moment_2] = moments;
    for (what, tensor) in [("gradient", &gradient), ("moment", &moment_1), ("moment", &moment_2)] {
        check::shape("adam_update", what, &tensor.dims(), &dims);
    }
    let (parameter, moment_1, moment_2) = <Dispatch as DiffBackend>::adam_update(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        moment_1.into_dispatch(),
        moment_2.into_dispatch(),
        *step,
    );
    (Tensor::from_dispatch(parameter), [moment_1, moment_2].map(Tensor::from_dispatch))
}

/// A step of stochastic gradient descent for one parameter: the new parameter and the new velocity. See [`SgdStep`] for the rule.
///
/// All tensors are of one shape; the velocity is zeros before the first step. Memory that nobody else holds is updated in place.
///
/// # Panics
/// If the shapes differ.
pub fn sgd_update<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Tensor<D>,
    step: &SgdStep,
) -> (Tensor<D>, Tensor<D>) {
    let dims = parameter.dims();
    check::shape("sgd_update", "gradient", &gradient.dims(), &dims);
    check::shape("sgd_update", "velocity", &velocity.dims(), &dims);
    let (parameter, velocity) = <Dispatch as DiffBackend>::sgd_update(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        velocity.into_dispatch(),
        *step,
    );
    (Tensor::from_dispatch(parameter), Tensor::from_dispatch(velocity))
}

/// `a * of_a + b * of_b`.
fn blend<B: Backend>(a: FloatTensor<B>, of_a: f64, b: FloatTensor<B>, of_b: f64) -> FloatTensor<B> {
    B::float_add(B::float_mul_scalar(a, of_a.into()), B::float_mul_scalar(b, of_b.into()))
}

/// Brings the state of a parameter into one order of axes, which is returned, and into memory that can be written to; nothing if
/// a tensor is not `f32` in memory.
fn writable<B: Kernels, const N: usize>(
    tensors: [&mut FloatTensor<B>; N],
    gradient: &FloatTensor<B>,
) -> Option<Vec<usize>> {
    let device = gradient.device();
    B::host(gradient)?;
    let order = B::host(tensors[0])?.order();
    for tensor in tensors {
        let host = B::host(tensor)?;
        let dense = host.is_borrowed() && host.is_in(&order);
        if !dense {
            let copy = host.in_order(&order).into_owned();
            let shape = host.shape().to_vec();
            *tensor = B::from_host(copy, &shape, &order, &device);
        }
    }
    Some(order)
}

pub(crate) fn adam<B: Kernels>(
    mut parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    mut moment_1: FloatTensor<B>,
    mut moment_2: FloatTensor<B>,
    step: AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let tensors = [&mut parameter, &mut moment_1, &mut moment_2];
    if let Some(order) = writable::<B, 3>(tensors, &gradient) {
        let gradient = B::host(&gradient).expect("it was just looked at");
        let slices = AdamSlices {
            parameter: B::host_mut(&mut parameter).expect("it was made writable"),
            gradient: &gradient.in_order(&order),
            moment_1: B::host_mut(&mut moment_1).expect("it was made writable"),
            moment_2: B::host_mut(&mut moment_2).expect("it was made writable"),
        };
        grad::adam(SimdLevel::in_use(), vec![slices], &step);
        return (parameter, moment_1, moment_2);
    }
    let [correction_1, correction_2] = step.corrections();
    let squares = B::float_mul(gradient.clone(), gradient.clone());
    let moment_1 = blend::<B>(moment_1, step.beta_1, gradient, 1.0 - step.beta_1);
    let moment_2 = blend::<B>(moment_2, step.beta_2, squares, 1.0 - step.beta_2);
    let root = B::float_mul_scalar(B::float_sqrt(moment_2.clone()), (1.0 / correction_2.sqrt()).into());
    let direction = B::float_div(moment_1.clone(), B::float_add_scalar(root, step.epsilon.into()));
    let kept = 1.0 - step.learning_rate * step.weight_decay;
    let parameter = blend::<B>(parameter, kept, direction, -step.learning_rate / correction_1);
    (parameter, moment_1, moment_2)
}

pub(crate) fn sgd<B: Kernels>(
    mut parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    mut velocity: FloatTensor<B>,
    step: SgdStep,
) -> (FloatTensor<B>, FloatTensor<B>) {
    if let Some(order) = writable::<B, 2>([&mut parameter, &mut velocity], &gradient) {
        let gradient = B::host(&gradient).expect("it was just looked at");
        let slices = SgdSlices {
            parameter: B::host_mut(&mut parameter).expect("it was made writable"),
            gradient: &gradient.in_order(&order),
            velocity: B::host_mut(&mut velocity).expect("it was made writable"),
        };
        grad::sgd(SimdLevel::in_use(), vec![slices], &step);
        return (parameter, velocity);
    }
    let gradient = blend::<B>(gradient, 1.0, parameter.clone(), step.weight_decay);
    let velocity = blend::<B>(velocity, step.momentum, gradient.clone(), 1.0);
    let direction = match step.nesterov {
        true => blend::<B>(gradient, 1.0, velocity.clone(), step.momentum),
        false => velocity.clone(),
    };
    (blend::<B>(parameter, 1.0, direction, -step.learning_rate), velocity)
}
