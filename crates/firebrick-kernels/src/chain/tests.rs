//! Chains of every kind of convolution against plain f64 arithmetic: results, and gradients against central differences.

use super::*;
use proptest::prelude::*;

/// A tensor `[batch, height, width, channels]` in f64.
#[derive(Clone)]
struct Image {
    shape: [usize; 4],
    values: Vec<f64>,
}

/// Everything a chain is a function of.
#[derive(Clone)]
struct Inputs {
    x: Vec<f64>,
    /// Weight, gamma and beta of every unit.
    params: Vec<[Vec<f64>; 3]>,
    /// For every block that adds a tensor.
    shortcuts: Vec<Vec<f64>>,
}

/// Numbers between -1 and 1 that no small period hides in.
fn numbers(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // As an f32, so that both sides begin with the same number.
        f64::from((((state >> 40) as f64 / (1u64 << 23) as f64) - 1.0) as f32)
    })
}

fn inputs(spec: &ChainSpec, [batch, channels, height, width]: [usize; 4], seed: u64) -> Inputs {
    let mut numbers = numbers(seed);
    let x = numbers.by_ref().take(batch * channels * height * width).collect();
    let params = spec.all_units().map(|unit| {
        let weights = unit.out_channels * unit.in_channels / unit.groups * unit.kernel[0] * unit.kernel[1];
        let weight = numbers.by_ref().take(weights).collect();
        let scales = if unit.norm == UnitNorm::Bias { 0 } else { unit.out_channels };
        let gamma = numbers.by_ref().take(scales).map(|v| f64::from((1.0 + 0.5 * v) as f32)).collect();
        let beta = numbers.by_ref().take(unit.out_channels).map(|v| f64::from((0.5 + v) as f32)).collect();
        [weight, gamma, beta]
    });
    let params = params.collect();
    let chain = ConvChain::new(spec, [batch, channels, height, width]).unwrap();
    let shapes = chain.shortcut_shapes().into_iter();
    let shortcuts = shapes.map(|shape| numbers.by_ref().take(shape.iter().product()).collect()).collect();
    Inputs { x, params, shortcuts }
}

fn convolve(x: &Image, unit: &ChainUnit, weight: &[f64]) -> Image {
    let [batch, height, width, channels] = x.shape;
    let [kernel_height, kernel_width] = unit.kernel;
    let [rows, columns] = unit.shape().output_size(0, [height, width]).unwrap();
    let (group_in, group_out) = (channels / unit.groups, unit.out_channels / unit.groups);
    let mut values = Vec::new();
    for image in 0..batch {
        for row in 0..rows {
            for column in 0..columns {
                for output in 0..unit.out_channels {
                    let mut sum = 0.0;
                    for input in 0..group_in {
                        for ky in 0..kernel_height {
                            for kx in 0..kernel_width {
                                let y = (row * unit.stride[0] + ky).wrapping_sub(unit.padding[0][0]);
                                let x_at = (column * unit.stride[1] + kx).wrapping_sub(unit.padding[1][0]);
                                if y < height && x_at < width {
                                    let channel = output / group_out * group_in + input;
                                    let at = ((image * height + y) * width + x_at) * channels + channel;
                                    let tap = (output * group_in + input) * kernel_height * kernel_width
                                        + ky * kernel_width
                                        + kx;
                                    sum += x.values[at] * weight[tap];
                                }
                            }
                        }
                    }
                    values.push(sum);
                }
            }
        }
    }
    Image { shape: [batch, rows, columns, unit.out_channels], values }
}

