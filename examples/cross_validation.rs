//! Cross-validation: what a network is worth on data that it was not trained on, and how sure that is.
//!
//! ```text
//! cargo run --release --example cross_validation -p firebrick-examples [FOLDS] [REPEATS] [EPOCHS]
//! ```
//!
//! Wisconsin breast cancer data in stratified folds, for networks of several depths.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::data::{Fold, KFold, Table, TableEncoder, TableLimits, Target, Task};
use firebrick::nn::HeadConfig;
use firebrick::optim::OptimizerConfig;
use firebrick::train::metrics::ClassificationReport;
use firebrick::train::{DeviceChoice, FitOptions, InMemory, fit, score};

const CANCER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/breast_cancer.csv");

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse());
    let folds = arguments.next().unwrap_or(Ok(5))?;
    let repeats = arguments.next().unwrap_or(Ok(1))?;
    let epochs = arguments.next().unwrap_or(Ok(15))?;
    let device = DeviceChoice::NdArray.open()?;
    let table = Table::read(CANCER, &TableLimits::default())?;
    let k_fold = KFold { folds, repeats, seed: 0 };
    let parts = k_fold.stratified(&table.groups("diagnosis")?)?;

    println!("{folds} folds, {repeats} times; mean and standard deviation");
    for hidden in [&[][..], &[16], &[16, 16, 16]] {
        let reports = parts
            .iter()
            .map(|fold| run(&table, fold, hidden, epochs, &device))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (accuracy, spread) = mean_and_deviation(reports.iter().map(|report| report.accuracy));
        let (area, area_spread) =
            mean_and_deviation(reports.iter().filter_map(|report| report.macro_average.roc_auc));
        println!(
            "hidden layers {:<13} accuracy {accuracy:.4} ± {spread:.4}  AUROC {area:.4} ± {area_spread:.4}",
            format!("{hidden:?}")
        );
        ensure!(accuracy > 0.85, "the network has not learnt the diagnosis");
    }
    Ok(())
}

/// Trains on one part and measures on the other. Means and deviations of the inputs are those of the training part, too: taken
/// from all rows, they would tell the network of those that it must not know.
fn run(
    table: &Table,
    fold: &Fold,
    hidden: &[usize],
    epochs: usize,
    device: &Device,
) -> anyhow::Result<ClassificationReport> {
    let encoder = TableEncoder::fit(table, &fold.train, "diagnosis", Task::Classify, &[])?;
    let batches = |rows: &[usize]| -> anyhow::Result<InMemory<2>> {
        let inputs = TensorData::new(encoder.inputs(table, rows)?, [rows.len(), encoder.width()]);
        Ok(InMemory::new(Tensor::from_data(inputs, device), encoder.labels(table, rows)?, 32)?)
    };
    let outcome = fit(
        HeadConfig::new(encoder.width(), encoder.target.width()).with_hidden(hidden).init(0, device),
        OptimizerConfig::adam_keras().init()?,
        &mut batches(&fold.train)?.shuffled(0),
        None,
        &FitOptions { epochs, learning_rate: 0.01, ..FitOptions::default() },
        &mut [],
    )?;
    let Target::Classify { classes, .. } = &encoder.target else { anyhow::bail!("it has classes") };
    Ok(score(&outcome.network, &mut batches(&fold.validation)?)?.report(classes)?)
}

/// The deviation is that of a sample, with n - 1.
fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
