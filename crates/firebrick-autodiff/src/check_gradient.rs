//! Checking gradients against differences.

use crate::tensors::{AnyTensor, Inputs};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// How [`check_gradient`] compares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientCheck {
    /// What is added to and taken from an element, times its magnitude where that is over 1. 1e-5 by default: the difference is then
    /// exact to about 1e-10.
    pub step: f64,
    /// The largest difference, as a share of the larger of both values. 1e-6 by default.
    pub relative: f64,
    /// The largest difference that is always allowed. 1e-8 by default.
    pub absolute: f64,
}

impl Default for GradientCheck {
    fn default() -> Self {
        Self { step: 1e-5, relative: 1e-6, absolute: 1e-8 }
    }
}

/// Why a gradient is not trusted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GradientError {
    /// The tape and the differences disagree.
    #[error(
        "the gradient of {input}{element:?} is {analytic} by the tape and {numeric} by central differences"
    )]
    Differs {
        /// The input's name.
        input: String,
        /// The element's place in it.
        element: Vec<usize>,
        /// By central differences.
        numeric: f64,
        /// By the tape; 0 where no gradient reaches the input.
        analytic: f64,
    },
    /// The function gave two different results for the same inputs.
    #[error("the function gave {first}, then {second} for the same inputs; differences of it mean nothing")]
    NotDeterministic {
        /// Weighted sum of the first result.
        first: f64,
        /// Weighted sum of the second.
        second: f64,
    },
    /// The function is not finite at its inputs or next to them.
    #[error("the function's result is not finite next to {input}{element:?}")]
    NotFinite {
        /// The input's name.
        input: String,
        /// The element's place in it.
        element: Vec<usize>,
    },
    /// The device computes in f32 at best, where differences are too coarse.
    #[error("{device} has no f64; use the ndarray or flex device")]
    NoF64 {
        /// The device.
        device: String,
    },
    /// The function casts what it computes.
    #[error("the function's result is {dtype}, not f64: differences in it are too coarse")]
    NotF64 {
        /// The result's type.
        dtype: String,
    },
}

