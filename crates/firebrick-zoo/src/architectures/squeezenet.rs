//! SqueezeNet: fire modules of 1x1 and 3x3 filters. Iandola et al. 2016, arXiv:1602.07360, and its cheaper version 1.1.
//!
//! Layer for layer torchvision's, whose checkpoints they read. The head is a 1x1 convolution with a ReLU whose results are averaged, so it
//! reads the map's pixels, not their mean.

use firebrick_nn::{Activation, Padding};

use crate::graph::{Conv, Graph, GraphBuilder, Value};
use crate::{Build, BuildOptions, Framework, ModelSpec, WeightsSpec};

/// A version of the network.
struct Config {
    /// Channels and kernel of the first convolution.
    stem: (usize, usize),
    /// Runs of fire modules, each behind a pool: place in torchvision's `features`, and channels squeezed to and of each expansion.
    runs: [&'static [(usize, usize, usize)]; 3],
}

const V1_0: Config = Config {
    stem: (96, 7),
    runs: [
        &[(3, 16, 64), (4, 16, 64), (5, 32, 128)],
        &[(7, 32, 128), (8, 48, 192), (9, 48, 192), (10, 64, 256)],
        &[(12, 64, 256)],
    ],
};

const V1_1: Config = Config {
    stem: (64, 3),
    runs: [
        &[(3, 16, 64), (4, 16, 64)],
        &[(6, 32, 128), (7, 32, 128)],
        &[(9, 48, 192), (10, 48, 192), (11, 64, 256), (12, 64, 256)],
    ],
};

fn squeezenet(options: &BuildOptions, config: &Config) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let (mut channels, kernel) = config.stem;
    let stem = Conv::new("features.0", options.channels, channels, kernel).stride(2).padding(Padding::all(0));
    let mut x = b.conv(b.input(), stem.bias().activation(Activation::Relu));
    b.stage("stem", x);
    for (stage, run) in config.runs.into_iter().enumerate() {
        x = b.max_pool(x, 3, 2, 0, true);
        for &(place, squeezed, expanded) in run {
            b.block();
            x = fire(&mut b, x, &format!("features.{place}"), [channels, squeezed, expanded]);
            channels = 2 * expanded;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let map = x;
    let pixels = b.node(crate::graph::Op::Tokens, &[x]);
    let pixels = b.flatten(pixels);
    b.head_over_pixels();
    b.finish(map, pixels, channels, "classifier.1")
}

/// A 1x1 convolution to few channels, and a 1x1 and a 3x3 one side by side (figure 1 of the paper).
fn fire(b: &mut GraphBuilder, x: Value, name: &str, [channels, squeezed, expanded]: [usize; 3]) -> Value {
    let conv = |part: &str, inputs, outputs, kernel| {
        Conv::new(format!("{name}.{part}"), inputs, outputs, kernel).bias().activation(Activation::Relu)
    };
    let x = b.conv(x, conv("squeeze", channels, squeezed, 1));
    let small = b.conv(x, conv("expand1x1", squeezed, expanded, 1));
    let large = b.conv(x, conv("expand3x3", squeezed, expanded, 3));
    b.concat(&[small, large])
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
        family: "SqueezeNet",
        framework: Framework::PyTorch,
        paper: "Iandola et al. 2016, arXiv:1602.07360",
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
        "squeezenet1_0",
        |o| squeezenet(o, &V1_0),
        1_248_424,
        0.819,
        &[torchvision!("squeezenet1_0", "b66bff10", 5_010_621, 58.092)],
    ),
    spec(
        "squeezenet1_1",
        |o| squeezenet(o, &V1_1),
        1_235_496,
        0.349,
        &[torchvision!("squeezenet1_1", "b8a52dc0", 4_959_241, 58.178)],
    ),
];
