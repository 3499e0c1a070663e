//! Figures of predicted numbers.

use serde::Serialize;

use super::{check_finite, check_lengths};
use crate::TrainError;

/// How far predictions are from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Regression {
    /// Number of samples.
    pub samples: usize,
    /// `1/n Σ (y - ŷ)²`, in the target's unit squared (`mean_squared_error`).
    pub mse: f64,
    /// Its root, in the target's unit (`root_mean_squared_error`).
    pub rmse: f64,
    /// `1/n Σ |y - ŷ|`, in the target's unit (`mean_absolute_error`).
    pub mae: f64,
    /// `1 - Σ (y - ŷ)² / Σ (y - ȳ)²`, the share of the variance that is explained (`r2_score`).
    ///
    /// Of a constant target 1 where every prediction is exact and 0 otherwise, as there; none of fewer than two samples.
    pub r2: Option<f64>,
}

impl Regression {
    /// Compares `predicted` with `truth`.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] for lists that are empty or of different lengths, or a value that is no finite number.
    pub fn new(truth: &[f64], predicted: &[f64]) -> Result<Self, TrainError> {
        check_lengths("regression", truth.len(), predicted.len())?;
        check_finite("regression", truth)?;
        check_finite("regression", predicted)?;
        let count = truth.len() as f64;
        let mean = truth.iter().sum::<f64>() / count;
        let errors = || truth.iter().zip(predicted).map(|(y, guess)| y - guess);
        let residual: f64 = errors().map(|error| error * error).sum();
        let total: f64 = truth.iter().map(|y| (y - mean) * (y - mean)).sum();
        let r2 = match (residual == 0.0, total == 0.0) {
            (_, false) => 1.0 - residual / total,
            (true, true) => 1.0,
            (false, true) => 0.0,
        };
        Ok(Self {
            samples: truth.len(),
            mse: residual / count,
            rmse: (residual / count).sqrt(),
            mae: errors().map(f64::abs).sum::<f64>() / count,
            r2: (truth.len() > 1).then_some(r2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        for (truth, predicted) in
            [(&[][..], &[][..]), (&[1.0], &[1.0, 2.0]), (&[1.0], &[f64::NAN]), (&[f64::INFINITY], &[1.0])]
        {
            assert!(Regression::new(truth, predicted).is_err(), "{truth:?} {predicted:?}");
        }
    }
}
