//! The loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use firebrick_nn::Network;
use firebrick_optim::{LbfgsConfig, RateConfig, StepConfig, Stepper, sam_ascent};

use crate::evaluate::{Tally, argmax, evaluate_by, scalar};
use crate::whole_set;
use crate::{
    Batch, BatchEnd, Batches, Callback, EpochRecord, Flow, History, LossConfig, TrainBegin, TrainError,
};

/// Settings of [`fit`].
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Number of epochs at most; 1 by default.
    pub epochs: usize,
    /// What is minimised, and what a validation measures; none is cross-entropy in [`fit`], the mean squared error in
    /// [`fit_regression`](crate::fit_regression).
    pub loss: Option<LossConfig>,
    /// Learning rate that the schedule starts from; 1e-3 by default, as Keras' and PyTorch's Adam.
    pub learning_rate: f64,
    /// How the rate moves; constant by default. A plateau watches the validation, or the training where there is none.
    pub schedule: RateConfig,
    /// A step of L-BFGS over the whole training set an epoch, in place of the optimizer's steps; `learning_rate` is its step length, 1 as a
    /// rule. None by default. All parameters must be trained, and the batches of an epoch are held in memory.
    pub lbfgs: Option<LbfgsConfig>,
    /// What happens to gradients before the optimizer's rule, and to weights after it; nothing by default.
    pub step: StepConfig,
    /// Set from outside to end after the step in progress.
    pub stop: Arc<AtomicBool>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 1,
            loss: None,
            learning_rate: 1e-3,
            lbfgs: None,
            schedule: RateConfig::default(),
            step: StepConfig::default(),
            stop: Arc::default(),
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// All epochs are done.
    Completed,
    /// A callback asked for it after this epoch, counted from 1.
    Callback {
        /// The last epoch.
        epoch: usize,
    },
    /// The stop flag was set; the epoch in progress is not in the history.
    Interrupted {
        /// The epoch in progress, counted from 1.
        epoch: usize,
    },
    /// The loss was no number; the weights are those before this epoch.
    NonFiniteLoss {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step in it, counted from 1; none if it was the validation after it.
        batch: Option<usize>,
        /// The loss.
        loss: f64,
    },
}

/// What a run gives.
#[derive(Debug)]
pub struct Outcome<N> {
    /// In evaluation mode.
    pub network: N,
    /// The epochs that were finished.
    pub history: History,
    /// Why it ended.
    pub stop: Stop,
}

