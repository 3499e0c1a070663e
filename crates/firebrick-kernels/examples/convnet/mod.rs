//! What the examples of convolutional networks have in common: random convolutions, and the timing beside the peers.

use crate::figures::{random, summary};
use crate::peers::Peers;
use firebrick_kernels::{Activation, ConvParams, Plan, multiply_add_peak};
use std::error::Error;
use std::time::Instant;

/// A convolution with random weights that keep the activations' scale, padded by half its kernel.
pub struct Conv {
    weight: Vec<f32>,
    bias: Vec<f32>,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
    activation: Activation,
}

impl Conv {
    /// From input and output channels, kernel, stride, groups and activation.
    pub fn new(
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

    /// As a plan's builder takes it.
    pub fn params(&self) -> ConvParams<'_> {
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

/// A network that an example times.
pub struct Network {
    /// As torchvision or timm call it, for the peers.
    pub name: &'static str,
    /// Compiles it.
    pub plan: fn() -> Result<Plan, Box<dyn Error>>,
}

/// What is asked for on the command line.
pub struct Timing {
    threads: usize,
    repeats: usize,
    batches: Vec<usize>,
    peers: Option<String>,
    steps: usize,
    model: Option<String>,
}

impl Timing {
    /// Reads the arguments and gives rayon its threads.
    pub fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let mut timing =
            Self { threads: 2, repeats: 20, batches: vec![1, 32], peers: None, steps: 0, model: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--threads" => timing.threads = value.parse()?,
                "--repeats" => timing.repeats = value.parse()?,
                "--batches" => timing.batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--peers" => timing.peers = Some(value),
                "--model" => timing.model = Some(value),
                "--steps" => timing.steps = value.parse()?,
                _ => {
                    let known = "--threads, --repeats, --batches, --peers, --steps, --model";
                    return Err(format!("{name} is unknown; use {known}").into());
                }
            }
        }
        rayon::ThreadPoolBuilder::new().num_threads(timing.threads).build_global()?;
        Ok(timing)
    }

    /// Times the network that is asked for, or the first, in turns with the peers and prints what came out.
    pub fn run(&self, networks: &[Network]) -> Result<(), Box<dyn Error>> {
        let asked = |network: &&Network| self.model.as_ref().is_none_or(|model| model == network.name);
        let Some(network) = networks.iter().find(asked) else {
            let names: Vec<_> = networks.iter().map(|network| network.name).collect();
            return Err(format!("--model {:?} is unknown; use {}", self.model, names.join(", ")).into());
        };
        let plan = &(network.plan)()?;
        let name = network.name;
        let threads = self.threads;
        let mut peers =
            self.peers.as_ref().map(|python| Peers::start(python, "vision.py", name, threads)).transpose()?;
        let gflop = 2.0 * plan.multiply_adds() as f64 / 1e9;
        let [channels, height, width] = plan.input_shape();
        println!(
            "{name}, {height}x{width}, f32, {gflop:.3} GFLOP an image, {}, {threads} threads",
            plan.level()
        );
        self.print_steps(plan);
        for &batch in &self.batches {
            let input = random(batch * height * width * channels, 1.0);
            let mut output = vec![0.0; batch * plan.output_len(0)];
            let mut ours = Vec::new();
            let names = peers.as_ref().map_or_else(Vec::new, |peers| peers.names.clone());
            let mut theirs = vec![Vec::new(); names.len()];
            let mut peak: f64 = 0.0;
            for _ in 0..self.repeats {
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

    /// The least time of each step of one image, and the share of the peak.
    fn print_steps(&self, plan: &Plan) {
        if self.steps == 0 {
            return;
        }
        let image = random(plan.input_shape().iter().product(), 1.0);
        let mut least = plan.step_times(&image);
        let mut peak: f64 = 0.0;
        for _ in 0..self.steps {
            peak = peak.max(multiply_add_peak(self.threads));
            for (least, step) in least.iter_mut().zip(plan.step_times(&image)) {
                least.time = least.time.min(step.time);
            }
        }
        for step in &least {
            let seconds = step.time.as_secs_f64();
            let rate = 2.0 * step.multiply_adds as f64 / seconds / 1e9;
            println!(
                "{:8.3} ms {rate:5.0} GFLOP/s {:3.0} %  {}",
                seconds * 1e3,
                rate / peak * 100.0,
                step.name
            );
        }
        let total: f64 = least.iter().map(|step| step.time.as_secs_f64()).sum();
        println!("{:8.3} ms in all, peak {peak:.0} GFLOP/s", total * 1e3);
    }
}
