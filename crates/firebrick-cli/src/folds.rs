//! `firebrick train --folds`: a model a fold, and what they are worth on average.

use std::io::Write;

use anyhow::Result;
use firebrick::data::{Fold, KFold};

use crate::Ended;
use crate::config::Config;
use crate::eval::write_whole;
use crate::progress;
use crate::run_folder::RunFolder;

/// Name and value of what was measured on the part that a model was not trained on.
type Figures = Vec<(&'static str, f64)>;

/// The division that a configuration asks for.
pub(crate) fn of(config: &Config) -> KFold {
    KFold { folds: config.folds, repeats: config.repeats, seed: config.seed }
}

/// Trains a model a fold by `train`, which gets a folder for each and gives what it measured, or nothing after Ctrl-C.
///
/// Writes `folds.csv` anew after every fold, so that what is done is not lost.
pub(crate) fn run(
    config: &Config,
    name: &str,
    folds: &[Fold],
    mut train: impl FnMut(RunFolder, &Fold) -> Result<Option<Figures>>,
) -> Result<Ended> {
    let mut root = RunFolder::create(config.out.0.as_deref(), name)?;
    root.write_config(config)?;
    let mut done: Vec<Figures> = Vec::new();
    for (index, fold) in folds.iter().enumerate() {
        let number = index + 1;
        progress::line(&format!(
            "fold {number} of {}: {} to train on, {} to validate on",
            folds.len(),
            fold.train.len(),
            fold.validation.len()
        ));
        let folder = RunFolder::create(Some(&root.path().join(format!("fold-{number}"))), name)?;
        let model = folder.model();
        let Some(figures) = train(folder, fold)? else {
            if model.exists() {
                root.keep();
            }
            progress::line(&format!("stopped in fold {number}; {} folds are done", done.len()));
            return Ok(Ended::Interrupted);
        };
        root.keep();
        let shown: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        progress::line(&format!("fold {number}: {}", shown.join("  ")));
        done.push(figures);
        let path = root.path().join("folds.csv");
        write_whole(&path, table(folds, &done).as_bytes())?;
    }
    let mut out = std::io::stdout().lock();
    for (column, (name, _)) in done.first().into_iter().flatten().enumerate() {
        let values: Vec<f64> = done.iter().map(|figures| figures[column].1).collect();
        let (mean, deviation) = mean_and_deviation(&values);
        writeln!(out, "{name}: mean {mean:.4}, standard deviation {deviation:.4}, {} folds", values.len())?;
    }
    Ok(Ended::Done)
}

/// A line a fold, then the mean and the standard deviation.
fn table(folds: &[Fold], done: &[Figures]) -> String {
    let Some(first) = done.first() else { return String::new() };
    let names: Vec<&str> = first.iter().map(|(name, _)| *name).collect();
    let mut text = format!("fold,train,validation,{}\n", names.join(","));
    for (index, (fold, figures)) in folds.iter().zip(done).enumerate() {
        let values: Vec<String> = figures.iter().map(|(_, value)| value.to_string()).collect();
        text.push_str(&format!(
            "{},{},{},{}\n",
            index + 1,
            fold.train.len(),
            fold.validation.len(),
            values.join(",")
        ));
    }
    let columns = (0..names.len())
        .map(|column| mean_and_deviation(&done.iter().map(|figures| figures[column].1).collect::<Vec<_>>()));
    let (means, deviations): (Vec<f64>, Vec<f64>) = columns.unzip();
    for (name, values) in [("mean", means), ("deviation", deviations)] {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        text.push_str(&format!("{name},,,{}\n", values.join(",")));
    }
    text
}

/// The mean, and the standard deviation of a sample (with n - 1); 0 of a single value.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_with_mean_and_deviation() {
        let fold = Fold { train: vec![0, 1], validation: vec![2] };
        let done = [vec![("accuracy", 0.5)], vec![("accuracy", 0.75)], vec![("accuracy", 1.0)]];
        let text = table(&[fold.clone(), fold.clone(), fold], &done);
        assert_eq!(
            text,
            "fold,train,validation,accuracy\n1,2,1,0.5\n2,2,1,0.75\n3,2,1,1\nmean,,,0.75\ndeviation,,,0.25\n"
        );
    }
}
