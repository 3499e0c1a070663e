//! What each regulariser does to the gap between training and validation, as a picture.
//!
//! ```text
//! cargo run --release --example regularizers -p firebrick-examples [OUT.png] [EPOCHS]
//! ```
//!
//! A network that is much too large learns handwritten digits from a hundred images, some of whose labels are wrong: left to itself it
//! learns those by heart. The loop is written out, so that each regulariser is seen where it acts: on the inputs, in the network, in
//! the targets, in the loss, in the step, or on the weights.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::autodiff::soft_cross_entropy;
use firebrick::burn::module::Module;
use firebrick::burn::nn::DropoutConfig;
use firebrick::burn::optim::GradientsParams;
use firebrick::burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use firebrick::data::{KFold, Table, TableEncoder, TableLimits, Task, shuffled};
use firebrick::nn::{Activation, ClassifierHead, HeadConfig, Network, dense};
use firebrick::optim::{OptimizerConfig, RegularizeConfig};
use firebrick::train::DeviceChoice;
use firebrick_examples::chart::{Group, bars};
use image::Rgb;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv");
const CLASSES: usize = 10;
/// Every so many-th training label is a wrong one.
const WRONG: usize = 4;
const BATCH: usize = 20;
const TRAINING: Rgb<u8> = Rgb([31, 119, 180]);
const VALIDATION: Rgb<u8> = Rgb([214, 39, 40]);

/// One regulariser, and how strong it is.
#[derive(Clone, Copy)]
enum Regularizer {
    None,
    /// `λ Σ |w|` in the loss (Tibshirani 1996).
    L1(f64),
    /// `λ Σ w²` in the loss (Hoerl and Kennard 1970).
    L2(f64),
    /// Both.
    ElasticNet(f64, f64),
    /// `w ← w - η λ w` beside the step (Loshchilov and Hutter 2019).
    WeightDecay(f64),
    /// Activations of both hidden layers dropped in training (Srivastava et al. 2014).
    Dropout(f64),
    /// Normal noise of this deviation on the inputs (Bishop 1995).
    InputNoise(f64),
    /// This share of the target spread over all classes (Szegedy et al. 2016).
    LabelSmoothing(f64),
    /// Each unit's weights at most this long (Srebro and Shraibman 2005).
    MaxNorm(f64),
    /// The network of the epoch with the best validation loss (Prechelt 1998).
    EarlyStopping,
}

/// Strengths by hand: such that the effect is seen, not such that validation is best. Most of them trade a little training accuracy,
/// i.e. wrong labels learnt by heart, for a smaller gap; smoothed labels temper the probabilities rather than the classes.
const TRIED: [(&str, Regularizer); 10] = [
    ("NONE", Regularizer::None),
    ("L1", Regularizer::L1(6e-3)),
    ("L2", Regularizer::L2(3e-2)),
    ("ELASTIC NET", Regularizer::ElasticNet(5e-3, 1.5e-2)),
    ("WEIGHT DECAY", Regularizer::WeightDecay(8.0)),
    ("DROPOUT", Regularizer::Dropout(0.7)),
    ("INPUT NOISE", Regularizer::InputNoise(2.0)),
    ("LABEL SMOOTHING", Regularizer::LabelSmoothing(0.3)),
    ("MAX NORM", Regularizer::MaxNorm(0.5)),
    ("EARLY STOPPING", Regularizer::EarlyStopping),
];

/// Inputs, and the classes that are told of them.
struct Part {
    inputs: Tensor<2>,
    told: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().unwrap_or_else(|| "regularizers.png".to_owned());
    let epochs: usize = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let device = DeviceChoice::NdArray.open()?;

    let table = Table::read(DIGITS, &TableLimits::default())?;
    // One part of six trains, the others validate.
    let fold = KFold { folds: 6, repeats: 1, seed: 0 }.stratified(&table.groups("digit")?)?.swap_remove(0);
    let (train, validation) = (fold.validation, fold.train);
    let encoder = TableEncoder::fit(&table, &train, "digit", Task::Classify, &[])?;
    let part = |rows: &[usize]| -> anyhow::Result<Part> {
        let inputs = TensorData::new(encoder.inputs(&table, rows)?, [rows.len(), encoder.width()]);
        Ok(Part { inputs: Tensor::from_data(inputs, &device), told: encoder.labels(&table, rows)? })
    };
    let (mut train, validation) = (part(&train)?, part(&validation)?);
    for label in train.told.iter_mut().step_by(WRONG) {
        *label = (*label + 1) % CLASSES;
    }