/// Compares the gradients of `function` by the tape with central differences in f64, element by element.
///
/// The function gets the inputs as f64 tensors on `device` with autodiff, by their place; whatever else it uses has to be f64 on that
/// device, too. Its result may have any shape: what is differentiated is a weighted sum of it, with weights that are all different.
/// Each element of each input costs two calls.
///
/// ```
/// use burn::tensor::{Device, TensorData};
/// use firebrick_autodiff::{GradientCheck, check_gradient, layer_norm};
///
/// # #[allow(deprecated)]
/// let device = Device::ndarray();
/// let inputs = [
///     ("x", TensorData::from([[1.0, 2.0, 4.0], [0.0, 3.0, -1.0]])),
///     ("gamma", TensorData::from([1.0, 0.5, 2.0])),
///     ("beta", TensorData::from([0.0, 0.1, 0.2])),
/// ];
/// check_gradient(&device, &inputs, GradientCheck::default(), |inputs| {
///     layer_norm(inputs.tensor::<2>(0), inputs.tensor(1), inputs.tensor(2), 1e-5)
/// })?;
/// # Ok::<(), firebrick_autodiff::GradientError>(())
/// ```
///
/// # Errors
/// [`GradientError::Differs`] names the first element whose gradients differ; the other variants say why nothing can be said.
///
/// # Panics
/// If an input is no number, or `function` asks for one that is not there.
pub fn check_gradient<const D: usize>(
    device: &Device,
    inputs: &[(&str, TensorData)],
    check: GradientCheck,
    function: impl Fn(&Inputs) -> Tensor<D>,
) -> Result<(), GradientError> {
    if !device.supports_dtype(DType::F64) {
        return Err(GradientError::NoF64 { device: format!("{device:?}") });
    }
    let device = device.clone().autodiff();
    let values: Vec<Vec<f64>> = inputs
        .iter()
        .map(|(name, data)| data.clone().try_into_vec_as().unwrap_or_else(|e| panic!("{name}: {e}")))
        .collect();
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|(_, data)| data.shape().to_vec()).collect();
    let flat = |values: &Vec<f64>| {
        Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), (&device, DType::F64))
    };
    let result = |tensors: &[Tensor<1>]| {
        let shaped = tensors.iter().zip(&shapes).map(|(tensor, shape)| shaped(tensor.clone(), shape));
        function(&Inputs { tensors: shaped.collect() })
    };
    let weighted = |tensors: &[Tensor<1>]| {
        let result = result(tensors);
        let weights = Tensor::<D>::from_data(weights(&result.dims()), (&device, DType::F64));
        (result * weights).sum()
    };
    let number = |sum: Tensor<1>| sum.into_scalar::<f64>();

    let leaves: Vec<Tensor<1>> = values.iter().map(|values| flat(values).require_grad()).collect();
    let dtype = result(&leaves).dtype();
    if dtype != DType::F64 {
        return Err(GradientError::NotF64 { dtype: format!("{dtype:?}") });
    }
    let sum = weighted(&leaves);
    // What does not depend on any input has no tape, and the gradient 0.
    let gradients = sum.is_tracked().then(|| sum.backward());
    let first = number(sum);
    let untracked: Vec<Tensor<1>> = values.iter().map(flat).collect();
    let second = number(weighted(&untracked));
    if first != second && !(first.is_nan() && second.is_nan()) {
        return Err(GradientError::NotDeterministic { first, second });
    }

    for (which, (name, _)) in inputs.iter().enumerate() {
        let gradient = gradients.as_ref().and_then(|gradients| leaves[which].grad(gradients));
        let analytic: Vec<f64> = gradient.map_or_else(
            || vec![0.0; values[which].len()],
            |gradient| gradient.into_data().try_into_vec().expect("the gradient of f64 is f64"),
        );
        for (place, &analytic) in analytic.iter().enumerate() {
            let step = check.step * values[which][place].abs().max(1.0);
            let moved = |by: f64| {
                let mut moved = values[which].clone();
                moved[place] += by;
                let mut tensors = untracked.clone();
                tensors[which] = flat(&moved);
                number(weighted(&tensors))
            };
            let numeric = (moved(step) - moved(-step)) / (2.0 * step);
            let element = || element_of(place, &shapes[which]);
            if !numeric.is_finite() {
                return Err(GradientError::NotFinite { input: (*name).to_owned(), element: element() });
            }
            let allowed = check.absolute + check.relative * numeric.abs().max(analytic.abs());
            let agree = (numeric - analytic).abs() <= allowed;
            if !agree {
                let (input, element) = ((*name).to_owned(), element());
                return Err(GradientError::Differs { input, element, numeric, analytic });
            }
        }
    }
    Ok(())
}

/// A flat tensor with the shape of an input.
fn shaped(tensor: Tensor<1>, shape: &[usize]) -> AnyTensor {
    macro_rules! ranks {
        ($($rank:literal)*) => {
            match shape.len() {
                $($rank => {
                    let shape: [usize; $rank] = shape.try_into().expect("its length is the rank");
                    tensor.reshape(shape).into()
                })*
                rank => panic!("an input of {rank} axes: 1 to 8 can be checked"),
            }
        };
    }
    ranks!(1 2 3 4 5 6 7 8)
}

/// Weights between 1/2 and 3/2, no two of neighbours alike: the fractional parts of multiples of the golden ratio.
fn weights(dims: &[usize]) -> TensorData {
    let count = dims.iter().product();
    let weights: Vec<f64> =
        (1..=count).map(|i: usize| 0.5 + (i as f64 * 0.618_033_988_749_894_9).fract()).collect();
    TensorData::new(weights, dims.to_vec())
}

/// The place of an element along each axis.
fn element_of(place: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = place;
    let mut element: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&len| {
            let index = rest % len;
            rest /= len;
            index
        })
        .collect();
    element.reverse();
    element
}
