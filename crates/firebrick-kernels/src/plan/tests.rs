//! Plans against the reference, at every level of this machine and at vector widths of others.

use super::*;
use crate::reference::{self, Image as Reference, Pool};
use crate::{Activation, BatchNormParams, ConvParams, KernelError, PlanBuilder, PoolParams};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

/// Deterministic values around 0, so that a failing case can be read and repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        // Splitmix64, by Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

const ALL_ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::Silu,
    Activation::HardSwish,
    Activation::Gelu,
    Activation::Sigmoid,
    Activation::HardSigmoid,
    Activation::Tanh,
];

/// A convolution that owns its weights.
#[derive(Debug, Clone)]
struct Conv {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<[Vec<f32>; 4]>,
    out_channels: usize,
    in_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [[usize; 2]; 2],
    groups: usize,
    activation: Activation,
}

impl Conv {
    fn new(
        numbers: &mut Numbers,
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 2],
        groups: usize,
    ) -> Self {
        let window = in_channels / groups * kernel[0] * kernel[1];
        // Keeps the activations' scale through deep networks.
        let scale = (3.0 / window as f32).sqrt();
        let weight = (0..out_channels * window).map(|_| numbers.next() * scale).collect();
        let norm = [
            numbers.take(out_channels).into_iter().map(|x| 1.0 + 0.3 * x).collect(),
            numbers.take(out_channels),
            numbers.take(out_channels),
            numbers.take(out_channels).into_iter().map(|x| 1.0 + 0.5 * x).collect(),
        ];
        Self {
            weight,
            bias: None,
            norm: Some(norm),
            out_channels,
            in_channels,
            kernel,
            stride: [1, 1],
            padding: [0, 1].map(|axis| [(kernel[axis] - 1) / 2, kernel[axis] / 2]),
            groups,
            activation: Activation::None,
        }
    }

    fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    fn padding(mut self, padding: [[usize; 2]; 2]) -> Self {
        self.padding = padding;
        self
    }

    fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    fn params(&self) -> ConvParams<'_> {
        let norm = self.norm.as_ref();
        ConvParams {
            weight: &self.weight,
            bias: self.bias.as_deref(),
            norm: norm.map(|[gamma, beta, mean, var]| BatchNormParams {
                gamma,
                beta,
                mean,
                var,
                epsilon: 1e-3,
            }),
            out_channels: self.out_channels,
            in_channels: self.in_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
            activation: self.activation,
        }
    }
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few layers, written as plainly as can be")]
enum TestLayer {
    /// Of one value, or of one and a residual.
    Conv(Conv),
    Block {
        expand: Option<Conv>,
        depthwise: Conv,
        project: Conv,
        residual: bool,
    },
    Pool,
    Window(PoolParams, Pool),
    Adaptive([usize; 2]),
    Concat,
    Add(Activation),
    Scale,
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
        activation: Activation,
    },
    LayerNorm {
        gamma: Vec<f32>,
        beta: Vec<f32>,
    },
    Activation(Activation),
    Flatten,
    Linear {
        weight: Vec<f32>,
        bias: Vec<f32>,
        activation: Activation,
    },
}

const EPSILON: f32 = 1e-3;

/// A network both for a plan and for the reference.
#[derive(Debug, Clone)]
struct Network {
    input: [usize; 3],
    /// Each layer and the values that it reads: 0 is the input, 1 the first layer's result.
    layers: Vec<(TestLayer, Vec<usize>)>,
    outputs: Vec<usize>,
}

impl Network {
    /// Layer behind layer.
    fn new(input: [usize; 3], layers: Vec<TestLayer>) -> Self {
        let outputs = vec![layers.len()];
        let layers = layers.into_iter().enumerate().map(|(index, layer)| (layer, vec![index])).collect();
        Self { input, layers, outputs }
    }

    fn graph(input: [usize; 3]) -> Self {
        Self { input, layers: Vec::new(), outputs: Vec::new() }
    }

    /// Adds a layer that reads these values.
    fn add(&mut self, layer: TestLayer, inputs: &[usize]) -> usize {
        self.layers.push((layer, inputs.to_vec()));
        self.layers.len()
    }

    fn builder(&self) -> PlanBuilder {
        let mut builder = PlanBuilder::new(self.input);
        let mut values = vec![builder.input()];
        for (layer, inputs) in &self.layers {
            let inputs: Vec<Value> = inputs.iter().map(|&input| values[input]).collect();
            let x = inputs[0];
            values.push(match layer {
                TestLayer::Conv(conv) => builder.conv(x, &conv.params(), inputs.get(1).copied()),
                TestLayer::Block { expand, depthwise, project, residual } => builder.inverted_residual(
                    x,
                    expand.as_ref().map(Conv::params).as_ref(),
                    &depthwise.params(),
                    &project.params(),
                    *residual,
                ),
                TestLayer::Pool => builder.global_average_pool(x),
                TestLayer::Window(params, Pool::Maximum) => builder.max_pool(x, *params),
                TestLayer::Window(params, pool) => {
                    builder.average_pool(x, *params, matches!(pool, Pool::AverageWithPadding))
                }
                TestLayer::Adaptive(size) => builder.adaptive_average_pool(x, *size),
                TestLayer::Concat => builder.concat(&inputs),
                TestLayer::Add(activation) => builder.add(x, inputs[1], *activation),
                TestLayer::Scale => builder.scale(x, inputs[1]),
                TestLayer::Affine { scale, shift, activation } => {
                    builder.channel_affine(x, scale, shift, *activation)
                }
                TestLayer::LayerNorm { gamma, beta } => builder.layer_norm(x, gamma, beta, EPSILON),
                TestLayer::Activation(activation) => builder.activation(x, *activation),
                TestLayer::Flatten => builder.flatten(x),
                TestLayer::Linear { weight, bias, activation } => {
                    builder.linear(x, weight, bias, *activation)
                }
            });
        }
        for &output in &self.outputs {
            builder.output(values[output]);
        }
        builder
    }

