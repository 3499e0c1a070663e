//! Times a BERT encoder (6 layers, 384 wide, 12 heads, feed-forward 1536: the shape of all-MiniLM-L6) with random weights,
//! alternating with other runtimes where they are installed.
//!
//!     cargo run --release -p firebrick-kernels --example bert_encoder -- [--threads 2] [--repeats 20] [--batches 1,8] [--tokens 128] [--peers PYTHON]
//!
//! `PYTHON` is an interpreter that has numpy, onnx and any of onnxruntime and torch, see `peers/bert_encoder.py`.
//! Prints milliseconds a batch (minimum and median), the share of the multiply-add peak that was measured in the same run,
//! and the ratio of our median to each peer's. A ratio below 1 means that ours is faster.

#![allow(clippy::print_stdout, reason = "a program whose purpose is to print")]

mod figures;
mod peers;

use figures::{random, summary};
use firebrick_kernels::{
    Activation, AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput,
    EncoderLayerParams, EncoderPlan, EncoderPlanBuilder, KeyMask, LayerNormParams, LinearParams, NormOrder,
    multiply_add_peak,
};
use peers::Peers;
use std::error::Error;
use std::time::Instant;

const LAYERS: usize = 6;
const WIDTH: usize = 384;
const HEADS: usize = 12;
const FEED_FORWARD: usize = 1536;
const VOCABULARY: usize = 30522;
const POSITIONS: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut threads, mut repeats, mut batches, mut tokens, mut python) = (2, 20, vec![1, 8], 128, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--threads" => threads = value.parse()?,
            "--repeats" => repeats = value.parse()?,
            "--batches" => batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--tokens" => tokens = value.parse()?,
            "--peers" => python = Some(value),
            _ => {
                let known = "--threads, --repeats, --batches, --tokens, --peers";
                return Err(format!("{name} is unknown; use {known}").into());
            }
        }
    }
    if tokens == 0 || tokens > POSITIONS {
        return Err(format!("--tokens must lie between 1 and {POSITIONS}, got {tokens}").into());
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let plan = bert_encoder()?;
    let mut peers = match python {
        Some(python) => Some(Peers::start(&python, "bert_encoder.py", "bert_encoder", threads)?),
        None => None,
    };
    let gflop = 2.0 * plan.multiply_adds(tokens) as f64 / 1e9;
    println!(
        "BERT encoder, {LAYERS} layers, {WIDTH} wide, {HEADS} heads, {tokens} tokens, f32, {gflop:.3} GFLOP a sequence, {}, {threads} threads",
        plan.level()
    );

    for batch in batches {
        let ids: Vec<i64> = (0..batch * tokens).map(|i| (i * 7919 % VOCABULARY) as i64).collect();
        let input = EncoderBatch {
            input: EncoderInput::Tokens { ids: &ids, types: None },
            batch,
            tokens,
            mask: KeyMask::None,
        };
        let mut output = vec![0.0; batch * tokens * WIDTH];
        let mut ours = Vec::new();
        let names = peers.as_ref().map_or_else(Vec::new, |peers| peers.names.clone());
        let mut theirs = vec![Vec::new(); names.len()];
        let mut peak: f64 = 0.0;
        for _ in 0..repeats {
            peak = peak.max(multiply_add_peak(threads));
            // A pause has put the other threads to sleep and cooled the caches: not part of the measurement, as for the peers.
            plan.run_into(&input, &mut output)?;
            let start = Instant::now();
            plan.run_into(&input, &mut output)?;
            ours.push(start.elapsed().as_secs_f64() * 1e3);
            if let Some(peers) = &mut peers {
                for (name, times) in names.iter().zip(&mut theirs) {
                    times.push(peers.run(name, &format!("{batch} {tokens}"))? * 1e3);
                }
            }
        }
        let [least, median] = summary(&mut ours);
        let share = gflop * batch as f64 / (least / 1e3) / peak * 100.0;
        println!(
            "batch {batch:3}: firebrick              min {least:7.2} median {median:7.2} ms; {share:.0} % of {peak:.0} GFLOP/s"
        );
        for (name, times) in names.iter().zip(&mut theirs) {
            let [their_least, their_median] = summary(times);
            let ratios = [least / their_least, median / their_median];
            println!(
                "           {name:22} min {their_least:7.2} median {their_median:7.2} ms; ours / theirs {:.2} {:.2}",
                ratios[0], ratios[1]
            );
        }
    }
    Ok(())
}

/// A linear layer that owns its weights.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn new(inputs: usize, outputs: usize) -> Self {
        Self { weight: random(outputs * inputs, (3.0 / inputs as f32).sqrt()), bias: random(outputs, 0.1) }
    }

    fn params(&self) -> LinearParams<'_> {
        LinearParams { weight: &self.weight, bias: Some(&self.bias) }
    }
}

fn bert_encoder() -> Result<EncoderPlan, Box<dyn Error>> {
    let config = EncoderConfig {
        width: WIDTH,
        heads: HEADS,
        feed_forward: FEED_FORWARD,
        activation: Activation::Gelu,
        order: NormOrder::Post,
        causal: false,
    };
    let (gamma, beta) = (vec![1.0; WIDTH], vec![0.0; WIDTH]);
    let norm = LayerNormParams { gamma: &gamma, beta: &beta, epsilon: 1e-12 };
    let embeddings = EmbeddingParams {
        words: &random(VOCABULARY * WIDTH, 0.05),
        positions: &random(POSITIONS * WIDTH, 0.05),
        types: Some(&random(2 * WIDTH, 0.05)),
        norm: Some(norm),
    };
    let mut builder = EncoderPlanBuilder::new(config).embeddings(&embeddings);
    for _ in 0..LAYERS {
        let [query, key, value, output] = [(); 4].map(|()| Linear::new(WIDTH, WIDTH));
        let (expand, project) = (Linear::new(WIDTH, FEED_FORWARD), Linear::new(FEED_FORWARD, WIDTH));
        builder = builder.layer(&EncoderLayerParams {
            attention: AttentionParams {
                query: query.params(),
                key: key.params(),
                value: value.params(),
                output: output.params(),
            },
            attention_norm: norm,
            expand: expand.params(),
            project: project.params(),
            feed_forward_norm: norm,
        });
    }
    Ok(builder.build()?)
}