/// A convolution's norm, and its mean and biased variance.
fn normalise(y: &mut Image, unit: &ChainUnit, gamma: &[f64], beta: &[f64]) -> [Vec<f64>; 2] {
    let channels = unit.out_channels;
    let count = (y.values.len() / channels) as f64;
    let mut statistics = [vec![0.0; channels], vec![0.0; channels]];
    for channel in 0..channels {
        let of_channel = || y.values.iter().skip(channel).step_by(channels);
        let mean = of_channel().sum::<f64>() / count;
        let variance = of_channel().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        statistics[0][channel] = mean;
        statistics[1][channel] = variance;
        let mut values = y.values.iter_mut().skip(channel).step_by(channels);
        match unit.norm {
            UnitNorm::Batch { epsilon } => {
                let rstd = 1.0 / (variance + f64::from(epsilon)).sqrt();
                values.for_each(|value| *value = (*value - mean) * rstd * gamma[channel] + beta[channel]);
            }
            UnitNorm::Bias => values.by_ref().for_each(|value| *value += beta[channel]),
        }
    }
    statistics
}

/// The chain in f64, and every unit's mean and biased variance.
fn reference(
    spec: &ChainSpec,
    inputs: &Inputs,
    [batch, channels, height, width]: [usize; 4],
) -> (Image, Vec<[Vec<f64>; 2]>) {
    let mut x = Image { shape: [batch, height, width, channels], values: inputs.x.clone() };
    let (mut params, mut shortcuts) = (inputs.params.iter(), inputs.shortcuts.iter());
    let mut moments = Vec::new();
    for block in &spec.blocks {
        let input = x.clone();
        let of_units: Vec<_> = params.by_ref().take(block.units.len()).collect();
        let mut of_units = block.units.iter().zip(of_units).map(|(unit, [weight, gamma, beta])| {
            move |x: &Image| {
                let mut y = convolve(x, unit, weight);
                let statistics = normalise(&mut y, unit, gamma, beta);
                (y, statistics, unit.activation)
            }
        });
        let last = of_units.next_back().unwrap();
        let activate = |image: &mut Image, activation| {
            image.values.iter_mut().for_each(|value| *value = crate::reference::activate(activation, *value));
        };
        for unit in of_units {
            let (y, statistics, activation) = unit(&x);
            x = y;
            activate(&mut x, activation);
            moments.push(statistics);
        }
        let (y, statistics, activation) = last(&x);
        moments.push(statistics);
        x = y;
        let added = match &block.shortcut {
            Shortcut::None | Shortcut::Append => Vec::new(),
            Shortcut::Input => input.values.clone(),
            Shortcut::Projection(unit) => {
                let [weight, gamma, beta] = params.next().unwrap();
                let mut y = convolve(&input, unit, weight);
                moments.push(normalise(&mut y, unit, gamma, beta));
                activate(&mut y, unit.activation);
                y.values
            }
            Shortcut::Tensor => shortcuts.next().unwrap().clone(),
        };
        x.values.iter_mut().zip(added).for_each(|(value, added)| *value += added);
        activate(&mut x, activation);
        if block.shortcut == Shortcut::Append {
            let [_, _, _, channels] = input.shape;
            let pixels = input.values.chunks(channels).zip(x.values.chunks(x.shape[3]));
            x.values = pixels.flat_map(|(before, own)| before.iter().chain(own).copied()).collect();
            x.shape[3] += channels;
        }
    }
    (x, moments)
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// The size below which results and gradients are compared in units of this rather than of their own.
///
/// Through a batch's statistics both are differences of terms of up to `1 / sqrt(epsilon)`, 10 on random chains. Where few
/// values make the statistics the terms cancel to nothing, and what is left is their rounding.
const CANCELLED: f64 = 0.1;

/// Compares in units of the largest expected value.
fn close(what: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    close_above(1e-2, what, actual, expected, tolerance);
}

/// Compares in units of the largest expected value, and of at least `least`.
fn close_above(least: f64, what: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(least, |scale, value| scale.max(value.abs()));
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}[{index}] is {actual}, not {expected} (error {error:.1e} of {scale})"
        );
    }
}