    /// The plan at each level of this machine, and at the widths of the others.
    fn plans(&self) -> Vec<(String, Plan)> {
        let levels = SimdLevel::available().into_iter();
        let mut plans: Vec<_> =
            levels.map(|level| (level.to_string(), self.builder().level(level).build().unwrap())).collect();
        plans.push(("4 lanes".to_owned(), self.builder().build_scalar::<4>().unwrap()));
        plans.push(("16 lanes".to_owned(), self.builder().build_scalar::<16>().unwrap()));
        plans
    }

    /// The outputs, one behind another.
    fn reference(&self, image: &[f32]) -> Vec<f64> {
        let mut values = vec![Reference::new(self.input, image)];
        for (layer, inputs) in &self.layers {
            let inputs: Vec<&Reference> = inputs.iter().map(|&input| &values[input]).collect();
            let x = inputs[0];
            values.push(match layer {
                TestLayer::Conv(conv) => reference::conv_with(&conv.params(), x, inputs.get(1).copied()),
                TestLayer::Block { expand, depthwise, project, residual } => {
                    let expanded =
                        expand.as_ref().map_or(x.clone(), |expand| reference::conv(&expand.params(), x));
                    let filtered = reference::conv(&depthwise.params(), &expanded);
                    reference::conv_with(&project.params(), &filtered, residual.then_some(x))
                }
                TestLayer::Pool => reference::global_average_pool(x),
                TestLayer::Window(params, pool) => reference::pool(params, *pool, x),
                TestLayer::Adaptive(size) => reference::adaptive_average_pool(*size, x),
                TestLayer::Concat => reference::concat(&inputs),
                TestLayer::Add(activation) => {
                    let sum = |_, at: usize, value| value + inputs[1].values[at];
                    reference::map(x, |channel, at, value| {
                        reference::activate(*activation, sum(channel, at, value))
                    })
                }
                TestLayer::Scale => reference::map(x, |channel, _, value| value * inputs[1].values[channel]),
                TestLayer::Affine { scale, shift, activation } => reference::map(x, |channel, _, value| {
                    let value = value * f64::from(scale[channel]) + f64::from(shift[channel]);
                    reference::activate(*activation, value)
                }),
                TestLayer::LayerNorm { gamma, beta } => reference::layer_norm(gamma, beta, EPSILON, x),
                TestLayer::Activation(activation) => {
                    reference::map(x, |_, _, value| reference::activate(*activation, value))
                }
                TestLayer::Flatten => reference::flatten(x),
                TestLayer::Linear { weight, bias, activation } => {
                    let conv = ConvParams {
                        weight,
                        bias: Some(bias),
                        norm: None,
                        out_channels: bias.len(),
                        in_channels: x.channels,
                        kernel: [1, 1],
                        stride: [1, 1],
                        padding: [[0; 2]; 2],
                        groups: 1,
                        activation: *activation,
                    };
                    reference::conv(&conv, x)
                }
            });
        }
        self.outputs.iter().flat_map(|&output| values[output].values.clone()).collect()
    }

    /// Compares every plan with the reference, and its results for any threads and batches with each other.
    fn check(&self, batch: usize) -> Result<(), String> {
        let image_len: usize = self.input.iter().product();
        let images = Numbers(7).take(batch * image_len);
        let expected: Vec<f64> = images.chunks(image_len).flat_map(|image| self.reference(image)).collect();
        for (name, plan) in self.plans() {
            // Image behind image, each with all its outputs.
            let run = |images: &[f32], batch: usize| {
                let results = plan.run_all(images, batch);
                let mut values = Vec::new();
                for image in 0..batch {
                    for (index, result) in results.iter().enumerate() {
                        let len = plan.output_len(index);
                        values.extend_from_slice(&result[image * len..][..len]);
                    }
                }
                values
            };
            let [first, others @ ..] = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| run(&images, batch))
            });
            if first.len() != expected.len() {
                return Err(format!("{name}: {} values instead of {}", first.len(), expected.len()));
            }
            for (index, (&actual, &expected)) in first.iter().zip(&expected).enumerate() {
                if (f64::from(actual) - expected).abs() > 2e-4 * (1.0 + expected.abs()) {
                    return Err(format!("{name}: value {index} is {actual}, the reference says {expected}"));
                }
            }
            if others.iter().any(|other| bits(other) != bits(&first)) {
                return Err(format!("{name}: the result depends on the threads"));
            }
            let alone: Vec<f32> = images.chunks(image_len).flat_map(|image| run(image, 1)).collect();
            if bits(&alone) != bits(&first) {
                return Err(format!("{name}: the result depends on the batch"));
            }
        }
        Ok(())
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn block(
    numbers: &mut Numbers,
    [inputs, hidden, outputs]: [usize; 3],
    stride: usize,
    residual: bool,
) -> TestLayer {
    let relu6 = Activation::Relu6;
    TestLayer::Block {
        expand: (hidden != inputs).then(|| Conv::new(numbers, inputs, hidden, [1, 1], 1).activation(relu6)),
        depthwise: Conv::new(numbers, hidden, hidden, [3, 3], hidden).stride(stride).activation(relu6),
        project: Conv::new(numbers, hidden, outputs, [1, 1], 1),
        residual,
    }
}

#[test]
fn agrees_with_the_reference_for_each_activation() {
    for activation in ALL_ACTIVATIONS {
        let mut numbers = Numbers(1);
        let numbers = &mut numbers;
        let layers = vec![
            TestLayer::Conv(Conv::new(numbers, 3, 10, [3, 3], 1).activation(activation)),
            TestLayer::Conv(Conv::new(numbers, 10, 10, [3, 3], 10).activation(activation)),
            TestLayer::Pool,
            TestLayer::Linear { weight: numbers.take(7 * 10), bias: numbers.take(7), activation },
        ];
        Network::new([3, 9, 7], layers).check(2).unwrap();
    }
}

