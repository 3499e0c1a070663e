//! The loop for targets that are numbers.

use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};
use firebrick_nn::Network;
use firebrick_optim::sam_ascent;

use crate::evaluate::{floats, scalar};
use crate::fit::check;
use crate::metrics::Regression;
use crate::whole_set;
use crate::{
    Batch, BatchEnd, Batches, Callback, EpochRecord, FitOptions, Flow, History, InMemory, LossConfig,
    Outcome, Stop, TrainBegin, TrainError,
};

/// The true numbers of a batch, beside its outputs.
type Truth<'a, const D: usize> = Box<dyn Fn(&Batch<D>, &Tensor<2>) -> Result<Tensor<2>, TrainError> + 'a>;

/// Inputs in the device's memory, each with a number to tell of it.
#[derive(Clone, Debug)]
pub struct Numbers<const D: usize> {
    /// Its labels are the samples' places in `targets`.
    batches: InMemory<D>,
    targets: Vec<f32>,
}

impl<const D: usize> Numbers<D> {
    /// Batches of `inputs` `[samples, ..]` in their order. Networks learn best from `targets` of mean 0 and deviation 1.
    ///
    /// # Errors
    ///
    /// As of [`InMemory::new`]; [`TrainError::Batches`] for a target that is no finite number.
    pub fn new(inputs: Tensor<D>, targets: Vec<f32>, batch_size: usize) -> Result<Self, TrainError> {
        if let Some(place) = targets.iter().position(|target| !target.is_finite()) {
            let target = targets[place];
            return Err(TrainError::Batches(format!(
                "target {place} is {target}, it must be a finite number"
            )));
        }
        Ok(Self { batches: InMemory::new(inputs, (0..targets.len()).collect(), batch_size)?, targets })
    }

    /// Shuffles every epoch anew; the order depends on `seed` and the epoch alone.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.batches = self.batches.shuffled(seed);
        self
    }

    /// The batches, and what gives the truth of one of them for outputs `[batch, 1]`, in their shape and on their device.
    pub(crate) fn parts(&mut self) -> (&mut InMemory<D>, Truth<'_, D>) {
        let targets = &self.targets;
        let truth = move |batch: &Batch<D>, outputs: &Tensor<2>| {
            check_output(outputs.dims()[1])?;
            let targets: Vec<f32> = batch.labels.iter().map(|&place| targets[place]).collect();
            Ok(Tensor::from_data(TensorData::new(targets, outputs.dims()), &outputs.device()))
        };
        (&mut self.batches, Box::new(truth))
    }

    /// Population variance of the targets.
    fn variance(&self) -> f64 {
        let count = self.targets.len() as f64;
        let mean = self.targets.iter().map(|&y| f64::from(y)).sum::<f64>() / count;
        self.targets.iter().map(|&y| (f64::from(y) - mean).powi(2)).sum::<f64>() / count
    }
}

/// What `network`, which has one output, tells of one epoch of `numbers`, compared with the truth.
///
/// The first list is the truth, the second what was told; both are in the order of the batches.
///
/// # Errors
///
/// [`TrainError::Batches`] if the network has not one output.
pub fn evaluate_regression<const D: usize, N: Network<D>>(
    network: &N,
    numbers: &mut Numbers<D>,
) -> Result<(Vec<f64>, Vec<f64>), TrainError> {
    let network = network.valid();
    let (mut truth, mut told) = (Vec::new(), Vec::new());
    for batch in numbers.batches.epoch(0) {
        let batch = batch?;
        let outputs = network.forward(batch.inputs);
        check_output(outputs.dims()[1])?;
        told.extend(floats(outputs).into_iter().map(f64::from));
        truth.extend(batch.labels.iter().map(|&place| f64::from(numbers.targets[place])));
    }
    Ok((truth, told))
}

fn check_output(width: usize) -> Result<(), TrainError> {
    match width {
        1 => Ok(()),
        _ => Err(TrainError::Batches(format!("the network has {width} outputs, a number needs one"))),
    }
}

