//! Figures of predicted classes.

use serde::Serialize;

use super::{check_lengths, refused};
use crate::TrainError;

/// How the figures of several classes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The plain mean over classes.
    Macro,
    /// All decisions of all classes are counted together.
    Micro,
    /// The mean over classes, each as often as it has samples.
    Weighted,
}

/// How much a disagreement of two classes `i` and `j` costs in [`ConfusionMatrix::cohens_kappa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KappaWeights {
    /// Any disagreement costs 1 (Cohen 1960).
    None,
    /// `|i - j|`, for classes in an order.
    Linear,
    /// `(i - j)²`, for classes in an order (Cohen 1968).
    Quadratic,
}

/// Figures of one class; 0 where a denominator is 0, as scikit-learn's `zero_division=0`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Of the samples taken for the class, the share that belongs to it.
    pub precision: f64,
    /// Of the samples that belong to the class, the share taken for it.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Number of samples that belong to the class.
    pub support: u64,
}

/// `counts[t][p]`: how many samples of class `t` were taken for class `p`. There is at least one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfusionMatrix {
    counts: Vec<Vec<u64>>,
}

/// Sums of one class: right, taken for it, belonging to it.
struct Sums {
    right: f64,
    taken: f64,
    support: f64,
}

impl Sums {
    fn precision(&self) -> f64 {
        share(self.right, self.taken)
    }

    fn recall(&self) -> f64 {
        share(self.right, self.support)
    }