/// Checks result, moments and all gradients of a chain on one level.
fn check(spec: &ChainSpec, shape: [usize; 4], level: SimdLevel, seed: u64) {
    let name = format!("{level} {shape:?} {spec:?}");
    let chain = ConvChain::with_level(spec, shape, level).unwrap();
    let inputs = inputs(spec, shape, seed);
    let (expected, statistics) = reference(spec, &inputs, shape);
    let [batch, rows, columns, channels] = expected.shape;
    assert_eq!(chain.output_shape(), [batch, channels, rows, columns], "{name}");

    let x = single(&inputs.x);
    let params: Vec<[Vec<f32>; 3]> =
        inputs.params.iter().map(|params| params.each_ref().map(|values| single(values))).collect();
    let params: Vec<UnitParams<'_>> =
        params.iter().map(|[weight, gamma, beta]| UnitParams { weight, gamma, beta }).collect();
    let shortcuts: Vec<Vec<f32>> = inputs.shortcuts.iter().map(|values| single(values)).collect();
    let shortcuts: Vec<&[f32]> = shortcuts.iter().map(|values| &values[..]).collect();
    let forward = chain.forward(&x, &shortcuts, &params);
    close_above(CANCELLED, &format!("{name}: result"), &forward.output, &expected.values, 2e-5);
    assert_eq!(forward.moments.len(), statistics.len(), "{name}");
    let moments = forward.moments.iter().zip(&statistics).zip(spec.all_units()).enumerate();
    for (unit, ((moments, [mean, variance]), spec)) in moments {
        if spec.norm == UnitNorm::Bias {
            continue;
        }
        close(&format!("{name}: mean of unit {unit}"), &moments.mean, mean, 1e-5);
        close(&format!("{name}: variance of unit {unit}"), &moments.variance, variance, 1e-5);
    }

    // The loss is a weighted sum of the result.
    let direction: Vec<f64> = numbers(seed + 1).take(expected.values.len()).collect();
    let loss = |inputs: &Inputs| -> f64 {
        let (result, _) = reference(spec, inputs, shape);
        result.values.iter().zip(&direction).map(|(a, b)| a * b).sum()
    };
    let gradient = |of: &dyn Fn(&mut Inputs) -> &mut Vec<f64>| -> Vec<f64> {
        let mut inputs = inputs.clone();
        (0..of(&mut inputs).len())
            .map(|index| {
                let step = 1e-6;
                let mut moved = |by: f64| {
                    of(&mut inputs)[index] += by;
                    let loss = loss(&inputs);
                    of(&mut inputs)[index] -= by;
                    loss
                };
                (moved(step) - moved(-step)) / (2.0 * step)
            })
            .collect()
    };
    let backward = chain.backward(&forward.tape, &params, &single(&direction), [true; 2]);
    assert_eq!(backward.shortcuts.len(), shortcuts.len(), "{name}");
    for (index, actual) in backward.shortcuts.iter().enumerate() {
        let expected = gradient(&|inputs| &mut inputs.shortcuts[index]);
        close_above(CANCELLED, &format!("{name}: gradient of shortcut {index}"), actual, &expected, 2e-4);
    }
    assert_eq!(backward.units.len(), params.len(), "{name}");
    close_above(
        CANCELLED,
        &format!("{name}: dx"),
        &backward.input.unwrap(),
        &gradient(&|inputs| &mut inputs.x),
        2e-4,
    );
    for (unit, gradients) in backward.units.iter().enumerate() {
        for (which, (part, actual)) in
            [("weight", &gradients.weight), ("gamma", &gradients.gamma), ("beta", &gradients.beta)]
                .into_iter()
                .enumerate()
        {
            let expected = gradient(&|inputs| &mut inputs.params[unit][which]);
            let what = format!("{name}: gradient of {part} of unit {unit}");
            close_above(CANCELLED, &what, actual, &expected, 2e-4);
        }
    }
    let without = chain.backward(&forward.tape, &params, &single(&direction), [false; 2]);
    assert!(
        without.input.is_none() && without.shortcuts.is_empty() && without.units == backward.units,
        "{name}"
    );
}

