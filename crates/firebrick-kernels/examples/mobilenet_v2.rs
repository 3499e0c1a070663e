//! Times MobileNetV2 1.0 at 224x224 with random weights, alternating with other runtimes where they are installed.
//!
//!     cargo run --release -p firebrick-kernels --example mobilenet_v2 -- [--threads 2] [--repeats 20] [--batches 1,32] [--peers PYTHON] [--steps 5]
//!
//! `PYTHON` is an interpreter that has numpy, onnx, torch, torchvision and perhaps onnxruntime and openvino, see `peers/vision.py`.
//! Prints milliseconds an image (minimum and median), the share of the multiply-add peak that was measured in the same run,
//! and the ratio of our median to each peer's. A ratio below 1 means that ours is faster. `--steps` prints the time of each step first.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

mod convnet;
mod figures;
mod peers;

use convnet::{Conv, Network, Timing};
use figures::random;
use firebrick_kernels::{Activation, Plan, PlanBuilder};
use std::error::Error;

/// Expansion, channels, repeats, stride: table 2 of Sandler et al. 2018.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

fn main() -> Result<(), Box<dyn Error>> {
    Timing::from_arguments()?.run(&[Network { name: "mobilenet_v2", plan: mobilenet_v2 }])
}

fn mobilenet_v2() -> Result<Plan, Box<dyn Error>> {
    let relu6 = Activation::Relu6;
    let mut builder = PlanBuilder::new([3, 224, 224]);
    let mut x = builder.conv(builder.input(), &Conv::new([3, 32], 3, 2, 1, relu6).params(), None);
    let mut channels = 32;
    for (expansion, outputs, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let hidden = channels * expansion;
            let expand = (expansion != 1).then(|| Conv::new([channels, hidden], 1, 1, 1, relu6));
            let depthwise = Conv::new([hidden, hidden], 3, stride, hidden, relu6);
            let project = Conv::new([hidden, outputs], 1, 1, 1, Activation::None);
            let residual = stride == 1 && channels == outputs;
            x = builder.inverted_residual(
                x,
                expand.as_ref().map(Conv::params).as_ref(),
                &depthwise.params(),
                &project.params(),
                residual,
            );
            channels = outputs;
        }
    }
    let last = Conv::new([channels, 1280], 1, 1, 1, relu6);
    x = builder.conv(x, &last.params(), None);
    x = builder.global_average_pool(x);
    x = builder.linear(x, &random(1000 * 1280, 0.05), &random(1000, 0.1), Activation::None);
    Ok(builder.output(x).build()?)
}