    println!("{:<16} {:>8} {:>10} {:>6}", "", "training", "validation", "gap");
    let mut groups = Vec::new();
    let mut gaps = Vec::new();
    for (name, regularizer) in TRIED {
        // Noise and dropout draw from the device's own generator.
        device.seed(0);
        let network = run(regularizer, &train, &validation, epochs, &device)?;
        let (on_train, on_validation) = (accuracy(&network, &train)?, accuracy(&network, &validation)?);
        let gap = on_train - on_validation;
        println!("{name:<16} {on_train:>8.4} {on_validation:>10.4} {gap:>6.3}");
        groups.push(Group {
            name: name.to_owned(),
            note: format!("{on_validation:.3}  GAP {gap:.3}"),
            bars: vec![(on_train, TRAINING), (on_validation, VALIDATION)],
        });
        gaps.push(gap);
    }
    let title =
        format!("ACCURACY AFTER {epochs} EPOCHS: {} DIGITS, EVERY {WRONG}TH LABEL WRONG", train.told.len());
    let legend = [("TRAINING, AS LABELLED", TRAINING), ("VALIDATION", VALIDATION)];
    bars(&title, &legend, &groups, 0.0, 1.0).save(&out)?;
    println!("{out}");
    let smaller = gaps[1..].iter().filter(|gap| **gap < gaps[0]).count();
    ensure!(smaller >= 7, "only {smaller} of {} regularisers made the gap smaller", gaps.len() - 1);
    Ok(())
}

fn run(
    regularizer: Regularizer,
    train: &Part,
    validation: &Part,
    epochs: usize,
    device: &Device,
) -> anyhow::Result<ClassifierHead> {
    let config = HeadConfig::new(train.inputs.dims()[1], CLASSES).with_hidden([256, 64]);
    let dropout =
        DropoutConfig::new(if let Regularizer::Dropout(share) = regularizer { share } else { 0.0 }).init();
    let mut network = config.init(0, device).train();
    let mut optimizer = match regularizer {
        Regularizer::WeightDecay(weight_decay) => {
            OptimizerConfig::AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay }
        }
        _ => OptimizerConfig::adam_torch(),
    }
    .init()?;
    let none = RegularizeConfig::default();
    let of_weights = match regularizer {
        Regularizer::L1(l1) => RegularizeConfig { l1, ..none },
        Regularizer::L2(l2) => RegularizeConfig { l2, ..none },
        Regularizer::ElasticNet(l1, l2) => RegularizeConfig { l1, l2, ..none },
        Regularizer::MaxNorm(longest) => RegularizeConfig { max_norm: Some(longest), ..none },
        _ => none,
    };
    let mut best: Option<(f64, ClassifierHead)> = None;
    for epoch in 0..epochs {
        for rows in shuffled(train.told.len(), 0, epoch as u64).chunks(BATCH) {
            let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
            let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows.len()]), device);
            let mut inputs = train.inputs.clone().select(0, indices);
            if let Regularizer::InputNoise(deviation) = regularizer {
                inputs = inputs.clone() + inputs.random_like(Distribution::Normal(0.0, deviation));
            }
            let told: Vec<usize> = rows.iter().map(|&row| train.told[row]).collect();
            let smoothing = if let Regularizer::LabelSmoothing(share) = regularizer { share } else { 0.0 };
            let hidden = network.hidden.iter().fold(Tensor::from_inner(inputs), |x, layer| {
                dropout.forward(dense(layer, x, Activation::Relu))
            });
            let logits = dense(&network.output, hidden, Activation::None);
            let targets = Tensor::from_inner(targets(&told, smoothing, device));
            let loss = soft_cross_entropy(logits, targets).mean();
            let mut gradients = GradientsParams::from_grads(loss.backward(), &network);
            // The penalty's gradient, which it would have as a term in the loss; of weights alone, a bias makes no function rougher.
            of_weights.add_gradients(&network, &mut gradients);
            network = optimizer.step(1e-3, network, gradients);
            network = of_weights.constrain(network);
        }
        if let Regularizer::EarlyStopping = regularizer {
            let snapshot = network.valid();
            let logits = snapshot.forward(validation.inputs.clone());
            let targets = targets(&validation.told, 0.0, device);
            let loss = f64::from(soft_cross_entropy(logits, targets).mean().into_scalar::<f32>());
            if best.as_ref().is_none_or(|(lowest, _)| loss < *lowest) {
                best = Some((loss, snapshot));
            }
        }
    }
    Ok(best.map_or_else(|| network.valid(), |(_, network)| network))
}

/// `[rows, classes]`: `1 - smoothing` for the class, and `smoothing / classes` for each.
fn targets(told: &[usize], smoothing: f64, device: &Device) -> Tensor<2> {
    let share = |class: usize, label: usize| {
        (smoothing / CLASSES as f64 + if class == label { 1.0 - smoothing } else { 0.0 }) as f32
    };
    let values: Vec<f32> =
        told.iter().flat_map(|&label| (0..CLASSES).map(move |class| share(class, label))).collect();
    Tensor::from_data(TensorData::new(values, [told.len(), CLASSES]), device)
}

fn accuracy(network: &ClassifierHead, part: &Part) -> anyhow::Result<f64> {
    let taken =
        network.forward(part.inputs.clone()).argmax(1).into_data().convert::<i64>().try_to_vec::<i64>()?;
    let right = taken.iter().zip(&part.told).filter(|&(&taken, &told)| taken == told as i64);
    Ok(right.count() as f64 / part.told.len() as f64)
}