fn unit(in_channels: usize, out_channels: usize, kernel: usize, activation: Activation) -> ChainUnit {
    let side = (kernel - 1) / 2;
    ChainUnit {
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [1, 1],
        padding: [[side; 2]; 2],
        groups: 1,
        activation,
        norm: UnitNorm::Batch { epsilon: 1e-5 },
    }
}

/// With a bias in the norm's place.
fn biased(unit: ChainUnit) -> ChainUnit {
    ChainUnit { norm: UnitNorm::Bias, ..unit }
}

fn depthwise(channels: usize, kernel: usize, stride: usize, activation: Activation) -> ChainUnit {
    ChainUnit { groups: channels, stride: [stride; 2], ..unit(channels, channels, kernel, activation) }
}

/// In groups that are not depthwise.
fn grouped(channels: [usize; 2], groups: usize, kernel: usize, stride: usize) -> ChainUnit {
    let [inputs, outputs] = channels;
    ChainUnit { groups, stride: [stride; 2], ..unit(inputs, outputs, kernel, Activation::Relu) }
}

fn chain(units: &[ChainUnit], adds_input: bool) -> ChainSpec {
    let shortcut = if adds_input { Shortcut::Input } else { Shortcut::None };
    ChainSpec::block(units.to_vec(), shortcut)
}

/// A chain that adds a tensor from outside.
fn joined(units: &[ChainUnit]) -> ChainSpec {
    ChainSpec::block(units.to_vec(), Shortcut::Tensor)
}

/// A chain that adds a projection of its input.
fn projected(units: &[ChainUnit], projection: ChainUnit) -> ChainSpec {
    ChainSpec::block(units.to_vec(), Shortcut::Projection(projection))
}

/// A chain whose result lies behind its input.
fn appended(units: &[ChainUnit]) -> ChainSpec {
    ChainSpec::block(units.to_vec(), Shortcut::Append)
}

/// Chains one after another.
fn joint(chains: &[ChainSpec]) -> ChainSpec {
    ChainSpec { blocks: chains.iter().flat_map(|chain| chain.blocks.clone()).collect() }
}

