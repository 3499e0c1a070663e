//! Figures of an evaluation.

use serde::Serialize;

/// How a network did on a set of samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share that is right.
    pub accuracy: f64,
    /// `confusion[t][p]` counts samples of class `t` taken for class `p`.
    pub confusion: Vec<Vec<u64>>,
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

impl Evaluation {
    /// The figures of every class, in order.
    pub fn classes(&self) -> Vec<ClassFigures> {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        (0..self.confusion.len())
            .map(|class| {
                let right = self.confusion[class][class];
                let support: u64 = self.confusion[class].iter().sum();
                let taken: u64 = self.confusion.iter().map(|row| row[class]).sum();
                ClassFigures {
                    precision: share(right, taken),
                    recall: share(right, support),
                    f1: share(2 * right, support + taken),
                    support,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels 0,0,0,1,1,2 taken for 0,0,1,1,1,0, worked by hand from scikit-learn's definitions with `zero_division=0`.
    #[test]
    fn figures_follow_scikit_learns_definitions() {
        let evaluation = Evaluation {
            samples: 6,
            loss: 0.0,
            accuracy: 4.0 / 6.0,
            confusion: vec![vec![2, 1, 0], vec![0, 2, 0], vec![1, 0, 0]],
        };
        let expected = [(2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 3), (2.0 / 3.0, 1.0, 0.8, 2), (0.0, 0.0, 0.0, 1)];
        for (figures, (precision, recall, f1, support)) in evaluation.classes().iter().zip(expected) {
            assert!((figures.precision - precision).abs() < 1e-12);
            assert!((figures.recall - recall).abs() < 1e-12);
            assert!((figures.f1 - f1).abs() < 1e-12);
            assert_eq!(figures.support, support);
        }
    }
}
