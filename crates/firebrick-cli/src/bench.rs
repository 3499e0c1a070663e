//! `firebrick bench`: how long a model's work takes on this machine, and how near that is to what the machine can do.
//!
//! A mode is one file that turns a [`Job`] into [`Measured`] figures; whatever they are divided by is here.

mod encoder;
mod frozen;
mod infer;
mod memory;
mod photo;
mod pipeline;
mod report;
mod steps;
mod sweep;
mod train;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firebrick::burn::tensor::Device;
use firebrick::kernels::{SimdLevel, multiply_add_peak};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{CreateOptions, ModelSpec, find, find_sequence};
use indicatif::ProgressBar;

use crate::Ended;
use crate::open::check_side;
use crate::progress;
use report::Report;

/// Most that the pixels of one batch may take, bytes: far above what is worth measuring, far below what would be
/// refused by the allocator, which would end the program without a message.
const MOST_INPUT_BYTES: u64 = 8 << 30;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Model, see `firebrick models`, or bert_encoder; its weights are random, they do not change the time
    #[arg(long, default_value = "mobilenet_v2", value_name = "NAME")]
    model: String,
    /// What is measured
    #[arg(long, default_value = "infer", value_name = "infer|train|frozen|pipeline")]
    mode: Mode,
    /// Images of a batch; sequences, for bert_encoder
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Side of the images, pixels
    #[arg(long, default_value_t = 224, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    image_size: u32,
    /// Length of bert_encoder's sequences
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=encoder::POSITIONS as i64))]
    tokens: u32,
    /// Device: auto takes a GPU if there is one; the pipeline and bert_encoder's inference run on the CPU, without tensors
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "auto|ndarray|flex|wgpu")]
    device: DeviceChoice,
    /// Batches that are timed, after one that is not
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Measure batches of 1, 8, 32 and 128, and images of 96, 160, 224 and 320 pixels, each in a process of its own
    #[arg(long)]
    sweep: bool,
    /// Write the JPEG that the pipeline decodes, so that another program can be given the same
    #[arg(long, value_name = "FILE.jpg", conflicts_with = "sweep")]
    save_photo: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// Images to logits, the network compiled as `eval` and `predict` have it.
    Infer,
    /// A step that trains the whole network: forward, backward, Adam.
    Train,
    /// A step that trains a head of 128 and 10 on the compiled base's features, computed in each step.
    Frozen,
    /// From a JPEG of 500x320 in memory to an augmented, normalised input, on one thread.
    Pipeline,
}
crate::choices::by_value_name!(Mode: "mode");

