//! `firebrick eval`: a trained classifier on a folder of images.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use firebrick::data::open_evaluation;
use firebrick::train::{Evaluation, Extracted, evaluate};
use serde::Serialize;

use crate::Ended;
use crate::choices::DataSource;
use crate::open::{OpenModel, open};
use crate::reading::ReadingArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model.safetensors that `firebrick train` wrote
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Folder of class folders, or one with a validation part, which is then taken
    #[arg(long, value_name = "DIR|builtin:fashion")]
    data: DataSource,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    samples: usize,
    loss: f64,
    accuracy: f64,
    classes: Vec<ClassReport>,
}

#[derive(Serialize)]
struct ClassReport {
    class: String,
    precision: f64,
    recall: f64,
    f1: f64,
    support: u64,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    let device = args.reading.open_device()?;
    let OpenModel { model, classes, preprocess, .. } = open(&args.model.to_string_lossy(), None, &device)?;
    let samples = open_evaluation(crate::train::folder_of(&args.data)?, &classes)?;
    let backbone = model.backbone.compile(preprocess.input_size)?;
    let images = args.reading.batches(samples, preprocess, &device);
    let mut features = Extracted::new(images, |images| backbone.pooled(images));
    let report = report(&evaluate(&model.head, &mut features)?, classes);

    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(Ended::Done);
    }
    let width = report.classes.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(5);
    writeln!(out, "{:<width$}  precision  recall      f1  images", "class")?;
    for class in &report.classes {
        writeln!(
            out,
            "{:<width$}     {:.4}  {:.4}  {:.4}  {:>6}",
            class.class, class.precision, class.recall, class.f1, class.support
        )?;
    }
    writeln!(out, "\nloss {:.4}  accuracy {:.4}  images {}", report.loss, report.accuracy, report.samples)?;
    Ok(Ended::Done)
}

fn report(evaluation: &Evaluation, classes: Vec<String>) -> Report {
    let figures = evaluation.classes();
    Report {
        samples: evaluation.samples,
        loss: evaluation.loss,
        accuracy: evaluation.accuracy,
        classes: classes
            .into_iter()
            .zip(figures)
            .map(|(class, f)| ClassReport {
                class,
                precision: f.precision,
                recall: f.recall,
                f1: f.f1,
                support: f.support,
            })
            .collect(),
    }
}
