//! `firebrick predict`: what is on images, or the target of the rows of a table.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use firebrick::burn::module::Module;
use firebrick::data::{Sample, list_images};
use firebrick::nn::Network;
use firebrick::train::Batches;
use firebrick::zoo::TablePackage;
use serde::Serialize;

use crate::Ended;
use crate::choices::Weights;
use crate::open::{OpenModel, open, refuse_weights};
use crate::reading::ReadingArgs;
use crate::table::{self, Told};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model.safetensors that `firebrick train` wrote, or the name of a model with published weights
    #[arg(long, value_name = "FILE|NAME")]
    model: String,
    /// Weights for a model given by its name
    #[arg(long, value_name = "imagenet|FILE")]
    weights: Option<Weights>,
    /// How many classes to tell of each image
    #[arg(long, default_value_t = 5, value_name = "N")]
    top: usize,
    /// Print one JSON array with an object an image
    #[arg(long)]
    json: bool,
    /// Add the logits to the JSON
    #[arg(long, requires = "json")]
    logits: bool,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Images, or folders of images; one CSV file for a model of tables, of whose rows the target is told as CSV
    #[arg(required = true, value_name = "IMAGE|DIR|FILE.csv")]
    images: Vec<PathBuf>,
}

#[derive(Serialize)]
struct ImagePrediction {
    path: String,
    predictions: Vec<Prediction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<f32>>,
}

#[derive(Serialize)]
struct Prediction {
    index: usize,
    class: String,
    probability: f32,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    ensure!(args.top > 0, "--top is 0, it must be at least 1");
    let device = args.reading.open_device()?;
    if TablePackage::is_at(Path::new(&args.model)) {
        refuse_weights(Path::new(&args.model), args.weights.as_ref())?;
        return rows(
            args,
            table::tell(&args.images, Path::new(&args.model), args.reading.batch_size(), &device)?,
        );
    }
    let mut paths = Vec::new();
    for path in &args.images {
        paths.extend(list_images(path)?);
    }
    let OpenModel { model, classes, preprocess, .. } = open(&args.model, args.weights.as_ref(), &device)?;
    let backbone = model.backbone.compile(preprocess.input_size)?;
    let head = model.head.valid();

    // The label carries the position, so that an image that is skipped does not shift the ones after it.
    let samples =
        paths.iter().enumerate().map(|(label, path)| Sample { path: path.clone(), label }).collect();
    let mut batches = args.reading.batches(samples, preprocess, &device);
    let mut results = Vec::with_capacity(paths.len());
    for batch in batches.epoch(0) {
        let batch = batch?;
        let logits: Vec<f32> =
            head.forward(backbone.pooled(batch.inputs)).into_data().convert::<f32>().try_to_vec()?;
        for (position, row) in batch.labels.iter().zip(logits.chunks(classes.len())) {
            let path = paths[*position].display().to_string();
            let predictions = best(row, args.top, &classes);
            check_finite(args, &path, predictions[0].probability.into())?;
            results.push(ImagePrediction { path, predictions, logits: args.logits.then(|| row.to_vec()) });
        }
    }

    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&results)?)?;
        return Ok(Ended::Done);
    }
    for result in &results {
        writeln!(out, "{}", result.path)?;
        for prediction in &result.predictions {
            writeln!(out, "  {:>6.2} %  {}", prediction.probability * 100.0, prediction.class)?;
        }
    }
    Ok(Ended::Done)
}

#[derive(Serialize)]
struct RowPrediction {
    /// Counted from 1, without the header.
    row: usize,
    #[serde(flatten)]
    told: RowTold,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowTold {
    Classes {
        predictions: Vec<Prediction>,
        #[serde(skip_serializing_if = "Option::is_none")]
        logits: Option<Vec<f32>>,
    },
    Number {
        prediction: f64,
    },
}

/// Prints what is told of the rows of a table: as JSON, or as CSV with a line a row.
fn rows(args: &Args, told: Told) -> Result<Ended> {
    let told: Vec<RowTold> = match told {
        Told::Numbers(numbers) => {
            numbers.into_iter().map(|prediction| RowTold::Number { prediction }).collect()
        }
        Told::Classes(logits, classes) => logits
            .into_iter()
            .map(|row| RowTold::Classes {
                predictions: best(&row, args.top, &classes),
                logits: args.logits.then_some(row),
            })
            .collect(),
    };
    for (index, told) in told.iter().enumerate() {
        let first = match told {
            RowTold::Classes { predictions, .. } => predictions[0].probability.into(),
            RowTold::Number { prediction } => *prediction,
        };
        check_finite(args, &format!("row {}", index + 1), first)?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<RowPrediction> = told
            .into_iter()
            .enumerate()
            .map(|(index, told)| RowPrediction { row: index + 1, told })
            .collect();
        writeln!(out, "{}", serde_json::to_string(&rows)?)?;
        return Ok(Ended::Done);
    }
    match told.first() {
        Some(RowTold::Number { .. }) => writeln!(out, "row,prediction")?,
        _ => writeln!(out, "row,prediction,probability")?,
    }
    for (index, told) in told.iter().enumerate() {
        let row = index + 1;
        match told {
            RowTold::Number { prediction } => writeln!(out, "{row},{prediction}")?,
            RowTold::Classes { predictions, .. } => {
                let Prediction { class, probability, .. } = &predictions[0];
                writeln!(out, "{row},{},{probability:.6}", quoted(class))?;
            }
        }
    }
    Ok(Ended::Done)
}

/// Refuses to tell what is no number; where one probability is none, all are.
fn check_finite(args: &Args, sample: &str, value: f64) -> Result<()> {
    let weights = match &args.weights {
        Some(Weights::File(path)) => path.display().to_string(),
        _ => args.model.clone(),
    };
    ensure!(
        value.is_finite(),
        "{sample}: {weights} tells {value} of it, which is no number; its weights or the values of the input are out of all bounds: give others"
    );
    Ok(())
}

/// A cell of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// The `top` classes of a row of logits with their probabilities, likeliest first.
fn best(logits: &[f32], top: usize, classes: &[String]) -> Vec<Prediction> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order
        .into_iter()
        .take(top)
        .map(|index| Prediction {
            index,
            class: classes[index].clone(),
            probability: (logits[index] - highest).exp() / sum,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_a_softmax_in_falling_order() {
        let classes: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let best = best(&[0.0, 1000.0, 999.0], 2, &classes);
        assert_eq!(best.iter().map(|p| p.class.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert!((best[0].probability - 0.731_058_6).abs() < 1e-6);
    }
}
