//! AlexNet. Krizhevsky et al. 2012, in its version with one column of filters: Krizhevsky 2014, arXiv:1404.5997.
//!
//! Layer for layer torchvision's `alexnet`, whose checkpoint it reads. Dropout is before both hidden dense layers.

use firebrick_nn::{Activation, Initializer, Padding};

use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{BuildOptions, Framework, ModelSpec};

/// Place in torchvision's `features`, output channels, kernel, stride, padding, and whether a pool follows.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize, bool); 5] = [
    (0, 64, 11, 4, 2, true),
    (3, 192, 5, 1, 2, true),
    (6, 384, 3, 1, 1, false),
    (8, 256, 3, 1, 1, false),
    (10, 256, 3, 1, 1, true),
];

fn alexnet(options: &BuildOptions) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let relu = Activation::Relu;
    let (mut x, mut channels) = (b.input(), options.channels);
    for (stage, (place, outputs, kernel, stride, padding, pooled)) in CONVOLUTIONS.into_iter().enumerate() {
        let conv = Conv::new(format!("features.{place}"), channels, outputs, kernel).bias().activation(relu);
        x = b.conv(x, conv.stride(stride).padding(Padding::all(padding)));
        b.stage(format!("stage{}", stage + 1), x);
        if pooled {
            x = b.max_pool(x, 3, 2, 0, false);
        }
        channels = outputs;
    }
    let map = x;
    x = b.adaptive_average_pool(x, [6, 6]);
    x = b.flatten(x);
    let normal = Initializer::Normal { std: 0.01 };
    x = b.dropout(x, options.dropout);
    x = b.linear(x, "classifier.1", [channels * 36, 4096], relu, normal);
    b.block();
    x = b.dropout(x, options.dropout);
    x = b.linear(x, "classifier.4", [4096, 4096], relu, normal);
    b.finish(map, x, 4096, "classifier.6")
}

pub(crate) static MODELS: &[ModelSpec] = &[ModelSpec {
    name: "alexnet",
    family: "AlexNet",
    framework: Framework::PyTorch,
    paper: "Krizhevsky 2014, arXiv:1404.5997",
    build: alexnet,
    input_size: [224, 224],
    parameters: 61_100_840,
    multiply_adds: Some(0.714),
    weights: &[torchvision!("alexnet-owt", "7be5be79", 244_409_959, 56.522)],
    aliases: &[],
}];
