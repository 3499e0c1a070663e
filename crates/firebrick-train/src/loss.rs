//! Which loss is minimised, as a line of a command or a configuration file says it.

use std::str::FromStr;

use burn::tensor::{Tensor, activation};
use firebrick_nn::cross_entropy;
use firebrick_nn::loss::{
    BinaryCrossEntropy, BinaryFocal, CosineLoss, CrossEntropy, Focal, HuberLossConfig, LossError, MaeLoss,
    MseLoss, Reduction, balanced_class_weights,
};
use firebrick_optim::{OptimError, parse_setting};
use serde::{Deserialize, Serialize};

use crate::Batch;

/// A loss and its settings: `focal:gamma=3`, `cross_entropy:label_smoothing=0.1,class_weights=balanced`.
///
/// Where classes are learnt, the network's outputs are logits. `mse`, `mae` and `huber` then compare their softmax with the target's
/// shares of the classes and take the mean over both; the binary ones take every output as one against the rest.
/// Where a number is learnt, only these three have a meaning.
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

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

impl FromStr for LossConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        // The one setting that is a word: a shell takes JSON's quotes away.
        parse_setting("loss", &text.replace("=balanced", "=\"balanced\""))
    }
}

impl LossConfig {
    /// Cross-entropy with PyTorch's and Keras' defaults.
    pub const fn cross_entropy() -> Self {
        Self::CrossEntropy { label_smoothing: 0.0, class_weights: ClassWeights::Equal }
    }

    /// The names.
    pub const NAMES: [&str; 9] = [
        "cross_entropy",
        "binary_cross_entropy",
        "focal",
        "binary_focal",
        "kl_divergence",
        "cosine",
        "mse",
        "mae",
        "huber",
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
            &Self::BinaryCrossEntropy { label_smoothing } => {
                BinaryCrossEntropy { label_smoothing, positive_weights: None }.validate(classes)
            }
            &Self::Focal { alpha, gamma } => Focal { alpha, gamma }.validate(),
            &Self::BinaryFocal { alpha, gamma } => BinaryFocal { alpha, gamma }.validate(),
            Self::KlDivergence {} | Self::Cosine {} | Self::Mse {} | Self::Mae {} => Ok(()),
            &Self::Huber { delta } if delta.is_finite() && delta > 0.0 => Ok(()),
            Self::Huber { delta } => Err(LossError {
                field: "delta",
                value: delta.to_string(),
                expected: "a number greater than 0".to_owned(),
            }),
        }
    }

    /// Checks every setting for a network that tells a number.
    ///
    /// # Errors
    ///
    /// [`LossError`] names the setting; a loss of classes is refused.
    pub fn validate_numbers(&self) -> Result<(), LossError> {
        match self {
            Self::Mse {} | Self::Mae {} | Self::Huber { .. } => self.validate_classes(1),
            _ => Err(LossError {
                field: "name",
                value: self.name().to_owned(),
                expected: "mse, mae or huber where a number is learnt".to_owned(),
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
            Self::Mse {} => "mse",
            Self::Mae {} => "mae",
            Self::Huber { .. } => "huber",
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
            &Self::BinaryCrossEntropy { label_smoothing } => {
                let shares = shares(&logits);
                BinaryCrossEntropy { label_smoothing, positive_weights: None }.forward(logits, shares, mean)
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
            Self::Mse {} | Self::Mae {} | Self::Huber { .. } => {
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
            _ => MseLoss::new().forward(told, truth, Reduction::Mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceChoice, Mix};

    #[test]
    fn a_line_says_a_loss_and_a_wrong_one_says_what_is_wrong() {
        for name in LossConfig::NAMES {
            let loss: LossConfig = name.parse().expect(name);
            assert_eq!(loss.name(), name);
            assert_eq!(loss.validate_classes(3), Ok(()), "{name}");
            assert_eq!(loss.validate_numbers().is_ok(), ["mse", "mae", "huber"].contains(&name), "{name}");
        }
        for (text, word) in [
            ("crossentropy", "cross_entropy"),
            ("focal:gama=2", "gamma"),
            ("focal:gamma=-1", "`gamma` is -1"),
            ("mse:delta=1", "delta"),
            ("huber:delta=0", "`delta` is 0"),
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
