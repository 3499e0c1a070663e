//! Plain networks on CSV files: training, evaluation and prediction.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::data::{Fold, Table, TableEncoder, TableLimits, Target, Task};
use firebrick::nn::ClassifierHead;
use firebrick::train::metrics::Regression;
use firebrick::train::{
    Callback, EarlyStopping, EpochRecord, Flow, InMemory, LossConfig, Mixing, Monitor, Numbers, RateFinder,
    SaveWeights, Scores, Stop, TrainError, WriteHistory, evaluate_regression, find_rate,
    find_rate_regression, fit, fit_regression, predict, write_curves, write_regression_curves,
};
use firebrick::zoo::{MlpSettings, TableManifest, TablePackage};

use crate::Ended;
use crate::choices::{DataSource, Weights};
use crate::config::Config;
use crate::folds;
use crate::interrupt;
use crate::lr_find;
use crate::progress;
use crate::run_folder::RunFolder;

/// The name of a run's folder.
const NAME: &str = "mlp";

/// `firebrick train --data table.csv`; with a finder `firebrick lr-find`.
pub(crate) fn train(mut config: Config, finder: Option<RateFinder>, started: Instant) -> Result<Ended> {
    // What is written is what was trained, not the model of images that is the default.
    (config.model, config.weights) = (NAME.to_owned(), Weights::None);
    let DataSource::Folder(path) = &config.data else { bail!("data is not a .csv file") };
    let device = config.device.open()?;
    let table = Table::read(path, &TableLimits::default())?;
    let target = config.target.0.clone().ok_or_else(|| {
        let names: Vec<&str> = table.columns().iter().take(20).map(String::as_str).collect();
        anyhow!("no target was given; use --target COLUMN, the columns are {}", names.join(", "))
    })?;
    let task = match config.task.0 {
        Some(task) => task,
        None if table.is_of_numbers(table.column(&target)?) => bail!(
            "the target `{target}` is a column of numbers; say --task classify if they stand for classes, --task regress if not"
        ),
        None => Task::Classify,
    };
    let mut without = config.without.0.clone();
    without.extend(config.group.0.clone());
    if task == Task::Regress {
        ensure!(!config.mix()?.is_on(), "mix is `{}`, but numbers are not mixed; leave it out", config.mix);
        config.loss()?.map_or(Ok(()), |loss| loss.validate_numbers())?;
    }
    // A search for a rate has nothing to save: Ctrl-C just ends it.
    let stop = if finder.is_some() { Arc::default() } else { interrupt::flag()? };
    let run = Run { stop, config, finder, device, table, target, task, without };

    if run.config.folds > 0 {
        let k_fold = folds::of(&run.config);
        let folds = match (&run.config.group.0, task) {
            (Some(group), _) => k_fold.grouped(&run.table.groups(group)?)?,
            (None, Task::Classify) => k_fold.stratified(&run.table.groups(&run.target)?)?,
            (None, Task::Regress) => k_fold.plain(run.table.rows())?,
        };
        return folds::run(&run.config, NAME, &folds, |folder, fold| run.fold(&folder, fold));
    }
    let (train, validation) = run.table.split(&run.target, task, run.config.val_split, run.config.seed)?;
    let folder = RunFolder::create(run.config.out.0.as_deref(), NAME)?;
    folder.write_config(&run.config)?;
    progress::line(&format!(
        "{} training and {} validation rows; writing to {}",
        train.len(),
        validation.len(),
        folder.path().display()
    ));
    let Some(figures) = run.fold(&folder, &Fold { train, validation })? else {
        return Ok(Ended::Interrupted);
    };
    if run.finder.is_none() {
        progress::line(&format!(
            "everything took {:.1} s; {}",
            started.elapsed().as_secs_f64(),
            folder.model().display()
        ));
    }
    if run.finder.is_some() {
        lr_find::tell(figures.first().map_or(f64::NAN, |figure| figure.1))?;
        return Ok(Ended::Done);
    }
    let mut out = std::io::stdout().lock();
    for (name, value) in figures {
        writeln!(out, "Test {name}: {value:.4}")?;
    }
    Ok(Ended::Done)
}

/// A table and what is to be learnt of it.
struct Run {
    config: Config,
    /// In place of training.
    finder: Option<RateFinder>,
    device: Device,
    table: Table,
    target: String,
    task: Task,
    without: Vec<String>,
    stop: Arc<AtomicBool>,
}

