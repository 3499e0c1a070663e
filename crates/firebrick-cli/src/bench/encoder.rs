//! A BERT encoder of 22.7 million parameters: 6 layers, 384 wide, 12 heads, as all-MiniLM-L6 has. Compiled to infer, a module to train.

use std::time::Instant;

use anyhow::Result;
use firebrick::burn::optim::GradientsParams;
use firebrick::burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick::kernels::{
    Activation, AttentionParams, EmbeddingParams, EncoderBatch, EncoderConfig, EncoderInput,
    EncoderLayerParams, EncoderPlan, EncoderPlanBuilder, KeyMask, LayerNormParams, LinearParams, NormOrder,
};
use firebrick::nn::loss::cross_entropy;
use firebrick::optim::{OptimizerConfig, RateConfig, StepConfig, Stepper};
use firebrick::zoo::{BertConfig, find_sequence};
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
    let ids = ids(batch, tokens);
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

/// Of the head that is trained.
const CLASSES: usize = 10;

/// Steps that train the encoder and a head of ten classes: forward, cross-entropy, backward, Keras' Adam. No dropout.
pub(super) fn train(
    batch: usize,
    tokens: usize,
    runs: usize,
    device: &Device,
    bar: &ProgressBar,
) -> Result<Measured> {
    let rows = find_sequence("minilm_l6")?.summarize(tokens);
    let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
    let device = device.clone().autodiff();
    let config = BertConfig { dropout: 0.0, ..BertConfig::MINI_LM_L6 };
    let mut model = config.init_classifier(CLASSES, 0, &device)?;
    let rate = RateConfig::default().init(1e-3, runs + 1)?;
    let mut stepper = Stepper::new(OptimizerConfig::adam_keras().init()?, rate, &StepConfig::default(), 1)?;
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids(batch, tokens), [batch, tokens]), &device);
    let labels: Vec<i64> = (0..batch).map(|index| (index % CLASSES) as i64).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);
    let mut times = Vec::with_capacity(runs);
    for run in 0..=runs {
        let started = Instant::now();
        let logits = model.forward(ids.clone(), None, None);
        let loss = cross_entropy(logits, labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = stepper.add(model, gradients, batch);
        std::hint::black_box(loss.into_scalar::<f32>());
        let time = started.elapsed();
        if run > 0 {
            times.push(time);
        }
        bar.inc(1);
    }
    Ok(Measured {
        shapes: [("input", vec![batch, tokens]), ("output", vec![batch, CLASSES])],
        flop: Some(3.0 * 2.0 * multiply_adds as f64),
        times,
    })
}

/// Ids `[batch, tokens]`, every one a word.
fn ids(batch: usize, tokens: usize) -> Vec<i64> {
    (0..batch * tokens).map(|index| (index * 7919 % VOCABULARY) as i64).collect()
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
