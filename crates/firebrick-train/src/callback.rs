//! What may watch a run and stop it.

use std::path::PathBuf;

use crate::{EpochRecord, History, Monitor, TrainError};

/// Whether training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End after this epoch.
    Stop,
}

/// What a run is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainBegin {
    /// Number of epochs at most.
    pub epochs: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Samples of an epoch.
    pub samples: usize,
}

/// Where a run is after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchEnd {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps of this epoch so far.
    pub batch: usize,
    /// Samples of this epoch so far.
    pub samples: usize,
    /// Mean loss of this batch, taken before its step.
    pub batch_loss: f64,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Accuracy of this epoch so far.
    pub accuracy: f64,
}

/// Something that watches the training of an `N`. Every method does nothing unless it is written.
///
/// The networks that a callback sees are in evaluation mode and can be kept: cloning one copies no weights.
pub trait Callback<N> {
    /// Before the first epoch.
    fn on_train_begin(&mut self, _begin: &TrainBegin) {}

    /// After a step.
    fn on_batch_end(&mut self, _end: &BatchEnd) {}

    /// After an epoch and its validation.
    ///
    /// # Errors
    ///
    /// An error ends the run.
    fn on_epoch_end(&mut self, _record: &EpochRecord, _network: &N) -> Result<Flow, TrainError> {
        Ok(Flow::Continue)
    }

    /// After the last epoch, whatever ended it; the network that is returned is the run's result.
    fn on_train_end(&mut self, network: N) -> N {
        network
    }
}

/// Writes the history so far after every epoch.
#[derive(Clone, Debug)]
pub struct WriteHistory {
    path: PathBuf,
    history: History,
}

impl WriteHistory {
    /// A CSV file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), history: History::default() }
    }
}

impl<N> Callback<N> for WriteHistory {
    fn on_epoch_end(&mut self, record: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        self.history.epochs.push(*record);
        self.history.write_csv(&self.path)?;
        Ok(Flow::Continue)
    }
}

/// Saves the network after every epoch that improves on all before it, so that a crash costs little.
pub struct SaveWeights<F> {
    monitor: Monitor,
    best: Option<f64>,
    save: F,
}

impl<F> SaveWeights<F> {
    /// Calls `save` with the network whenever `monitor` is better than ever.
    pub fn when_best(monitor: Monitor, save: F) -> Self {
        Self { monitor, best: None, save }
    }
}

impl<N, F: FnMut(&N) -> Result<(), TrainError>> Callback<N> for SaveWeights<F> {
    fn on_epoch_end(&mut self, record: &EpochRecord, network: &N) -> Result<Flow, TrainError> {
        if let Some(value) = self.monitor.of(record)
            && self.best.is_none_or(|best| self.monitor.mode().is_better(value, best, 0.0))
        {
            self.best = Some(value);
            (self.save)(network)?;
        }
        Ok(Flow::Continue)
    }
}
