//! Reading golden files, and comparing with them.

use burn::module::Module;
use burn::tensor::{Bool, Device, Gradients, Int, Tensor, TensorData};
use firebrick_zoo::Checkpoint;
use serde::Deserialize;

use crate::seeded_weights;

#[derive(Deserialize)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

#[allow(deprecated)]
pub fn device() -> Device {
    Device::ndarray()
}

/// What `load` makes of a checkpoint of seeded weights under these names.
pub fn load<T>(tensors: &[(String, Vec<usize>)], load: impl FnOnce(Checkpoint) -> T) -> T {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    seeded_weights::write(&path, tensors);
    load(Checkpoint::read(&path).expect("readable"))
}

pub fn ids(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), device)
}

pub fn flags(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Bool> {
    ids(rows, device).equal_elem(1)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().expect("just converted")
}

pub fn gradient<const D: usize>(parameter: &Tensor<D>, gradients: &Gradients) -> Vec<f64> {
    values(parameter.grad(gradients).expect("a gradient"))
}

impl Array {
    /// No value is further away than 1e-4 of the largest.
    #[track_caller]
    pub fn check(&self, actual: &[f64], what: &str, made_by: &str) {
        assert_eq!(actual.len(), self.shape.iter().product::<usize>(), "{what}");
        let scale = self.values.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
        let pairs = actual.iter().zip(&self.values);
        let error = pairs.map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
        println!("{what:40} {error:.1e}");
        assert!(error < 1e-4, "{what} is {error:.1e} off (goldens: {made_by})");
    }
}

/// How many parameters there are, and the names of those without a gradient.
pub fn without_gradient<M: Module>(model: &M, gradients: &Gradients) -> (usize, Vec<String>) {
    struct Visitor<'a> {
        gradients: &'a Gradients,
        path: Vec<String>,
        count: usize,
        without: Vec<String>,
    }
    impl burn::module::ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.count += 1;
            let gradient = param.val().grad(self.gradients);
            if gradient.is_none_or(|gradient| values(gradient).iter().all(|&g| g == 0.0)) {
                self.without.push(self.path.join("."));
            }
        }
    }
    let mut visitor = Visitor { gradients, path: Vec::new(), count: 0, without: Vec::new() };
    model.visit(&mut visitor);
    (visitor.count, visitor.without)
}
