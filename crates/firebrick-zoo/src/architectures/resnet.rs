//! ResNet (He et al. 2016, arXiv:1512.03385), ResNeXt (Xie et al. 2017, arXiv:1611.05431) and Wide ResNet (Zagoruyko & Komodakis 2016,
//! arXiv:1605.07146).
//!
//! Layer for layer torchvision's, whose checkpoints they read; the stride of a bottleneck is on its 3x3 convolution ("v1.5"). Or layer for
//! layer Keras' ResNets, with the same names here, which have it on the first 1x1 convolution ("v1").

use firebrick_nn::Activation;

use super::NORM_OF_PYTORCH;
use crate::graph::{Conv, Graph, GraphBuilder, Value};
use crate::{Build, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec};

/// What tells torchvision's networks from Keras'.
struct Flavour {
    /// Epsilon and momentum of the norms.
    norm: (f64, f64),
    /// Whether convolutions have a bias.
    bias: bool,
    /// Whether the stride of a bottleneck is on its first convolution rather than its second.
    stride_first: bool,
}

const TORCHVISION: Flavour = Flavour { norm: NORM_OF_PYTORCH, bias: false, stride_first: false };
const KERAS: Flavour = Flavour { norm: (1.001e-5, 0.01), bias: true, stride_first: true };

impl Flavour {
    /// A convolution and its norm.
    fn conv(&self, name: String, norm: String, inputs: usize, outputs: usize, kernel: usize) -> Conv {
        let (epsilon, momentum) = self.norm;
        let conv = Conv::new(name, inputs, outputs, kernel).norm_with(norm, epsilon, momentum);
        if self.bias { conv.bias() } else { conv }
    }
}

/// What tells the members of the family apart.
struct Config {
    /// Blocks of the four stages.
    blocks: [usize; 4],
    /// Whether blocks are bottlenecks of three convolutions rather than two convolutions of 3x3.
    bottleneck: bool,
    /// Groups of a bottleneck's 3x3 convolution.
    groups: usize,
    /// Channels of a group where a stage has 64.
    width: usize,
    flavour: &'static Flavour,
}

const BASIC: Config =
    Config { blocks: [2, 2, 2, 2], bottleneck: false, groups: 1, width: 64, flavour: &TORCHVISION };
const BOTTLENECK: Config = Config { blocks: [3, 4, 6, 3], bottleneck: true, ..BASIC };
const OF_KERAS: Config = Config { flavour: &KERAS, ..BOTTLENECK };

fn resnet(options: &BuildOptions, config: &Config) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let relu = Activation::Relu;
    let flavour = config.flavour;
    let stem = flavour.conv("conv1".to_owned(), "bn1".to_owned(), options.channels, 64, 7);
    let mut x = b.conv(b.input(), stem.stride(2).activation(relu));
    b.stage("stem", x);
    x = b.max_pool(x, 3, 2, 1, false);
    let mut inputs = 64;
    for (stage, blocks) in config.blocks.into_iter().enumerate() {
        let planes = 64 << stage;
        let outputs = if config.bottleneck { 4 * planes } else { planes };
        for block in 0..blocks {
            b.block();
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            let shortcut = if stride > 1 || inputs != outputs {
                let [conv, norm] = [0, 1].map(|place| format!("{name}.downsample.{place}"));
                b.conv(x, flavour.conv(conv, norm, inputs, outputs, 1).stride(stride))
            } else {
                x
            };
            let ends = Ends { flavour, name, inputs, outputs, stride };
            x = match config.bottleneck {
                true => bottleneck(&mut b, x, shortcut, &ends, planes * config.width / 64, config.groups),
                false => basic(&mut b, x, shortcut, &ends),
            };
            inputs = outputs;
        }
        b.stage(format!("layer{}", stage + 1), x);
    }
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, inputs, "fc")
}

/// A block seen from outside.
struct Ends {
    flavour: &'static Flavour,
    name: String,
    inputs: usize,
    outputs: usize,
    stride: usize,
}

impl Ends {
    fn conv(&self, index: usize, inputs: usize, outputs: usize, kernel: usize) -> Conv {
        let Self { name, .. } = self;
        let [conv, norm] = ["conv", "bn"].map(|part| format!("{name}.{part}{index}"));
        self.flavour.conv(conv, norm, inputs, outputs, kernel).activation(Activation::Relu)
    }
}

/// Two 3x3 convolutions (figure 5, left, of the paper).
fn basic(b: &mut GraphBuilder, x: Value, shortcut: Value, ends: &Ends) -> Value {
    let y = b.conv(x, ends.conv(1, ends.inputs, ends.outputs, 3).stride(ends.stride));
    b.conv_add(y, shortcut, ends.conv(2, ends.outputs, ends.outputs, 3))
}

