//! The same loop on every backend.
#![allow(clippy::print_stderr, reason = "a test says what it measured and what it skipped")]

mod backends;

use firebrick::burn;
use firebrick::burn::module::Module;
use firebrick::burn::tensor::{Device, Tensor, TensorData};
use firebrick::nn::{Activation, ClassifierHead, ConvNormAct, ConvNormActConfig, HeadConfig, Network};
use firebrick::optim::OptimizerConfig;
use firebrick::train::{
    BatchEnd, Callback, DeviceChoice, EpochRecord, FitOptions, Flow, InMemory, TrainError, evaluate, fit,
};

const SIDE: usize = 32;

/// Images whose class is the place of their bright stripe, on a patterned ground.
fn stripes(samples: usize, classes: usize, device: &Device) -> (Tensor<4>, Vec<usize>) {
    let labels: Vec<usize> = (0..samples).map(|sample| sample % classes).collect();
    let mut pixels = Vec::with_capacity(samples * 3 * SIDE * SIDE);
    for (sample, label) in labels.iter().enumerate() {
        for channel in 0..3 {
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let ground = ((sample * 31 + channel * 17 + y * 7 + x * 13) % 29) as f32 / 29.0 - 0.5;
                    let stripe = if x * classes / SIDE == *label { 1.5 } else { 0.0 };
                    pixels.push(ground + stripe);
                }
            }
        }
    }
    (Tensor::from_data(TensorData::new(pixels, [samples, 3, SIDE, SIDE]), device), labels)
}

/// The parts of a MobileNet, few of each: a test spends its time on the loop, not on the network.
#[derive(Module, Debug)]
struct SmallNet {
    stem: ConvNormAct,
    depthwise: ConvNormAct,
    pointwise: ConvNormAct,
    head: ClassifierHead,
}

impl SmallNet {
    fn new(classes: usize, device: &Device) -> Self {
        let block =
            |config: ConvNormActConfig, seed| config.with_activation(Activation::Relu6).init(seed, device);
        Self {
            stem: block(ConvNormActConfig::new(3, 16, 3).with_stride(2), 1),
            depthwise: block(ConvNormActConfig::new(16, 16, 3).with_groups(16).with_stride(2), 2),
            pointwise: block(ConvNormActConfig::new(16, 32, 1), 3),
            head: HeadConfig::new(32 * SIDE / 4, classes).init(4, device),
        }
    }
}

impl Network<4> for SmallNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pointwise.forward(self.depthwise.forward(self.stem.forward(images)));
        // The mean over rows alone: the stripe's place is what is to be learned.
        self.head.forward(x.mean_dim(2).flatten(1, 3))
    }
}

/// The loss of every step.
#[derive(Default)]
struct Losses(Vec<f64>);

impl<N> Callback<N> for Losses {
    fn on_batch_end(&mut self, end: &BatchEnd) {
        self.0.push(end.batch_loss);
    }
}

#[test]
fn twenty_steps_have_the_same_losses_on_every_backend() {
    let mut reference: Option<(DeviceChoice, Vec<f64>)> = None;
    for (name, device) in backends::devices() {
        let (inputs, labels) = stripes(160, 4, &device);
        let mut train = InMemory::new(inputs, labels, 8).expect("160 images").shuffled(0);
        let mut losses = Losses::default();
        let optimizer = OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        fit(
            SmallNet::new(4, &device),
            optimizer.init().expect("valid"),
            &mut train,
            None,
            &FitOptions { epochs: 1, learning_rate: 0.01, ..FitOptions::default() },
            &mut [&mut losses],
        )
        .expect("trained");
        let Losses(losses) = losses;
        assert_eq!(losses.len(), 20);
        let (first, last) = (&losses[..5], &losses[15..]);
        assert!(last.iter().sum::<f64>() < first.iter().sum::<f64>(), "{name}: {losses:?}");
        match &reference {
            None => reference = Some((name, losses)),
            Some((reference_name, reference)) => {
                for (step, (ours, theirs)) in losses.iter().zip(reference).enumerate() {
                    let difference = (ours - theirs).abs() / theirs.abs();
                    assert!(
                        difference < 2e-3,
                        "step {step}: {ours} on {name}, {theirs} on {reference_name}, relative {difference:e}"
                    );
                }
                let worst =
                    losses.iter().zip(reference).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max);
                eprintln!("{name} against {reference_name}: largest relative difference {worst:e}");
            }
        }
    }
}

/// Stops when every sample is right in evaluation mode.
struct UntilPerfect;

impl<N> Callback<N> for UntilPerfect {
    fn on_epoch_end(&mut self, record: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        Ok(if record.val_accuracy == Some(1.0) { Flow::Stop } else { Flow::Continue })
    }
}

#[test]
fn thirty_two_images_are_learned_by_heart() {
    let device = DeviceChoice::NdArray.open().expect("built in");
    let (inputs, labels) = stripes(32, 4, &device);
    let mut train = InMemory::new(inputs, labels, 16).expect("32 images").shuffled(0);
    let mut all = train.clone();
    let outcome = fit(
        SmallNet::new(4, &device),
        OptimizerConfig::adam_torch().init().expect("valid"),
        &mut train,
        Some(&mut all),
        &FitOptions { epochs: 60, learning_rate: 3e-3, ..FitOptions::default() },
        &mut [&mut UntilPerfect],
    )
    .expect("trained");
    let accuracy = evaluate(&outcome.network, &mut all).expect("evaluated").accuracy;
    assert_eq!(
        accuracy,
        1.0,
        "after {} epochs: {:?}",
        outcome.history.epochs.len(),
        outcome.history.epochs.last()
    );
}
