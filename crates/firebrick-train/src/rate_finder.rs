//! A learning rate from a short run with growing rates.

use std::path::Path;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use firebrick_nn::{Network, cross_entropy};

use crate::evaluate::{Tally, scalar};
use crate::file::write_atomically;
use crate::{Batches, TrainError};

/// Settings of [`find_rate`]; the defaults are those of fastai's `lr_find`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateFinder {
    /// Rate of the first step, greater than 0; 1e-7 by default.
    pub first: f64,
    /// Rate of the last step, greater than `first`; 10 by default.
    pub last: f64,
    /// Steps, at least 2; 100 by default. The data is gone through as often as it takes.
    pub steps: usize,
}

impl Default for RateFinder {
    fn default() -> Self {
        Self { first: 1e-7, last: 10.0, steps: 100 }
    }
}

/// The rates that were tried.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCurve {
    /// Rate, loss of its batch before the step, and smoothed loss, in order; it ends before the steps do where the loss runs away.
    pub points: Vec<[f64; 3]>,
}

impl RateCurve {
    /// The rate at which the smoothed loss falls fastest, by the logarithm of the rate; none where it falls nowhere.
    ///
    /// The first tenth of the points is left out: the smoothing has not settled there.
    pub fn suggestion(&self) -> Option<f64> {
        let settled = self.points.get(self.points.len() / 10..)?;
        let slopes = settled.windows(3).map(|three| (three[1][0], three[2][2] - three[0][2]));
        slopes.filter(|slope| slope.1 < 0.0).min_by(|a, b| a.1.total_cmp(&b.1)).map(|slope| slope.0)
    }

    /// Writes a CSV file with the columns `lr`, `loss` and `smoothed`, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] naming the file.
    pub fn write_csv(&self, path: &Path) -> Result<(), TrainError> {
        let mut text = "lr,loss,smoothed\n".to_owned();
        for [rate, loss, smoothed] in &self.points {
            text.push_str(&format!("{rate:e},{loss},{smoothed}\n"));
        }
        write_atomically(path, text.as_bytes())
    }
}

/// Trains a copy of `network` with rates that grow by a constant factor from step to step: the range test of Smith 2017
/// (arXiv:1506.01186), with the exponential steps and the smoothing (an average with β = 0.98 and Adam's correction) that fastai made usual.
///
/// It ends when the smoothed loss is more than four times the least so far.
///
/// # Errors
///
/// [`TrainError::OutOfRange`] for rates or steps that are; whatever the batches give.
pub fn find_rate<const D: usize, N: Network<D>>(
    network: &N,
    mut optimizer: ModuleOptimizer,
    train: &mut dyn Batches<D>,
    finder: &RateFinder,
) -> Result<RateCurve, TrainError> {
    const BETA: f64 = 0.98;
    let wrong = |field, value: f64, range| TrainError::OutOfRange { field, value: value.to_string(), range };
    if !(finder.first.is_finite() && finder.first > 0.0) {
        return Err(wrong("first", finder.first, "a number greater than 0"));
    }
    if !(finder.last.is_finite() && finder.last > finder.first) {
        return Err(wrong("last", finder.last, "a number greater than the first rate"));
    }
    if finder.steps < 2 {
        return Err(wrong("steps", finder.steps as f64, "at least 2"));
    }
    // Running statistics are shared by clones; `valid` copies them.
    let mut network = network.valid().train();
    let mut points: Vec<[f64; 3]> = Vec::new();
    let (mut mean, mut least) = (0.0, f64::INFINITY);
    for epoch in 0.. {
        let before = points.len();
        for batch in train.epoch(epoch) {
            let batch = batch?;
            let logits = network.forward(Tensor::from_inner(batch.inputs.clone()));
            Tally::default().check_labels(&batch, logits.dims()[1])?;
            let loss = cross_entropy(logits.clone(), batch.targets(&logits.device()));
            let value = scalar(loss.clone());
            let step = points.len();
            mean = BETA * mean + (1.0 - BETA) * value;
            let smoothed = mean / (1.0 - BETA.powf(step as f64 + 1.0));
            if !value.is_finite() || smoothed > 4.0 * least {
                return Ok(RateCurve { points });
            }
            least = least.min(smoothed);
            let rate =
                finder.first * (finder.last / finder.first).powf(step as f64 / (finder.steps - 1) as f64);
            points.push([rate, value, smoothed]);
            if points.len() == finder.steps {
                return Ok(RateCurve { points });
            }
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(rate, network, gradients);
        }
        if points.len() == before {
            return Err(TrainError::Batches("there are no samples to train on".to_owned()));
        }
    }
    Ok(RateCurve { points })
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::TensorData;
    use firebrick_nn::HeadConfig;
    use firebrick_optim::OptimizerConfig;

    use super::*;
    use crate::{DeviceChoice, InMemory};

    fn find(finder: RateFinder) -> Result<RateCurve, TrainError> {
        let device = DeviceChoice::NdArray.open()?;
        let inputs: Vec<f32> = (0..40).map(|i| i as f32 / 10.0 - 2.0).collect();
        let labels = inputs.iter().map(|&x| usize::from(x > 0.3)).collect();
        let inputs = Tensor::from_data(TensorData::new(inputs, [40, 1]), &device);
        let network = HeadConfig::new(1, 2).with_hidden([8]).init(3, &device);
        let before = network.valid().output.weight.val().into_data();
        let mut train = InMemory::new(inputs, labels, 8)?.shuffled(0);
        let curve = find_rate(&network, OptimizerConfig::sgd().init()?, &mut train, &finder);
        assert_eq!(network.output.weight.val().into_data(), before, "the network itself was trained");
        curve
    }

    #[test]
    fn the_rates_grow_evenly_and_the_suggestion_is_where_the_loss_falls() {
        let curve = find(RateFinder::default()).expect("found");
        let rates: Vec<f64> = curve.points.iter().map(|point| point[0]).collect();
        assert_eq!(rates[0], 1e-7);
        let factor = 1e8f64.powf(1.0 / 99.0);
        assert!(rates.windows(2).all(|pair| (pair[1] / pair[0] / factor - 1.0).abs() < 1e-12));
        let suggestion = curve.suggestion().expect("the loss falls somewhere");
        assert!((1e-3..10.0).contains(&suggestion), "{suggestion}");
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("rates.csv");
        curve.write_csv(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("written");
        assert!(text.starts_with("lr,loss,smoothed\n1e-7,"), "{text}");
        assert_eq!(text.lines().count(), 1 + rates.len());
    }

    #[test]
    fn nonsense_is_named() {
        for (finder, field) in [
            (RateFinder { first: 0.0, ..RateFinder::default() }, "`first` is 0"),
            (RateFinder { last: 1e-8, ..RateFinder::default() }, "`last` is 0.00000001"),
            (RateFinder { steps: 1, ..RateFinder::default() }, "`steps` is 1"),
        ] {
            let message = find(finder).expect_err(field).to_string();
            assert!(message.contains(field), "{message}");
        }
        assert_eq!(RateCurve { points: vec![[1e-3, 1.0, 1.0]; 20] }.suggestion(), None);
    }
}