/// 1x1, 3x3, 1x1 (figure 5, right, of the paper), the middle one in `groups` groups of `width` channels.
fn bottleneck(
    b: &mut GraphBuilder,
    x: Value,
    shortcut: Value,
    ends: &Ends,
    width: usize,
    groups: usize,
) -> Value {
    let wide = width * groups;
    let [first, second] = if ends.flavour.stride_first { [ends.stride, 1] } else { [1, ends.stride] };
    let y = b.conv(x, ends.conv(1, ends.inputs, wide, 1).stride(first));
    let y = b.conv(y, ends.conv(2, wide, wide, 3).stride(second).groups(groups));
    b.conv_add(y, shortcut, ends.conv(3, wide, ends.outputs, 1))
}

const HE: &str = "He et al. 2016, arXiv:1512.03385";
const XIE: &str = "Xie et al. 2017, arXiv:1611.05431";
const ZAGORUYKO: &str = "Zagoruyko & Komodakis 2016, arXiv:1605.07146";

const fn keras(name: &'static str, build: Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        framework: Framework::Keras(KerasInput::Caffe),
        multiply_adds: None,
        ..spec(name, HE, build, parameters, 0.0, &[])
    }
}

const fn spec(
    name: &'static str,
    paper: &'static str,
    build: Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "ResNet",
        framework: Framework::PyTorch,
        paper,
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    spec(
        "resnet18",
        HE,
        |o| resnet(o, &BASIC),
        11_689_512,
        1.814,
        &[torchvision!("resnet18", "f37072fd", 46_830_978, 69.758)],
    ),
    spec(
        "resnet34",
        HE,
        |o| resnet(o, &Config { blocks: [3, 4, 6, 3], ..BASIC }),
        21_797_672,
        3.664,
        &[torchvision!("resnet34", "b627a593", 87_320_691, 73.314)],
    ),
    spec(
        "resnet50",
        HE,
        |o| resnet(o, &BOTTLENECK),
        25_557_032,
        4.089,
        &[torchvision!("resnet50", "11ad3fa6", 102_540_772, 80.858, resize: 232)],
    ),
    spec(
        "resnet101",
        HE,
        |o| resnet(o, &Config { blocks: [3, 4, 23, 3], ..BOTTLENECK }),
        44_549_160,
        7.801,
        &[torchvision!("resnet101", "cd907fc2", 178_814_190, 81.886, resize: 232)],
    ),
    spec(
        "resnet152",
        HE,
        |o| resnet(o, &Config { blocks: [3, 8, 36, 3], ..BOTTLENECK }),
        60_192_808,
        11.514,
        &[torchvision!("resnet152", "f82ba261", 241_670_030, 82.284, resize: 232)],
    ),
    spec(
        "resnext50_32x4d",
        XIE,
        |o| resnet(o, &Config { groups: 32, width: 4, ..BOTTLENECK }),
        25_028_904,
        4.23,
        &[torchvision!("resnext50_32x4d", "1a0047aa", 100_488_709, 81.198, resize: 232)],
    ),
    spec(
        "resnext101_32x8d",
        XIE,
        |o| resnet(o, &Config { blocks: [3, 4, 23, 3], groups: 32, width: 8, ..BOTTLENECK }),
        88_791_336,
        16.414,
        &[torchvision!("resnext101_32x8d", "110c445d", 356_173_480, 82.834, resize: 232)],
    ),
    spec(
        "resnext101_64x4d",
        XIE,
        |o| resnet(o, &Config { blocks: [3, 4, 23, 3], groups: 64, width: 4, ..BOTTLENECK }),
        83_455_272,
        15.46,
        &[torchvision!("resnext101_64x4d", "173b62eb", 334_829_716, 83.246, resize: 232)],
    ),
    spec(
        "wide_resnet50_2",
        ZAGORUYKO,
        |o| resnet(o, &Config { width: 128, ..BOTTLENECK }),
        68_883_240,
        11.398,
        &[torchvision!("wide_resnet50_2", "9ba9bcbe", 275_906_036, 81.602, resize: 232)],
    ),
    spec(
        "wide_resnet101_2",
        ZAGORUYKO,
        |o| resnet(o, &Config { blocks: [3, 4, 23, 3], width: 128, ..BOTTLENECK }),
        126_886_696,
        22.753,
        &[torchvision!("wide_resnet101_2", "d733dc28", 508_294_595, 82.51, resize: 232)],
    ),
    keras("keras_resnet50", |o| resnet(o, &OF_KERAS), 25_583_592),
    keras("keras_resnet101", |o| resnet(o, &Config { blocks: [3, 4, 23, 3], ..OF_KERAS }), 44_601_832),
    keras("keras_resnet152", |o| resnet(o, &Config { blocks: [3, 8, 36, 3], ..OF_KERAS }), 60_268_520),
];
