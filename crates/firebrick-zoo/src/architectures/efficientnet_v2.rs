//! EfficientNetV2: full convolutions in the first stages, squeeze-and-excitation in the later. Tan & Le 2021, arXiv:2104.00298, table 4.
//!
//! Layer for layer torchvision's, whose checkpoints they read; timm's of the same layers add another epsilon to the variances.

use firebrick_augment::Interpolation;

use super::efficientnet::{Config, Stage, network};
use crate::graph::Graph;
use crate::{Build, BuildOptions, Framework, ModelSpec, WeightsSpec};

/// Blocks of a full convolution: expansion, first stride, output channels, how many.
const fn fused(expansion: usize, stride: usize, outputs: usize, blocks: usize) -> Stage {
    Stage { fused: true, expansion, kernel: 3, stride, outputs, blocks }
}

/// Inverted residuals, likewise.
const fn mb(expansion: usize, stride: usize, outputs: usize, blocks: usize) -> Stage {
    Stage { fused: false, ..fused(expansion, stride, outputs, blocks) }
}

const S: &[Stage] = &[
    fused(1, 1, 24, 2),
    fused(4, 2, 48, 4),
    fused(4, 2, 64, 4),
    mb(4, 2, 128, 6),
    mb(6, 1, 160, 9),
    mb(6, 2, 256, 15),
];

const M: &[Stage] = &[
    fused(1, 1, 24, 3),
    fused(4, 2, 48, 5),
    fused(4, 2, 80, 5),
    mb(4, 2, 160, 7),
    mb(6, 1, 176, 14),
    mb(6, 2, 304, 18),
    mb(6, 1, 512, 5),
];

const L: &[Stage] = &[
    fused(1, 1, 32, 4),
    fused(4, 2, 64, 7),
    fused(4, 2, 96, 7),
    mb(4, 2, 192, 10),
    mb(6, 1, 224, 19),
    mb(6, 2, 384, 25),
    mb(6, 1, 640, 7),
];

fn efficientnet_v2(options: &BuildOptions, stages: &[Stage]) -> Graph {
    // The first convolution is as wide as the first stage.
    let stem = stages[0].outputs;
    network(options, &Config { stem, stages, features: 1280, norm: (1e-3, 0.1), strided: None })
}

const fn spec(
    name: &'static str,
    side: u32,
    build: Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "EfficientNetV2",
        framework: Framework::PyTorch,
        paper: "Tan & Le 2021, arXiv:2104.00298",
        build,
        input_size: [side, side],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    spec(
        "efficientnet_v2_s",
        384,
        |o| efficientnet_v2(o, S),
        21_458_488,
        8.366,
        &[torchvision!("efficientnet_v2_s", "dd5fe13b", 86_721_954, 84.228, crop: 384, resize: 384)],
    ),
    spec(
        "efficientnet_v2_m",
        480,
        |o| efficientnet_v2(o, M),
        54_139_356,
        24.582,
        &[torchvision!("efficientnet_v2_m", "dc08266a", 218_114_819, 85.112, crop: 480, resize: 480)],
    ),
    spec(
        "efficientnet_v2_l",
        480,
        |o| efficientnet_v2(o, L),
        118_515_272,
        56.08,
        &[torchvision!(
            "efficientnet_v2_l", "59c71312", 476_654_863, 85.808,
            crop: 480, resize: 480, interpolation: Interpolation::Bicubic, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]
        )],
    ),
];
