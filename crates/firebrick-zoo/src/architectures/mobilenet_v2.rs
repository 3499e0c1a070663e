//! MobileNetV2: inverted residuals and linear bottlenecks. Sandler et al. 2018, arXiv:1801.04381, table 2.
//!
//! Layer for layer torchvision's `mobilenet_v2`, whose checkpoints it reads, or Keras' `MobileNetV2`, whose layers have the same names here.

use firebrick_nn::{Activation, Padding};

use super::NORM_OF_PYTORCH;
use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{Alias, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec, divisible};

/// Expansion, output channels, repeats and first stride of each stage (table 2 of the paper).
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// What tells torchvision's network from Keras'.
struct Flavour {
    /// Epsilon and momentum of the norms.
    norm: (f64, f64),
    /// Around convolutions with a stride.
    strided: Padding,
}

const TORCHVISION: Flavour = Flavour { norm: NORM_OF_PYTORCH, strided: Padding::Explicit([[1; 2]; 2]) };
/// Keras' momentum of 0.999 is that of the statistics so far.
const KERAS: Flavour = Flavour { norm: (1e-3, 0.001), strided: Padding::Same };

/// The network of a width multiplier; its last layer never has fewer than 1,280 channels.
fn mobilenet_v2(options: &BuildOptions, width: f64, flavour: &Flavour) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let mut channels = divisible(32.0 * width, 8);
    let relu6 = Activation::Relu6;
    // Within a layer torchvision numbers convolution 0 and norm 1.
    let (epsilon, momentum) = flavour.norm;
    let layer = |name: &str, inputs, outputs, kernel, stride| {
        let conv = Conv::new(format!("{name}.0"), inputs, outputs, kernel).stride(stride);
        let conv = if stride > 1 { conv.padding(flavour.strided) } else { conv };
        conv.norm_with(format!("{name}.1"), epsilon, momentum).activation(relu6)
    };
    let mut x = b.conv(b.input(), layer("features.0", options.channels, channels, 3, 2));
    let mut index = 0;
    for (stage, (expansion, base, repeats, first_stride)) in STAGES.into_iter().enumerate() {
        let outputs = divisible(base as f64 * width, 8);
        for repeat in 0..repeats {
            index += 1;
            b.block();
            let stride = if repeat == 0 { first_stride } else { 1 };
            let wide = channels * expansion;
            let name = |place: usize| format!("features.{index}.conv.{place}");
            let (input, mut place) = (x, 0);
            if expansion > 1 {
                x = b.conv(x, layer(&name(place), channels, wide, 1, 1));
                place += 1;
            }
            x = b.conv(x, layer(&name(place), wide, wide, 3, stride).groups(wide));
            // The projection is not wrapped: convolution and norm stand in the block itself.
            let project = Conv::new(name(place + 1), wide, outputs, 1);
            let project = project.norm_with(name(place + 2), epsilon, momentum);
            let residual = stride == 1 && channels == outputs;
            x = if residual { b.conv_add(x, input, project) } else { b.conv(x, project) };
            channels = outputs;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let features = divisible(1280.0 * width.max(1.0), 8);
    let map = b.conv(x, layer(&format!("features.{}", index + 1), channels, features, 1, 1));
    let pooled = b.global_average_pool(map);
    b.finish(map, pooled, features, "classifier.1")
}

const TIMM: &[Alias] = &[Alias { framework: "timm", name: timm }];

fn timm(name: &str) -> Option<String> {
    let (layer, leaf) = name.rsplit_once('.')?;
    let layer = match layer {
        "features.0.0" => "conv_stem".to_owned(),
        "features.0.1" => "bn1".to_owned(),
        "features.18.0" => "conv_head".to_owned(),
        "features.18.1" => "bn2".to_owned(),
        "classifier.1" => "classifier".to_owned(),
        _ => {
            let (index, part) = layer.strip_prefix("features.")?.split_once(".conv.")?;
            // torchvision counts blocks from one through all stages.
            let (mut stage, mut block) = (0, index.parse::<usize>().ok()?.checked_sub(1)?);
            while block >= STAGES.get(stage)?.2 {
                block -= STAGES[stage].2;
                stage += 1;
            }
            // The first stage expands nothing, and timm calls its projection pointwise.
            let part = match (stage, part) {
                (0, "0.0") | (1.., "1.0") => "conv_dw",
                (0, "0.1") | (1.., "0.1") => "bn1",
                (0, "2") | (1.., "1.1") => "bn2",
                (0, "1") | (1.., "0.0") => "conv_pw",
                (1.., "2") => "conv_pwl",
                (1.., "3") => "bn3",
                _ => return None,
            };
            format!("blocks.{stage}.{block}.{part}")
        }
    };
    Some(format!("{layer}.{leaf}"))
}

/// Keras truncates a stage's width before it rounds it, which comes to the same for the widths that it publishes.
const fn keras(name: &'static str, build: crate::Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        framework: Framework::Keras(KerasInput::MinusOneToOne),
        aliases: &[],
        ..spec(name, build, parameters)
    }
}

const fn spec(name: &'static str, build: crate::Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        name,
        family: "MobileNetV2",
        framework: Framework::PyTorch,
        paper: "Sandler et al. 2018, arXiv:1801.04381",
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: None,
        weights: &[],
        aliases: TIMM,
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    ModelSpec {
        weights: &[
            WeightsSpec {
                file: "mobilenet_v2-b0353104.pth",
                url: "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
                sha256: "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
                bytes: 14_212_972,
                top_1: 71.878,
                ..WeightsSpec::TORCHVISION
            },
            torchvision!("mobilenet_v2", "7ebf99e0", 14_259_061, 72.154, resize: 232, name: "imagenet_v2"),
        ],
        // torchvision publishes 0.301 billion.
        multiply_adds: Some(0.301),
        ..spec("mobilenet_v2", |options| mobilenet_v2(options, 1.0, &TORCHVISION), 3_504_872)
    },
    spec("mobilenet_v2_0.35", |options| mobilenet_v2(options, 0.35, &TORCHVISION), 1_677_128),
    spec("mobilenet_v2_0.5", |options| mobilenet_v2(options, 0.5, &TORCHVISION), 1_968_680),
    spec("mobilenet_v2_0.75", |options| mobilenet_v2(options, 0.75, &TORCHVISION), 2_636_424),
    spec("mobilenet_v2_1.4", |options| mobilenet_v2(options, 1.4, &TORCHVISION), 6_108_776),
    ModelSpec {
        multiply_adds: Some(0.301),
        ..keras("keras_mobilenet_v2", |options| mobilenet_v2(options, 1.0, &KERAS), 3_504_872)
    },
    keras("keras_mobilenet_v2_0.35", |options| mobilenet_v2(options, 0.35, &KERAS), 1_677_128),
    keras("keras_mobilenet_v2_0.5", |options| mobilenet_v2(options, 0.5, &KERAS), 1_968_680),
    keras("keras_mobilenet_v2_0.75", |options| mobilenet_v2(options, 0.75, &KERAS), 2_636_424),
    keras("keras_mobilenet_v2_1.3", |options| mobilenet_v2(options, 1.3, &KERAS), 5_386_792),
    keras("keras_mobilenet_v2_1.4", |options| mobilenet_v2(options, 1.4, &KERAS), 6_108_776),
];