impl Run {
    /// Trains a network on some rows, saves it, and measures it on others; nothing after Ctrl-C.
    fn fold(&self, folder: &RunFolder, fold: &Fold) -> Result<Option<Vec<(&'static str, f64)>>> {
        let config = &self.config;
        // Dropout draws from the device's own generator, which starts anywhere unless it is told where.
        self.device.seed(config.seed);
        let encoder = TableEncoder::fit(&self.table, &fold.train, &self.target, self.task, &self.without)?;
        let network = MlpSettings {
            hidden: config.hidden.0.clone(),
            activation: config.activation.parse()?,
            dropout: config.dropout,
        };
        let manifest = TableManifest::new(network, encoder, config.data.to_string(), config.provenance()?);
        let model = manifest.init(config.seed, &self.device).map_err(|reason| anyhow!("{reason}"))?;
        let encoder = &manifest.encoder;
        progress::line(&format!(
            "{} columns give {} inputs; outputs: {}",
            encoder.columns.len(),
            encoder.width(),
            encoder.target.width()
        ));

        let save = |network: &ClassifierHead| {
            TablePackage { manifest: manifest.clone(), model: network.clone() }.save(&folder.model())
        };
        let mut tell = TellEpochs { epochs: config.epochs, task: self.task };
        let mut history = WriteHistory::new(folder.history());
        let mut checkpoint = SaveWeights::when_best(Monitor::ValLoss, |network: &ClassifierHead| {
            save(network).map_err(|error| TrainError::Callback(error.into()))
        });
        let mut early = EarlyStopping::new(Monitor::ValLoss)
            .with_patience(if config.early_stopping == 0 { usize::MAX } else { config.early_stopping })
            .with_restore_best_weights(config.restore_best);
        let mut callbacks: [&mut dyn Callback<ClassifierHead>; 4] =
            [&mut tell, &mut history, &mut checkpoint, &mut early];
        let optimizer = config.optimizer_of(&model, |_| 1.0)?;
        let inputs = |rows: &[usize]| inputs(encoder, &self.table, rows, &self.device);
        let outcome = match &encoder.target {
            Target::Classify { .. } => {
                let batches = |rows: &[usize]| {
                    let labels = encoder.labels(&self.table, rows)?;
                    anyhow::Ok(InMemory::new(inputs(rows)?, labels, config.batch_size)?)
                };
                let labels = encoder.labels(&self.table, &fold.train)?;
                let loss = config.loss_of_classes(&labels, encoder.target.width())?;
                let train = batches(&fold.train)?.shuffled(config.seed);
                let mut train = Mixing::new(train, config.mix()?, config.seed)?;
                if let Some(finder) = &self.finder {
                    let loss = loss.unwrap_or(LossConfig::cross_entropy());
                    let curve = find_rate(&model, optimizer, &mut train, &loss, finder)?;
                    return Ok(Some(vec![("rate", lr_find::keep(&curve, finder, folder)?)]));
                }
                let options = config.fit_options(loss, Arc::clone(&self.stop))?;
                let mut validation = batches(&fold.validation)?;
                fit(model, optimizer, &mut train, Some(&mut validation), &options, &mut callbacks)?
            }
            Target::Regress { mean, deviation, .. } => {
                let numbers = |rows: &[usize]| {
                    let numbers = encoder.numbers(&self.table, rows)?;
                    let scaled = numbers.iter().map(|y| ((y - mean) / deviation) as f32).collect();
                    anyhow::Ok(Numbers::new(inputs(rows)?, scaled, config.batch_size)?)
                };
                let mut train = numbers(&fold.train)?.shuffled(config.seed);
                if let Some(finder) = &self.finder {
                    let loss = config.loss()?.unwrap_or(LossConfig::Mse {});
                    let curve = find_rate_regression(&model, optimizer, &mut train, &loss, finder)?;
                    return Ok(Some(vec![("rate", lr_find::keep(&curve, finder, folder)?)]));
                }
                let options = config.fit_options(config.loss()?, Arc::clone(&self.stop))?;
                let mut validation = numbers(&fold.validation)?;
                fit_regression(model, optimizer, &mut train, Some(&mut validation), &options, &mut callbacks)?
            }
        };
        save(&outcome.network)?;
        outcome.history.write_csv(&folder.history())?;
        match self.task {
            Task::Classify => write_curves(&outcome.history, &folder.curves())?,
            Task::Regress => write_regression_curves(&outcome.history, &folder.curves())?,
        }
        match outcome.stop {
            Stop::NonFiniteLoss { epoch, loss, .. } => bail!(
                "the loss became {loss} in epoch {epoch}; the last good weights are in {}. A lower --lr (now {:?}) usually helps",
                folder.model().display(),
                config.lr
            ),
            Stop::Interrupted { epoch } => {
                progress::line(&format!("stopped in epoch {epoch}; saved {}", folder.model().display()));
                return Ok(None);
            }
            Stop::Callback { epoch } => progress::line(&format!(
                "val_loss has not improved for {} epochs: ended after epoch {epoch}",
                config.early_stopping
            )),
            Stop::Completed => {}
        }
        let package = TablePackage { manifest: manifest.clone(), model: outcome.network };
        Ok(Some(match measure(&package, &self.table, &fold.validation, config.batch_size, &self.device)? {
            Measured::Classes(scores, classes) => {
                let report = scores.report(&classes)?;
                vec![("accuracy", report.accuracy), ("balanced accuracy", report.balanced_accuracy)]
            }
            Measured::Numbers(figures) => {
                let mut shown = vec![("RMSE", figures.rmse), ("MAE", figures.mae)];
                shown.extend(figures.r2.map(|r2| ("R2", r2)));
                shown
            }
        }))
    }
}

