//! Steps of the training loop, timed from outside: the loop itself is the one that `firebrick train` runs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::nn::Network;
use firebrick::optim::OptimizerConfig;
use firebrick::train::{Batch, BatchEnd, Batches, Callback, FitOptions, Stop, TrainError, fit};
use indicatif::ProgressBar;

use super::pixels;

/// When the last batch was handed over.
pub(super) type HandedOver = Rc<Cell<Option<Instant>>>;

/// The same images in every step, handed over as the loader does: channels last in memory, and nobody else's.
pub(super) struct SameImages {
    images: TensorData,
    labels: Vec<usize>,
    steps: usize,
    device: Device,
    handed_over: HandedOver,
}

impl SameImages {
    /// Batches of `batch` squares of `side` pixels for `steps` steps; the classes count up to `classes`, again and again.
    pub(super) fn new(batch: usize, side: u32, classes: usize, steps: usize, device: &Device) -> Self {
        let shape = [batch, side as usize, side as usize, 3];
        Self {
            images: TensorData::new(pixels(shape.iter().product()), shape),
            labels: (0..batch).map(|index| index % classes).collect(),
            steps,
            device: device.clone(),
            handed_over: HandedOver::default(),
        }
    }

    pub(super) fn handed_over(&self) -> HandedOver {
        Rc::clone(&self.handed_over)
    }
}

impl Batches<4> for SameImages {
    fn num_batches(&self) -> usize {
        self.steps
    }

    fn num_samples(&self) -> usize {
        self.steps * self.labels.len()
    }

    fn epoch<'a>(&'a mut self, _: usize) -> Box<dyn Iterator<Item = Result<Batch<4>, TrainError>> + 'a> {
        let this = &*self;
        Box::new((0..this.steps).map(move |_| {
            let inputs = Tensor::from_data(this.images.clone(), &this.device).permute([0, 3, 1, 2]);
            let batch = Batch::new(inputs, this.labels.clone());
            this.handed_over.set(Some(Instant::now()));
            Ok(batch)
        }))
    }
}

/// Takes the time from the hand-over of a batch to the end of its step.
struct Clock {
    handed_over: HandedOver,
    times: Vec<Duration>,
    bar: ProgressBar,
}

impl<N> Callback<N> for Clock {
    fn on_batch_end(&mut self, _: &BatchEnd) {
        self.times.extend(self.handed_over.take().map(|started| started.elapsed()));
        self.bar.inc(1);
    }
}

/// Trains for all steps of `batches` with Keras' Adam; the time of each but the first, which allocates.
pub(super) fn timed_fit<const D: usize, N: Network<D>>(
    network: N,
    batches: &mut dyn Batches<D>,
    handed_over: HandedOver,
    bar: ProgressBar,
) -> Result<Vec<Duration>> {
    let mut clock = Clock { handed_over, times: Vec::new(), bar };
    let optimizer = OptimizerConfig::adam_keras().init()?;
    let outcome = fit(network, optimizer, batches, None, &FitOptions::default(), &mut [&mut clock])?;
    ensure!(outcome.stop == Stop::Completed, "the training ended early: {:?}", outcome.stop);
    clock.times.remove(0);
    Ok(clock.times)
}
