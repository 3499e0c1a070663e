//! Reading a golden file, and comparing a layer with a case of it.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Golden {
    pub made_by: String,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub inputs: Vec<Array>,
    pub output: Array,
    pub gradient: Option<Array>,
    pub parameters: BTreeMap<String, Array>,
    pub gradients: BTreeMap<String, Array>,
}

#[derive(Deserialize)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

#[allow(deprecated)]
pub fn device() -> Device {
    Device::ndarray()
}

impl Array {
    pub fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        let data = TensorData::new(self.values.clone(), self.shape.clone()).convert::<f32>();
        Tensor::from_data(data, device)
    }
}

impl Case {
    pub fn input<const D: usize>(&self, index: usize, device: &Device) -> Tensor<D> {
        self.inputs[index].tensor(device)
    }

    /// The parameter of this name.
    pub fn set<const D: usize>(&self, parameter: &mut Param<Tensor<D>>, name: &str, device: &Device) {
        *parameter = Param::from_tensor(self.tensor(name, device));
    }

    /// A matrix that PyTorch keeps transposed.
    pub fn set_transposed(&self, parameter: &mut Param<Tensor<2>>, name: &str, device: &Device) {
        *parameter = Param::from_tensor(self.tensor::<2>(name, device).transpose());
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let array = self.parameters.get(name).unwrap_or_else(|| panic!("{}: no parameter {name}", self.name));
        array.tensor(device)
    }
}

/// What a layer gave, to be compared.
pub struct Found {
    /// `(what, values)`; a parameter's gradient is called by its name in PyTorch.
    pub parts: Vec<(String, Vec<f64>)>,
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().expect("just converted")
}

/// Weights of the sum that is differentiated, as in the generator.
pub fn weights<const D: usize>(y: &Tensor<D>) -> Tensor<D> {
    let dims = y.dims();
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|index| 1.0 + 0.125 * (index % 17) as f32).collect();
    Tensor::from_data(TensorData::new(values, dims), &y.device())
}

/// Runs `forward` and differentiates; `parameters` are of the module that it ran.
pub fn run<const I: usize, const O: usize>(
    input: Tensor<I>,
    forward: impl FnOnce(Tensor<I>) -> Tensor<O>,
    collect: impl FnOnce(&burn::tensor::Gradients) -> Vec<(String, Vec<f64>)>,
) -> Found {
    let input = input.require_grad();
    let y = forward(input.clone());
    let gradients = (y.clone() * weights(&y)).sum().backward();
    let mut parts = vec![("output".to_owned(), values(y))];
    if let Some(gradient) = input.grad(&gradients) {
        parts.push(("input".to_owned(), values(gradient)));
    }
    parts.extend(collect(&gradients));
    Found { parts }
}

impl Case {
    /// Largest difference over the largest size of what is compared.
    pub fn check(&self, found: &Found, made_by: &str, tolerance: f64) {
        let mut largest = 0.0f64;
        // A bias of keys moves all scores of a query alike: its gradient is zero but for the rounding of the others.
        let values = |array: &Array| array.values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let floor = 0.02 * self.gradients.values().map(values).fold(0.5, f64::max);
        for (what, actual) in &found.parts {
            let expected = match what.as_str() {
                "output" => &self.output,
                "input" => self.gradient.as_ref().expect("an input's gradient"),
                name => &self.gradients[name],
            };
            assert_eq!(actual.len(), expected.values.len(), "{}: {what}", self.name);
            let scale = expected.values.iter().fold(floor, |scale, value| scale.max(value.abs()));
            let pairs = actual.iter().zip(&expected.values);
            let error = pairs.map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
            assert!(error < tolerance, "{}: {what} is {error:.1e} off (goldens: {made_by})", self.name);
            largest = largest.max(error);
        }
        let compared = found.parts.len() - 1 - usize::from(self.gradient.is_some());
        assert_eq!(
            compared,
            self.gradients.len(),
            "{}: not every parameter's gradient was compared",
            self.name
        );
        println!("{:24} {largest:.1e}", self.name);
    }
}