/// A line an epoch.
struct TellEpochs {
    epochs: usize,
    task: Task,
}

impl<N> Callback<N> for TellEpochs {
    fn on_epoch_end(&mut self, record: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        let figure = match self.task {
            Task::Classify => "accuracy",
            Task::Regress => "R2",
        };
        progress::line(&format!(
            "Epoch {}/{}  loss {:.4}  {figure} {:.4}  val_loss {:.4}  val_{figure} {:.4}",
            record.epoch,
            self.epochs,
            record.loss,
            record.accuracy,
            record.val_loss.unwrap_or(f64::NAN),
            record.val_accuracy.unwrap_or(f64::NAN)
        ));
        Ok(Flow::Continue)
    }
}

/// `[rows, inputs]`.
fn inputs(encoder: &TableEncoder, table: &Table, rows: &[usize], device: &Device) -> Result<Tensor<2>> {
    let inputs = encoder.inputs(table, rows)?;
    Ok(Tensor::from_data(TensorData::new(inputs, [rows.len(), encoder.width()]), device))
}

/// How a network did on some rows.
pub(crate) enum Measured {
    /// What it said of each, and the classes' names.
    Classes(Scores, Vec<String>),
    /// In the target's own unit.
    Numbers(Regression),
}

/// Measures the network of a package on the rows of a file, all of them.
pub(crate) fn evaluate(path: &Path, model: &Path, batch_size: usize, device: &Device) -> Result<Measured> {
    let package = TablePackage::open(model, device)?;
    let table = Table::read(path, &TableLimits::default())?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    measure(&package, &table, &rows, batch_size, device)
}

fn measure(
    package: &TablePackage,
    table: &Table,
    rows: &[usize],
    batch_size: usize,
    device: &Device,
) -> Result<Measured> {
    let encoder = &package.manifest.encoder;
    match &encoder.target {
        Target::Classify { classes, .. } => {
            let labels = encoder.labels(table, rows)?;
            let logits = outputs(package, table, rows, batch_size, device)?;
            Ok(Measured::Classes(Scores { labels, logits }, classes.clone()))
        }
        Target::Regress { mean, deviation, .. } => {
            let truth = encoder.numbers(table, rows)?;
            let scaled = truth.iter().map(|y| ((y - mean) / deviation) as f32).collect();
            let inputs = inputs(encoder, table, rows, device)?;
            let (_, told) =
                evaluate_regression(&package.model, &mut Numbers::new(inputs, scaled, batch_size)?)?;
            let told: Vec<f64> = told.iter().map(|told| told * deviation + mean).collect();
            Ok(Measured::Numbers(Regression::new(&truth, &told)?))
        }
    }
}

/// What the network gives for each row.
fn outputs(
    package: &TablePackage,
    table: &Table,
    rows: &[usize],
    batch_size: usize,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let inputs = inputs(&package.manifest.encoder, table, rows, device)?;
    Ok(predict(&package.model, &mut InMemory::new(inputs, vec![0; rows.len()], batch_size)?)?)
}

/// What is told of the rows of a file.
pub(crate) enum Told {
    /// A row of logits each, and the classes' names.
    Classes(Vec<Vec<f32>>, Vec<String>),
    /// A number each, in the target's own unit.
    Numbers(Vec<f64>),
}

/// What the network of a package tells of the rows of one file, which need not have the target's column.
pub(crate) fn tell(
    paths: &[impl AsRef<Path>],
    model: &Path,
    batch_size: usize,
    device: &Device,
) -> Result<Told> {
    ensure!(paths.len() == 1, "{} files were given; a model of tables takes one CSV file", paths.len());
    let package = TablePackage::open(model, device)?;
    let table = Table::read(&paths[0], &TableLimits::default())?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let outputs = outputs(&package, &table, &rows, batch_size, device)?;
    Ok(match package.manifest.encoder.target {
        Target::Classify { classes, .. } => Told::Classes(outputs, classes),
        Target::Regress { mean, deviation, .. } => {
            Told::Numbers(outputs.iter().map(|row| f64::from(row[0]) * deviation + mean).collect())
        }
    })
}
