//! `firebrick eval`: a trained model on a folder of images or a CSV file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use firebrick::augment::{Augmentation, Pipeline, Transform};
use firebrick::data::open_evaluation;
use firebrick::train::metrics::{ClassificationReport, Regression};
use firebrick::train::{Extracted, ImageTransform, Scores, score};
use firebrick::zoo::TablePackage;
use serde::Serialize;

use crate::Ended;
use crate::choices::{Augment, DataSource};
use crate::open::{OpenModel, open};
use crate::reading::ReadingArgs;
use crate::table::{self, Measured};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model.safetensors that `firebrick train` wrote
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A CSV file for a model of tables; or a folder of class folders, or one with a validation part, which is then taken
    #[arg(long, value_name = "FILE.csv|DIR|builtin:fashion")]
    data: DataSource,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write the figures as well: a classifier's classes to a .csv file, everything as JSON to any other
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Varied views of every image, besides the plain one, whose probabilities are averaged
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    views: u32,
    /// How views are varied, as `train --augment`
    #[arg(long, value_name = "NAME|FILE.toml", requires = "views")]
    augment: Option<Augment>,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// What `--json` prints and `--report` writes.
#[derive(Serialize)]
struct Report {
    loss: f64,
    #[serde(flatten)]
    figures: ClassificationReport,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    // Whatever can be wrong is found before anything is computed.
    if let Some(path) = &args.report {
        check_place(path, "--report")?;
    }
    let flip =
        || Augmentation::Pipeline(Pipeline { steps: vec![Transform::RandomHorizontalFlip { p: 1.0 }] });
    let augmentation = match &args.augment {
        Some(augment) => augment.augmentation()?.unwrap_or_else(flip),
        None => flip(),
    };
    let device = args.reading.open_device()?;
    if TablePackage::is_at(&args.model) {
        let DataSource::Folder(path) = &args.data else {
            bail!("a model of tables takes a CSV file as --data")
        };
        return match table::evaluate(path, &args.model, args.reading.batch_size(), &device)? {
            Measured::Classes(scores, classes) => show(args, &scores, &classes, "rows"),
            Measured::Numbers(figures) => show_numbers(args, &figures),
        };
    }
    let OpenModel { model, classes, preprocess, .. } = open(&args.model.to_string_lossy(), None, &device)?;
    let samples = open_evaluation(crate::train::folder_of(&args.data)?, &classes)?;
    let backbone = model.backbone.compile(preprocess.input_size)?;
    let scored = |transform| {
        let images = args.reading.transformed(samples.clone(), transform, &device);
        anyhow::Ok(score(&model.head, &mut Extracted::new(images, |images| backbone.pooled(images)))?)
    };
    let mut views = vec![scored(ImageTransform::Evaluate(preprocess))?];
    for seed in 0..u64::from(args.views) {
        let augmentation = augmentation.clone();
        views.push(scored(ImageTransform::Augment { preprocess, augmentation, seed })?);
    }
    let scores = Scores::mean(&views)?;
    show(args, &scores, &classes, "images")
}

/// Prints the figures of a classifier, and writes them where the arguments say.
fn show(args: &Args, scores: &Scores, classes: &[String], samples: &str) -> Result<Ended> {
    let report = Report { loss: scores.cross_entropy()?, figures: scores.report(classes)? };
    let mut out = std::io::stdout().lock();
    let printed = match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?).map_err(Into::into),
        false => print(&mut out, &report, samples),
    };
    // The report is wanted even where nobody reads the figures to their end; and the figures where it cannot be written.
    if let Some(path) = &args.report {
        write_report(path, &report)?;
    }
    printed?;
    Ok(Ended::Done)
}

/// Prints the figures of a network that tells numbers, and writes them where the arguments say.
fn show_numbers(args: &Args, figures: &Regression) -> Result<Ended> {
    let line = if args.json {
        serde_json::to_string(figures)?
    } else {
        let r2 = figures.r2.map_or_else(String::new, |r2| format!("  R2 {r2:.6}"));
        let Regression { mse, rmse, mae, samples, .. } = figures;
        format!("MSE {mse:.6}  RMSE {rmse:.6}  MAE {mae:.6}{r2}  rows {samples}")
    };
    let printed = writeln!(std::io::stdout().lock(), "{line}");
    if let Some(path) = &args.report {
        write_whole(path, format!("{}\n", serde_json::to_string_pretty(figures)?).as_bytes())?;
    }
    printed?;
    Ok(Ended::Done)
}

