//! Which loss is minimised, as a line of a command or a configuration file says it.

use std::str::FromStr;

use burn::tensor::{Tensor, activation};
use firebrick_nn::cross_entropy;
use firebrick_nn::loss::{
    BinaryCrossEntropy, BinaryFocal, CosineLoss, CrossEntropy, Focal, HuberLossConfig, LossError, MaeLoss,
    MseLoss, NtXent, Reduction, SmoothL1LossConfig, TripletMarginLossConfig, balanced_class_weights,
};
use firebrick_optim::{OptimError, parse_setting};
use serde::{Deserialize, Serialize};

use crate::Batch;
use crate::pairs::{pairs, triplets};

/// A loss and its settings: `focal:gamma=3`, `cross_entropy:label_smoothing=0.1,class_weights=balanced`.
///
/// Where classes are learnt, the network's outputs are logits. `mse`, `mae`, `huber` and `smooth_l1` then compare their softmax with the
/// target's shares of the classes and take the mean over both; the binary ones take every output as one against the rest. `triplet` and
/// `nt_xent` compare inputs of a batch by their logits and are added to the cross-entropy, without which logits would stand for no class;
/// where inputs are mixed, the cross-entropy is alone. Where a number is learnt, only `mse`, `mae`, `huber` and `smooth_l1` have a meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum LossConfig {
    /// [`CrossEntropy`] over the softmax.
    CrossEntropy {
        /// Share of a target that is spread over all classes; 0 by default.
        #[serde(default)]
        label_smoothing: f64,
        /// Weight of each class; all 1 by default.
        #[serde(default)]
        class_weights: ClassWeights,
    },
    /// [`BinaryCrossEntropy`], the mean over the classes.
    BinaryCrossEntropy {
        /// Moves targets towards one half; 0 by default.
        #[serde(default)]
        label_smoothing: f64,
        /// Weight of each class's positive targets; all 1 by default (PyTorch).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        positive_weights: Option<Vec<f32>>,
    },
    /// [`Focal`].
    Focal {
        /// A factor; 0.25 by default (Keras).
        #[serde(default = "quarter")]
        alpha: f64,
        /// How little what is easy counts; 2 by default (Keras).
        #[serde(default = "two")]
        gamma: f64,
    },
    /// [`BinaryFocal`].
    BinaryFocal {
        /// Weight of the positive; 0.25 by default (torchvision).
        #[serde(default = "quarter")]
        alpha: f64,
        /// How little what is easy counts; 2 by default (torchvision).
        #[serde(default = "two")]
        gamma: f64,
    },
    /// `Σ t log(t / softmax)`: cross-entropy less the targets' own entropy, which differs where images are mixed.
    KlDivergence {},
    /// [`CosineLoss`] of the logits.
    Cosine {},
    /// Cross-entropy plus `weight` times the mean of burn's `TripletMarginLoss` (Schroff et al. 2015, arXiv:1503.03832), added as by Luo et al. 2019
    /// (arXiv:1903.07071): of each input, the next one of its class in the batch and the next one of another.
    Triplet {
        /// Greater than 0; 1 by default (PyTorch).
        #[serde(default = "one")]
        margin: f64,
        /// Greater than 0; 1 by default (Luo et al.).
        #[serde(default = "one")]
        weight: f64,
    },
    /// Cross-entropy plus `weight` times [`NtXent`] (Chen et al. 2020, arXiv:2002.05709), whose two views are two inputs of a class: one pair a
    /// class and round, the mean over all pairs of the batch.
    NtXent {
        /// Greater than 0; 0.5 by default (paper).
        #[serde(default = "half")]
        temperature: f64,
        /// Greater than 0; 1 by default.
        #[serde(default = "one")]
        weight: f64,
    },
    /// Mean squared error.
    Mse {},
    /// Mean absolute error.
    Mae {},
    /// Squared where the error is at most `delta`, absolute beyond.
    Huber {
        /// Greater than 0; 1 by default (PyTorch).
        #[serde(default = "one")]
        delta: f64,
    },
    /// [`Huber`](Self::Huber) over `beta` (Girshick 2015, arXiv:1504.08083).
    #[serde(rename = "smooth_l1")]
    SmoothL1 {
        /// Greater than 0; 1 by default (PyTorch).
        #[serde(default = "one")]
        beta: f64,
    },
}

/// Weights of the classes in the mean over a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "class_weights must be a list of numbers or `balanced`")]
pub enum ClassWeights {
    /// All 1.
    #[default]
    Equal,
    /// Taken from the training labels by [`LossConfig::balanced`].
    Balanced(Balanced),
    /// One a class.
    Given(Vec<f32>),
}

/// The word `balanced`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balanced {
    /// Every class counts the same, see [`balanced_class_weights`].
    Balanced,
}

