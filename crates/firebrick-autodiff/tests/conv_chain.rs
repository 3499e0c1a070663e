//! Chains on the kernels against the same chain in f64, made of burn's operations and differentiated by burn.
#![allow(deprecated)]

use burn::tensor::{DType, Device, Tensor, TensorData};
use firebrick_autodiff::{Activation, ChainParameters, ChainSpec, ChainUnit, Shortcut, UnitNorm, conv_chain};

/// Numbers between -1 and 1 that are the same in both types.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

struct Outcome {
    output: Vec<f64>,
    moments: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().unwrap()
}

/// Output, moments and the gradients of the input and every parameter.
fn run(spec: &ChainSpec, shape: [usize; 4], channels_last: bool, device: &Device, dtype: DType) -> Outcome {
    let device = device.clone().autodiff();
    let tensor = |shape: Vec<usize>, seed: usize| {
        TensorData::new(numbers(shape.iter().product(), seed), shape).convert_dtype(dtype)
    };
    let four = |shape: [usize; 4], seed| {
        Tensor::<4>::from_data(tensor(shape.to_vec(), seed), (&device, dtype)).require_grad()
    };
    let row =
        |len: usize, seed| Tensor::<1>::from_data(tensor(vec![len], seed), (&device, dtype)).require_grad();
    let x = four(shape, 1);
    let parameters: Vec<_> = spec
        .all_units()
        .enumerate()
        .map(|(index, unit)| ChainParameters {
            weight: four(
                [unit.out_channels, unit.in_channels / unit.groups, unit.kernel[0], unit.kernel[1]],
                10 * index + 2,
            ),
            gamma: (unit.norm != UnitNorm::Bias).then(|| row(unit.out_channels, 10 * index + 3)),
            beta: row(unit.out_channels, 10 * index + 4),
        })
        .collect();
    let seen = if channels_last {
        // The same image with its channels last in memory: back and forth, with a copy between.
        let nhwc = x.clone().permute([0, 2, 3, 1]) * 1.0;
        nhwc.permute([0, 3, 1, 2])
    } else {
        x.clone()
    };
    let joined = spec.blocks.iter().filter(|block| block.shortcut == Shortcut::Tensor);
    let shortcuts: Vec<_> = joined
        .enumerate()
        .map(|(index, block)| {
            let channels = block.units[block.units.len() - 1].out_channels;
            four([shape[0], channels, shape[2], shape[3]], 98 + 100 * index)
        })
        .collect();
    let (output, moments) = conv_chain(seen, shortcuts.clone(), parameters.clone(), spec);
    let direction = four(output.dims(), 99).detach();
    let gradients = (output.clone() * direction).sum().backward();
    let mut found = vec![values(x.grad(&gradients).unwrap())];
    found.extend(shortcuts.into_iter().map(|shortcut| values(shortcut.grad(&gradients).unwrap())));
    for parameters in &parameters {
        found.push(values(parameters.weight.grad(&gradients).unwrap()));
        found.extend(parameters.gamma.as_ref().map(|gamma| values(gamma.grad(&gradients).unwrap())));
        found.push(values(parameters.beta.grad(&gradients).unwrap()));
    }
    let [batch, _, height, width] = output.dims();
    assert_eq!(moments.last().unwrap().count, batch * height * width);
    let moments = moments.into_iter().flat_map(|moments| [moments.mean, moments.variance]);
    Outcome { output: values(output), moments: moments.flat_map(values).collect(), gradients: found }
}

fn close(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-2f64, |scale, value| scale.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs() / scale;
        assert!(error <= tolerance, "{what}[{index}] is {actual}, not {expected}");
    }
}

fn unit(in_channels: usize, out_channels: usize, kernel: usize, activation: Activation) -> ChainUnit {
    ChainUnit {
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [1, 1],
        padding: [[(kernel - 1) / 2; 2]; 2],
        groups: 1,
        activation,
        norm: UnitNorm::Batch { epsilon: 1e-3 },
    }
}

