//! The contract of every operation: on each backend, values and gradients are those of the reference in f64.
//!
//! For f64 tensors on ndarray an operation runs its reference, made of burn's own operations; for f32 on ndarray and flex it
//! runs the kernels, on wgpu the reference in f32.
#![allow(deprecated, dead_code)]
#![allow(clippy::print_stderr, reason = "a test says what it skipped")]

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Every device of this build; what this machine cannot run is named with the reason.
pub fn devices() -> Vec<(&'static str, Device)> {
    #[allow(unused_mut)]
    let mut devices = vec![("ndarray", Device::ndarray())];
    #[cfg(feature = "flex")]
    devices.push(("flex", Device::flex()));
    #[cfg(feature = "wgpu")]
    {
        use burn::tensor::{DeviceKind, DeviceType};
        if let Ok(reason) = std::env::var("FIREBRICK_SKIP_WGPU") {
            eprintln!("skipped wgpu: {reason}");
        } else if Device::enumerate(DeviceType::Wgpu).into_vec().is_empty() {
            eprintln!("skipped wgpu: no graphics adapter was found");
        } else {
            devices.push(("wgpu", Device::wgpu(DeviceKind::DefaultDevice)));
        }
    }
    devices
}

/// `count` values between -2 and 2, others for another `seed`.
pub fn values(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // A value that f32 holds exactly, so that both types start from the same.
        (state >> 44) as f64 / f64::from(1 << 18) - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The output of `operation` for these inputs, and the gradient of each for a gradient of the output that is different
/// everywhere. The operation gets each input as a flat tensor and says its shape itself.
fn run(
    device: &Device,
    dtype: DType,
    inputs: &[Vec<f64>],
    operation: &dyn Fn(&[Tensor<1>]) -> Tensor<1>,
) -> Vec<Vec<f64>> {
    let device = device.clone().autodiff();
    let tensor = |values: &Vec<f64>| {
        let data = TensorData::new(values.clone(), [values.len()]);
        Tensor::<1>::from_data(data, (&device, dtype))
    };
    let inputs: Vec<Tensor<1>> = inputs.iter().map(|values| tensor(values).require_grad()).collect();
    let output = operation(&inputs);
    let weights = tensor(&self::values(output.dims()[0], 99));
    let gradients = (output.clone() * weights).sum().backward();
    let read =
        |tensor: Tensor<1>| -> Vec<f64> { tensor.into_data().try_to_vec_as::<f64>().expect("numbers") };
    std::iter::once(read(output.inner()))
        .chain(
            inputs
                .iter()
                .map(|input| input.grad(&gradients).map_or_else(|| vec![0.0; input.dims()[0]], read)),
        )
        .collect()
}

/// Asserts that on every device the operation's output and gradients are within `tolerance` of the reference, times the largest
/// expected value where that is over 1.
#[track_caller]
pub fn agrees(
    what: &str,
    tolerance: f64,
    inputs: &[Vec<f64>],
    operation: impl Fn(&[Tensor<1>]) -> Tensor<1>,
) {
    let reference = run(&Device::ndarray(), DType::F64, inputs, &operation);
    assert!(reference.iter().flatten().all(|value| value.is_finite()), "{what}: the reference is not finite");
    for (name, device) in devices() {
        let actual = run(&device, DType::F32, inputs, &operation);
        for (index, (actual, expected)) in actual.iter().zip(&reference).enumerate() {
            assert_eq!(actual.len(), expected.len(), "{what} on {name}: length of {index}");
            let scale = expected.iter().fold(1.0f64, |most, value| most.max(value.abs()));
            for (place, (a, e)) in actual.iter().zip(expected).enumerate() {
                let of = if index == 0 {
                    "the output".to_owned()
                } else {
                    format!("the gradient of input {}", index - 1)
                };
                assert!(
                    (a - e).abs() <= tolerance * scale,
                    "{what} on {name}: value {place} of {of} is {a}, not {e}"
                );
            }
        }
    }
}

/// Asserts that the gradient of a function of inputs with these names and shapes is that of differences in f64.
#[track_caller]
pub fn check<const D: usize>(
    inputs: &[(&str, &[usize])],
    function: impl Fn(&firebrick_autodiff::Inputs) -> Tensor<D>,
) {
    let data = inputs.iter().enumerate().map(|(seed, (name, shape))| {
        let values = values(shape.iter().product(), 40 + seed as u64);
        (*name, TensorData::new(values, shape.to_vec()))
    });
    let data: Vec<_> = data.collect();
    let check = firebrick_autodiff::GradientCheck::default();
    if let Err(error) = firebrick_autodiff::check_gradient(&Device::ndarray(), &data, check, function) {
        panic!("{error}");
    }
}
