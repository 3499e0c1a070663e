//! Times ResNet-50, or with `--model resnext50_32x4d` ResNeXt-50 32x4d, at 224x224 with random weights, alternating with other runtimes where they are installed.
//!
//!     cargo run --release -p firebrick-kernels --example resnet50 -- [--threads 2] [--repeats 20] [--batches 1,32] [--peers PYTHON] [--steps 5]
//!
//! `PYTHON` is an interpreter that has numpy, onnx, torch, torchvision and onnxruntime, see `peers/vision.py`. Prints
//! milliseconds an image (minimum and median), the share of the multiply-add peak that was measured in the same run, and the ratio of
//! our median to each peer's; with `--steps`, first the time of each step of one image, the least of so many runs.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

mod convnet;
mod figures;
mod peers;

use convnet::{Conv, Network, Timing};
use figures::random;
use firebrick_kernels::{Activation, Plan, PlanBuilder, PoolParams};
use std::error::Error;

/// Width, repeats and stride of the stages: table 1 of He et al. 2015, with the stride in the 3x3 convolution as torchvision has it.
const STAGES: [(usize, usize, usize); 4] = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)];

fn main() -> Result<(), Box<dyn Error>> {
    Timing::from_arguments()?.run(&[
        Network { name: "resnet50", plan: || resnet50(1, 1) },
        // 32 groups of 4 channels: table 1 of Xie et al. 2016.
        Network { name: "resnext50_32x4d", plan: || resnet50(32, 2) },
    ])
}

/// With so many groups in the 3x3 convolutions, which are `widening` times as wide.
fn resnet50(groups: usize, widening: usize) -> Result<Plan, Box<dyn Error>> {
    let relu = Activation::Relu;
    let mut builder = PlanBuilder::new([3, 224, 224]);
    let stem = Conv::new([3, 64], 7, 2, 1, relu);
    let mut x = builder.conv(builder.input(), &stem.params(), None);
    let pool = PoolParams { kernel: [3; 2], stride: [2; 2], padding: [[1; 2]; 2], ceil: false };
    x = builder.max_pool(x, pool);
    let mut channels = 64;
    for (width, repeats, first_stride) in STAGES {
        let inner = widening * width;
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let mut shortcut = x;
            if repeat == 0 {
                let conv = Conv::new([channels, 4 * width], 1, stride, 1, Activation::None);
                shortcut = builder.conv(x, &conv.params(), None);
            }
            x = builder.conv(x, &Conv::new([channels, inner], 1, 1, 1, relu).params(), None);
            x = builder.conv(x, &Conv::new([inner, inner], 3, stride, groups, relu).params(), None);
            x = builder.conv(x, &Conv::new([inner, 4 * width], 1, 1, 1, relu).params(), Some(shortcut));
            channels = 4 * width;
        }
    }
    x = builder.global_average_pool(x);
    x = builder.linear(x, &random(1000 * channels, 0.05), &random(1000, 0.1), Activation::None);
    Ok(builder.output(x).build()?)
}
