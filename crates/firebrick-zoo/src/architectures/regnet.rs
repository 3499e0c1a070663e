//! RegNet: networks whose widths grow linearly, with squeeze-and-excitation (Y) and without (X). Radosavovic et al. 2020,
//! arXiv:2003.13678, tables 6 and 7.
//!
//! Layer for layer torchvision's, whose checkpoints they read.

use firebrick_nn::Activation;

use crate::graph::{Conv, Graph, GraphBuilder, SqueezeExcite, Value};
use crate::{Alias, Build, BuildOptions, Framework, ModelSpec, WeightsSpec, divisible};

/// The few numbers that all widths follow from (section 3.3 of the paper).
struct Config {
    /// Blocks in all.
    depth: usize,
    /// Width of the first block, before it is quantised.
    initial: f64,
    /// What each block is wider than the one before.
    slope: f64,
    /// Ratio of the widths of neighbouring stages.
    ratio: f64,
    /// Channels of a group of the 3x3 convolutions.
    group: usize,
    /// Whether there is squeeze-and-excitation.
    squeezed: bool,
}

impl Config {
    /// Blocks, width and channels of a group of each stage (equations 2 to 4).
    fn stages(&self) -> Vec<(usize, usize, usize)> {
        let mut stages: Vec<(usize, usize)> = Vec::new();
        for block in 0..self.depth {
            let linear = self.initial + self.slope * block as f64;
            let power = ((linear / self.initial).ln() / self.ratio.ln()).round_ties_even();
            let width = (self.initial * self.ratio.powf(power) / 8.0).round_ties_even() as usize * 8;
            match stages.last_mut() {
                Some((blocks, last)) if *last == width => *blocks += 1,
                _ => stages.push((1, width)),
            }
        }
        let fitted = stages.into_iter().map(|(blocks, width)| {
            let group = self.group.min(width);
            (blocks, divisible(width as f64, group), group)
        });
        fitted.collect()
    }
}

fn regnet(options: &BuildOptions, config: &Config) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let mut channels = 32;
    let stem = Conv::new("stem.0", options.channels, channels, 3).norm("stem.1").stride(2);
    let mut x = b.conv(b.input(), stem.activation(Activation::Relu));
    b.stage("stem", x);
    for (index, (blocks, width, group)) in config.stages().into_iter().enumerate() {
        let stage = index + 1;
        for block in 0..blocks {
            b.block();
            let name = format!("trunk_output.block{stage}.block{stage}-{block}");
            let stride = if block == 0 { 2 } else { 1 };
            x = bottleneck(&mut b, x, &name, [channels, width], stride, group, config.squeezed);
            channels = width;
        }
        b.stage(format!("block{stage}"), x);
    }
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, channels, "fc")
}

/// 1x1, 3x3 in groups, 1x1, as wide as the result throughout (figure 15 of the paper).
fn bottleneck(
    b: &mut GraphBuilder,
    x: Value,
    name: &str,
    [inputs, width]: [usize; 2],
    stride: usize,
    group: usize,
    squeezed: bool,
) -> Value {
    let relu = Activation::Relu;
    let conv = |part: &str, inputs, kernel| {
        Conv::new(format!("{name}.{part}.0"), inputs, width, kernel).norm(format!("{name}.{part}.1"))
    };
    let shortcut = match stride > 1 || inputs != width {
        true => b.conv(x, conv("proj", inputs, 1).stride(stride)),
        false => x,
    };
    let mut y = b.conv(x, conv("f.a", inputs, 1).activation(relu));
    y = b.conv(y, conv("f.b", width, 3).stride(stride).groups(width / group).activation(relu));
    if squeezed {
        // A quarter of the block's input.
        let settings = SqueezeExcite {
            name: format!("{name}.f.se"),
            channels: width,
            squeezed: inputs / 4,
            activation: relu,
            gate: Activation::Sigmoid,
        };
        y = b.squeeze_excite(y, settings);
    }
    b.conv_add(y, shortcut, conv("f.c", width, 1).activation(relu))
}

/// timm counts blocks from one and names layers by what they are. Its X 400 MF, Y 800 MF and Y 8 GF have other widths.
const TIMM: &[Alias] = &[Alias { framework: "timm", name: timm }];

fn timm(name: &str) -> Option<String> {
    let (layer, leaf) = name.rsplit_once('.')?;
    let layer = match layer {
        "stem.0" => "stem.conv".to_owned(),
        "stem.1" => "stem.bn".to_owned(),
        "fc" => "head.fc".to_owned(),
        _ => {
            let (_, block) = layer.strip_prefix("trunk_output.block")?.split_once(".block")?;
            let (block, part) = block.split_once('.')?;
            let (stage, block) = block.split_once('-')?;
            let part = match part {
                "proj.0" => "downsample.conv",
                "proj.1" => "downsample.bn",
                "f.a.0" => "conv1.conv",
                "f.a.1" => "conv1.bn",
                "f.b.0" => "conv2.conv",
                "f.b.1" => "conv2.bn",
                "f.c.0" => "conv3.conv",
                "f.c.1" => "conv3.bn",
                "f.se.fc1" => "se.fc1",
                "f.se.fc2" => "se.fc2",
                _ => return None,
            };
            format!("s{stage}.b{}.{part}", block.parse::<usize>().ok()? + 1)
        }
    };
    Some(format!("{layer}.{leaf}"))
}