#[test]
fn computes_what_plain_arithmetic_does_over_odd_shapes_at_each_level() {
    use Activation::{Gelu, HardSwish, None, Relu, Relu6, Silu};
    let asymmetric = ChainUnit { padding: [[0, 1], [2, 0]], stride: [2, 1], ..unit(3, 5, 3, Relu) };
    let lopsided = ChainUnit { padding: [[2, 0], [0, 1]], kernel: [2, 3], ..depthwise(9, 3, 1, Silu) };
    let large = ChainUnit { padding: [[3; 2]; 2], ..unit(2, 3, 5, Relu6) };
    let cases = [
        (chain(&[unit(1, 1, 1, None)], false), [2, 1, 1, 1]),
        (chain(&[unit(3, 7, 1, Relu6)], false), [2, 3, 5, 3]),
        (chain(&[unit(8, 8, 1, Relu)], true), [3, 8, 2, 2]),
        (chain(&[unit(3, 8, 3, Relu6)], false), [2, 3, 4, 5]),
        (chain(&[ChainUnit { stride: [2, 2], ..unit(3, 9, 3, Silu) }], false), [2, 3, 5, 6]),
        (chain(&[ChainUnit { stride: [3, 3], ..unit(9, 4, 3, HardSwish) }], false), [2, 9, 7, 4]),
        (chain(&[asymmetric], false), [1, 3, 4, 3]),
        // The kernel is larger than the image.
        (chain(&[large], false), [2, 2, 1, 2]),
        (chain(&[depthwise(5, 3, 1, Relu6)], false), [2, 5, 3, 4]),
        (chain(&[depthwise(9, 3, 2, HardSwish)], false), [2, 9, 5, 6]),
        (chain(&[depthwise(9, 3, 1, Gelu)], false), [2, 9, 5, 6]),
        (chain(&[depthwise(8, 5, 2, None)], false), [1, 8, 4, 7]),
        (chain(&[depthwise(3, 3, 3, Silu)], false), [2, 3, 7, 8]),
        (chain(&[lopsided], false), [2, 9, 3, 3]),
        (
            chain(&[unit(8, 16, 1, Relu6), depthwise(16, 3, 1, Relu6), unit(16, 8, 1, None)], true),
            [2, 8, 3, 3],
        ),
        (
            chain(&[unit(4, 12, 1, Relu6), depthwise(12, 3, 2, Silu), unit(12, 6, 1, None)], false),
            [2, 4, 5, 4],
        ),
        (
            chain(
                &[
                    ChainUnit { stride: [2, 2], ..unit(3, 8, 3, Relu6) },
                    depthwise(8, 3, 1, Relu6),
                    unit(8, 4, 1, None),
                ],
                false,
            ),
            [2, 3, 6, 6],
        ),
        // A bottleneck: the activation comes after the sum.
        (chain(&[unit(6, 3, 1, Relu), unit(3, 3, 3, Relu), unit(3, 6, 1, Relu)], true), [2, 6, 3, 4]),
        (joined(&[unit(5, 9, 1, Silu)]), [2, 5, 3, 2]),
        (chain(&[biased(unit(3, 5, 3, Relu)), biased(unit(5, 6, 1, Gelu))], false), [2, 3, 4, 3]),
        (chain(&[biased(depthwise(7, 3, 1, None)), unit(7, 4, 1, Relu)], false), [2, 7, 3, 4]),
        (joined(&[unit(4, 6, 1, Relu), biased(unit(6, 6, 3, Silu))]), [2, 4, 3, 3]),
        (
            joined(&[
                unit(6, 3, 1, Relu),
                ChainUnit { stride: [2, 2], ..unit(3, 3, 3, Relu) },
                unit(3, 9, 1, Relu),
            ]),
            [2, 6, 5, 4],
        ),
        (projected(&[unit(5, 9, 3, Relu)], unit(5, 9, 1, None)), [2, 5, 3, 4]),
        (
            projected(
                &[
                    unit(6, 3, 1, Relu),
                    ChainUnit { stride: [2, 2], ..unit(3, 3, 3, Silu) },
                    unit(3, 9, 1, Relu),
                ],
                ChainUnit { stride: [2, 2], ..biased(unit(6, 9, 1, Silu)) },
            ),
            [2, 6, 5, 4],
        ),
        (chain(&[grouped([6, 10], 2, 3, 1)], false), [2, 6, 4, 3]),
        (chain(&[grouped([20, 20], 5, 3, 2)], false), [2, 20, 5, 6]),
        // A filter a channel, twice.
        (chain(&[grouped([5, 10], 5, 3, 1)], false), [2, 5, 3, 4]),
        (chain(&[grouped([24, 12], 4, 1, 3)], false), [2, 24, 4, 7]),
        // Groups that begin and end within vectors.
        (chain(&[grouped([34, 36], 2, 2, 1)], false), [1, 34, 3, 3]),
        (
            chain(
                &[ChainUnit { padding: [[0, 1], [2, 0]], stride: [2, 1], ..grouped([9, 6], 3, 3, 1) }],
                false,
            ),
            [2, 9, 5, 4],
        ),
        (
            projected(
                &[unit(5, 12, 1, Relu), biased(grouped([12, 12], 3, 3, 2)), unit(12, 6, 1, Relu)],
                ChainUnit { stride: [2, 2], ..unit(5, 6, 1, None) },
            ),
            [2, 5, 4, 5],
        ),
        (appended(&[unit(5, 3, 3, Relu)]), [2, 5, 3, 4]),
        // A dense block: a norm of what there is, a bottleneck, and what is appended; and the transition behind it.
        (
            joint(&[
                appended(&[depthwise(4, 1, 1, Relu), unit(4, 6, 1, Relu), biased(unit(6, 4, 3, None))]),
                appended(&[depthwise(8, 1, 1, Relu), unit(8, 6, 1, Silu), biased(unit(6, 3, 3, None))]),
                chain(&[depthwise(11, 1, 1, Relu), biased(unit(11, 5, 1, None))], false),
            ]),
            [2, 4, 3, 4],
        ),
        // A stage of a residual network, and one block of every kind after another.
        (
            joint(&[
                projected(&[unit(3, 4, 1, Relu), unit(4, 6, 3, Relu)], unit(3, 6, 1, None)),
                chain(&[unit(6, 4, 1, Relu), unit(4, 6, 3, Relu)], true),
                chain(&[unit(6, 6, 3, Silu)], true),
            ]),
            [2, 3, 4, 3],
        ),
        (
            joint(&[
                joined(&[unit(3, 5, 3, Relu)]),
                chain(&[biased(unit(5, 4, 1, Gelu))], false),
                joined(&[depthwise(4, 3, 1, Silu), unit(4, 4, 1, None)]),
                chain(&[depthwise(4, 3, 2, Relu6)], false),
            ]),
            [2, 3, 4, 5],
        ),
    ];
    for (seed, (spec, shape)) in cases.iter().enumerate() {
        for level in SimdLevel::available() {
            check(spec, *shape, level, seed as u64 + 11);
        }
    }
}

