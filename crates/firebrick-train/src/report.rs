//! Figures of an evaluation.

use serde::Serialize;

use crate::metrics::{ClassFigures, ConfusionMatrix};

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

impl Evaluation {
    /// The figures of every class, in order.
    pub fn classes(&self) -> Vec<ClassFigures> {
        ConfusionMatrix::from_counts(self.confusion.clone())
            .map_or(Vec::new(), |confusion| confusion.figures())
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
