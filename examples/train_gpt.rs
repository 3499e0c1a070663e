//! A small GPT that learns to write like a text file, character by character, with loss and samples on the way.
//!
//! ```text
//! cargo run --release --example train_gpt -p firebrick-examples -- [FILE.txt] [STEPS] [OUT.safetensors]
//! firebrick generate --model OUT.safetensors --prompt "On the seventh night" --max-tokens 300 --temperature 0.7
//! ```
//!
//! Without a file it learns the story in `data/lighthouse.txt`, which was written for it. The package that it saves holds the tokenizer too.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use anyhow::{Context, ensure};
use firebrick::burn::module::Module;
use firebrick::burn::optim::GradientsParams;
use firebrick::burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick::data::shuffled;
use firebrick::optim::{OptimizerConfig, RateConfig, StepConfig, Stepper};
use firebrick::text::{EncodeOptions, Tokenizer};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{GenerateOptions, Gpt, GptConfig, GptPackage, Sampling};

const STORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/lighthouse.txt");
const CONTEXT: usize = 64;
const BATCH: usize = 16;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().map_or_else(|| PathBuf::from(STORY), PathBuf::from);
    let steps: usize = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let out = arguments.next().map_or_else(|| PathBuf::from("gpt.safetensors"), PathBuf::from);
    ensure!(steps >= 5, "{steps} steps are too few, give 5 or more");

    // Text to ids: a token a character. The last tenth is kept to measure with.
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let tokenizer = Tokenizer::characters(&text)?;
    let ids = tokenizer.encode(&text, &EncodeOptions::default())?.ids;
    let (train, rest) = ids.split_at(ids.len() * 9 / 10);
    ensure!(
        rest.len() > CONTEXT,
        "{}: the text has {} characters, give one of 650 or more",
        path.display(),
        ids.len()
    );

    let plain = DeviceChoice::Auto.open()?;
    let device = plain.clone().autodiff();
    let config = GptConfig {
        vocabulary: tokenizer.vocabulary_size(),
        context: CONTEXT,
        width: 64,
        layers: 2,
        heads: 4,
        feed_forward: 256,
        epsilon: 1e-5,
        dropout: 0.0,
        tied: true,
    };
    let mut model = config.init(0, &device)?;
    println!(
        "{} characters, {} different ones; a GPT of {} parameters",
        ids.len(),
        config.vocabulary,
        model.num_params()
    );

    // AdamW with a clipped gradient, the rate up in 5 % of the steps and down in a cosine.
    let warmup = (steps / 20).max(1);
    let rate: RateConfig = format!("cosine:warmup={warmup},end=0.1").parse()?;
    let step = StepConfig { clip: Some("global_norm=1".parse()?), ..StepConfig::default() };
    let mut stepper =
        Stepper::new(OptimizerConfig::adamw_torch().init()?, rate.init(3e-3, steps)?, &step, 1)?;
    let mut starts = (0..).flat_map(|epoch| shuffled(train.len() - CONTEXT, 0, epoch));
    let before = validation(&model, rest, &plain)?;
    println!("step {:>5}  val_loss {before:.3}", 0);
    let mut sum = 0.0;
    for count in 1..=steps {
        let starts: Vec<usize> = starts.by_ref().take(BATCH).collect();
        let batch = windows(train, &starts, &device);
        // The labels are the ids: the loss looks one place on.
        let loss = model.loss(batch.clone(), batch);
        sum += loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = stepper.add(model, gradients, BATCH);
        if count % (steps / 5) == 0 {
            let mean = sum / (steps / 5) as f32;
            sum = 0.0;
            let val_loss = validation(&model, rest, &plain)?;
            println!(
                "step {count:>5}  loss {mean:.3}  val_loss {val_loss:.3}  lr {:.1e}",
                stepper.last_rate()
            );
            println!("  {:?}", sample(&model, &tokenizer, &text)?);
        }
    }
    let after = validation(&model, rest, &plain)?;
    ensure!(after < before - 0.5, "nothing was learnt: the loss was {before} and is {after}");

    let data = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let config = serde_json::json!({ "steps": steps, "batch": BATCH, "lr": 3e-3 });
    GptPackage::new(model.valid(), tokenizer, data, config)?.save(&out)?;
    println!("saved to {}", out.display());
    Ok(())
}

/// The tokens from each start on, `[starts, CONTEXT]`.
fn windows(ids: &[u32], starts: &[usize], device: &Device) -> Tensor<2, Int> {
    let values: Vec<i64> =
        starts.iter().flat_map(|&start| &ids[start..start + CONTEXT]).map(|&id| i64::from(id)).collect();
    Tensor::from_data(TensorData::new(values, [starts.len(), CONTEXT]), device)
}

/// The mean loss of a character that was not trained on.
fn validation(model: &Gpt, ids: &[u32], device: &Device) -> anyhow::Result<f32> {
    let starts: Vec<usize> = (0..ids.len() - CONTEXT).step_by(CONTEXT).collect();
    let batch = windows(ids, &starts, device);
    Ok(model.valid().loss(batch.clone(), batch).into_scalar::<f32>())
}

/// How the model goes on from the text's first words.
fn sample(model: &Gpt, tokenizer: &Tokenizer, text: &str) -> anyhow::Result<String> {
    let start: String = text.chars().take(12).collect();
    let prompt = tokenizer.encode(&start, &EncodeOptions::default())?.ids;
    let sampling = Sampling { temperature: 0.7, ..Sampling::default() };
    let mut generation =
        model.generate(&prompt, GenerateOptions { sampling, ..GenerateOptions::default() })?;
    generation.by_ref().for_each(drop);
    Ok(tokenizer.decode(generation.tokens())?)
}
