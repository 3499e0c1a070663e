//! VGG: 3x3 convolutions and nothing else. Simonyan & Zisserman 2015, arXiv:1409.1556, table 1.
//!
//! Layer for layer torchvision's, whose checkpoints they read, and Keras', which differ in what they read, with BatchNorm (`_bn`) and without; convolutions have a bias in both.
//! Dropout is behind the first hidden dense layer; that behind the second is the head's.

use firebrick_nn::{Activation, Initializer};

use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{Build, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec};

/// Convolutions of each stage: configurations A, B, D and E of the paper.
const A: [usize; 5] = [1, 1, 2, 2, 2];
const B: [usize; 5] = [2, 2, 2, 2, 2];
const D: [usize; 5] = [2, 2, 3, 3, 3];
const E: [usize; 5] = [2, 2, 4, 4, 4];

fn vgg(options: &BuildOptions, convolutions: [usize; 5], norm: bool) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let relu = Activation::Relu;
    let (mut x, mut channels) = (b.input(), options.channels);
    // torchvision counts convolutions, norms, activations and pools.
    let mut place = 0;
    for (stage, count) in convolutions.into_iter().enumerate() {
        let outputs = (64 << stage).min(512);
        for _ in 0..count {
            let conv = Conv::new(format!("features.{place}"), channels, outputs, 3).bias().activation(relu);
            x = b.conv(x, if norm { conv.norm(format!("features.{}", place + 1)) } else { conv });
            place += if norm { 3 } else { 2 };
            channels = outputs;
        }
        b.stage(format!("stage{}", stage + 1), x);
        x = b.max_pool(x, 2, 2, 0, false);
        place += 1;
    }
    let map = x;
    x = b.adaptive_average_pool(x, [7, 7]);
    x = b.flatten(x);
    let normal = Initializer::Normal { std: 0.01 };
    x = b.linear(x, "classifier.0", [channels * 49, 4096], relu, normal);
    b.block();
    x = b.dropout(x, options.dropout);
    x = b.linear(x, "classifier.3", [4096, 4096], relu, normal);
    b.finish(map, x, 4096, "classifier.6")
}

const fn keras(name: &'static str, build: Build, parameters: u64, giga: f64) -> ModelSpec {
    ModelSpec { framework: Framework::Keras(KerasInput::Caffe), ..spec(name, build, parameters, giga, &[]) }
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
        family: "VGG",
        framework: Framework::PyTorch,
        paper: "Simonyan & Zisserman 2015, arXiv:1409.1556",
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
        "vgg11",
        |o| vgg(o, A, false),
        132_863_336,
        7.609,
        &[torchvision!("vgg11", "8a719046", 531_460_785, 69.02)],
    ),
    spec(
        "vgg11_bn",
        |o| vgg(o, A, true),
        132_868_840,
        7.609,
        &[torchvision!("vgg11_bn", "6002323d", 531_503_776, 70.37)],
    ),
    spec(
        "vgg13",
        |o| vgg(o, B, false),
        133_047_848,
        11.308,
        &[torchvision!("vgg13", "19584684", 532_200_031, 69.928)],
    ),
    spec(
        "vgg13_bn",
        |o| vgg(o, B, true),
        133_053_736,
        11.308,
        &[torchvision!("vgg13_bn", "abd245e5", 532_247_217, 71.586)],
    ),
    spec(
        "vgg16",
        |o| vgg(o, D, false),
        138_357_544,
        15.47,
        &[torchvision!("vgg16", "397923af", 553_434_743, 71.592)],
    ),
    spec(
        "vgg16_bn",
        |o| vgg(o, D, true),
        138_365_992,
        15.47,
        &[torchvision!("vgg16_bn", "6c64b313", 553_508_144, 73.36)],
    ),
    spec(
        "vgg19",
        |o| vgg(o, E, false),
        143_667_240,
        19.632,
        &[torchvision!("vgg19", "dcbb9e9d", 574_673_650, 72.376)],
    ),
    spec(
        "vgg19_bn",
        |o| vgg(o, E, true),
        143_678_248,
        19.632,
        &[torchvision!("vgg19_bn", "c79401a0", 574_770_119, 74.218)],
    ),
    keras("keras_vgg16", |o| vgg(o, D, false), 138_357_544, 15.47),
    keras("keras_vgg19", |o| vgg(o, E, false), 143_667_240, 19.632),
];