#[test]
fn agrees_with_the_reference_for_kernels_strides_padding_and_groups() {
    // in, out, kernel, stride, padding, groups, height and width
    type Case = ([usize; 2], [usize; 2], usize, [[usize; 2]; 2], usize, [usize; 2]);
    let cases: [Case; 16] = [
        ([3, 8], [3, 3], 2, [[0, 1], [0, 1]], 1, [10, 10]),
        ([1, 1], [1, 1], 1, [[0, 0], [0, 0]], 1, [1, 1]),
        ([5, 13], [1, 1], 1, [[0, 0], [0, 0]], 1, [3, 17]),
        ([5, 13], [1, 1], 3, [[0, 0], [0, 0]], 1, [7, 8]),
        ([5, 13], [1, 1], 2, [[1, 0], [0, 2]], 1, [7, 8]),
        ([9, 6], [3, 5], 3, [[2, 0], [1, 3]], 1, [8, 9]),
        ([4, 4], [7, 7], 1, [[3, 3], [3, 3]], 1, [2, 3]),
        ([4, 6], [2, 2], 5, [[0, 0], [0, 0]], 1, [7, 7]),
        ([6, 9], [3, 3], 1, [[1, 1], [1, 1]], 3, [5, 6]),
        ([16, 48], [3, 3], 2, [[1, 1], [1, 1]], 8, [5, 6]),
        ([12, 12], [1, 1], 1, [[0, 0], [0, 0]], 4, [5, 6]),
        ([7, 14], [3, 3], 1, [[1, 1], [1, 1]], 7, [5, 6]),
        ([7, 7], [3, 3], 3, [[4, 0], [0, 5]], 7, [5, 6]),
        ([17, 17], [5, 5], 2, [[2, 2], [2, 2]], 17, [9, 31]),
        ([17, 17], [2, 3], 4, [[0, 1], [2, 0]], 17, [9, 31]),
        ([33, 33], [3, 3], 1, [[0, 9], [9, 0]], 33, [3, 3]),
    ];
    for (case, ([inputs, outputs], kernel, stride, padding, groups, [height, width])) in
        cases.into_iter().enumerate()
    {
        let mut numbers = Numbers(case as u64);
        let numbers = &mut numbers;
        let conv =
            || Conv::new(&mut Numbers(5), inputs, outputs, kernel, groups).stride(stride).padding(padding);
        // Once where the image comes from outside, and once behind another layer.
        let alone = Network::new([inputs, height, width], vec![TestLayer::Conv(conv())]);
        alone.check(1).unwrap_or_else(|error| panic!("case {case}: {error}"));
        let before = Conv::new(numbers, 2, inputs, [1, 1], 1);
        let behind = Network::new([2, height, width], vec![TestLayer::Conv(before), TestLayer::Conv(conv())]);
        behind.check(2).unwrap_or_else(|error| panic!("case {case}, behind a layer: {error}"));
    }
}

#[test]
fn adds_the_bias_before_the_norm() {
    let mut conv = Conv::new(&mut Numbers(3), 3, 5, [3, 3], 1);
    conv.bias = Some(Numbers(4).take(5));
    Network::new([3, 4, 4], vec![TestLayer::Conv(conv)]).check(1).unwrap();
}

#[test]
fn agrees_with_the_reference_when_a_block_is_cut_into_bands() {
    let mut numbers = Numbers(2);
    let numbers = &mut numbers;
    // Tall and wide enough for several bands and several chunks of channels.
    for (stride, residual) in [(1, true), (2, false), (3, false)] {
        let layers = vec![
            TestLayer::Conv(Conv::new(numbers, 3, 12, [3, 3], 1).stride(2)),
            block(numbers, [12, 12, 20], 1, false),
            block(numbers, [20, 90, 20], stride, residual),
            block(numbers, [20, 20, 8], 1, false),
        ];
        Network::new([3, 120, 170], layers).check(1).unwrap();
    }
}

#[test]
fn agrees_with_the_reference_when_the_expansion_has_a_window() {
    let mut numbers = Numbers(2);
    let numbers = &mut numbers;
    let expand = Conv::new(numbers, 6, 30, [3, 3], 1).stride(2).activation(Activation::Silu);
    let layers = vec![
        TestLayer::Conv(Conv::new(numbers, 3, 6, [1, 1], 1)),
        TestLayer::Block {
            expand: Some(expand),
            depthwise: Conv::new(numbers, 30, 30, [5, 5], 30).activation(Activation::HardSwish),
            project: Conv::new(numbers, 30, 6, [1, 1], 1).activation(Activation::Relu),
            residual: false,
        },
    ];
    Network::new([3, 61, 83], layers).check(3).unwrap();
}

/// MobileNetV2's own stages, with every width divided by `divisor`.
fn mobilenet_v2(divisor: usize, size: usize) -> Network {
    let mut numbers = Numbers(11);
    let numbers = &mut numbers;
    let width = |channels: usize| channels / divisor;
    let relu6 = Activation::Relu6;
    let mut channels = width(32);
    let mut layers =
        vec![TestLayer::Conv(Conv::new(numbers, 3, channels, [3, 3], 1).stride(2).activation(relu6))];
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    for (expansion, outputs, repeats, first_stride) in stages {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let outputs = width(outputs);
            let residual = stride == 1 && outputs == channels;
            layers.push(block(numbers, [channels, channels * expansion, outputs], stride, residual));
            channels = outputs;
        }
    }
    let last = width(1280);
    layers.push(TestLayer::Conv(Conv::new(numbers, channels, last, [1, 1], 1).activation(relu6)));
    layers.push(TestLayer::Pool);
    let scale = (3.0 / last as f32).sqrt();
    let weight = numbers.take(1000 * last).into_iter().map(|weight| weight * scale).collect();
    layers.push(TestLayer::Linear { weight, bias: numbers.take(1000), activation: Activation::None });
    Network::new([3, size, size], layers)
}

#[test]
fn agrees_with_the_reference_for_a_narrow_mobilenet_v2() {
    mobilenet_v2(2, 64).check(3).unwrap();
}

