//! A BERT encoder of 22.7 million parameters, compiled: 6 layers, 384 wide, 12 heads, as all-MiniLM-L6 has.

use std::time::Instant;

use anyhow::Result;
use firebrick::kernels::{
    Activation, AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput,
    EncoderLayerParams, EncoderPlan, EncoderPlanBuilder, KeyMask, LayerNormParams, LinearParams, NormOrder,
};
use indicatif::ProgressBar;

use super::{Measured, pixels};

/// The name by which it is asked for. It has no published weights, so the zoo does not know it.
pub(super) const NAME: &str = "bert_encoder";

const LAYERS: usize = 6;
const WIDTH: usize = 384;
const HEADS: usize = 12;
const FEED_FORWARD: usize = 1536;
const VOCABULARY: usize = 30_522;
/// The most tokens of a sequence.
pub(super) const POSITIONS: usize = 512;

/// Batches of token ids `[batch, tokens]`, none masked, to hidden states `[batch, tokens, 384]`.
pub(super) fn infer(batch: usize, tokens: usize, runs: usize, bar: &ProgressBar) -> Result<Measured> {
    let plan = plan()?;
    let ids: Vec<i64> = (0..batch * tokens).map(|index| (index * 7919 % VOCABULARY) as i64).collect();
    let input = EncoderBatch {
        input: EncoderInput::Tokens { ids: &ids, types: None },
        batch,
        tokens,
        mask: KeyMask::None,
    };
    let mut output = vec![0.0; batch * tokens * WIDTH];
    let mut times = Vec::with_capacity(runs);
    for run in 0..=runs {
        let started = Instant::now();
        plan.run_into(&input, &mut output)?;
        let time = started.elapsed();
        if run > 0 {
            times.push(time);
        }
        bar.inc(1);
    }
    Ok(Measured {
        shapes: [("input", vec![batch, tokens]), ("output", vec![batch, tokens, WIDTH])],
        flop: Some(2.0 * plan.multiply_adds(tokens) as f64),
        times,
    })
}

/// A linear layer that owns its weights, of a scale that keeps values as large as they were.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn new(inputs: usize, outputs: usize) -> Self {
        let scale = (3.0 / inputs as f32).sqrt();
        let weight = pixels(inputs * outputs).iter().map(|value| value * scale).collect();
        Self { weight, bias: vec![0.0; outputs] }
    }

    fn params(&self) -> LinearParams<'_> {
        LinearParams { weight: &self.weight, bias: Some(&self.bias) }
    }
}

fn plan() -> Result<EncoderPlan> {
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
        words: &pixels(VOCABULARY * WIDTH),
        positions: &pixels(POSITIONS * WIDTH),
        types: Some(&pixels(2 * WIDTH)),
        norm: Some(norm),
    };
    // Every layer gets the same values: packing copies them, so the memory that is read is each layer's own.
    let square = Linear::new(WIDTH, WIDTH);
    let (expand, project) = (Linear::new(WIDTH, FEED_FORWARD), Linear::new(FEED_FORWARD, WIDTH));
    let layer = EncoderLayerParams {
        attention: AttentionParams {
            query: square.params(),
            key: square.params(),
            value: square.params(),
            output: square.params(),
        },
        attention_norm: norm,
        expand: expand.params(),
        project: project.params(),
        feed_forward_norm: norm,
    };
    let builder = EncoderPlanBuilder::new(config).embeddings(&embeddings);
    Ok((0..LAYERS).fold(builder, |builder, _| builder.layer(&layer)).build()?)
}