fn quarter() -> f64 {
    0.25
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

impl FromStr for LossConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        parse_setting("loss", text)
    }
}

impl LossConfig {
    /// Cross-entropy with PyTorch's and Keras' defaults.
    pub const fn cross_entropy() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0, class_weights: ClassWeights::Equal }
    }

    /// The names.
    pub const NAMES: [&str; 12] = [
        "cross_entropy",
        "binary_cross_entropy",
        "focal",
        "binary_focal",
        "kl_divergence",
        "cosine",
        "triplet",
        "nt_xent",
        "mse",
        "mae",
        "huber",
        "smooth_l1",
    ];

    /// Takes `balanced` weights, if they were asked for, from the training `labels`.
    pub fn balanced(self, labels: &[usize], classes: usize) -> Self {
        match self {
            Self::CrossEntropy { label_smoothing, class_weights: ClassWeights::Balanced(_) } => {
                let weights = balanced_class_weights(labels, classes);
                Self::CrossEntropy { label_smoothing, class_weights: ClassWeights::Given(weights) }
            }
            other => other,
        }
    }

    /// Checks every setting for a network that tells `classes` classes.
    ///
    /// # Errors
    ///
    /// [`LossError`] names the setting.
    pub fn validate_classes(&self, classes: usize) -> Result<(), LossError> {
        match self {
            Self::CrossEntropy { class_weights: ClassWeights::Balanced(_), .. } => Err(LossError {
                field: "class_weights",
                value: "balanced".to_owned(),
                expected: "a list here; LossConfig::balanced makes one from the labels".to_owned(),
            }),
            Self::CrossEntropy { label_smoothing, class_weights } => {
                let class_weights = match class_weights {
                    ClassWeights::Given(weights) => Some(weights.clone()),
                    _ => None,
                };
                CrossEntropy { label_smoothing: *label_smoothing, class_weights }.validate(classes)
            }
            Self::BinaryCrossEntropy { label_smoothing, positive_weights } => {
                let positive_weights = positive_weights.clone();
                BinaryCrossEntropy { label_smoothing: *label_smoothing, positive_weights }.validate(classes)
            }
            &Self::Focal { alpha, gamma } => Focal { alpha, gamma }.validate(),
            &Self::BinaryFocal { alpha, gamma } => BinaryFocal { alpha, gamma }.validate(),
            Self::KlDivergence {} | Self::Cosine {} | Self::Mse {} | Self::Mae {} => Ok(()),
            Self::Huber { delta } => positive("delta", *delta),
            Self::SmoothL1 { beta } => positive("beta", *beta),
            Self::Triplet { margin, weight } => {
                positive("margin", *margin)?;
                positive("weight", *weight)
            }
            &Self::NtXent { temperature, weight } => {
                NtXent { temperature }.validate()?;
                positive("weight", weight)
            }
        }
    }

    /// Checks every setting for a network that tells a number.
    ///
    /// # Errors
    ///
    /// [`LossError`] names the setting; a loss of classes is refused.
    pub fn validate_numbers(&self) -> Result<(), LossError> {
        match self {
            Self::Mse {} | Self::Mae {} | Self::Huber { .. } | Self::SmoothL1 { .. } => {
                self.validate_classes(1)
            }
            _ => Err(LossError {
                field: "name",
                value: self.name().to_owned(),
                expected: "mse, mae, huber or smooth_l1 where a number is learnt".to_owned(),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::BinaryCrossEntropy { .. } => "binary_cross_entropy",
            Self::Focal { .. } => "focal",
            Self::BinaryFocal { .. } => "binary_focal",
            Self::KlDivergence {} => "kl_divergence",
            Self::Cosine {} => "cosine",
            Self::Triplet { .. } => "triplet",
            Self::NtXent { .. } => "nt_xent",
            Self::Mse {} => "mse",
            Self::Mae {} => "mae",
            Self::Huber { .. } => "huber",
            Self::SmoothL1 { .. } => "smooth_l1",
        }
    }

    /// The mean loss of a batch whose logits are `[batch, classes]`; the settings were validated.
    pub(crate) fn of_classes<const D: usize>(&self, logits: Tensor<2>, batch: &Batch<D>) -> Tensor<1> {
        let device = logits.device();
        let shares = |logits: &Tensor<2>| batch.shares(logits.dims()[1], &device);
        let mean = Reduction::Mean;
        match self {
            Self::CrossEntropy { label_smoothing, class_weights } => {
                let class_weights = match class_weights {
                    ClassWeights::Given(weights) => Some(weights.clone()),
                    _ => None,
                };
                let loss = CrossEntropy { label_smoothing: *label_smoothing, class_weights };
                match batch.mix {
                    None if loss == CrossEntropy::default() => cross_entropy(logits, batch.targets(&device)),
                    None => loss.forward(logits, batch.targets(&device), mean),
                    Some(_) => {
                        let shares = shares(&logits);
                        loss.forward_soft(logits, shares, mean)
                    }
                }
            }
            Self::BinaryCrossEntropy { label_smoothing, positive_weights } => {
                let shares = shares(&logits);
                let positive_weights = positive_weights.clone();
                BinaryCrossEntropy { label_smoothing: *label_smoothing, positive_weights }
                    .forward(logits, shares, mean)
            }
            &Self::Focal { alpha, gamma } => {
                let shares = shares(&logits);
                Focal { alpha, gamma }.forward(logits, shares, mean)
            }
            &Self::BinaryFocal { alpha, gamma } => {
                let shares = shares(&logits);
                BinaryFocal { alpha, gamma }.forward(logits, shares, mean)
            }
            Self::KlDivergence {} => {
                let shares = shares(&logits);
                CrossEntropy::default().forward_soft(logits, shares, mean) - batch.entropy()
            }
            Self::Cosine {} => {
                let shares = shares(&logits);
                CosineLoss.forward(logits, shares, mean)
            }
            &Self::Triplet { margin, weight } => {
                let entropy = Self::cross_entropy().of_classes(logits.clone(), batch);
                let rows = triplets(&batch.labels);
                if batch.mix.is_some() || rows.len() == 0 {
                    return entropy;
                }
                let [anchors, positives, negatives] = rows.of(&logits, &device);
                let loss = TripletMarginLossConfig::new().with_margin(margin).init();
                entropy + loss.forward(anchors, positives, negatives, mean) * weight
            }
            &Self::NtXent { temperature, weight } => {
                let entropy = Self::cross_entropy().of_classes(logits.clone(), batch);
                let rounds = pairs(&batch.labels);
                if batch.mix.is_some() || rounds.is_empty() {
                    return entropy;
                }
                let views = 2 * rounds.iter().map(|rows| rows.len()).sum::<usize>();
                let sum = |rows: &crate::pairs::Rows<2>| {
                    let [first, second] = rows.of(&logits, &device);
                    NtXent { temperature }.forward(first, second, Reduction::Sum)
                };
                let sums = rounds.iter().map(sum).reduce(|a, b| a + b).expect("one round at least");
                entropy + sums * (weight / views as f64)
            }
            Self::Mse {} | Self::Mae {} | Self::Huber { .. } | Self::SmoothL1 { .. } => {
                let shares = shares(&logits);
                self.of_numbers(activation::softmax(logits, 1), shares)
            }
        }
    }

    /// The mean loss of `told` and `truth`, of one shape; the settings were validated.
    pub(crate) fn of_numbers(&self, told: Tensor<2>, truth: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Mae {} => MaeLoss.forward(told, truth, Reduction::Mean),
            Self::Huber { delta } => {
                HuberLossConfig::new(*delta as f32).init().forward(told, truth, Reduction::Mean)
            }
            Self::SmoothL1 { beta } => SmoothL1LossConfig::new()
                .with_beta(*beta as f32)
                .init()
                .forward_with_reduction(told, truth, Reduction::Mean),
            _ => MseLoss::new().forward(told, truth, Reduction::Mean),
        }
    }
}