#[test]
fn counts_mobilenet_v2s_multiply_adds() {
    let plan = mobilenet_v2(1, 224).builder().build().unwrap();
    // Table 4 of Sandler et al. 2018 says 300 M.
    assert_eq!(plan.multiply_adds(), 300_774_272);
    assert_eq!(plan.input_shape(), [3, 224, 224]);
    assert_eq!(plan.output_shape(0), [1000, 1, 1]);
}

#[test]
fn keeps_a_value_that_is_not_a_number() {
    for activation in ALL_ACTIVATIONS {
        let conv = Conv::new(&mut Numbers(1), 1, 9, [1, 1], 1).activation(activation);
        for (name, plan) in Network::new([1, 1, 2], vec![TestLayer::Conv(conv)]).plans() {
            let result = plan.run(&[f32::NAN, 1.0], 1);
            assert!(result[..9].iter().all(|value| value.is_nan()), "{activation:?}, {name}: {result:?}");
            assert!(result[9..].iter().all(|value| value.is_finite()), "{activation:?}, {name}: {result:?}");
        }
    }
}

#[test]
fn gives_the_same_result_when_run_again() {
    let network = mobilenet_v2(4, 32);
    let plan = network.builder().build().unwrap();
    let images = Numbers(3).take(5 * 3 * 32 * 32);
    let first = plan.run(&images, 5);
    let other = Numbers(4).take(3 * 32 * 32);
    plan.run(&other, 1);
    assert_eq!(bits(&plan.run(&images, 5)), bits(&first));
    let mut into = vec![f32::NAN; first.len()];
    plan.run_into(&images, 5, &mut into);
    assert_eq!(bits(&into), bits(&first));
}

#[test]
fn can_be_used_from_many_threads_at_once() {
    let plan = mobilenet_v2(4, 32).builder().build().unwrap();
    let image = Numbers(3).take(3 * 32 * 32);
    let expected = bits(&plan.run(&image, 1));
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| bits(&plan.run(&image, 1)))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), expected);
        }
    });
}

#[test]
fn accepts_an_empty_batch() {
    let plan = mobilenet_v2(4, 32).builder().build().unwrap();
    assert!(plan.run(&[], 0).is_empty());
}

#[test]
#[should_panic(expected = "the input of a batch of 2 is [2, 4, 5, 3] (NHWC)")]
fn refuses_an_input_of_another_length() {
    let conv = Conv::new(&mut Numbers(1), 3, 2, [1, 1], 1);
    Network::new([3, 4, 5], vec![TestLayer::Conv(conv)]).builder().build().unwrap().run(&[0.0; 60], 2);
}

#[test]
fn refuses_layers_that_do_not_fit_each_other() {
    let mut numbers = Numbers(1);
    let numbers = &mut numbers;
    let error = |layers: Vec<TestLayer>| Network::new([3, 4, 4], layers).builder().build().unwrap_err();
    let conv = TestLayer::Conv(Conv::new(numbers, 3, 5, [1, 1], 1));

    let wrong_channels = error(vec![conv.clone(), TestLayer::Conv(Conv::new(numbers, 4, 5, [1, 1], 1))]);
    let operation = "convolution";
    assert_eq!(wrong_channels, KernelError::InputChannels { layer: 1, operation, expected: 4, actual: 5 });

    let large = Conv::new(numbers, 3, 5, [7, 7], 1).padding([[1, 1], [1, 1]]);
    let too_large = error(vec![TestLayer::Conv(large)]);
    assert_eq!(too_large, KernelError::KernelLargerThanInput { layer: 0, kernel: [7, 7], padded: [6, 6] });

    let linear =
        TestLayer::Linear { weight: vec![0.0; 10], bias: vec![0.0; 2], activation: Activation::None };
    let unpooled = error(vec![conv.clone(), linear]);
    assert!(unpooled.to_string().contains("4 x 4; pool or flatten first"), "{unpooled}");
    let residual = error(vec![conv.clone(), block(numbers, [5, 30, 6], 1, true)]);
    assert!(residual.to_string().contains("[5, 4, 4] into [6, 4, 4]"), "{residual}");

    let TestLayer::Block { expand, mut depthwise, project, residual } = block(numbers, [5, 30, 6], 1, false)
    else {
        unreachable!("a block")
    };
    depthwise = Conv::new(numbers, 30, 30, depthwise.kernel, 5);
    let grouped = error(vec![conv, TestLayer::Block { expand, depthwise, project, residual }]);
    assert!(grouped.to_string().contains("30 -> 30 in 5 groups"), "{grouped}");

    assert_eq!(error(vec![]), KernelError::Empty { layers: 0, input: [3, 4, 4] });
    let flat = pooled([3, 0, 4]);
    assert_eq!(flat, KernelError::Empty { layers: 0, input: [3, 0, 4] });
}

/// What is wrong with the global average of an input of this shape.
fn pooled(input: [usize; 3]) -> KernelError {
    let mut builder = PlanBuilder::new(input);
    let average = builder.global_average_pool(builder.input());
    builder.output(average).build().unwrap_err()
}

#[test]
fn refuses_an_image_beyond_its_offsets() {
    let error = pooled([3, 1 << 20, 1 << 20]);
    assert!(matches!(error, KernelError::TooLarge { layer: 0, .. }), "{error}");
    let error = pooled([usize::MAX, 2, 2]);
    assert!(matches!(error, KernelError::TooLarge { layer: 0, .. }), "{error}");
}

#[test]
fn refuses_a_level_of_another_processor() {
    let foreign = if cfg!(target_arch = "aarch64") { SimdLevel::Avx2 } else { SimdLevel::Neon };
    let conv = Conv::new(&mut Numbers(1), 3, 2, [1, 1], 1);
    let error =
        Network::new([3, 4, 5], vec![TestLayer::Conv(conv)]).builder().level(foreign).build().unwrap_err();
    assert!(matches!(error, KernelError::UnavailableLevel { .. }), "{error}");
}

fn any_activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(&ALL_ACTIVATIONS[..])
}