#[test]
fn cuts_large_images_into_tiles_and_bands_without_a_seam() {
    let banded = chain(
        &[
            unit(24, 72, 1, Activation::Relu6),
            depthwise(72, 3, 2, Activation::Relu6),
            unit(72, 24, 1, Activation::None),
        ],
        false,
    );
    agrees_at_every_level(&banded, [3, 24, 61, 47], 1e-5, 1e-4);
    // In Winograd's form, whose transforms cost a digit.
    let residual = joint(&[
        chain(&[unit(16, 20, 3, Activation::Relu), unit(20, 16, 3, Activation::Silu)], true),
        chain(&[unit(16, 40, 3, Activation::Relu)], false),
    ]);
    agrees_at_every_level(&residual, [5, 16, 30, 27], 5e-5, 2e-4);
}

/// Differences of every parameter would take hours: the scalar level, tested above, stands in for them.
fn agrees_at_every_level(spec: &ChainSpec, shape: [usize; 4], tolerance: f64, of_gradients: f64) {
    let inputs = inputs(spec, shape, 5);
    let (expected, _) = reference(spec, &inputs, shape);
    let x = single(&inputs.x);
    let params: Vec<_> = inputs.params.iter().map(|p| p.each_ref().map(|values| single(values))).collect();
    let params: Vec<_> =
        params.iter().map(|[weight, gamma, beta]| UnitParams { weight, gamma, beta }).collect();
    let direction: Vec<f32> = single(&numbers(9).take(expected.values.len()).collect::<Vec<_>>());
    let mut gradients: Option<ChainGradients> = None;
    for level in SimdLevel::available() {
        let chain = ConvChain::with_level(spec, shape, level).unwrap();
        let forward = chain.forward(&x, &[], &params);
        close(&format!("{level}"), &forward.output, &expected.values, tolerance);
        let backward = chain.backward(&forward.tape, &params, &direction, [true, false]);
        if let Some(scalar) = &gradients {
            let double = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
            close(
                "dx",
                backward.input.as_deref().unwrap(),
                &double(scalar.input.as_deref().unwrap()),
                of_gradients,
            );
            for (actual, expected) in backward.units.iter().zip(&scalar.units) {
                close("weight", &actual.weight, &double(&expected.weight), of_gradients);
                close("gamma", &actual.gamma, &double(&expected.gamma), of_gradients);
                close("beta", &actual.beta, &double(&expected.beta), of_gradients);
            }
        } else {
            gradients = Some(backward);
        }
    }
}