    /// `(1 + β²) tp / (β² support + taken)`; the limits are precision at 0 and recall at infinity.
    fn f_beta(&self, beta: f64) -> f64 {
        if beta.is_infinite() {
            return self.recall();
        }
        let square = beta * beta;
        share((1.0 + square) * self.right, square * self.support + self.taken)
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

impl ConfusionMatrix {
    /// Counts `labels` and `predicted`, both of classes `0..classes`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if there are none, not as many of one as of the other, or a class is out of range.
    pub fn new(labels: &[usize], predicted: &[usize], classes: usize) -> Result<Self, TrainError> {
        check_lengths("confusion matrix", labels.len(), predicted.len())?;
        let mut counts = vec![vec![0; classes]; classes];
        for (sample, (&label, &taken)) in labels.iter().zip(predicted).enumerate() {
            let cell = counts.get_mut(label).and_then(|row| row.get_mut(taken)).ok_or_else(|| {
                refused(
                    "confusion matrix",
                    format!("sample {sample} is of class {label} and was taken for {taken}, there are {classes} classes"),
                )
            })?;
            *cell += 1;
        }
        Ok(Self { counts })
    }

    /// A matrix that was counted elsewhere, `counts[true][predicted]`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if it is not square or counts nothing.
    pub fn from_counts(counts: Vec<Vec<u64>>) -> Result<Self, TrainError> {
        if counts.iter().any(|row| row.len() != counts.len()) {
            return Err(refused("confusion matrix", "its rows must be as long as it has rows"));
        }
        if counts.iter().flatten().all(|&count| count == 0) {
            return Err(refused("confusion matrix", "it counts no sample"));
        }
        Ok(Self { counts })
    }

    /// `counts[true][predicted]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of samples that is right (`accuracy_score`).
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.samples() as f64
    }

    /// Mean recall of the classes that have samples (`balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        let sums = self.sums();
        let recalls: Vec<f64> = sums.iter().filter(|sums| sums.support > 0.0).map(Sums::recall).collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// The figures of every class, in order.
    pub fn figures(&self) -> Vec<ClassFigures> {
        let figures = |sums: &Sums| ClassFigures {
            precision: sums.precision(),
            recall: sums.recall(),
            f1: sums.f_beta(1.0),
            support: sums.support as u64,
        };
        self.sums().iter().map(figures).collect()
    }

    /// `tp / (tp + fp)` (`precision_score`).
    ///
    /// As there, a class that neither has samples nor is predicted does not count in the macro average, and 0/0 is 0.
    pub fn precision(&self, average: Average) -> f64 {
        self.averaged(average, Sums::precision)
    }

    /// `tp / (tp + fn)` (`recall_score`), with the conventions of [`precision`](Self::precision).
    pub fn recall(&self, average: Average) -> f64 {
        self.averaged(average, Sums::recall)
    }

    /// `(1 + β²) P R / (β² P + R)` (`fbeta_score`; van Rijsbergen 1979), with the conventions of
    /// [`precision`](Self::precision). `beta` weighs recall: below 1 less than precision, above 1 more.
    ///
    /// # Errors
    ///
    /// [`TrainError::OutOfRange`] if `beta` is negative or no number.
    pub fn f_beta(&self, beta: f64, average: Average) -> Result<f64, TrainError> {
        if beta.is_nan() || beta < 0.0 {
            return Err(TrainError::OutOfRange {
                field: "beta",
                value: beta.to_string(),
                range: "a number of at least 0",
            });
        }
        Ok(self.averaged(average, |sums| sums.f_beta(beta)))
    }

    /// Matthews' correlation of any number of classes (`matthews_corrcoef`; Gorodkin 2004), -1 to 1:
    /// `(c s - Σ tₖ pₖ) / √((s² - Σ pₖ²)(s² - Σ tₖ²))` with `c` right of `s` samples. 0 where a root is 0.
    pub fn matthews(&self) -> f64 {
        let sums = self.sums();
        let total = self.samples() as f64;
        let sum = |of: fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
        let covariance = sum(|s| s.right) * total - sum(|s| s.support * s.taken);
        let predicted = total * total - sum(|s| s.taken * s.taken);
        let truth = total * total - sum(|s| s.support * s.support);
        // Two roots: the product of two fourth powers of a count may pass what a float holds exactly.
        share(covariance, predicted.sqrt() * truth.sqrt())
    }

    /// Agreement beyond chance (`cohen_kappa_score`): `1 - Σ w o / Σ w e` over the observed counts `o` and those `e`
    /// that independence would give. None where both sides know one class only.
    pub fn cohens_kappa(&self, weights: KappaWeights) -> Option<f64> {
        let sums = self.sums();
        let total = self.samples() as f64;
        // scikit-learn leaves out classes that occur on neither side, which moves the others together.
        let present: Vec<usize> =
            (0..sums.len()).filter(|&c| sums[c].support + sums[c].taken > 0.0).collect();
        let (mut observed, mut expected) = (0.0, 0.0);
        for (i, &truth) in present.iter().enumerate() {
            for (j, &taken) in present.iter().enumerate() {
                let distance = i.abs_diff(j) as f64;
                let weight = match weights {
                    KappaWeights::None => f64::from(u8::from(i != j)),
                    KappaWeights::Linear => distance,
                    KappaWeights::Quadratic => distance * distance,
                };
                observed += weight * self.counts[truth][taken] as f64;
                expected += weight * sums[truth].support * sums[taken].taken / total;
            }
        }
        (expected > 0.0).then(|| 1.0 - observed / expected)
    }

    fn sums(&self) -> Vec<Sums> {
        let of = |class: usize| Sums {
            right: self.counts[class][class] as f64,
            taken: self.counts.iter().map(|row| row[class]).sum::<u64>() as f64,
            support: self.counts[class].iter().sum::<u64>() as f64,
        };
        (0..self.classes()).map(of).collect()
    }

    fn averaged(&self, average: Average, figure: impl Fn(&Sums) -> f64) -> f64 {
        let sums = self.sums();
        match average {
            Average::Micro => {
                let total = |of: fn(&Sums) -> f64| sums.iter().map(of).sum();
                figure(&Sums {
                    right: total(|s| s.right),
                    taken: total(|s| s.taken),
                    support: total(|s| s.support),
                })
            }
            Average::Macro => {
                let occurring = sums.iter().filter(|sums| sums.support + sums.taken > 0.0);
                let figures: Vec<f64> = occurring.map(figure).collect();
                figures.iter().sum::<f64>() / figures.len() as f64
            }
            Average::Weighted => {
                let weighted: f64 = sums.iter().map(|sums| sums.support * figure(sums)).sum();
                weighted / self.samples() as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_nothing_or_is_out_of_range_is_refused() {
        assert!(ConfusionMatrix::new(&[], &[], 2).is_err());
        assert!(ConfusionMatrix::new(&[0], &[0, 1], 2).is_err());
        let message = ConfusionMatrix::new(&[0, 2], &[0, 1], 2).expect_err("class 2 of 2").to_string();
        assert!(message.contains("sample 1") && message.contains("class 2"), "{message}");
        assert!(ConfusionMatrix::from_counts(vec![vec![1, 2]]).is_err());
        assert!(ConfusionMatrix::from_counts(vec![vec![0]]).is_err());
        let one = ConfusionMatrix::from_counts(vec![vec![1]]).expect("one sample");
        assert!(one.f_beta(-1.0, Average::Macro).is_err());
    }

    #[test]
    fn f_beta_ends_in_precision_and_recall() {
        let confusion =
            ConfusionMatrix::new(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 1, 0], 3).expect("six samples");
        for average in [Average::Macro, Average::Micro, Average::Weighted] {
            let f = |beta| confusion.f_beta(beta, average).expect("beta in range");
            assert!((f(0.0) - confusion.precision(average)).abs() < 1e-12);
            assert!((f(f64::INFINITY) - confusion.recall(average)).abs() < 1e-12);
        }
    }
}