/// Groups, channels of a group on both sides, kernel, stride, padding.
fn any_conv() -> impl Strategy<Value = Conv> {
    let channels =
        (1..4usize, 1..9usize, 1..20usize).prop_map(|(groups, inputs, outputs)| (groups, inputs, outputs));
    let depthwise = (1..30usize).prop_map(|channels| (channels, 1, 1));
    let window = (prop::array::uniform2(1..6usize), prop::array::uniform2(1..4usize));
    let padding = prop::array::uniform2(prop::array::uniform2(0..4usize));
    (prop_oneof![channels, depthwise], window, padding, any_activation(), any::<u64>()).prop_map(
        |((groups, inputs, outputs), (kernel, stride), padding, activation, seed)| {
            let mut conv = Conv::new(&mut Numbers(seed), groups * inputs, groups * outputs, kernel, groups);
            conv.stride = stride;
            conv.padding(padding).activation(activation)
        },
    )
}

/// `PROPTEST_CASES` asks for a longer run.
fn config() -> Config {
    let asked = Config::default();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(48, |_| asked.cases);
    Config { cases, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn agrees_with_the_reference_for_any_convolution(conv in any_conv(), size in prop::array::uniform2(1..24usize)) {
        let [height, width] = [0, 1].map(|axis| size[axis].max(conv.kernel[axis].saturating_sub(conv.padding[axis][0])));
        let network = Network::new([conv.in_channels, height, width], vec![TestLayer::Conv(conv)]);
        network.check(1).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn agrees_with_the_reference_for_any_block(
        depthwise in any_conv(),
        widths in prop::array::uniform3(1..40usize),
        size in prop::array::uniform2(6..40usize),
        (expand, pointwise, residual) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let [inputs, hidden, outputs] = widths;
        let mut numbers = Numbers(seed);
        let numbers = &mut numbers;
        let hidden = if expand { hidden } else { inputs };
        let expand = expand.then(|| {
            let kernel = if pointwise { [1, 1] } else { depthwise.kernel };
            Conv::new(numbers, inputs, hidden, kernel, 1).activation(depthwise.activation)
        });
        let own = Conv::new(numbers, hidden, hidden, depthwise.kernel, hidden);
        let mut filter = own.clone().padding(depthwise.padding).activation(depthwise.activation);
        filter.stride = depthwise.stride;
        if residual {
            filter = own;
        }
        let outputs = if residual { inputs } else { outputs };
        let project = Conv::new(numbers, hidden, outputs, [1, 1], 1);
        let layers = vec![
            TestLayer::Conv(Conv::new(numbers, 3, inputs, [1, 1], 1)),
            TestLayer::Block { expand, depthwise: filter, project, residual },
        ];
        Network::new([3, size[0], size[1]], layers).check(2).map_err(TestCaseError::fail)?;
    }
}

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [[usize; 2]; 2], ceil: bool) -> PoolParams {
    PoolParams { kernel, stride, padding, ceil }
}

#[test]
fn agrees_with_the_reference_for_every_kind_of_pooling() {
    let windows = [
        window([3, 3], [2, 2], [[1, 1], [1, 1]], false),
        window([3, 3], [2, 2], [[0, 0], [0, 0]], true),
        window([2, 3], [1, 3], [[1, 0], [0, 2]], true),
        window([1, 1], [3, 2], [[0, 0], [0, 0]], false),
        window([5, 4], [4, 4], [[3, 2], [3, 3]], true),
    ];
    for (size, channels) in [([7, 8], 5), ([12, 5], 17), ([2, 2], 33)] {
        for params in windows {
            for pool in [Pool::Maximum, Pool::AverageWithPadding, Pool::Average] {
                let shape = [channels, size[0], size[1]];
                let padded = |axis: usize| size[axis] + params.padding[axis].iter().sum::<usize>();
                if params.kernel[0] <= padded(0) && params.kernel[1] <= padded(1) {
                    let network = Network::new(shape, vec![TestLayer::Window(params, pool)]);
                    network.check(2).unwrap_or_else(|error| panic!("{shape:?} {params:?} {pool:?}: {error}"));
                }
            }
        }
        for bins in [[1, 1], [3, 2], [7, 7], [2, 9]] {
            let shape = [channels, size[0], size[1]];
            let network = Network::new(shape, vec![TestLayer::Adaptive(bins)]);
            network.check(1).unwrap_or_else(|error| panic!("{shape:?} to {bins:?}: {error}"));
        }
    }
}

#[test]
fn the_maximum_is_not_a_number_where_a_value_is_none() {
    let params = window([2, 2], [1, 1], [[0; 2]; 2], false);
    for (name, plan) in Network::new([1, 2, 4], vec![TestLayer::Window(params, Pool::Maximum)]).plans() {
        for place in 0..8 {
            let mut image = [1.0, -2.0, 3.0, f32::INFINITY, 0.5, 6.0, 7.0, 8.0];
            image[place] = f32::NAN;
            let result = plan.run(&image, 1);
            for (window, value) in result.iter().enumerate() {
                let covers = [window, window + 1].contains(&(place % 4));
                assert_eq!(value.is_nan(), covers, "{name}, place {place}: {result:?}");
            }
        }
    }
}

/// A network with a branch of every kind: several outputs, values with many readers, concatenations within concatenations.
fn every_branch(numbers: &mut Numbers, input: [usize; 3], [wide, narrow]: [usize; 2]) -> Network {
    let mut network = Network::graph(input);
    let relu = Activation::Relu;
    let stem =
        network.add(TestLayer::Conv(Conv::new(numbers, input[0], wide, [3, 3], 1).activation(relu)), &[0]);
    let side = network.add(TestLayer::Conv(Conv::new(numbers, input[0], narrow, [1, 1], 1)), &[0]);
    let both = network.add(TestLayer::Concat, &[stem, side]);
    let affine = TestLayer::Affine {
        scale: numbers.take(wide + narrow),
        shift: numbers.take(wide + narrow),
        activation: Activation::Silu,
    };
    let normed = network.add(affine, &[both]);
    let grown = network.add(TestLayer::Conv(Conv::new(numbers, wide + narrow, wide, [3, 3], 1)), &[normed]);
    let all = network.add(TestLayer::Concat, &[stem, side, grown]);
    let again = network.add(TestLayer::Concat, &[grown, all, stem, grown]);
    let channels = 5 * wide + narrow;
    let mixed = Conv::new(numbers, channels, channels, [1, 1], 1).activation(Activation::Gelu);
    let mixed = network.add(TestLayer::Conv(mixed), &[again, again]);
    let layer_norm = TestLayer::LayerNorm { gamma: numbers.take(channels), beta: numbers.take(channels) };
    let normed = network.add(layer_norm, &[mixed]);
    let pooled = network.add(TestLayer::Pool, &[normed]);
    let linear = |numbers: &mut Numbers, inputs: usize, outputs: usize, activation| {
        let scale = (3.0 / inputs as f32).sqrt();
        let weight = numbers.take(outputs * inputs).into_iter().map(|weight| weight * scale).collect();
        TestLayer::Linear { weight, bias: numbers.take(outputs), activation }
    };
    let squeezed = network.add(linear(numbers, channels, narrow, Activation::Relu), &[pooled]);
    let gate = network.add(linear(numbers, narrow, channels, Activation::HardSigmoid), &[squeezed]);
    let gated = network.add(TestLayer::Scale, &[mixed, gate]);
    let sum = network.add(TestLayer::Add(Activation::Tanh), &[gated, again]);
    let depthwise = Conv::new(numbers, channels, channels, [3, 3], channels).activation(relu);
    let filtered = network.add(TestLayer::Conv(depthwise), &[sum, gated]);
    let bins = network.add(TestLayer::Adaptive([2, 3]), &[filtered]);
    let flat = network.add(TestLayer::Flatten, &[bins]);
    let bent = network.add(TestLayer::Activation(Activation::HardSwish), &[flat]);
    let hidden = network.add(linear(numbers, 6 * channels, 19, Activation::Sigmoid), &[bent]);
    let logits = network.add(linear(numbers, 19, 7, Activation::None), &[hidden]);
    network.outputs = vec![logits, all, hidden, sum, gate, logits, 0];
    network
}

#[test]
fn agrees_with_the_reference_for_branches_of_every_kind() {
    let mut numbers = Numbers(21);
    for (input, widths) in
        [([3, 6, 5], [16, 32]), ([3, 6, 5], [24, 8]), ([2, 4, 9], [5, 3]), ([1, 9, 3], [8, 7])]
    {
        let network = every_branch(&mut numbers, input, widths);
        network.check(3).unwrap_or_else(|error| panic!("{input:?}, {widths:?}: {error}"));
    }
}

#[test]
fn a_convolution_of_a_single_pixel_is_a_linear_layer() {
    let mut numbers = Numbers(5);
    let conv = Conv::new(&mut numbers, 9, 20, [1, 1], 1).activation(Activation::Silu);
    let layers = vec![
        TestLayer::Pool,
        TestLayer::Conv(conv),
        TestLayer::Flatten,
        TestLayer::Activation(Activation::None),
    ];
    Network::new([9, 3, 4], layers).check(3).unwrap();
}

#[test]
fn an_input_that_is_an_output_comes_out_as_it_went_in() {
    let network = Network { outputs: vec![0, 0], ..Network::new([3, 2, 2], vec![TestLayer::Pool]) };
    network.check(2).unwrap();
}

#[test]
fn runs_in_the_same_memory_again() {
    let network = every_branch(&mut Numbers(1), [3, 6, 5], [16, 5]);
    let plan = network.builder().build().unwrap();
    let images = Numbers(2).take(2 * 3 * 6 * 5);
    let first = plan.run_all(&images, 2);
    for _ in 0..3 {
        assert_eq!(plan.run_all(&images, 2), first);
    }
}

#[test]
fn says_how_long_each_step_took() {
    let plan = mobilenet_v2(4, 32).builder().build().unwrap();
    let times = plan.step_times(&Numbers(3).take(3 * 32 * 32));
    assert_eq!(times.iter().map(|step| step.multiply_adds).sum::<u64>(), plan.multiply_adds());
    assert!(times.iter().any(|step| step.name.contains("depthwise")), "{times:?}");
}

#[test]
fn refuses_values_that_do_not_fit_each_other() {
    let refused = |add: &dyn Fn(&mut PlanBuilder, Value, Value)| {
        let mut builder = PlanBuilder::new([3, 4, 4]);
        let x = builder.input();
        let pooled = builder.global_average_pool(x);
        add(&mut builder, x, pooled);
        builder.output(x).build().unwrap_err().to_string()
    };
    let sum = refused(&|builder, x, pooled| _ = builder.add(x, pooled, Activation::None));
    assert!(sum.contains("layer 1: cannot add [3, 4, 4] and [3, 1, 1]"), "{sum}");
    let sizes = refused(&|builder, x, pooled| _ = builder.concat(&[pooled, x]));
    assert!(sizes.contains("layer 1") && sizes.contains("[3, 4, 4]"), "{sizes}");
    let nothing = refused(&|builder, _, _| _ = builder.concat(&[]));
    assert!(nothing.contains("at least one"), "{nothing}");
    let gate = refused(&|builder, x, _| _ = builder.scale(x, x));
    assert!(gate.contains("a gate of [3, 4, 4]"), "{gate}");
    let scale =
        refused(&|builder, x, _| _ = builder.channel_affine(x, &[1.0; 2], &[1.0; 3], Activation::None));
    assert!(scale.contains("scale holds 2 values"), "{scale}");
    let gamma = refused(&|builder, x, _| _ = builder.layer_norm(x, &[1.0; 3], &[1.0; 4], 0.0));
    assert!(gamma.contains("beta holds 4 values"), "{gamma}");
    let conv = Conv::new(&mut Numbers(1), 3, 3, [1, 1], 1);
    let residual = refused(&|builder, x, pooled| _ = builder.conv(x, &conv.params(), Some(pooled)));
    assert!(residual.contains("a residual of [3, 1, 1]"), "{residual}");
    let bins = refused(&|builder, x, _| _ = builder.adaptive_average_pool(x, [0, 2]));
    assert!(bins.contains("[0, 2]"), "{bins}");

    // The first mistake is the one that is reported, and what is added after it does no harm.
    let both = refused(&|builder, x, pooled| {
        let wrong = builder.add(x, pooled, Activation::None);
        let next = builder.scale(wrong, wrong);
        builder.output(next);
    });
    assert_eq!(both, sum);

    let mut other = PlanBuilder::new([3, 4, 4]);
    let foreign = (0..4).fold(other.input(), |value, _| other.activation(value, Activation::Relu));
    let read = refused(&|builder, x, _| _ = builder.add(x, foreign, Activation::None));
    assert!(read.contains("another builder"), "{read}");
    let output = refused(&|builder, _, _| _ = builder.output(foreign));
    assert!(output.contains("another builder"), "{output}");

    let mut without = PlanBuilder::new([3, 4, 4]);
    without.global_average_pool(without.input());
    assert_eq!(without.build().unwrap_err(), KernelError::NoOutput { layers: 1 });
}

#[test]
fn refuses_sizes_that_would_overflow() {
    let error = |add: &dyn Fn(&mut PlanBuilder, Value) -> Value| {
        let mut builder = PlanBuilder::new([16, 1 << 12, 1 << 14]);
        let input = builder.input();
        let result = add(&mut builder, input);
        builder.output(result).build().unwrap_err()
    };
    let wide = error(&|builder, x| builder.concat(&[x; 200]));
    assert!(matches!(wide, KernelError::TooLarge { layer: 0, .. }), "{wide}");
    let params = window([usize::MAX; 2], [1; 2], [[0; 2]; 2], false);
    let kernel = error(&|builder, x| builder.max_pool(x, params));
    assert!(matches!(kernel, KernelError::InvalidLayer { layer: 0, .. }), "{kernel}");
    let params = window([2; 2], [1; 2], [[usize::MAX; 2]; 2], true);
    let padding = error(&|builder, x| builder.average_pool(x, params, true));
    assert!(matches!(padding, KernelError::InvalidLayer { layer: 0, .. }), "{padding}");
    let bins = error(&|builder, x| builder.adaptive_average_pool(x, [usize::MAX; 2]));
    assert!(matches!(bins, KernelError::InvalidLayer { layer: 0, .. }), "{bins}");
    let linear = error(&|builder, x| {
        let flat = builder.flatten(x);
        builder.linear(flat, &[], &[], Activation::None)
    });
    assert!(matches!(linear, KernelError::InvalidLayer { layer: 1, .. }), "{linear}");
}

/// A layer for a random graph: what it is, and which of the values it reads.
#[derive(Debug, Clone)]
struct Choice {
    kind: usize,
    picks: Vec<prop::sample::Index>,
    numbers: [usize; 4],
    activation: Activation,
}

fn any_choice() -> impl Strategy<Value = Choice> {
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 4);
    (0..12usize, picks, prop::array::uniform4(0..1000usize), any_activation())
        .prop_map(|(kind, picks, numbers, activation)| Choice { kind, picks, numbers, activation })
}