#[test]
fn gives_the_same_bytes_for_any_number_of_threads() {
    let spec = chain(
        &[
            unit(5, 30, 1, Activation::Silu),
            depthwise(30, 3, 1, Activation::Relu6),
            unit(30, 5, 3, Activation::None),
        ],
        true,
    );
    // In Winograd's form.
    let wide = chain(
        &[
            unit(5, 20, 1, Activation::Silu),
            unit(20, 17, 3, Activation::Relu),
            unit(17, 5, 1, Activation::None),
        ],
        true,
    );
    let in_groups = chain(
        &[unit(5, 24, 1, Activation::Silu), grouped([24, 36], 4, 3, 1), unit(36, 5, 1, Activation::None)],
        true,
    );
    for spec in [spec, wide, in_groups] {
        gives_the_same_bytes(&spec, [7, 5, 33, 29]);
    }
    // Of many weights: threads share the pixels of all images, of which there are once fewer than threads.
    let heavy = chain(
        &[
            unit(5, 512, 1, Activation::Silu),
            unit(512, 528, 1, Activation::Relu),
            unit(528, 5, 1, Activation::None),
        ],
        true,
    );
    for shape in [[2, 5, 9, 7], [2, 5, 1, 2]] {
        gives_the_same_bytes(&heavy, shape);
    }
}

fn gives_the_same_bytes(spec: &ChainSpec, shape: [usize; 4]) {
    let inputs = inputs(spec, shape, 3);
    let x = single(&inputs.x);
    let params: Vec<_> = inputs.params.iter().map(|p| p.each_ref().map(|values| single(values))).collect();
    let params: Vec<_> =
        params.iter().map(|[weight, gamma, beta]| UnitParams { weight, gamma, beta }).collect();
    let results: Vec<_> = [1, 2, 3, 8]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let chain = ConvChain::new(spec, shape).unwrap();
                let forward = chain.forward(&x, &[], &params);
                let backward = chain.backward(&forward.tape, &params, &x, [true, false]);
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                let units = backward.units.iter().flat_map(|unit| [&unit.weight, &unit.gamma, &unit.beta]);
                let all = [&forward.output, backward.input.as_ref().unwrap()].into_iter().chain(units);
                all.map(|values| bits(values)).collect::<Vec<_>>()
            })
        })
        .collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn refuses_chains_that_do_not_fit() {
    let error = |spec: &ChainSpec, shape| ConvChain::new(spec, shape).unwrap_err().to_string();
    let pointwise = unit(4, 6, 1, Activation::None);
    let text = error(&chain(&[pointwise], true), [1, 4, 2, 2]);
    assert!(text.contains("4 channels of 2 x 2") && text.contains("6 channels of 2 x 2"), "{text}");
    let text = error(&chain(&[pointwise, pointwise], false), [1, 4, 2, 2]);
    assert!(text.contains("layer 1") && text.contains('6'), "{text}");
    let wide = ChainUnit { groups: 2, padding: [[0, 1], [0, 0]], ..pointwise };
    let text = error(&chain(&[wide], false), [1, 4, 2, 2]);
    assert!(text.contains("2 groups") && text.contains("[[0, 1], [0, 0]]"), "{text}");
    let text = error(&chain(&[ChainUnit { kernel: [9, 9], ..pointwise }], false), [1, 4, 2, 2]);
    assert!(text.contains("9 x 9"), "{text}");
    assert!(matches!(
        ConvChain::new(&chain(&[pointwise], false), [0, 4, 2, 2]),
        Err(KernelError::Empty { .. })
    ));
    assert!(matches!(ConvChain::new(&chain(&[], false), [1, 4, 2, 2]), Err(KernelError::Empty { .. })));
    assert!(matches!(
        ConvChain::new(&ChainSpec { blocks: Vec::new() }, [1, 4, 2, 2]),
        Err(KernelError::Empty { .. })
    ));
    let text = error(&projected(&[pointwise], unit(4, 5, 1, Activation::None)), [1, 4, 2, 2]);
    assert!(text.contains("5 channels of 2 x 2") && text.contains("6 channels of 2 x 2"), "{text}");
    let narrower = ChainUnit { stride: [2, 2], ..pointwise };
    let text = error(&appended(&[narrower]), [1, 4, 3, 3]);
    assert!(text.contains("6 channels of 3 x 3") && text.contains("6 channels of 2 x 2"), "{text}");
    let second =
        joint(&[chain(&[pointwise, unit(6, 6, 1, Activation::None)], false), chain(&[pointwise], false)]);
    let text = error(&second, [1, 4, 2, 2]);
    assert!(text.contains("layer 2") && text.contains('6'), "{text}");
}