fn print(out: &mut impl Write, report: &Report, samples: &str) -> Result<()> {
    let figures = &report.figures;
    let width = figures.classes.iter().map(|class| class.class.chars().count()).max().unwrap_or(0).max(8);
    writeln!(out, "{:<width$}  precision  recall      f1   AUROC      AP  {samples}", "class")?;
    let defined = |figure: Option<f64>| figure.map_or("     -".to_owned(), |figure| format!("{figure:.4}"));
    let column = samples.len();
    for class in &figures.classes {
        writeln!(
            out,
            "{:<width$}     {:.4}  {:.4}  {:.4}  {}  {:.4}  {:>column$}",
            class.class,
            class.precision,
            class.recall,
            class.f1,
            defined(class.roc_auc),
            class.average_precision,
            class.support
        )?;
    }
    writeln!(out)?;
    for (name, average) in [
        ("macro", &figures.macro_average),
        ("micro", &figures.micro_average),
        ("weighted", &figures.weighted_average),
    ] {
        writeln!(
            out,
            "{name:<width$}     {:.4}  {:.4}  {:.4}  {}  {}  {:>column$}",
            average.precision,
            average.recall,
            average.f1,
            defined(average.roc_auc),
            defined(average.average_precision),
            figures.samples
        )?;
    }
    write!(out, "\nbalanced accuracy {:.4}", figures.balanced_accuracy)?;
    if let Some(top) = figures.top_5_accuracy {
        write!(out, "  top-5 accuracy {top:.4}")?;
    }
    write!(out, "  MCC {:.4}", figures.matthews)?;
    if let Some(kappa) = figures.cohens_kappa {
        write!(out, "  kappa {kappa:.4}")?;
    }
    writeln!(out, "  calibration error {:.4}", figures.calibration_error)?;
    writeln!(
        out,
        "\nloss {:.4}  accuracy {:.4}  {samples} {}",
        report.loss, figures.accuracy, figures.samples
    )?;
    Ok(())
}

/// A `.csv` file has a line a class; any other is the JSON object with everything.
fn write_report(path: &Path, report: &impl Serialize) -> Result<()> {
    let json = serde_json::to_value(report)?;
    let text = match path.extension().is_some_and(|extension| extension == "csv") {
        true => class_table(&json),
        false => format!("{}\n", serde_json::to_string_pretty(&json)?),
    };
    write_whole(path, text.as_bytes())
}

/// The columns of the classes' table.
const COLUMNS: [&str; 7] = ["class", "precision", "recall", "f1", "support", "roc_auc", "average_precision"];

/// The classes of a report as CSV (RFC 4180), without a confusion matrix.
fn class_table(report: &serde_json::Value) -> String {
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        serde_json::Value::Null => String::new(),
        value => value.to_string(),
    };
    let rows = report["classes"].as_array().into_iter().flatten();
    let lines = rows.map(|row| COLUMNS.map(|column| cell(&row[column])).join(","));
    [COLUMNS.join(",")].into_iter().chain(lines).map(|line| line + "\n").collect()
}

/// Refuses a place that no file can be written to.
pub(crate) fn check_place(path: &Path, flag: &str) -> Result<()> {
    let folder = folder_of(path);
    ensure!(
        folder.is_dir(),
        "{}: the folder {} does not exist; make it first, or choose another {flag}",
        path.display(),
        folder.display()
    );
    ensure!(!path.is_dir(), "{}: is a folder; choose a file's name as {flag}", path.display());
    tempfile::tempfile_in(folder).with_context(|| format!("{}: cannot write", path.display()))?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file that is whole or not there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    // Temporary files are private; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let write = || -> std::io::Result<()> {
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("{}: cannot write", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_a_class_and_an_empty_cell_for_what_is_undefined() {
        let scores = Scores { labels: vec![0, 0], logits: vec![vec![2.0, 0.0], vec![0.0, 1.0]] };
        let names = ["say \"a\", b".to_owned(), "c".to_owned()];
        let report = Report { loss: 0.0, figures: scores.report(&names).expect("two samples") };
        let table = class_table(&serde_json::to_value(&report).expect("JSON"));
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], COLUMNS.join(","));
        assert_eq!(lines[1], "\"say \"\"a\"\", b\",1.0,0.5,0.6666666666666666,2,,1.0");
        assert_eq!(lines[2], "\"c\",0.0,0.0,0.0,0,,0.0");
        assert_eq!(lines.len(), 3);
    }
}