const fn x(depth: usize, initial: f64, slope: f64, ratio: f64, group: usize) -> Config {
    Config { depth, initial, slope, ratio, group, squeezed: false }
}

const fn y(depth: usize, initial: f64, slope: f64, ratio: f64, group: usize) -> Config {
    Config { squeezed: true, ..x(depth, initial, slope, ratio, group) }
}

const fn spec(
    name: &'static str,
    build: Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "RegNet",
        framework: Framework::PyTorch,
        paper: "Radosavovic et al. 2020, arXiv:2003.13678",
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: TIMM,
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    ModelSpec {
        aliases: &[],
        ..spec(
            "regnet_x_400mf",
            |o| regnet(o, &x(22, 24.0, 24.48, 2.54, 16)),
            5_495_976,
            0.414,
            &[torchvision!("regnet_x_400mf", "62229a5f", 22_290_105, 74.864, resize: 232)],
        )
    },
    spec(
        "regnet_x_800mf",
        |o| regnet(o, &x(16, 56.0, 35.73, 2.28, 16)),
        7_259_656,
        0.8,
        &[torchvision!("regnet_x_800mf", "94a99ebd", 29_302_981, 77.522, resize: 232)],
    ),
    spec(
        "regnet_x_1_6gf",
        |o| regnet(o, &x(18, 80.0, 34.01, 2.25, 24)),
        9_190_136,
        1.603,
        &[torchvision!("regnet_x_1_6gf", "a12f2b72", 37_056_152, 79.668, resize: 232)],
    ),
    spec(
        "regnet_x_3_2gf",
        |o| regnet(o, &x(25, 88.0, 26.31, 2.25, 48)),
        15_296_552,
        3.177,
        &[torchvision!("regnet_x_3_2gf", "7071aa85", 61_610_656, 81.196, resize: 232)],
    ),
    spec(
        "regnet_x_8gf",
        |o| regnet(o, &x(23, 80.0, 49.56, 2.88, 120)),
        39_572_648,
        7.995,
        &[torchvision!("regnet_x_8gf", "2b70d774", 158_813_651, 81.682, resize: 232)],
    ),
    spec(
        "regnet_x_16gf",
        |o| regnet(o, &x(22, 216.0, 55.59, 2.1, 128)),
        54_278_536,
        15.941,
        &[torchvision!("regnet_x_16gf", "ba3796d7", 217_713_214, 82.716, resize: 232)],
    ),
    spec(
        "regnet_x_32gf",
        |o| regnet(o, &x(23, 320.0, 69.86, 2.0, 168)),
        107_811_560,
        31.736,
        &[torchvision!("regnet_x_32gf", "6eb8fdc6", 432_054_731, 83.014, resize: 232)],
    ),
    spec(
        "regnet_y_400mf",
        |o| regnet(o, &y(16, 48.0, 27.89, 2.09, 8)),
        4_344_144,
        0.402,
        &[torchvision!("regnet_y_400mf", "e6988f5f", 17_622_893, 75.804, resize: 232)],
    ),
    ModelSpec {
        aliases: &[],
        ..spec(
            "regnet_y_800mf",
            |o| regnet(o, &y(14, 56.0, 38.84, 2.4, 16)),
            6_432_512,
            0.834,
            &[torchvision!("regnet_y_800mf", "58fc7688", 25_977_947, 78.828, resize: 232)],
        )
    },
    spec(
        "regnet_y_1_6gf",
        |o| regnet(o, &y(27, 48.0, 20.71, 2.65, 24)),
        11_202_430,
        1.612,
        &[torchvision!("regnet_y_1_6gf", "0d7bc02a", 45_248_676, 80.876, resize: 232)],
    ),
    spec(
        "regnet_y_3_2gf",
        |o| regnet(o, &y(21, 80.0, 42.63, 2.66, 24)),
        19_436_338,
        3.176,
        &[torchvision!("regnet_y_3_2gf", "9180c971", 78_189_691, 81.982, resize: 232)],
    ),
    ModelSpec {
        aliases: &[],
        ..spec(
            "regnet_y_8gf",
            |o| regnet(o, &y(17, 192.0, 76.82, 2.19, 56)),
            39_381_472,
            8.473,
            &[torchvision!("regnet_y_8gf", "dc2b1b54", 158_021_977, 82.828, resize: 232)],
        )
    },
    spec(
        "regnet_y_16gf",
        |o| regnet(o, &y(18, 200.0, 106.23, 2.48, 112)),
        83_590_140,
        15.912,
        &[torchvision!("regnet_y_16gf", "3e4a00f9", 335_010_071, 82.886, resize: 232)],
    ),
    spec(
        "regnet_y_32gf",
        |o| regnet(o, &y(20, 232.0, 115.89, 2.53, 232)),
        145_046_770,
        32.28,
        &[torchvision!("regnet_y_32gf", "8db6d4b5", 580_991_321, 83.368, resize: 232)],
    ),
];
