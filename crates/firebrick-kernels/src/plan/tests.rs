//! Plans against the reference, at every level of this machine and at vector widths of others.

use super::*;
use crate::reference::{self, Image as Reference};
use crate::{Activation, BatchNormParams, ConvParams, KernelError, PlanBuilder};
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

const ALL_ACTIVATIONS: [Activation; 6] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::Silu,
    Activation::HardSwish,
    Activation::Gelu,
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
    Conv(Conv),
    Block { expand: Option<Conv>, depthwise: Conv, project: Conv, residual: bool },
    Pool,
    Linear { weight: Vec<f32>, bias: Vec<f32>, activation: Activation },
}

/// A network both for a plan and for the reference.
#[derive(Debug, Clone)]
struct Network {
    input: [usize; 3],
    layers: Vec<TestLayer>,
}

impl Network {
    fn new(input: [usize; 3], layers: Vec<TestLayer>) -> Self {
        Self { input, layers }
    }

    fn builder(&self) -> PlanBuilder {
        self.layers.iter().fold(PlanBuilder::new(self.input), |builder, layer| match layer {
            TestLayer::Conv(conv) => builder.conv(&conv.params()),
            TestLayer::Block { expand, depthwise, project, residual } => builder.inverted_residual(
                expand.as_ref().map(Conv::params).as_ref(),
                &depthwise.params(),
                &project.params(),
                *residual,
            ),
            TestLayer::Pool => builder.global_average_pool(),
            TestLayer::Linear { weight, bias, activation } => builder.linear(weight, bias, *activation),
        })
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

    fn reference(&self, image: &[f32]) -> Reference {
        let input = Reference::new(self.input, image);
        self.layers.iter().fold(input, |input, layer| match layer {
            TestLayer::Conv(conv) => reference::conv(&conv.params(), &input),
            TestLayer::Block { expand, depthwise, project, residual } => {
                let expanded =
                    expand.as_ref().map_or(input.clone(), |expand| reference::conv(&expand.params(), &input));
                let filtered = reference::conv(&depthwise.params(), &expanded);
                reference::conv_with(&project.params(), &filtered, residual.then_some(&input))
            }
            TestLayer::Pool => reference::global_average_pool(&input),
            TestLayer::Linear { weight, bias, activation } => {
                let conv = ConvParams {
                    weight,
                    bias: Some(bias),
                    norm: None,
                    out_channels: bias.len(),
                    in_channels: input.channels,
                    kernel: [1, 1],
                    stride: [1, 1],
                    padding: [[0; 2]; 2],
                    groups: 1,
                    activation: *activation,
                };
                reference::conv(&conv, &input)
            }
        })
    }

    /// Compares every plan with the reference, and its results for any threads and batches with each other.
    fn check(&self, batch: usize) -> Result<(), String> {
        let image_len: usize = self.input.iter().product();
        let images = Numbers(7).take(batch * image_len);
        let expected: Vec<f64> =
            images.chunks(image_len).flat_map(|image| self.reference(image).values).collect();
        for (name, plan) in self.plans() {
            let [first, others @ ..] = [1, 2, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| plan.run(&images, batch))
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
            let alone: Vec<f32> = images.chunks(image_len).flat_map(|image| plan.run(image, 1)).collect();
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
    assert_eq!(plan.output_shape(), [1000, 1, 1]);
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
    let unpooled = error(vec![conv.clone(), linear.clone()]);
    assert!(unpooled.to_string().contains("4 x 4; pool first"), "{unpooled}");
    let behind = error(vec![conv.clone(), TestLayer::Pool, linear, TestLayer::Pool]);
    assert!(behind.to_string().contains("only linear layers"), "{behind}");

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
    let flat = PlanBuilder::new([3, 0, 4]).global_average_pool().build().unwrap_err();
    assert_eq!(flat, KernelError::Empty { layers: 0, input: [3, 0, 4] });
}

#[test]
fn refuses_an_image_beyond_its_offsets() {
    let error = PlanBuilder::new([3, 1 << 20, 1 << 20]).global_average_pool().build().unwrap_err();
    assert!(matches!(error, KernelError::TooLarge { layer: 0, .. }), "{error}");
    let error = PlanBuilder::new([usize::MAX, 2, 2]).global_average_pool().build().unwrap_err();
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
