//! Times MobileNetV2 1.0 at 224x224 with random weights, alternating with other runtimes where they are installed.
//!
//!     cargo run --release -p firebrick-kernels --example mobilenet_v2 -- [--threads 2] [--repeats 20] [--batches 1,32] [--peers PYTHON]
//!
//! `PYTHON` is an interpreter that has numpy, onnx and any of onnxruntime, openvino and torch, see `peers/mobilenet_v2.py`.
//! Prints milliseconds an image (minimum and median), the share of the multiply-add peak that was measured in the same run,
//! and the ratio of our median to each peer's. A ratio below 1 means that ours is faster.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

mod figures;
mod peers;

use figures::{random, summary};
use firebrick_kernels::{Activation, ConvParams, Plan, PlanBuilder, multiply_add_peak};
use peers::Peers;
use std::error::Error;
use std::time::Instant;

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
    let mut arguments = std::env::args().skip(1);
    let (mut threads, mut repeats, mut batches, mut python) = (2, 20, vec![1, 32], None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--threads" => threads = value.parse()?,
            "--repeats" => repeats = value.parse()?,
            "--batches" => batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--peers" => python = Some(value),
            _ => {
                return Err(format!("{name} is unknown; use --threads, --repeats, --batches, --peers").into());
            }
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let plan = mobilenet_v2()?;
    let mut peers = python.map(|python| Peers::start(&python, "mobilenet_v2.py", threads)).transpose()?;
    let gflop = 2.0 * plan.multiply_adds() as f64 / 1e9;
    println!("MobileNetV2 1.0, 224x224, f32, {gflop:.3} GFLOP an image, {}, {threads} threads", plan.level());

    for batch in batches {
        let input = random(batch * 224 * 224 * 3, 1.0);
        let mut output = vec![0.0; batch * plan.output_len()];
        let mut ours = Vec::new();
        let names = peers.as_ref().map_or_else(Vec::new, |peers| peers.names.clone());
        let mut theirs = vec![Vec::new(); names.len()];
        let mut peak: f64 = 0.0;
        for _ in 0..repeats {
            peak = peak.max(multiply_add_peak(threads));
            // A pause has put the other threads to sleep and cooled the caches: not part of the measurement, as for the peers.
            plan.run_into(&input, batch, &mut output);
            let start = Instant::now();
            plan.run_into(&input, batch, &mut output);
            ours.push(start.elapsed().as_secs_f64() * 1e3 / batch as f64);
            if let Some(peers) = &mut peers {
                for (name, times) in names.iter().zip(&mut theirs) {
                    times.push(peers.run(name, &batch.to_string())? * 1e3 / batch as f64);
                }
            }
        }
        let [least, median] = summary(&mut ours);
        let share = gflop / (least / 1e3) / peak * 100.0;
        println!(
            "batch {batch:3}: firebrick              min {least:6.2} median {median:6.2} ms an image; {share:.0} % of {peak:.0} GFLOP/s"
        );
        for (name, times) in names.iter().zip(&mut theirs) {
            let [their_least, their_median] = summary(times);
            let ratios = [least / their_least, median / their_median];
            println!(
                "           {name:22} min {their_least:6.2} median {their_median:6.2} ms an image; ours / theirs {:.2} {:.2}",
                ratios[0], ratios[1]
            );
        }
    }
    Ok(())
}

struct Conv {
    weight: Vec<f32>,
    bias: Vec<f32>,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
    activation: Activation,
}

impl Conv {
    fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
        activation: Activation,
    ) -> Self {
        let window = channels[0] / groups * kernel * kernel;
        let weight = random(channels[1] * window, (3.0 / window as f32).sqrt());
        Self { weight, bias: random(channels[1], 0.1), channels, kernel, stride, groups, activation }
    }

    fn params(&self) -> ConvParams<'_> {
        ConvParams {
            weight: &self.weight,
            bias: Some(&self.bias),
            norm: None,
            in_channels: self.channels[0],
            out_channels: self.channels[1],
            kernel: [self.kernel; 2],
            stride: [self.stride; 2],
            padding: [[self.kernel / 2; 2]; 2],
            groups: self.groups,
            activation: self.activation,
        }
    }
}

fn mobilenet_v2() -> Result<Plan, Box<dyn Error>> {
    let relu6 = Activation::Relu6;
    let mut builder = PlanBuilder::new([3, 224, 224]).conv(&Conv::new([3, 32], 3, 2, 1, relu6).params());
    let mut channels = 32;
    for (expansion, outputs, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let hidden = channels * expansion;
            let expand = (expansion != 1).then(|| Conv::new([channels, hidden], 1, 1, 1, relu6));
            let depthwise = Conv::new([hidden, hidden], 3, stride, hidden, relu6);
            let project = Conv::new([hidden, outputs], 1, 1, 1, Activation::None);
            let residual = stride == 1 && channels == outputs;
            builder = builder.inverted_residual(
                expand.as_ref().map(Conv::params).as_ref(),
                &depthwise.params(),
                &project.params(),
                residual,
            );
            channels = outputs;
        }
    }
    let last = Conv::new([channels, 1280], 1, 1, 1, relu6);
    let plan = builder
        .conv(&last.params())
        .global_average_pool()
        .linear(&random(1000 * 1280, 0.05), &random(1000, 0.1), Activation::None)
        .build()?;
    Ok(plan)
}
