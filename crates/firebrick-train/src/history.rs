//! What happened in each epoch.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{TrainError, file::write_atomically};

/// Figures of one epoch. Losses and accuracies are means over samples; where numbers are learnt, an accuracy is R².
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss over the training batches, each taken before its own step.
    pub loss: f64,
    /// Share of training samples that were right, each counted before its batch's step.
    pub accuracy: f64,
    /// Loss on the validation set after the epoch.
    pub val_loss: Option<f64>,
    /// Accuracy on the validation set after the epoch.
    pub val_accuracy: Option<f64>,
    /// Penalty of the weights after the epoch, which is no part of the losses; a column only where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Wall-clock time of training and validation.
    pub seconds: f64,
}

/// The fields of [`EpochRecord`], written also where there is no epoch to take them from.
const COLUMNS: [&str; 8] =
    ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "penalty", "lr", "seconds"];

/// The epochs of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// In order.
    pub epochs: Vec<EpochRecord>,
}

impl History {
    /// Writes a CSV file with the fields of [`EpochRecord`] as its columns, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] naming the file.
    pub fn write_csv(&self, path: &Path) -> Result<(), TrainError> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        let failed = |error: csv::Error| TrainError::io(path, "write")(error.into());
        let has_penalty = self.epochs.iter().any(|record| record.penalty.is_some());
        let columns = COLUMNS.into_iter().filter(|name| has_penalty || *name != "penalty");
        writer.write_record(columns).map_err(failed)?;
        for record in &self.epochs {
            writer.serialize(record).map_err(failed)?;
        }
        let bytes = writer.into_inner().map_err(|error| TrainError::io(path, "write")(error.into_error()))?;
        write_atomically(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_line_an_epoch_and_its_columns() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("history.csv");
        let record = EpochRecord {
            epoch: 1,
            loss: 0.5,
            accuracy: 0.75,
            val_loss: Some(0.25),
            val_accuracy: None,
            penalty: None,
            lr: 1e-4,
            seconds: 2.0,
        };
        History::default().write_csv(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(text, "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds\n");
        History { epochs: vec![record] }.write_csv(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(
            text,
            "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds\n1,0.5,0.75,0.25,,0.0001,2.0\n"
        );
        let penalized = EpochRecord { penalty: Some(0.125), ..record };
        History { epochs: vec![penalized] }.write_csv(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(
            text,
            "epoch,loss,accuracy,val_loss,val_accuracy,penalty,lr,seconds\n1,0.5,0.75,0.25,,0.125,0.0001,2.0\n"
        );
    }
}
