//! The optimizers' rules.

use crate::agreement::{devices, values};
use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_autodiff::{AdamStep, SgdStep, adam_update, sgd_update};

fn tensor(count: usize, seed: u64, device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values(count, seed), [count / 2, 2]), (device, dtype))
}

/// Parameters after ten steps, of tensors that are contiguous and of transposed ones.
fn adam(device: &Device, dtype: DType, turned: bool) -> Vec<f64> {
    let new = |seed| {
        let tensor = tensor(70, seed, device, dtype);
        if turned { tensor.transpose() } else { tensor }
    };
    let mut parameter = new(1);
    let mut moments = [parameter.zeros_like(), parameter.zeros_like()];
    for time in 1..=10 {
        let step = AdamStep {
            learning_rate: 0.01,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            weight_decay: 0.1,
            time,
        };
        (parameter, moments) = adam_update(parameter, new(1 + time), moments, &step);
    }
    parameter.into_data().try_to_vec_as().unwrap()
}

fn sgd(device: &Device, dtype: DType, nesterov: bool) -> Vec<f64> {
    let mut parameter = tensor(70, 1, device, dtype);
    let mut velocity = parameter.zeros_like();
    for time in 1..=10 {
        let step = SgdStep { learning_rate: 0.01, momentum: 0.9, nesterov, weight_decay: 0.1 };
        (parameter, velocity) = sgd_update(parameter, tensor(70, 1 + time, device, dtype), velocity, &step);
    }
    parameter.into_data().try_to_vec_as().unwrap()
}

#[track_caller]
fn assert_near(actual: &[f64], expected: &[f64], what: &str) {
    for (a, e) in actual.iter().zip(expected) {
        assert!((a - e).abs() < 1e-6, "{what}: {a} is not {e}");
    }
}

#[test]
fn agree_with_the_reference_in_f64() {
    let reference = Device::ndarray();
    for (name, device) in devices() {
        for which in [false, true] {
            let what = format!("{name}, {which}");
            assert_near(&adam(&device, DType::F32, which), &adam(&reference, DType::F64, which), &what);
            assert_near(&sgd(&device, DType::F32, which), &sgd(&reference, DType::F64, which), &what);
        }
    }
}

#[test]
fn leave_what_others_hold_as_it_was() {
    for (name, device) in devices() {
        let parameter = tensor(6, 1, &device, DType::F32);
        let before = parameter.clone().into_data();
        let gradient = tensor(6, 2, &device, DType::F32);
        let step = SgdStep { learning_rate: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let (updated, _) = sgd_update(parameter.clone(), gradient, parameter.zeros_like(), &step);
        assert_eq!(parameter.into_data(), before, "{name}");
        assert_ne!(updated.into_data(), before, "{name}");
    }
}
