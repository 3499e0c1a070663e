//! Times EfficientNet-Lite0 at 224x224 with random weights, alternating with other runtimes where they are installed.
//!
//!     cargo run --release -p firebrick-kernels --example efficientnet_lite0 -- [--threads 2] [--repeats 20] [--batches 1,32] [--peers PYTHON] [--steps 5]
//!
//! The arguments and what is printed are those of the example `resnet50`; the peers get timm's model of this name.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

mod convnet;
mod figures;
mod peers;

use convnet::{Conv, Network, Timing};
use figures::random;
use firebrick_kernels::{Activation, Plan, PlanBuilder};
use std::error::Error;

/// Expansion, channels, repeats, stride, kernel: EfficientNet-B0's, table 1 of Tan and Le 2019; Lite has no gates and uses ReLU6.
const STAGES: [[usize; 5]; 7] = [
    [1, 16, 1, 1, 3],
    [6, 24, 2, 2, 3],
    [6, 40, 2, 2, 5],
    [6, 80, 3, 2, 3],
    [6, 112, 3, 1, 5],
    [6, 192, 4, 2, 5],
    [6, 320, 1, 1, 3],
];

fn main() -> Result<(), Box<dyn Error>> {
    Timing::from_arguments()?.run(&[Network { name: "efficientnet_lite0", plan: efficientnet_lite0 }])
}

fn efficientnet_lite0() -> Result<Plan, Box<dyn Error>> {
    let relu6 = Activation::Relu6;
    let mut builder = PlanBuilder::new([3, 224, 224]);
    let mut x = builder.conv(builder.input(), &Conv::new([3, 32], 3, 2, 1, relu6).params(), None);
    let mut channels = 32;
    for [expansion, outputs, repeats, first_stride, kernel] in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let hidden = channels * expansion;
            let expand = (expansion != 1).then(|| Conv::new([channels, hidden], 1, 1, 1, relu6));
            let depthwise = Conv::new([hidden, hidden], kernel, stride, hidden, relu6);
            let project = Conv::new([hidden, outputs], 1, 1, 1, Activation::None);
            x = builder.inverted_residual(
                x,
                expand.as_ref().map(Conv::params).as_ref(),
                &depthwise.params(),
                &project.params(),
                stride == 1 && channels == outputs,
            );
            channels = outputs;
        }
    }
    x = builder.conv(x, &Conv::new([channels, 1280], 1, 1, 1, relu6).params(), None);
    x = builder.global_average_pool(x);
    x = builder.linear(x, &random(1000 * 1280, 0.05), &random(1000, 0.1), Activation::None);
    Ok(builder.output(x).build()?)
}
