//! A plain network on a table: from a CSV file to a model package and back.
//!
//! ```text
//! cargo run --release --example tabular -p firebrick-examples [EPOCHS]
//! ```
//!
//! The species of irises is one of three classes, the progression of diabetes a number. What turns a row into inputs (means,
//! deviations, categories) is learnt from the rows that train and saved with the weights.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::data::{Table, TableEncoder, TableLimits, Target, Task};
use firebrick::nn::ClassifierHead;
use firebrick::optim::OptimizerConfig;
use firebrick::train::metrics::Regression;
use firebrick::train::{
    DeviceChoice, EarlyStopping, FitOptions, InMemory, Monitor, Numbers, evaluate_regression, fit,
    fit_regression, score,
};
use firebrick::zoo::{MlpSettings, TableManifest, TablePackage};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");

/// A table whose rows are divided, and how they become inputs.
struct Prepared {
    table: Table,
    train: Vec<usize>,
    test: Vec<usize>,
    manifest: TableManifest,
}

impl Prepared {
    fn new(file: &str, target: &str, task: Task, hidden: &[usize]) -> anyhow::Result<Self> {
        let table = Table::read(format!("{DATA}/{file}"), &TableLimits::default())?;
        let (train, test) = table.split(target, task, 0.25, 0)?;
        let encoder = TableEncoder::fit(&table, &train, target, task, &[])?;
        println!("{file}: {} training rows, inputs {}", train.len(), encoder.input_names().join(", "));
        let network = MlpSettings { hidden: hidden.to_vec(), ..MlpSettings::default() };
        let manifest = TableManifest::new(network, encoder, file.to_owned(), "the example".into());
        Ok(Self { table, train, test, manifest })
    }

    fn network(&self, device: &Device) -> anyhow::Result<ClassifierHead> {
        self.manifest.init(0, device).map_err(anyhow::Error::msg)
    }

    fn inputs(&self, rows: &[usize], device: &Device) -> anyhow::Result<Tensor<2>> {
        let encoder = &self.manifest.encoder;
        let values = encoder.inputs(&self.table, rows)?;
        Ok(Tensor::from_data(TensorData::new(values, [rows.len(), encoder.width()]), device))
    }
}

fn main() -> anyhow::Result<()> {
    let epochs = std::env::args().nth(1).map_or(Ok(80), |text| text.parse())?;
    let device = DeviceChoice::NdArray.open()?;
    classify(epochs, &device)?;
    regress(epochs, &device)
}

fn classify(epochs: usize, device: &Device) -> anyhow::Result<()> {
    let data = Prepared::new("iris.csv", "species", Task::Classify, &[16, 16])?;
    let encoder = &data.manifest.encoder;
    let batches = |rows: &[usize]| -> anyhow::Result<InMemory<2>> {
        Ok(InMemory::new(data.inputs(rows, device)?, encoder.labels(&data.table, rows)?, 16)?)
    };
    let mut test = batches(&data.test)?;
    let outcome = fit(
        data.network(device)?,
        OptimizerConfig::adam_keras().init()?,
        &mut batches(&data.train)?.shuffled(0),
        Some(&mut test),
        &FitOptions { epochs, learning_rate: 0.01, ..FitOptions::default() },
        &mut [&mut EarlyStopping::new(Monitor::ValLoss).with_patience(20).with_restore_best_weights(true)],
    )?;

    // A package holds all that is needed: it is opened without the table that it was learnt from.
    let folder = std::env::temp_dir().join(format!("firebrick-tabular-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("iris.safetensors");
    TablePackage { manifest: data.manifest.clone(), model: outcome.network }.save(&path)?;
    let package = TablePackage::open(&path, device)?;
    std::fs::remove_dir_all(&folder)?;
    let Target::Classify { classes, .. } = &package.manifest.encoder.target else {
        anyhow::bail!("it was learnt to tell classes")
    };
    let report = score(&package.model, &mut test)?.report(classes)?;
    for class in &report.classes {
        println!(
            "  {:<12} precision {:.3}  recall {:.3}  of {}",
            class.class, class.precision, class.recall, class.support
        );
    }
    println!("  accuracy {:.4}, Matthews' correlation {:.4}", report.accuracy, report.matthews);
    ensure!(report.accuracy > 0.85, "the network has not learnt the irises");
    Ok(())
}

fn regress(epochs: usize, device: &Device) -> anyhow::Result<()> {
    let data = Prepared::new("diabetes.csv", "progression", Task::Regress, &[16])?;
    let encoder = &data.manifest.encoder;
    let Target::Regress { mean, deviation, .. } = encoder.target else { anyhow::bail!("it is a number") };
    let numbers = |rows: &[usize]| -> anyhow::Result<Numbers<2>> {
        let scaled =
            encoder.numbers(&data.table, rows)?.iter().map(|y| ((y - mean) / deviation) as f32).collect();
        Ok(Numbers::new(data.inputs(rows, device)?, scaled, 16)?)
    };
    let mut test = numbers(&data.test)?;
    let outcome = fit_regression(
        data.network(device)?,
        OptimizerConfig::adam_keras().init()?,
        &mut numbers(&data.train)?.shuffled(0),
        Some(&mut test),
        &FitOptions { epochs, learning_rate: 0.003, ..FitOptions::default() },
        &mut [&mut EarlyStopping::new(Monitor::ValLoss).with_patience(10).with_restore_best_weights(true)],
    )?;
    let (_, told) = evaluate_regression(&outcome.network, &mut test)?;
    let told: Vec<f64> = told.iter().map(|told| told * deviation + mean).collect();
    let figures = Regression::new(&encoder.numbers(&data.table, &data.test)?, &told)?;
    println!("  {figures:?}");
    ensure!(figures.r2.is_some_and(|r2| r2 > 0.3), "the network has not learnt the progression");
    Ok(())
}
