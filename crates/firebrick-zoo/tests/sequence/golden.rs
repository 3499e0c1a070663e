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

/// Every device of this build; what this machine cannot run is named with the reason.
pub fn devices() -> Vec<(&'static str, Device)> {
    #[allow(unused_mut, reason = "ndarray may be the only one")]
    let mut devices = vec![("ndarray", device())];
    #[cfg(feature = "flex")]
    devices.push(("flex", Device::flex()));
    #[cfg(feature = "wgpu")]
    {
        use burn::tensor::{DeviceKind, DeviceType};
        if let Ok(reason) = std::env::var("FIREBRICK_SKIP_WGPU") {
            println!("skipped wgpu: {reason}");
        } else if Device::enumerate(DeviceType::Wgpu).into_vec().is_empty() {
            println!("skipped wgpu: no graphics adapter was found");
        } else {
            devices.push(("wgpu", Device::wgpu(DeviceKind::DefaultDevice)));
        }
    }
    devices
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

/// What `save` writes holds the tensors of the golden and no others, bit for bit as they were read: PyTorch's own state dict.
pub fn saves_what_it_read<E: std::fmt::Debug>(
    tensors: &[(String, Vec<usize>)],
    save: impl Fn(&std::path::Path) -> Result<(), E>,
) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    save(&path).expect("written");
    let bytes = std::fs::read(&path).expect("the file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(file.len(), tensors.len(), "{:?}", file.names());
    for (name, shape) in tensors {
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("{name} is not written"));
        assert_eq!(tensor.shape(), shape, "{name}");
        let expected: Vec<u8> =
            seeded_weights::values(name, shape).into_iter().flat_map(f32::to_le_bytes).collect();
        assert!(tensor.data() == expected, "{name} has other values");
    }
    save(&path).expect("written again");
    assert_eq!(std::fs::read(&path).expect("the file"), bytes);
    assert!(save(&folder.path().join("nowhere").join("model.safetensors")).is_err());
}
