//! Swin Transformer (Liu et al. 2021, arXiv:2103.14030): attention within windows, which are shifted from layer to layer.
//!
//! Layer for layer torchvision's, whose checkpoints it reads.

use firebrick_augment::Interpolation;
use firebrick_nn::{Activation, Initializer, Padding};

use super::growing;
use crate::graph::{Attention, Conv, Graph, GraphBuilder, Op, Value, WindowAttention};
use crate::{Build, BuildOptions, Framework, ModelSpec, WeightsSpec};

/// Side of a window, places.
const WINDOW: usize = 7;
/// Channels of a head.
const HEAD: usize = 32;
/// Of every LayerNorm.
const EPSILON: f64 = 1e-5;
/// Of every dense layer; PyTorch cuts the normal distribution at -2 and 2, a hundred deviations away.
const INITIALIZER: Initializer = Initializer::Normal { std: 0.02 };

/// The network of this width of the first stage and these layers of the four.
fn swin(options: &BuildOptions, width: usize, layers: [usize; 4]) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    // PyTorch's default for convolutions.
    let limit = 1.0 / ((16 * options.channels) as f32).sqrt();
    let patches = Conv::new("features.0.0", options.channels, width, 4)
        .stride(4)
        .padding(Padding::all(0))
        .bias()
        .initializer(Initializer::Uniform { low: -limit, high: limit });
    let mut x = b.conv(b.input(), patches);
    x = b.layer_norm(x, "features.0.2", width, EPSILON);
    b.stage("embedding", x);
    let total: usize = layers.iter().sum();
    let mut before = 0;
    for (stage, count) in layers.into_iter().enumerate() {
        let width = width << stage;
        if stage > 0 {
            x = merge(&mut b, x, &format!("features.{}", 2 * stage), width / 2);
        }
        for index in 0..count {
            b.block();
            let name = format!("features.{}.{index}", 2 * stage + 1);
            let shift = if index % 2 == 0 { 0 } else { WINDOW / 2 };
            x = layer(&mut b, x, &name, width, shift, growing(options.drop_path, before, total));
            before += 1;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let features = width << 3;
    let map = b.layer_norm(x, "norm", features, EPSILON);
    let pooled = b.global_average_pool(map);
    b.finish(map, pooled, features, "head")
}

/// Four places become one of twice the width.
fn merge(b: &mut GraphBuilder, x: Value, name: &str, width: usize) -> Value {
    let x = b.node(Op::Squares, &[x]);
    let x = b.layer_norm(x, format!("{name}.norm"), 4 * width, EPSILON);
    let reduction = Op::Linear {
        name: format!("{name}.reduction"),
        inputs: 4 * width,
        outputs: 2 * width,
        bias: false,
        activation: Activation::None,
        initializer: INITIALIZER,
    };
    b.node(reduction, &[x])
}

/// Attention within windows, then two dense layers on each place (figure 3 of the paper).
fn layer(b: &mut GraphBuilder, x: Value, name: &str, width: usize, shift: usize, drop_path: f64) -> Value {
    let part = |part: &str| format!("{name}.{part}");
    let attention = WindowAttention {
        attention: Attention {
            qkv: [part("attn.qkv.weight"), part("attn.qkv.bias")],
            output: part("attn.proj"),
            width,
            heads: width / HEAD,
            initializer: INITIALIZER,
        },
        table: part("attn.relative_position_bias_table"),
        window: [WINDOW; 2],
        shift: [shift; 2],
    };
    let y = b.layer_norm(x, part("norm1"), width, EPSILON);
    let y = b.node(Op::WindowAttention(attention), &[y]);
    let y = b.drop_path(y, drop_path);
    let x = b.add(y, x, Activation::None);
    let y = b.layer_norm(x, part("norm2"), width, EPSILON);
    let y = b.linear(y, part("mlp.0"), [width, 4 * width], Activation::Gelu, INITIALIZER);
    let y = b.linear(y, part("mlp.3"), [4 * width, width], Activation::None, INITIALIZER);
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
        family: "Swin",
        framework: Framework::PyTorch,
        paper: "Liu et al. 2021, arXiv:2103.14030",
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
        "swin_t",
        |o| swin(o, 96, [2, 2, 6, 2]),
        28_288_354,
        4.491,
        &[WeightsSpec {
            file: "swin_t-704ceda3.pth",
            url: "https://download.pytorch.org/models/swin_t-704ceda3.pth",
            sha256: "704ceda3",
            bytes: 113_455_924,
            top_1: 81.474,
            resize: 232,
            interpolation: Interpolation::Bicubic,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    spec(
        "swin_s",
        |o| swin(o, 96, [2, 2, 18, 2]),
        49_606_258,
        8.741,
        &[WeightsSpec {
            file: "swin_s-5e29d889.pth",
            url: "https://download.pytorch.org/models/swin_s-5e29d889.pth",
            sha256: "5e29d889",
            bytes: 199_015_531,
            top_1: 83.196,
            resize: 246,
            interpolation: Interpolation::Bicubic,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    spec(
        "swin_b",
        |o| swin(o, 128, [2, 2, 18, 2]),
        87_768_224,
        15.431,
        &[WeightsSpec {
            file: "swin_b-68c6b09e.pth",
            url: "https://download.pytorch.org/models/swin_b-68c6b09e.pth",
            sha256: "68c6b09e",
            bytes: 351_665_128,
            top_1: 83.582,
            resize: 238,
            interpolation: Interpolation::Bicubic,
            ..WeightsSpec::TORCHVISION
        }],
    ),
];