/// What is measured: a classifier of images with any of its modes, or the encoder.
#[derive(Clone, Copy)]
enum Subject {
    Images(&'static ModelSpec),
    Encoder,
}

impl Subject {
    fn of(args: &Args) -> Result<Self> {
        if args.model != encoder::NAME {
            ensure!(
                find_sequence(&args.model).is_err(),
                "{} is a model of sequences, of which only {} is measured; give that, or a model of images",
                args.model,
                encoder::NAME
            );
            let spec = find(&args.model)?;
            if args.mode != Mode::Pipeline && !args.sweep {
                check_side("image-size", args.image_size, spec, &created(args.image_size))?;
            }
            return Ok(Self::Images(spec));
        }
        let mode = args.mode;
        ensure!(
            matches!(mode, Mode::Infer | Mode::Train),
            "mode is {mode}, but {} can only infer or train",
            encoder::NAME
        );
        ensure!(
            !args.sweep,
            "--sweep is over images, {} has none; choose --batch-size and --tokens",
            encoder::NAME
        );
        Ok(Self::Encoder)
    }
}

/// What a mode is given.
struct Job {
    spec: &'static ModelSpec,
    batch: usize,
    side: u32,
    runs: usize,
    device: Device,
    bar: ProgressBar,
}

/// What a mode gives.
struct Measured {
    /// What goes in and out, outermost axis first.
    shapes: [(&'static str, Vec<usize>); 2],
    /// Multiplications and additions of an image, counted apart; none where nobody counted them.
    flop: Option<f64>,
    /// Of each batch, in order.
    times: Vec<Duration>,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    let subject = Subject::of(args)?;
    if let Some(path) = &args.save_photo {
        std::fs::write(path, photo::jpeg()?).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    check_input(args.batch_size, args.image_size)?;
    if args.sweep {
        return sweep::run(args);
    }
    let report = measure(args, subject)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(Ended::Done)
}

fn measure(args: &Args, subject: Subject) -> Result<Report> {
    let simd = SimdLevel::from_environment()?;
    let device = args.device.open()?;
    let name = match (subject, args.mode) {
        // No tensor takes part.
        (Subject::Encoder, Mode::Infer) | (_, Mode::Pipeline) => "cpu".to_owned(),
        _ => device_name(args.device, &device),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runs = args.runs as usize;
    // Before and after: the clock and the neighbours change, and the peak is the most that there was.
    let mut peak = peak_of(threads);

    let bar = progress::bar(u64::from(args.runs) + 1, "{prefix} [{bar:28}] {pos}/{len} batches  {eta} left");
    bar.set_prefix(format!("{} {}", args.model, args.mode));
    let batch = args.batch_size as usize;
    let measured = match subject {
        Subject::Encoder => match args.mode {
            Mode::Train => encoder::train(batch, args.tokens as usize, runs, &device, &bar),
            _ => encoder::infer(batch, args.tokens as usize, runs, &bar),
        },
        Subject::Images(spec) => {
            let job = Job { spec, batch, side: args.image_size, runs, device, bar: bar.clone() };
            match args.mode {
                Mode::Infer => infer::measure(job),
                Mode::Train => train::measure(job),
                Mode::Frozen => frozen::measure(job),
                Mode::Pipeline => pipeline::measure(job),
            }
        }
    };
    progress::finish(&bar);
    let measured = measured?;
    ensure!(measured.times.len() == runs, "{} of {runs} batches were measured", measured.times.len());
    peak = peak.max(peak_of(threads));
    Ok(Report::new(args, name, &measured, report::Machine { threads, simd: simd.to_string(), peak }))
}

/// The largest of some measurements: what else runs on the machine can only make them smaller.
fn peak_of(threads: usize) -> f64 {
    (0..8).map(|_| multiply_add_peak(threads)).fold(0.0, f64::max)
}

/// The name of an open device; `auto` is named after what it chose.
fn device_name(choice: DeviceChoice, device: &Device) -> String {
    let is_it = |choice: &DeviceChoice| choice.open().is_ok_and(|opened| opened == *device);
    match choice {
        DeviceChoice::Auto => {
            let cpu = [DeviceChoice::NdArray, DeviceChoice::Flex].into_iter().find(is_it);
            cpu.unwrap_or(DeviceChoice::Wgpu).to_string()
        }
        named => named.to_string(),
    }
}

fn check_input(batch: u32, side: u32) -> Result<()> {
    let bytes = u64::from(batch) * u64::from(side) * u64::from(side) * 3 * 4;
    ensure!(
        bytes <= MOST_INPUT_BYTES,
        "a batch of {batch} images of {side}x{side} takes {:.1} GiB, at most {} are measured; choose a smaller --batch-size or --image-size",
        bytes as f64 / f64::from(1 << 30),
        MOST_INPUT_BYTES >> 30
    );
    Ok(())
}

/// The published network, with positions for images of this side where it has any.
fn created(side: u32) -> CreateOptions {
    CreateOptions { image_size: Some([side; 2]), ..CreateOptions::default() }
}

/// Values between -1 and 1, as normalised pixels are; the same ones for the same count.
fn pixels(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = || {
        // Numerical Recipes' generator: random enough that no layer's outputs vanish.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
