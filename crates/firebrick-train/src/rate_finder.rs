//! A learning rate from a short run with growing rates.

use std::path::Path;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use firebrick_nn::Network;

use crate::curves::draw_rates;
use crate::evaluate::{Tally, scalar};
use crate::file::write_atomically;
use crate::{Batch, Batches, LossConfig, Numbers, TrainError};

/// Settings of [`find_rate`]; the defaults are those of fastai's `lr_find`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateFinder {
    /// Rate of the first step, greater than 0; 1e-7 by default.
    pub first: f64,
    /// Rate of the last step, greater than `first`; 10 by default.
    pub last: f64,
    /// Steps, 2 to 10,000; 100 by default. The data is gone through as often as it takes.
    pub steps: usize,
}

impl Default for RateFinder {
    fn default() -> Self {
        Self { first: 1e-7, last: 10.0, steps: 100 }
    }
}

impl RateFinder {
    /// Checks the rates and the number of steps.
    ///
    /// # Errors
    ///
    /// [`TrainError::OutOfRange`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), TrainError> {
        let wrong =
            |field, value: f64, range| TrainError::OutOfRange { field, value: value.to_string(), range };
        if !(self.first.is_finite() && self.first > 0.0) {
            return Err(wrong("first", self.first, "a number greater than 0"));
        }
        if !(self.last.is_finite() && self.last > self.first) {
            return Err(wrong("last", self.last, "a number greater than the first rate"));
        }
        if !(2..=10_000).contains(&self.steps) {
            return Err(wrong("steps", self.steps as f64, "2 to 10000"));
        }
        Ok(())
    }
}

/// The rates that were tried.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCurve {
    /// Rate, loss of its batch before the step, and smoothed loss, in order; it ends before the steps do where the loss runs away.
    pub points: Vec<[f64; 3]>,
}

impl RateCurve {
    /// The rate half way down the longest valley of the smoothed loss, as fastai suggests it; none where it falls nowhere.
    ///
    /// The valley is the longest list of points, neighbours or not, of which each is lower than the one before. A noisy loss makes
    /// short ones; a single fast fall, as between two unlike batches, makes none.
    pub fn suggestion(&self) -> Option<f64> {
        // Of the longest valley that ends at each point, how many points it has.
        let mut lengths: Vec<usize> = Vec::with_capacity(self.points.len());
        for point in &self.points {
            let before = self.points.iter().zip(&lengths).filter(|(other, _)| other[2] > point[2]);
            lengths.push(1 + before.map(|(_, &length)| length).max().unwrap_or(0));
        }
        let longest = lengths.iter().copied().max().filter(|&length| length > 2)?;
        let end = lengths.iter().position(|&length| length == longest)?;
        Some(self.points[end.saturating_sub(longest / 2)][0])
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

    /// Draws the losses over the logarithm of the rate as an SVG file, with the suggestion as a line down.
    ///
    /// # Errors
    ///
    /// [`TrainError::Io`] naming the file.
    pub fn write_svg(&self, path: &Path) -> Result<(), TrainError> {
        draw_rates(self, path)
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
    optimizer: ModuleOptimizer,
    train: &mut dyn Batches<D>,
    loss: &LossConfig,
    finder: &RateFinder,
) -> Result<RateCurve, TrainError> {
    search(network, optimizer, train, finder, |outputs, batch| {
        Tally::default().check_labels(batch, outputs.dims()[1])?;
        loss.validate_classes(outputs.dims()[1])?;
        Ok(loss.of_classes(outputs, batch))
    })
}

/// As [`find_rate`], for a network that tells a number.
///
/// # Errors
///
/// As of [`find_rate`]; [`TrainError::Loss`] for a loss of classes; [`TrainError::Batches`] if the network has not one output.
pub fn find_rate_regression<const D: usize, N: Network<D>>(
    network: &N,
    optimizer: ModuleOptimizer,
    train: &mut Numbers<D>,
    loss: &LossConfig,
    finder: &RateFinder,
) -> Result<RateCurve, TrainError> {
    loss.validate_numbers()?;
    let (batches, truth) = train.parts();
    search(network, optimizer, batches, finder, |outputs, batch| {
        let truth = truth(batch, &outputs)?;
        Ok(loss.of_numbers(outputs, truth))
    })
}

fn search<const D: usize, N: Network<D>>(
    network: &N,
    mut optimizer: ModuleOptimizer,
    train: &mut dyn Batches<D>,
    finder: &RateFinder,
    loss: impl Fn(Tensor<2>, &Batch<D>) -> Result<Tensor<1>, TrainError>,
) -> Result<RateCurve, TrainError> {
    const BETA: f64 = 0.98;
    finder.validate()?;
    // Running statistics are shared by clones; `valid` copies them.
    let mut network = network.valid().train();
    let mut points: Vec<[f64; 3]> = Vec::new();
    let (mut mean, mut least) = (0.0, f64::INFINITY);
    for epoch in 0.. {
        let before = points.len();
        for batch in train.epoch(epoch) {
            let batch = batch?;
            let batch_loss = loss(network.forward(Tensor::from_inner(batch.inputs.clone())), &batch)?;
            let value = scalar(batch_loss.clone());
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
            let gradients = GradientsParams::from_grads(batch_loss.backward(), &network);
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
        let curve = find_rate(
            &network,
            OptimizerConfig::sgd().init()?,
            &mut train,
            &LossConfig::cross_entropy(),
            &finder,
        );
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
        let path = folder.path().join("rates.svg");
        curve.write_svg(&path).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("drawn");
        assert!(svg.contains("learning rate") && svg.contains("suggested"), "{svg}");
        RateCurve { points: Vec::new() }.write_svg(&path).expect("an empty curve is drawn too");
    }

    #[test]
    fn a_rate_for_numbers_is_found_too() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let x: Vec<f32> = (0..40).map(|i| i as f32 / 10.0 - 2.0).collect();
        let y = x.iter().map(|x| 0.5 - x).collect();
        let inputs = Tensor::from_data(TensorData::new(x, [40, 1]), &device);
        let mut train = Numbers::new(inputs, y, 8).expect("forty rows").shuffled(0);
        let network = HeadConfig::new(1, 1).init(3, &device);
        let optimizer = || OptimizerConfig::sgd().init().expect("valid");
        let mut find = |loss: &str| {
            let loss = loss.parse().expect("a loss");
            find_rate_regression(&network, optimizer(), &mut train, &loss, &RateFinder::default())
        };
        let suggestion = find("huber").expect("found").suggestion().expect("the loss falls somewhere");
        assert!((1e-3..10.0).contains(&suggestion), "{suggestion}");
        assert!(find("focal").expect_err("of classes").to_string().contains("mse, mae, huber or smooth_l1"));
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
