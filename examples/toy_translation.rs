//! A Transformer that translates one toy language into another: it learns to reverse, and to add.
//!
//! ```text
//! cargo run --release --example toy_translation -p firebrick-examples [STEPS]
//! ```
//!
//! `r5813` becomes `3185`, and `27+48` becomes `570`, the ones of the sum first, as one adds on paper. Accuracy is the share of pairs, never
//! trained on, that are translated without a mistake.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::burn::module::Module;
use firebrick::burn::optim::GradientsParams;
use firebrick::burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebrick::nn::seed_of;
use firebrick::optim::{OptimizerConfig, RateConfig, StepConfig, Stepper};
use firebrick::text::{EncodeOptions, Encoding, TokenBatch, Tokenizer};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{GreedyDecoding, IGNORED_TOKEN, NormPlaces, Transformer, TransformerConfig};

const BATCH: usize = 64;
/// The longest text of either language, with its begin or end.
const LONGEST: usize = 8;

/// A text and its translation.
type Pair = (String, String);

fn main() -> anyhow::Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(1200), |text| text.parse())?;
    ensure!(steps >= 5, "{steps} steps are too few, give 5 or more");
    let plain = DeviceChoice::Auto.open()?;
    let device = plain.clone().autodiff();

    // A token a character; < begins a translation and > ends it.
    let tokenizer = Tokenizer::characters("0123456789+r<>")?;
    let vocabulary = tokenizer.vocabulary_size();
    let config = TransformerConfig {
        source_vocabulary: vocabulary,
        target_vocabulary: vocabulary,
        shared: false,
        context: LONGEST,
        width: 64,
        heads: 4,
        feed_forward: 128,
        layers: 2,
        dropout: 0.0,
        norms: NormPlaces::First,
    };
    let mut model = config.init(0, &device)?;
    println!("a Transformer of {} parameters", model.num_params());

    let rate: RateConfig = format!("cosine:warmup={},end=0.05", (steps / 20).max(1)).parse()?;
    let step = StepConfig { clip: Some("global_norm=1".parse()?), ..StepConfig::default() };
    let mut stepper = Stepper::new(OptimizerConfig::adam_torch().init()?, rate.init(3e-3, steps)?, &step, 1)?;
    let (mut sum, mut accuracy) = (0.0, [0.0; 2]);
    for count in 1..=steps {
        let pairs: Vec<Pair> = (0..BATCH).map(|place| pair((count * BATCH + place) as u64, false)).collect();
        let (source, padding, target, following) = tensors(&tokenizer, &pairs, &device)?;
        let loss = model.loss(source, target, following, Some(padding));
        sum += loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = stepper.add(model, gradients, BATCH);
        if count % (steps / 5) == 0 {
            accuracy = [measure(&model, &tokenizer, 0, &plain)?, measure(&model, &tokenizer, 1, &plain)?];
            println!(
                "step {count:>5}  loss {:.4}  accuracy: reversed {:.3}, added {:.3}",
                sum / (steps / 5) as f32,
                accuracy[0],
                accuracy[1]
            );
            sum = 0.0;
        }
    }
    for text in ["r90210", "r31", "19+83", "05+07"] {
        println!("{text:>7} -> {}", translate(&model, &tokenizer, &[text.to_owned()], &plain)?[0]);
    }
    let mean = (accuracy[0] + accuracy[1]) / 2.0;
    println!("accuracy: {mean:.3}");
    ensure!(steps < 1000 || mean > 0.95, "{steps} steps are enough to learn both");
    Ok(())
}

/// A drawn pair: a row of digits to reverse where the number is a multiple of four, else a sum, which is harder. One in eight is kept to
/// measure with.
fn pair(number: u64, held_out: bool) -> Pair {
    let mut draw = 0;
    loop {
        draw += 1;
        let drawn = seed_of(number, draw);
        let (source, target) = if number.is_multiple_of(4) {
            let digits = (drawn >> 32) % 90_000 + 10_000;
            let length = 2 + drawn as usize % 4;
            let digits = digits.to_string()[..length].to_owned();
            (format!("r{digits}"), digits.chars().rev().collect())
        } else {
            let (a, b) = ((drawn >> 32) % 100, (drawn >> 16) % 100);
            (format!("{a:02}+{b:02}"), format!("{:03}", a + b).chars().rev().collect())
        };
        // What a text is worth is its own: the same text is always on the same side.
        let hash = source.bytes().fold(7, |hash, byte| seed_of(hash, u64::from(byte)));
        if hash.is_multiple_of(8) == held_out {
            return (source, target);
        }
    }
}

/// Source, its padding, the target from its begin on, and what follows each of the target's tokens.
type Batch = (Tensor<2, Int>, Tensor<2, Bool>, Tensor<2, Int>, Tensor<2, Int>);

fn tensors(tokenizer: &Tokenizer, pairs: &[Pair], device: &Device) -> anyhow::Result<Batch> {
    let encode = |text: String| tokenizer.encode(&text, &EncodeOptions::default());
    let all = |text: &dyn Fn(&Pair) -> String| -> anyhow::Result<TokenBatch> {
        let encodings = pairs.iter().map(|pair| encode(text(pair))).collect::<Result<Vec<Encoding>, _>>()?;
        Ok(TokenBatch::new(&encodings, 0))
    };
    let (source, padding) = source(&all(&|pair| pair.0.clone())?, device);
    let target = all(&|pair| format!("<{}", pair.1))?;
    let mut following = all(&|pair| format!("{}>", pair.1))?;
    for (id, kept) in following.ids.iter_mut().zip(&following.mask) {
        if !kept {
            *id = IGNORED_TOKEN;
        }
    }
    let integers =
        |batch: TokenBatch| Tensor::from_data(TensorData::new(batch.ids, [batch.rows, batch.tokens]), device);
    Ok((source, padding, integers(target), integers(following)))
}

fn source(batch: &TokenBatch, device: &Device) -> (Tensor<2, Int>, Tensor<2, Bool>) {
    let shape = [batch.rows, batch.tokens];
    let padding: Vec<bool> = batch.mask.iter().map(|kept| !kept).collect();
    let ids = Tensor::from_data(TensorData::new(batch.ids.clone(), shape), device);
    (ids, Tensor::from_data(TensorData::new(padding, shape), device))
}

fn translate(
    model: &Transformer,
    tokenizer: &Tokenizer,
    texts: &[String],
    device: &Device,
) -> anyhow::Result<Vec<String>> {
    let batch = TokenBatch::new(&tokenizer.encode_all(texts, &EncodeOptions::default())?, 0);
    let (source, padding) = source(&batch, device);
    let id = |token: &str| tokenizer.id(token).expect("of the alphabet");
    let options = GreedyDecoding { begin: id("<"), end: Some(id(">")), max_tokens: LONGEST };
    let translated = model.greedy(source, Some(padding), options)?;
    Ok(translated.iter().map(|ids| tokenizer.decode(ids)).collect::<Result<_, _>>()?)
}

/// The share of pairs that are translated without a mistake: reversed ones (0) or sums (1).
fn measure(model: &Transformer, tokenizer: &Tokenizer, kind: u64, device: &Device) -> anyhow::Result<f64> {
    let pairs: Vec<Pair> = (0..200).map(|place| pair(1_000_000_000 + 4 * place + kind, true)).collect();
    let (texts, expected): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
    let translated = translate(model, tokenizer, &texts, device)?;
    Ok(translated.iter().zip(&expected).filter(|(ours, right)| ours == right).count() as f64 / 200.0)
}