/// Trains `network` to tell classes, with cross-entropy or the loss of the options, on the batches of `train`.
///
/// Every epoch takes all batches of `train`, a step each, and then evaluates on `validation`. Gradients are
/// recorded for whatever parameter requires them; freeze others before (`Module::freeze_group`), or better, put
/// a frozen part into the batches ([`Extracted`](crate::Extracted)).
///
/// # Errors
///
/// [`TrainError::OutOfRange`] for zero epochs or a learning rate that is negative or no number; [`TrainError::Optim`] for a
/// schedule or a step that does not go with the run; [`TrainError::Loss`] for a loss that does not go with the network; whatever the batches or a callback give. A loss that is no number is an [`Outcome`], since its network is worth keeping.
pub fn fit<const D: usize, N: Network<D>>(
    network: N,
    optimizer: ModuleOptimizer,
    train: &mut dyn Batches<D>,
    mut validation: Option<&mut dyn Batches<D>>,
    options: &FitOptions,
    callbacks: &mut [&mut dyn Callback<N>],
) -> Result<Outcome<N>, TrainError> {
    check(options)?;
    let begin =
        TrainBegin { epochs: options.epochs, batches: train.num_batches(), samples: train.num_samples() };
    for callback in callbacks.iter_mut() {
        callback.on_train_begin(&begin);
    }
    let loss = options.loss.clone().unwrap_or(LossConfig::cross_entropy());
    let mut stepper = options.stepper(optimizer, begin.batches)?;
    let mut network = network.train();
    let mut lbfgs = options.lbfgs.map(|config| config.init()).transpose()?;
    if lbfgs.is_some() {
        whole_set::check(&network)?;
    }
    let mut history = History::default();
    let mut stop = Stop::Completed;

    'epochs: for epoch in 1..=options.epochs {
        let started = Instant::now();
        // A clone would share BatchNorm's running statistics; `valid` copies them.
        let before = network.valid();
        let mut tally = Tally::default();
        let mut batches = train.epoch(epoch - 1);
        if let Some(rule) = &mut lbfgs {
            let whole = batches.by_ref().collect::<Result<Vec<_>, _>>()?;
            let classes = |network: &N, batch: &Batch<D>| network.forward(batch.inputs.clone());
            for batch in &whole {
                let logits = classes(&before, batch);
                Tally::default().check_labels(batch, logits.dims()[1])?;
                loss.validate_classes(logits.dims()[1])?;
            }
            let of = |logits, batch: &Batch<D>| loss.of_classes(logits, batch);
            network = whole_set::step(rule, options.learning_rate, network, &whole, of);
            let reached = network.valid();
            for batch in &whole {
                let logits = classes(&reached, batch);
                tally.check_labels(batch, logits.dims()[1])?;
                tally.add(&batch.labels, scalar(loss.of_classes(logits.clone(), batch)), &argmax(logits));
            }
            if !tally.loss().is_finite() {
                stop = Stop::NonFiniteLoss { epoch, batch: None, loss: tally.loss() };
                network = before.train();
                break;
            }
        }
        for (batch_index, batch) in batches.enumerate() {
            let batch = batch?;
            // The one place where the gradient's tape begins: sources give plain tensors.
            let logits = network.forward(Tensor::from_inner(batch.inputs.clone()));
            tally.check_labels(&batch, logits.dims()[1])?;
            if batch_index == 0 {
                loss.validate_classes(logits.dims()[1])?;
            }
            let batch_loss = loss.of_classes(logits.clone(), &batch);
            let loss_value = scalar(batch_loss.clone());
            if !loss_value.is_finite() {
                stop = Stop::NonFiniteLoss { epoch, batch: Some(batch_index + 1), loss: loss_value };
                network = before.train();
                break 'epochs;
            }
            let mut gradients = GradientsParams::from_grads(batch_loss.backward(), &network);
            if let Some(rho) = stepper.sam() {
                let steepest = sam_ascent(network.clone(), &mut gradients, rho);
                let logits = steepest.forward(Tensor::from_inner(batch.inputs.clone()));
                let batch_loss = loss.of_classes(logits, &batch);
                gradients = GradientsParams::from_grads(batch_loss.backward(), &steepest);
            }
            network = stepper.add(network, gradients, batch.labels.len());

            tally.add(&batch.labels, loss_value, &argmax(logits));
            let end = BatchEnd {
                epoch,
                batch: batch_index + 1,
                samples: tally.samples(),
                batch_loss: loss_value,
                loss: tally.loss(),
                accuracy: tally.accuracy(),
            };
            for callback in callbacks.iter_mut() {
                callback.on_batch_end(&end);
            }
            if options.stop.load(Ordering::Relaxed) {
                stop = Stop::Interrupted { epoch };
                break 'epochs;
            }
        }
        if tally.samples() == 0 {
            return Err(TrainError::Batches("there are no samples to train on".to_owned()));
        }

        network = stepper.end_epoch(network, epoch);
        let snapshot = stepper.averaged(&network);
        let measured = match validation.as_deref_mut() {
            Some(validation) => Some(evaluate_by(&snapshot, validation, &loss)?),
            None => None,
        };
        if let Some(loss) = measured.as_ref().map(|m| m.loss).filter(|loss| !loss.is_finite()) {
            stop = Stop::NonFiniteLoss { epoch, batch: None, loss };
            network = before.train();
            break;
        }
        let record = EpochRecord {
            epoch,
            loss: tally.loss(),
            accuracy: tally.accuracy(),
            val_loss: measured.as_ref().map(|m| m.loss),
            val_accuracy: measured.as_ref().map(|m| m.accuracy),
            penalty: stepper.penalty(&network),
            lr: stepper.last_rate(),
            seconds: started.elapsed().as_secs_f64(),
        };
        history.epochs.push(record);
        stepper
            .observe(record.val_loss.unwrap_or(record.loss), record.val_accuracy.unwrap_or(record.accuracy));
        let mut flow = Flow::Continue;
        for callback in callbacks.iter_mut() {
            if callback.on_epoch_end(&record, &snapshot)? == Flow::Stop {
                flow = Flow::Stop;
            }
        }
        if flow == Flow::Stop {
            stop = Stop::Callback { epoch };
            break;
        }
        if options.stop.load(Ordering::Relaxed) {
            stop = Stop::Interrupted { epoch: epoch + 1 };
            break;
        }
    }

    let mut network = match stop {
        // What was restored is good, an average may not be.
        Stop::NonFiniteLoss { .. } => network.valid(),
        _ => stepper.averaged(&network),
    };
    for callback in callbacks.iter_mut() {
        network = callback.on_train_end(network);
    }
    Ok(Outcome { network, history, stop })
}

impl FitOptions {
    /// What takes the steps of a run with `batches` batches an epoch.
    pub(crate) fn stepper(&self, optimizer: ModuleOptimizer, batches: usize) -> Result<Stepper, TrainError> {
        let rate = self.schedule.init(self.learning_rate, self.step.steps(self.epochs, batches))?;
        Ok(Stepper::new(optimizer, rate, &self.step, self.epochs)?)
    }
}

pub(crate) fn check(options: &FitOptions) -> Result<(), TrainError> {
    if options.epochs == 0 {
        return Err(TrainError::OutOfRange { field: "epochs", value: "0".to_owned(), range: "at least 1" });
    }
    if !options.learning_rate.is_finite() || options.learning_rate < 0.0 {
        return Err(TrainError::OutOfRange {
            field: "learning_rate",
            value: options.learning_rate.to_string(),
            range: "a number of at least 0",
        });
    }
    Ok(())
}