fn cases() -> Vec<(ChainSpec, [usize; 4])> {
    let depthwise = |channels, stride| ChainUnit {
        groups: channels,
        stride: [stride; 2],
        ..unit(channels, channels, 3, Activation::Relu6)
    };
    let chain = |units: &[ChainUnit], adds_input| {
        let shortcut = if adds_input { Shortcut::Input } else { Shortcut::None };
        ChainSpec::block(units.to_vec(), shortcut)
    };
    let joined = |units: &[ChainUnit]| ChainSpec::block(units.to_vec(), Shortcut::Tensor);
    let projected =
        |units: &[ChainUnit], projection| ChainSpec::block(units.to_vec(), Shortcut::Projection(projection));
    let joint = |chains: &[ChainSpec]| ChainSpec {
        blocks: chains.iter().flat_map(|chain| chain.blocks.clone()).collect(),
    };
    let biased = |unit| ChainUnit { norm: UnitNorm::Bias, ..unit };
    let strided = ChainUnit { stride: [2, 2], padding: [[0, 1], [0, 1]], ..unit(3, 8, 3, Activation::Silu) };
    let grouped = ChainUnit { groups: 2, ..unit(4, 6, 3, Activation::Relu) };
    // Groups with wide padding: burn's operations on every backend.
    let padded = ChainUnit { padding: [[3, 0], [1, 1]], ..grouped };
    let appended = |units: &[ChainUnit]| ChainSpec::block(units.to_vec(), Shortcut::Append);
    vec![
        (chain(&[unit(3, 5, 1, Activation::None)], false), [2, 3, 4, 3]),
        (chain(&[strided], false), [2, 3, 6, 5]),
        (chain(&[grouped], false), [2, 4, 3, 5]),
        (
            chain(
                &[unit(4, 12, 1, Activation::Relu6), depthwise(12, 1), unit(12, 4, 1, Activation::None)],
                true,
            ),
            [2, 4, 5, 3],
        ),
        (chain(&[depthwise(9, 2), unit(9, 7, 1, Activation::HardSwish)], false), [3, 9, 5, 6]),
        (chain(&[unit(3, 3, 3, Activation::Relu)], true), [2, 3, 3, 3]),
        (joined(&[unit(3, 4, 1, Activation::Relu), unit(4, 5, 3, Activation::Relu)]), [2, 3, 4, 3]),
        (joined(&[grouped]), [2, 4, 3, 5]),
        (
            chain(&[biased(unit(3, 4, 3, Activation::Relu)), unit(4, 3, 1, Activation::None)], false),
            [2, 3, 4, 5],
        ),
        (joined(&[biased(depthwise(9, 1))]), [2, 9, 3, 4]),
        (chain(&[biased(grouped)], false), [2, 4, 3, 5]),
        (
            projected(
                &[unit(3, 4, 1, Activation::Relu), unit(4, 5, 3, Activation::Relu)],
                unit(3, 5, 1, Activation::None),
            ),
            [2, 3, 4, 3],
        ),
        // More tensors than the tape records at once.
        (
            joint(&[
                projected(&[unit(3, 5, 3, Activation::Relu)], unit(3, 5, 1, Activation::Silu)),
                chain(&[unit(5, 4, 1, Activation::Relu), unit(4, 5, 3, Activation::Relu)], true),
                joined(&[unit(5, 6, 1, Activation::None)]),
                joined(&[depthwise(6, 1), biased(unit(6, 4, 1, Activation::Relu))]),
            ]),
            [2, 3, 4, 5],
        ),
        (
            joint(&[
                projected(&[grouped], unit(4, 6, 1, Activation::None)),
                joined(&[unit(6, 3, 1, Activation::Relu)]),
            ]),
            [2, 4, 3, 5],
        ),
        (chain(&[padded], false), [2, 4, 3, 5]),
        (
            joint(&[
                appended(&[grouped, unit(6, 2, 1, Activation::None)]),
                appended(&[unit(6, 5, 1, Activation::Relu)]),
            ]),
            [2, 4, 2, 5],
        ),
        // Burn's operations for all of it.
        (
            joint(&[
                appended(&[unit(3, 4, 3, Activation::Relu)]),
                chain(
                    &[ChainUnit { groups: 7, padding: [[3, 0], [1, 1]], ..unit(7, 14, 3, Activation::Relu) }],
                    false,
                ),
            ]),
            [2, 3, 4, 3],
        ),
    ]
}

fn agrees(name: &str, device: &Device) {
    for (spec, shape) in cases() {
        let expected = run(&spec, shape, false, &Device::ndarray(), DType::F64);
        for channels_last in [false, true] {
            let name = format!("{name}, channels last: {channels_last}, {shape:?}, {spec:?}");
            let actual = run(&spec, shape, channels_last, device, DType::F32);
            close(&format!("{name}: output"), &actual.output, &expected.output, 2e-5);
            close(&format!("{name}: moments"), &actual.moments, &expected.moments, 2e-5);
            for (index, (actual, expected)) in actual.gradients.iter().zip(&expected.gradients).enumerate() {
                close(&format!("{name}: gradient {index}"), actual, expected, 2e-4);
            }
        }
    }
}

#[test]
fn is_burns_chain_on_ndarray() {
    agrees("ndarray", &Device::ndarray());
}

#[cfg(feature = "flex")]
#[test]
fn is_burns_chain_on_flex() {
    agrees("flex", &Device::flex());
}

#[test]
fn needs_no_tape() {
    let (spec, shape) = cases().swap_remove(3);
    let device = Device::ndarray();
    let x = Tensor::<4>::from_data(TensorData::new(numbers(shape.iter().product(), 1), shape), &device);
    let parameters = spec.all_units().map(|unit| ChainParameters {
        weight: Tensor::ones(
            [unit.out_channels, unit.in_channels / unit.groups, unit.kernel[0], unit.kernel[1]],
            &device,
        ),
        gamma: Some(Tensor::ones([unit.out_channels], &device)),
        beta: Tensor::zeros([unit.out_channels], &device),
    });
    let (output, moments) = conv_chain(x, Vec::new(), parameters.collect(), &spec);
    assert_eq!(output.dims(), shape);
    assert_eq!(moments.len(), 3);
}

/// From three channels to five, with its parameters.
fn pointwise(device: &Device) -> (ChainSpec, ChainParameters) {
    let parameters = ChainParameters {
        weight: Tensor::ones([5, 3, 1, 1], device),
        gamma: Some(Tensor::ones([5], device)),
        beta: Tensor::zeros([5], device),
    };
    (cases().swap_remove(0).0, parameters)
}

#[test]
#[should_panic(expected = "a shortcut for each block that adds one")]
fn refuses_a_shortcut_that_is_not_added() {
    let device = Device::ndarray();
    let (spec, parameters) = pointwise(&device);
    let image = |channels| Tensor::zeros([1, channels, 4, 4], &device);
    conv_chain(image(3), vec![image(5)], vec![parameters], &spec);
}

#[test]
#[should_panic(expected = "the input is empty")]
fn refuses_an_empty_batch() {
    let device = Device::ndarray();
    let (spec, parameters) = pointwise(&device);
    conv_chain(Tensor::zeros([0, 3, 4, 4], &device), Vec::new(), vec![parameters], &spec);
}