#[test]
fn refuses_images_whose_sizes_wrap_around() {
    let too_large = |spec: &ChainSpec, shape| {
        let error = ConvChain::new(spec, shape).unwrap_err();
        assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
    };
    let filter = biased(depthwise(8, 1, 1, Activation::None));
    too_large(&chain(&[filter], false), [1, 8, 2, (1 << 60) + 1]);
    too_large(&chain(&[filter], false), [1 << 60, 8, 2, 2]);
    too_large(&chain(&[filter], false), [1, 8, usize::MAX, 1]);
    // The result of a block that appends is larger than both of its parts.
    let unit = unit(8, 8, 1, Activation::None);
    too_large(&appended(&[unit]), [1, 8, 1 << 13, 1 << 13]);
    // An image that is mostly padding.
    let padded = ChainUnit {
        kernel: [4096, 1],
        stride: [4096, 1],
        padding: [[4095; 2], [0; 2]],
        ..grouped([72, 72], 2, 1, 1)
    };
    too_large(&chain(&[padded], false), [1, 72, 1, 8192]);
}

#[test]
#[should_panic(expected = "the tape is another chain's")]
fn refuses_the_tape_of_another_image() {
    let spec = chain(&[unit(16, 16, 3, Activation::None)], false);
    // As many pixels, otherwise arranged.
    let [square, column] =
        [[2, 2], [4, 1]].map(|[height, width]| ConvChain::new(&spec, [1, 16, height, width]).unwrap());
    let x = vec![1.0; 64];
    let (weight, scale) = (vec![1.0; 16 * 16 * 9], vec![1.0; 16]);
    let params = [UnitParams { weight: &weight, gamma: &scale, beta: &scale }];
    let forward = square.forward(&x, &[], &params);
    column.backward(&forward.tape, &params, &x, [true; 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn computes_what_plain_arithmetic_does_on_random_chains(
        seed in 0u64..1000,
        [batch, channels, height, width] in [1usize..3, 1..10, 1..7, 1..7],
        wide in 1usize..18,
        groups in 1usize..4,
        kernel in [1usize..4, 1..4],
        stride in [1usize..4, 1..4],
        padding in [[0usize..3, 0..3], [0..3, 0..3]],
        depthwise in any::<bool>(),
        expand in any::<bool>(),
    ) {
        // Depthwise, or so many groups of as many channels.
        let middle = if expand { wide } else { channels } * if depthwise { 1 } else { groups };
        let out = if depthwise { middle } else { wide * groups };
        let groups = if depthwise { middle } else { groups };
        let channels = if expand { channels } else { middle };
        let window = ChainUnit {
            in_channels: middle, out_channels: out, kernel, stride, padding, groups,
            activation: Activation::Silu, norm: UnitNorm::Batch { epsilon: 1e-2 },
        };
        prop_assume!(window.shape().output_size(0, [height, width]).is_ok() && window.is_supported());
        let mut units = Vec::new();
        if expand {
            units.push(ChainUnit { norm: UnitNorm::Batch { epsilon: 1e-2 }, ..unit(channels, middle, 1, Activation::Silu) });
        }
        units.push(window);
        let level = SimdLevel::available().pop().unwrap();
        check(&chain(&units, false), [batch, channels, height, width], level, seed);
    }
}
