//! Early stopping, to the letter of Keras 3's `EarlyStopping`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Callback, EpochRecord, Flow, TrainBegin, TrainError};

/// A figure of an epoch that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Training loss.
    Loss,
    /// Training accuracy.
    Accuracy,
    /// Validation loss.
    ValLoss,
    /// Validation accuracy.
    ValAccuracy,
}

impl Monitor {
    /// The figure, if the epoch has it.
    pub fn of(self, record: &EpochRecord) -> Option<f64> {
        match self {
            Self::Loss => Some(record.loss),
            Self::Accuracy => Some(record.accuracy),
            Self::ValLoss => record.val_loss,
            Self::ValAccuracy => record.val_accuracy,
        }
    }

    /// Keras' mode `auto`: accuracies grow, losses shrink.
    pub fn mode(self) -> Mode {
        match self {
            Self::Loss | Self::ValLoss => Mode::Min,
            Self::Accuracy | Self::ValAccuracy => Mode::Max,
        }
    }
}

impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::ValLoss => "val_loss",
            Self::ValAccuracy => "val_accuracy",
        })
    }
}

impl FromStr for Monitor {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        [Self::Loss, Self::Accuracy, Self::ValLoss, Self::ValAccuracy]
            .into_iter()
            .find(|monitor| monitor.to_string() == name)
            .ok_or_else(|| TrainError::OutOfRange {
                field: "monitor",
                value: format!("`{name}`"),
                range: "loss, accuracy, val_loss or val_accuracy",
            })
    }
}

/// Whether less or more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}

impl Mode {
    /// Whether `value` beats `reference` by more than `min_delta`; NaN beats nothing.
    ///
    /// The comparison is of `f32`, as Keras' is: 0.04 - 0.03 is 0.01 there, and no improvement on it.
    pub fn is_better(self, value: f64, reference: f64, min_delta: f64) -> bool {
        match self {
            Self::Min => ((value + min_delta) as f32) < reference as f32,
            Self::Max => (value - min_delta) as f32 > reference as f32,
        }
    }
}

/// Ends training when a figure has stopped improving.
#[derive(Clone, Debug)]
pub struct EarlyStopping<N> {
    monitor: Monitor,
    mode: Mode,
    min_delta: f64,
    patience: usize,
    baseline: Option<f64>,
    restore_best_weights: bool,
    start_from_epoch: usize,

    wait: usize,
    best: Option<f64>,
    best_epoch: Option<usize>,
    best_network: Option<N>,
}

impl<N> EarlyStopping<N> {
    /// Watches `monitor` with Keras' defaults: its natural mode, `min_delta` 0, `patience` 0, no baseline, the
    /// last weights kept, from the first epoch on.
    pub fn new(monitor: Monitor) -> Self {
        Self {
            monitor,
            mode: monitor.mode(),
            min_delta: 0.0,
            patience: 0,
            baseline: None,
            restore_best_weights: false,
            start_from_epoch: 0,
            wait: 0,
            best: None,
            best_epoch: None,
            best_network: None,
        }
    }

    /// Number of epochs without improvement after which training ends.
    pub fn with_patience(mut self, patience: usize) -> Self {
        self.patience = patience;
        self
    }

    /// Whether less or more is better, where it is not what the figure's name says.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// What counts as an improvement: a change of more than `min_delta`; its sign does not matter.
    pub fn with_min_delta(mut self, min_delta: f64) -> Self {
        self.min_delta = min_delta.abs();
        self
    }

    /// Only an improvement that also beats `baseline` makes the patience start anew.
    pub fn with_baseline(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// Ends with the weights of the best epoch, also when no patience ran out.
    pub fn with_restore_best_weights(mut self, restore: bool) -> Self {
        self.restore_best_weights = restore;
        self
    }

    /// Epochs before this one, counted from 0, are not looked at.
    pub fn with_start_from_epoch(mut self, epoch: usize) -> Self {
        self.start_from_epoch = epoch;
        self
    }

    /// The epoch, counted from 1, whose figure was the best.
    pub fn best_epoch(&self) -> Option<usize> {
        self.best_epoch
    }
}

impl<N: Clone> Callback<N> for EarlyStopping<N> {
    fn on_train_begin(&mut self, _: &TrainBegin) {
        self.wait = 0;
        self.best = None;
        self.best_epoch = None;
        self.best_network = None;
    }

    fn on_epoch_end(&mut self, record: &EpochRecord, network: &N) -> Result<Flow, TrainError> {
        let Some(current) = self.monitor.of(record).filter(|_| record.epoch > self.start_from_epoch) else {
            return Ok(Flow::Continue);
        };
        // If no epoch is ever better, the first one that was looked at is the best.
        if self.restore_best_weights && self.best_network.is_none() {
            self.best_network = Some(network.clone());
            self.best_epoch = Some(record.epoch);
        }
        self.wait += 1;
        if self.best.is_none_or(|best| self.mode.is_better(current, best, self.min_delta)) {
            self.best = Some(current);
            self.best_epoch = Some(record.epoch);
            if self.restore_best_weights {
                self.best_network = Some(network.clone());
            }
            if self.baseline.is_none_or(|baseline| self.mode.is_better(current, baseline, self.min_delta)) {
                self.wait = 0;
            }
            return Ok(Flow::Continue);
        }
        // Keras never stops after the very first epoch.
        if self.wait >= self.patience && record.epoch > 1 {
            return Ok(Flow::Stop);
        }
        Ok(Flow::Continue)
    }

    fn on_train_end(&mut self, network: N) -> N {
        self.best_network.take().unwrap_or(network)
    }
}