fn positive(field: &'static str, value: f64) -> Result<(), LossError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(LossError { field, value: value.to_string(), expected: "a number greater than 0".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceChoice, Mix};

    #[test]
    fn losses_of_pairs_compare_inputs_by_their_labels() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        // Lengths and distances that are easily told: [3, 4] and [0, 5] are of class 1.
        let rows = [[3.0f32, 4.0], [1.0, 0.0], [0.0, 5.0], [2.0, 0.0]];
        let logits = Tensor::<2>::from_floats(rows, &device);
        let batch = Batch::new(logits.clone(), vec![1, 0, 1, 0]);
        let value = |text: &str, batch: &Batch<2>| {
            let loss = text.parse::<LossConfig>().expect(text);
            f64::from(loss.of_classes(logits.clone(), batch).into_scalar::<f32>())
        };
        let entropy = value("cross_entropy", &batch);
        // The distance to the next of the class, less that to the next of the other one, plus the margin.
        let apart =
            |a: usize, b: usize| f64::from(rows[a][0] - rows[b][0]).hypot(f64::from(rows[a][1] - rows[b][1]));
        let miss = |a, p, n| (apart(a, p) - apart(a, n) + 3.0).max(0.0);
        let triplets = (miss(0, 2, 1) + miss(1, 3, 2) + miss(2, 0, 3) + miss(3, 1, 0)) / 4.0;
        assert!(triplets > 0.0);
        let found = value("triplet:margin=3,weight=0.5", &batch) - entropy;
        assert!((found - 0.5 * triplets).abs() < 1e-5, "{found} {triplets}");
        // Cosines: 0.8 within class 1, 1 within class 0, 0.6 and 0 between them.
        let term = |own: f64, others: [f64; 2]| {
            let all = own.exp() + others.map(f64::exp).iter().sum::<f64>();
            all.ln() - own
        };
        let pairs = term(0.8, [0.6, 0.6]) + term(0.8, [0.0, 0.0]) + 2.0 * term(1.0, [0.6, 0.0]);
        let found = value("nt_xent:temperature=1,weight=2", &batch) - entropy;
        assert!((found - 2.0 * pairs / 4.0).abs() < 1e-5, "{found} {pairs}");
        // Nothing to compare, or mixed: the cross-entropy alone.
        let alone = Batch::new(logits.clone(), vec![1, 1, 1, 1]);
        for text in ["triplet", "nt_xent"] {
            assert_eq!(value(text, &alone), value("cross_entropy", &alone), "{text}");
            let mix = Some(Mix { partners: vec![0, 1, 0, 1], share: 0.5 });
            let mixed = Batch { mix, ..batch.clone() };
            assert_eq!(value(text, &mixed), value("cross_entropy", &mixed), "{text}");
        }
    }

    #[test]
    fn a_line_says_a_loss_and_a_wrong_one_says_what_is_wrong() {
        for name in LossConfig::NAMES {
            let loss: LossConfig = name.parse().expect(name);
            assert_eq!(loss.name(), name);
            assert_eq!(loss.validate_classes(3), Ok(()), "{name}");
            assert_eq!(
                loss.validate_numbers().is_ok(),
                ["mse", "mae", "huber", "smooth_l1"].contains(&name),
                "{name}"
            );
        }
        for (text, word) in [
            ("crossentropy", "cross_entropy"),
            ("focal:gama=2", "gamma"),
            ("focal:gamma=-1", "`gamma` is -1"),
            ("mse:delta=1", "delta"),
            ("huber:delta=0", "`delta` is 0"),
            ("smooth_l1:beta=-1", "`beta` is -1"),
            ("triplet:margin=0", "`margin` is 0"),
            ("nt_xent:temperature=0", "`temperature` is 0"),
            ("nt_xent:weight=-1", "`weight` is -1"),
            ("binary_cross_entropy:positive_weights=[1,2]", "`positive_weights` is a list of 2"),
            ("focal:gamma=much", "`gamma` is `much`, it must be a number"),
            ("cross_entropy:label_smoothing=1.5", "`label_smoothing` is 1.5"),
            ("cross_entropy:class_weights=[1,2]", "each of the 3 classes"),
            ("cross_entropy:class_weights=balanced", "balanced"),
            ("cross_entropy:class_weights=3", "list of numbers or `balanced`"),
        ] {
            let message = match text.parse::<LossConfig>() {
                Ok(loss) => loss.validate_classes(3).expect_err(text).to_string(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(word), "{text}: {message}");
        }
        let loss: LossConfig = "cross_entropy:class_weights=balanced".parse().expect("a loss");
        let loss = loss.balanced(&[0, 0, 1], 2);
        assert_eq!(loss, "cross_entropy:class_weights=[0.75,1.5]".parse().expect("a loss"));
    }

    #[test]
    fn mixed_targets_reach_every_loss() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let logits = Tensor::<2>::from_floats([[2.0, -1.0, 0.5], [0.0, 1.0, 0.25]], &device);
        let mut batch = Batch::new(logits.clone(), vec![0, 1]);
        let value =
            |loss: &LossConfig, batch: &Batch<2>| loss.of_classes(logits.clone(), batch).into_scalar::<f32>();
        let plain: Vec<f32> = LossConfig::NAMES.map(|name| value(&name.parse().expect(name), &batch)).into();
        batch.mix = Some(Mix { partners: vec![0, 1], share: 0.75 });
        for (name, plain) in LossConfig::NAMES.iter().zip(&plain) {
            let same = value(&name.parse().expect(name), &batch);
            assert!((same - plain).abs() < 1e-6, "{name}: mixed with its own class {same}, not {plain}");
        }
        batch.mix = Some(Mix { partners: vec![2, 0], share: 0.75 });
        for (name, plain) in LossConfig::NAMES.iter().zip(&plain) {
            let mixed = value(&name.parse().expect(name), &batch);
            assert!((mixed - plain).abs() > 1e-3, "{name}: {mixed}");
        }
        // Cross-entropy less the entropy of 3/4 and 1/4.
        let entropy = -(0.75f32 * 0.75f32.ln() + 0.25 * 0.25f32.ln());
        let [cross, divergence] =
            ["cross_entropy", "kl_divergence"].map(|name| value(&name.parse().expect(name), &batch));
        assert!((cross - divergence - entropy).abs() < 1e-6, "{cross} {divergence} {entropy}");
    }
}
