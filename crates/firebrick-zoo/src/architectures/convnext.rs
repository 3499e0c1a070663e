//! ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a convolutional network in the fashion of Swin.
//!
//! Layer for layer torchvision's, whose checkpoints it reads.

use firebrick_nn::{Activation, Initializer, Padding};

use super::growing;
use crate::graph::{Conv, Graph, GraphBuilder, Op, Value};
use crate::{Build, BuildOptions, Framework, ModelSpec, WeightsSpec};

/// First value of a branch's factors.
const LAYER_SCALE: f32 = 1e-6;
/// Of every LayerNorm.
const EPSILON: f64 = 1e-6;
/// Of every weight; PyTorch cuts the normal distribution at -2 and 2, a hundred deviations away.
const INITIALIZER: Initializer = Initializer::Normal { std: 0.02 };

/// The network of these widths and blocks of the four stages.
fn convnext(options: &BuildOptions, widths: [usize; 4], blocks: [usize; 4]) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    // A convolution that cuts its input into squares.
    let patches = |name: &str, inputs, outputs, side| {
        Conv::new(name, inputs, outputs, side)
            .stride(side)
            .padding(Padding::all(0))
            .bias()
            .initializer(INITIALIZER)
    };
    let mut x = b.conv(b.input(), patches("features.0.0", options.channels, widths[0], 4));
    x = b.layer_norm(x, "features.0.1", widths[0], EPSILON);
    b.stage("stem", x);
    let total: usize = blocks.iter().sum();
    let mut before = 0;
    for (stage, width) in widths.into_iter().enumerate() {
        if stage > 0 {
            let (name, inputs) = (format!("features.{}", 2 * stage), widths[stage - 1]);
            x = b.layer_norm(x, format!("{name}.0"), inputs, EPSILON);
            x = b.conv(x, patches(&format!("{name}.1"), inputs, width, 2));
        }
        for index in 0..blocks[stage] {
            b.block();
            let name = format!("features.{}.{index}", 2 * stage + 1);
            x = block(&mut b, x, &name, width, growing(options.drop_path, before, total));
            before += 1;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let features = widths[3];
    let pooled = b.global_average_pool(x);
    let pooled = b.layer_norm(pooled, "classifier.0", features, EPSILON);
    b.finish(x, pooled, features, "classifier.2")
}

/// A depthwise 7x7 convolution, then two dense layers on each pixel (figure 4 of the paper).
fn block(b: &mut GraphBuilder, x: Value, name: &str, width: usize, drop_path: f64) -> Value {
    let part = |place: usize| format!("{name}.block.{place}");
    let depthwise = Conv::new(part(0), width, width, 7).groups(width).bias().initializer(INITIALIZER);
    let y = b.conv(x, depthwise);
    let y = b.layer_norm(y, part(2), width, EPSILON);
    let y = b.linear(y, part(3), [width, 4 * width], Activation::Gelu, INITIALIZER);
    let y = b.linear(y, part(5), [4 * width, width], Activation::None, INITIALIZER);
    let scale = Op::LayerScale {
        name: format!("{name}.layer_scale"),
        channels: width,
        value: LAYER_SCALE,
        spatial: true,
    };
    let y = b.node(scale, &[y]);
    let y = b.drop_path(y, drop_path);
    b.add(y, x, Activation::None)
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
        family: "ConvNeXt",
        framework: Framework::PyTorch,
        paper: "Liu et al. 2022, arXiv:2201.03545",
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
        "convnext_tiny",
        |o| convnext(o, [96, 192, 384, 768], [3, 3, 9, 3]),
        28_589_128,
        4.456,
        &[WeightsSpec {
            file: "convnext_tiny-983f1562.pth",
            url: "https://download.pytorch.org/models/convnext_tiny-983f1562.pth",
            sha256: "983f1562",
            bytes: 114_430_051,
            top_1: 82.52,
            resize: 236,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    spec(
        "convnext_small",
        |o| convnext(o, [96, 192, 384, 768], [3, 3, 27, 3]),
        50_223_688,
        8.684,
        &[WeightsSpec {
            file: "convnext_small-0c510722.pth",
            url: "https://download.pytorch.org/models/convnext_small-0c510722.pth",
            sha256: "0c510722",
            bytes: 201_025_651,
            top_1: 83.616,
            resize: 230,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    spec(
        "convnext_base",
        |o| convnext(o, [128, 256, 512, 1024], [3, 3, 27, 3]),
        88_591_464,
        15.355,
        &[WeightsSpec {
            file: "convnext_base-6075fbad.pth",
            url: "https://download.pytorch.org/models/convnext_base-6075fbad.pth",
            sha256: "6075fbad",
            bytes: 354_496_283,
            top_1: 84.062,
            resize: 232,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    spec(
        "convnext_large",
        |o| convnext(o, [192, 384, 768, 1536], [3, 3, 27, 3]),
        197_767_336,
        34.361,
        &[WeightsSpec {
            file: "convnext_large-ea097f82.pth",
            url: "https://download.pytorch.org/models/convnext_large-ea097f82.pth",
            sha256: "ea097f82",
            bytes: 791_199_876,
            top_1: 84.414,
            resize: 232,
            ..WeightsSpec::TORCHVISION
        }],
    ),
];
