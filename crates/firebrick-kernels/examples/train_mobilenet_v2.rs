//! Times a training step's convolutions of MobileNetV2 1.0, chain by chain: where the time of training goes.
//!
//!     cargo run --release -p firebrick-kernels --example train_mobilenet_v2 -- [--threads 2] [--repeats 5] [--batch 32] [--size 224]
//!
//! Prints each chain's shapes and milliseconds an image, forward and backward (medians), and the share of the multiply-add peak
//! that was measured in the same run.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

use firebrick_kernels::{
    Activation, ChainSpec, ChainUnit, ConvChain, Shortcut, UnitNorm, UnitParams, multiply_add_peak,
};
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
    let (mut threads, mut repeats, mut batch, mut size) = (2, 5, 32, 224);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?.parse()?;
        match name.as_str() {
            "--threads" => threads = value,
            "--repeats" => repeats = value,
            "--batch" => batch = value,
            "--size" => size = value,
            _ => return Err(format!("{name} is unknown; use --threads, --repeats, --batch, --size").into()),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;

    let mut shape = [batch, 3, size, size];
    let mut chains = Vec::new();
    for spec in mobilenet_v2() {
        let chain = ConvChain::new(&spec, shape)?;
        let params: Vec<_> = spec.all_units().map(parameters).collect();
        chains.push((spec, shape, chain, params));
        shape = chains[chains.len() - 1].2.output_shape();
    }
    let images = random(batch * 3 * size * size, 1.0);
    let mut times = vec![[Vec::new(), Vec::new()]; chains.len()];
    let mut peak: f64 = 0.0;
    for _ in 0..repeats + 1 {
        peak = peak.max(multiply_add_peak(threads));
        let mut x = images.clone();
        let mut tapes = Vec::new();
        for ((_, _, chain, params), times) in chains.iter().zip(&mut times) {
            let start = Instant::now();
            let result = chain.forward(&x, &[], &borrow(params));
            times[0].push(start.elapsed().as_secs_f64());
            tapes.push(result.tape);
            x = result.output;
        }
        let mut gradient = random(x.len(), 1e-3);
        for (index, (_, _, chain, params)) in chains.iter().enumerate().rev() {
            let start = Instant::now();
            let tape = tapes.pop().expect("a tape a chain");
            let gradients = chain.backward(&tape, &borrow(params), &gradient, [index > 0, false]);
            times[index][1].push(start.elapsed().as_secs_f64());
            gradient = gradients.input.unwrap_or_default();
        }
    }

    let mut totals = [0.0, 0.0, 0.0];
    println!(
        "MobileNetV2 1.0, {size}x{size}, batch {batch}, f32, {threads} threads, {peak:.0} GFLOP/s at most"
    );
    println!(
        "{:>24} {:>8} {:>8} {:>8} {:>6} {:>6}",
        "input", "units", "forward", "backward", "share", "share"
    );
    for ((spec, shape, chain, _), times) in chains.iter().zip(&mut times) {
        let products = multiply_adds(spec, *shape);
        // The first run pays for fresh memory.
        let [forward, backward] = times.each_mut().map(|times| median(&mut times[1..]) * 1e3 / batch as f64);
        let share = |ms: f64, passes: f64| 2.0 * products * passes / (ms * 1e6) / peak * 100.0;
        let units = chain.output_shape()[1];
        println!(
            "{:>24} {units:>8} {forward:8.3} {backward:8.3} {:5.0}% {:5.0}%",
            format!("{:?}", &shape[1..]),
            share(forward, 1.0),
            share(backward, 2.0),
        );
        for (total, value) in totals.iter_mut().zip([forward, backward, products]) {
            *total += value;
        }
    }
    let [forward, backward, products] = totals;
    let share = 6.0 * products / ((forward + backward) * 1e6) / peak * 100.0;
    println!(
        "forward {forward:.2} + backward {backward:.2} = {:.2} ms an image, {share:.0} % of the peak",
        forward + backward
    );
    Ok(())
}

fn borrow(params: &[[Vec<f32>; 3]]) -> Vec<UnitParams<'_>> {
    params.iter().map(|[weight, gamma, beta]| UnitParams { weight, gamma, beta }).collect()
}

fn mobilenet_v2() -> Vec<ChainSpec> {
    let unit = |in_channels, out_channels, kernel: usize, stride, groups, activation| ChainUnit {
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [[(kernel - 1) / 2; 2]; 2],
        groups,
        activation,
        norm: UnitNorm::Batch { epsilon: 1e-5 },
    };
    let mut chains = Vec::new();
    let mut units = vec![unit(3, 32, 3, 2, 1, Activation::Relu6)];
    let mut channels = 32;
    for (expansion, out, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let wide = channels * expansion;
            if expansion > 1 {
                units.push(unit(channels, wide, 1, 1, 1, Activation::Relu6));
            }
            units.push(unit(wide, wide, 3, stride, wide, Activation::Relu6));
            units.push(unit(wide, out, 1, 1, 1, Activation::None));
            let shortcut = if stride == 1 && channels == out { Shortcut::Input } else { Shortcut::None };
            chains.push(ChainSpec::block(std::mem::take(&mut units), shortcut));
            channels = out;
        }
    }
    let last = unit(channels, 1280, 1, 1, 1, Activation::Relu6);
    chains.push(ChainSpec::block(vec![last], Shortcut::None));
    chains
}

fn parameters(unit: &ChainUnit) -> [Vec<f32>; 3] {
    let window = unit.in_channels / unit.groups * unit.kernel[0] * unit.kernel[1];
    let weight = random(unit.out_channels * window, (6.0 / window as f32).sqrt());
    [weight, vec![1.0; unit.out_channels], vec![0.0; unit.out_channels]]
}

fn multiply_adds(spec: &ChainSpec, [_, _, mut height, mut width]: [usize; 4]) -> f64 {
    let mut sum = 0.0;
    for unit in spec.all_units() {
        (height, width) = (height.div_ceil(unit.stride[0]), width.div_ceil(unit.stride[1]));
        let window = unit.in_channels / unit.groups * unit.kernel[0] * unit.kernel[1];
        sum += (unit.out_channels * window * height * width) as f64;
    }
    sum
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Uniform between `-scale` and `scale`; a linear congruential generator is random enough to keep values from vanishing.
fn random(count: usize, scale: f32) -> Vec<f32> {
    let mut state = count as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    std::iter::repeat_with(next).take(count).collect()
}