/// The network that the choices make, as far as they fit.
fn grown(input: [usize; 3], choices: &[Choice], outputs: &[prop::sample::Index]) -> Network {
    let mut network = Network::graph(input);
    let mut shapes = vec![input];
    let mut numbers = Numbers(9);
    let numbers = &mut numbers;
    for choice in choices {
        let Choice { kind, picks, numbers: sizes, activation } = choice;
        let x = picks[0].index(shapes.len());
        let [channels, height, width] = shapes[x];
        // Another value that fits, or none.
        let partner = |fits: &dyn Fn([usize; 3]) -> bool| {
            let fitting: Vec<_> = (0..shapes.len()).filter(|&value| fits(shapes[value])).collect();
            (!fitting.is_empty()).then(|| fitting[picks[1].index(fitting.len())])
        };
        let (layer, inputs, shape) = match kind {
            0 | 1 => {
                let outputs = [channels, 8, 16, 1 + sizes[0] % 40][sizes[1] % 4];
                let side = [1, 3][sizes[2] % 2];
                let conv = Conv::new(numbers, channels, outputs, [side; 2], 1).activation(*activation);
                let shape = [outputs, height, width];
                let residual = partner(&|other| other == shape).filter(|_| sizes[3] % 2 == 0);
                (TestLayer::Conv(conv), [x].into_iter().chain(residual).collect(), shape)
            }
            2 => {
                let stride = 1 + sizes[0] % 2;
                let conv = Conv::new(numbers, channels, channels, [3, 3], channels).stride(stride);
                let shape = [channels, height.div_ceil(stride), width.div_ceil(stride)];
                (TestLayer::Conv(conv.activation(*activation)), vec![x], shape)
            }
            3 | 4 => {
                let fits = |shape: [usize; 3]| shape[1..] == [height, width] && shape[0] < 60;
                let others = picks[1..].iter().take(sizes[0] % 4).filter_map(|pick| {
                    let fitting: Vec<_> = (0..shapes.len()).filter(|&value| fits(shapes[value])).collect();
                    (!fitting.is_empty()).then(|| fitting[pick.index(fitting.len())])
                });
                let inputs: Vec<_> = [x].into_iter().chain(others).collect();
                let channels = inputs.iter().map(|&input| shapes[input][0]).sum();
                (TestLayer::Concat, inputs, [channels, height, width])
            }
            5 => {
                let other = partner(&|other| other == shapes[x]).expect("the value itself fits");
                (TestLayer::Add(*activation), vec![x, other], shapes[x])
            }
            6 => match partner(&|other| other == [channels, 1, 1]) {
                Some(gate) => (TestLayer::Scale, vec![x, gate], shapes[x]),
                None => (TestLayer::Pool, vec![x], [channels, 1, 1]),
            },
            7 => {
                let (scale, shift) = (numbers.take(channels), numbers.take(channels));
                (TestLayer::Affine { scale, shift, activation: *activation }, vec![x], shapes[x])
            }
            8 => {
                let (gamma, beta) = (numbers.take(channels), numbers.take(channels));
                (TestLayer::LayerNorm { gamma, beta }, vec![x], shapes[x])
            }
            9 => {
                let params =
                    window([2 + sizes[0] % 2; 2], [1 + sizes[1] % 2; 2], [[1; 2]; 2], sizes[2] % 2 == 0);
                let pool = [Pool::Maximum, Pool::Average, Pool::AverageWithPadding][sizes[3] % 3];
                let one = reference::pool(
                    &params,
                    pool,
                    &Reference::new([1, height, width], &vec![0.0; height * width]),
                );
                (TestLayer::Window(params, pool), vec![x], [channels, one.height, one.width])
            }
            10 if height * width * channels < 2000 => {
                (TestLayer::Flatten, vec![x], [channels * height * width, 1, 1])
            }
            _ if height * width == 1 => {
                let outputs = 1 + sizes[0] % 40;
                let scale = (3.0 / channels as f32).sqrt();
                let weight =
                    numbers.take(outputs * channels).into_iter().map(|weight| weight * scale).collect();
                let layer =
                    TestLayer::Linear { weight, bias: numbers.take(outputs), activation: *activation };
                (layer, vec![x], [outputs, 1, 1])
            }
            _ => (TestLayer::Activation(*activation), vec![x], shapes[x]),
        };
        network.add(layer, &inputs);
        shapes.push(shape);
    }
    network.outputs = outputs.iter().map(|output| output.index(shapes.len())).collect();
    network.outputs.push(shapes.len() - 1);
    network
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn agrees_with_the_reference_for_any_graph(
        channels in 1..20usize,
        size in prop::array::uniform2(1..9usize),
        choices in prop::collection::vec(any_choice(), 1..14),
        outputs in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let network = grown([channels, size[0], size[1]], &choices, &outputs);
        network.check(2).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn agrees_with_the_reference_in_winograds_form() {
    // in, out, height and width, padding: single tiles at the edges, one block and several, planes shared out and not.
    type Case = ([usize; 2], [usize; 2], [[usize; 2]; 2]);
    let cases: [Case; 6] = [
        ([16, 16], [13, 14], [[1, 1], [1, 1]]),
        ([40, 24], [17, 9], [[1, 1], [1, 1]]),
        ([17, 33], [22, 31], [[0, 0], [0, 0]]),
        ([16, 20], [12, 40], [[2, 1], [0, 2]]),
        ([24, 16], [50, 47], [[1, 1], [1, 1]]),
        ([150, 130], [29, 30], [[1, 1], [1, 1]]),
    ];
    for ([inputs, outputs], [height, width], padding) in cases {
        let mut numbers = Numbers(8);
        let numbers = &mut numbers;
        for residual in [false, true] {
            let mut network = Network::graph([3, height, width]);
            let x = network.add(TestLayer::Conv(Conv::new(numbers, 3, inputs, [1, 1], 1)), &[0]);
            let conv = Conv::new(numbers, inputs, outputs, [3, 3], 1).padding(padding);
            let same = Conv { stride: [1, 1], activation: Activation::None, ..conv.clone() };
            let y = if residual {
                // Another convolution of the same size makes what is added.
                let other = Conv::new(numbers, 3, outputs, [3, 3], 1).padding(padding);
                let other = network.add(TestLayer::Conv(other), &[0]);
                network.add(TestLayer::Conv(same.activation(Activation::Silu)), &[x, other])
            } else {
                network.add(TestLayer::Conv(same.activation(Activation::Relu)), &[x])
            };
            network.outputs = vec![y];
            let plan = network.builder().build().unwrap();
            let steps = plan.step_times(&Numbers(1).take(3 * height * width));
            assert!(steps.iter().any(|step| step.name.contains("winograd")), "{steps:?}");
            network.check(2).unwrap_or_else(|error| {
                panic!("{inputs} -> {outputs} at {height}x{width}, residual {residual}: {error}")
            });
        }
    }
}

#[test]
fn winograds_form_is_within_its_promise_of_the_exact_result() {
    let mut numbers = Numbers(12);
    let numbers = &mut numbers;
    let layers = vec![
        TestLayer::Conv(Conv::new(numbers, 3, 192, [1, 1], 1)),
        TestLayer::Conv(Conv::new(numbers, 192, 64, [3, 3], 1)),
    ];
    let network = Network::new([3, 16, 16], layers);
    let image = Numbers(3).take(3 * 16 * 16);
    let expected = network.reference(&image);
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (name, plan) in network.plans() {
        let errors = plan.run(&image, 1).into_iter().zip(&expected);
        let error = errors.map(|(actual, expected)| (f64::from(actual) - expected).abs()).fold(0.0, f64::max);
        assert!(error < 1e-5 * largest, "{name}: {error} of {largest}");
    }
}

#[test]
fn agrees_with_the_reference_for_groups_of_any_width() {
    // groups, inputs and outputs of a group: of ResNeXt, RegNet, and between.
    for [groups, inputs, outputs] in
        [[32, 4, 4], [16, 8, 8], [3, 24, 24], [2, 56, 56], [5, 16, 16], [7, 3, 11], [20, 1, 3]]
    {
        for (kernel, stride) in [(3, 1), (3, 2), (1, 2)] {
            let mut numbers = Numbers(4);
            let numbers = &mut numbers;
            let channels = groups * inputs;
            let conv = Conv::new(numbers, channels, groups * outputs, [kernel; 2], groups).stride(stride);
            let layers =
                vec![TestLayer::Conv(Conv::new(numbers, 3, channels, [1, 1], 1)), TestLayer::Conv(conv)];
            Network::new([3, 7, 10], layers).check(1).unwrap_or_else(|error| {
                panic!("{groups} groups of {inputs} -> {outputs}, kernel {kernel}, stride {stride}: {error}")
            });
        }
    }
}