/// Trains `network` to tell a number, with the mean squared error `1/n Σ (ŷ - y)²` or the loss of the options, on the batches of `train`.
///
/// It is [`fit`](crate::fit) for numbers: the same order, snapshots, callbacks and ends. A record's `accuracy` is R², the share of
/// the targets' variance that is explained; it can be negative.
///
/// # Errors
///
/// [`TrainError::OutOfRange`] for zero epochs or a learning rate that is negative or no number; [`TrainError::Optim`] for a
/// schedule that does not go with the run; [`TrainError::Loss`] for a loss of classes; [`TrainError::Batches`] if the network has not one output; whatever a callback gives.
pub fn fit_regression<const D: usize, N: Network<D>>(
    network: N,
    optimizer: ModuleOptimizer,
    train: &mut Numbers<D>,
    mut validation: Option<&mut Numbers<D>>,
    options: &FitOptions,
    callbacks: &mut [&mut dyn Callback<N>],
) -> Result<Outcome<N>, TrainError> {
    check(options)?;
    let loss = options.loss.clone().unwrap_or(LossConfig::Mse {});
    loss.validate_numbers()?;
    let is_squared = loss == LossConfig::Mse {};
    let begin = TrainBegin {
        epochs: options.epochs,
        batches: train.batches.num_batches(),
        samples: train.batches.num_samples(),
    };
    for callback in callbacks.iter_mut() {
        callback.on_train_begin(&begin);
    }
    let variance = train.variance();
    let explained = |mse: f64| if variance > 0.0 { 1.0 - mse / variance } else { 0.0 };
    let device = train.batches.device();
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
        let before = network.valid();
        // The sums of losses and of squared errors.
        let (mut samples, mut sum, mut squares) = (0, 0.0, 0.0);
        let (batches, truth) = train.parts();
        let mut batches = batches.epoch(epoch - 1);
        if let Some(rule) = &mut lbfgs {
            let whole = batches.by_ref().collect::<Result<Vec<_>, _>>()?;
            let targets = |outputs: &Tensor<2>, batch: &Batch<D>| truth(batch, outputs);
            for batch in &whole {
                targets(&before.forward(batch.inputs.clone()), batch)?;
            }
            let of = |outputs: Tensor<2>, batch: &Batch<D>| {
                let truth = targets(&outputs, batch).expect("the outputs were checked");
                loss.of_numbers(outputs, truth)
            };
            network = whole_set::step(rule, options.learning_rate, network, &whole, of);
            let reached = network.valid();
            for batch in &whole {
                let outputs = reached.forward(batch.inputs.clone());
                let truth = targets(&outputs, batch)?;
                let count = batch.labels.len();
                samples += count;
                sum += scalar(loss.of_numbers(outputs.clone(), truth.clone())) * count as f64;
                squares += scalar((outputs - truth).square().mean()) * count as f64;
            }
            if !sum.is_finite() {
                stop = Stop::NonFiniteLoss { epoch, batch: None, loss: sum };
                network = before.train();
                break;
            }
        }
        for (batch_index, batch) in batches.enumerate() {
            let batch = batch?;
            let inputs = Tensor::from_inner(batch.inputs.clone());
            let outputs = network.forward(inputs.clone());
            let targets = truth(&batch, &outputs)?;
            let batch_loss = loss.of_numbers(outputs.clone(), targets.clone());
            let loss_value = scalar(batch_loss.clone());
            let squared = match is_squared {
                true => loss_value,
                false => scalar((outputs - targets.clone()).inner().square().mean()),
            };
            if !loss_value.is_finite() {
                stop = Stop::NonFiniteLoss { epoch, batch: Some(batch_index + 1), loss: loss_value };
                network = before.train();
                break 'epochs;
            }
            let mut gradients = GradientsParams::from_grads(batch_loss.backward(), &network);
            if let Some(rho) = stepper.sam() {
                let steepest = sam_ascent(network.clone(), &mut gradients, rho);
                let batch_loss = loss.of_numbers(steepest.forward(inputs), targets);
                gradients = GradientsParams::from_grads(batch_loss.backward(), &steepest);
            }
            network = stepper.add(network, gradients, batch.labels.len());

            samples += batch.labels.len();
            sum += loss_value * batch.labels.len() as f64;
            squares += squared * batch.labels.len() as f64;
            let end = BatchEnd {
                epoch,
                batch: batch_index + 1,
                samples,
                batch_loss: loss_value,
                loss: sum / samples as f64,
                accuracy: explained(squares / samples as f64),
            };
            for callback in callbacks.iter_mut() {
                callback.on_batch_end(&end);
            }
            if options.stop.load(Ordering::Relaxed) {
                stop = Stop::Interrupted { epoch };
                break 'epochs;
            }
        }

        network = stepper.end_epoch(network, epoch);
        let snapshot = stepper.averaged(&network);
        let measured = match validation.as_deref_mut() {
            Some(validation) => {
                let (truth, told) = evaluate_regression(&snapshot, validation)?;
                if told.iter().any(|told| !told.is_finite()) {
                    stop = Stop::NonFiniteLoss { epoch, batch: None, loss: f64::NAN };
                    network = before.train();
                    break;
                }
                let figures = Regression::new(&truth, &told)?;
                let value = match is_squared {
                    true => figures.mse,
                    false => {
                        let column = |values: &[f64]| {
                            let data = TensorData::new(values.to_vec(), [values.len(), 1]);
                            Tensor::from_data(data.convert::<f32>(), &device)
                        };
                        scalar(loss.of_numbers(column(&told), column(&truth)))
                    }
                };
                Some((value, figures.r2))
            }
            None => None,
        };
        let record = EpochRecord {
            epoch,
            loss: sum / samples as f64,
            accuracy: explained(squares / samples as f64),
            val_loss: measured.map(|(loss, _)| loss),
            val_accuracy: measured.and_then(|(_, r2)| r2),
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

#[cfg(test)]
mod tests {
    use firebrick_nn::HeadConfig;
    use firebrick_optim::OptimizerConfig;

    use super::*;
    use crate::DeviceChoice;

    fn numbers(batch_size: usize) -> Numbers<2> {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let x: Vec<f32> = (0..20).map(|i| i as f32 / 10.0 - 1.0).collect();
        let y = x.iter().map(|x| 0.5 - 2.0 * x).collect();
        Numbers::new(Tensor::from_data(TensorData::new(x, [20, 1]), &device), y, batch_size).expect("20 rows")
    }

    #[test]
    fn a_line_is_learnt_and_the_same_seed_learns_the_same() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let run = || {
            let options = FitOptions { epochs: 60, learning_rate: 0.05, ..FitOptions::default() };
            let optimizer = OptimizerConfig::adam_keras().init().expect("valid");
            let network = HeadConfig::new(1, 1).init(0, &device);
            fit_regression(
                network,
                optimizer,
                &mut numbers(6).shuffled(1),
                Some(&mut numbers(7)),
                &options,
                &mut [],
            )
            .expect("trained")
        };
        let (a, b) = (run(), run());
        let last = a.history.epochs.last().expect("60 epochs");
        assert!(last.val_loss.expect("validated") < 1e-3, "{last:?}");
        assert!(last.val_accuracy.expect("validated") > 0.999, "{last:?}");
        assert_eq!(a.network.output.weight.val().into_data(), b.network.output.weight.val().into_data());
        let (truth, told) = evaluate_regression(&a.network, &mut numbers(3)).expect("told");
        assert_eq!(truth[0], 2.5);
        assert!((told[0] - 2.5).abs() < 0.1, "{}", told[0]);
    }

    #[test]
    fn a_network_of_two_outputs_and_targets_that_are_no_numbers_are_refused() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let network = HeadConfig::new(1, 2).init(0, &device);
        assert!(evaluate_regression(&network, &mut numbers(3)).is_err());
        assert!(Numbers::new(Tensor::<2>::zeros([1, 1], &device), vec![f32::NAN], 1).is_err());
    }
}
