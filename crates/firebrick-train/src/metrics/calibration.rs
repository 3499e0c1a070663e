//! Whether a probability means what it says.

use serde::Serialize;

use super::{check_lengths, refused};
use crate::TrainError;

/// Samples whose confidence lies in one stretch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Number of samples.
    pub samples: usize,
    /// Their mean confidence; 0 where there are none.
    pub confidence: f64,
    /// Share of them that is right; 0 where there are none.
    pub accuracy: f64,
}

/// Confidence against accuracy in stretches of equal width of 0 to 1, each without its lower end but the first.
///
/// It is the reliability diagram of Guo et al. 2017 ("On Calibration of Modern Neural Networks"), and of scikit-learn's
/// `calibration_curve(strategy="uniform")`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// From 0 to 1.
    pub bins: Vec<CalibrationBin>,
    /// Expected calibration error: `Σ nᵢ/n |accuracyᵢ - confidenceᵢ|`.
    pub expected_error: f64,
    /// Largest `|accuracyᵢ - confidenceᵢ|` of a bin with samples.
    pub maximum_error: f64,
}

impl Calibration {
    /// Number of bins that Guo et al. use.
    pub const BINS: usize = 15;

    /// Of predictions with these confidences, which came true or not, in `bins` bins.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] for lists that are empty or of different lengths, no bin or more than 10,000, or a confidence outside 0 to 1.
    pub fn new(confidences: &[f64], right: &[bool], bins: usize) -> Result<Self, TrainError> {
        const METRIC: &str = "calibration error";
        check_lengths(METRIC, right.len(), confidences.len())?;
        if !(1..=10_000).contains(&bins) {
            return Err(refused(METRIC, format!("there are {bins} bins, there must be 1 to 10000")));
        }
        if let Some(wrong) = confidences.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(refused(METRIC, format!("a confidence is {wrong}, it must be 0 to 1")));
        }
        let width = 1.0 / bins as f64;
        let edges: Vec<f64> = (1..bins).map(|edge| edge as f64 * width).collect();
        let mut sums = vec![(0usize, 0.0, 0usize); bins];
        for (&confidence, &right) in confidences.iter().zip(right) {
            let bin = &mut sums[edges.partition_point(|&edge| edge < confidence)];
            bin.0 += 1;
            bin.1 += confidence;
            bin.2 += usize::from(right);
        }
        let bins: Vec<CalibrationBin> = sums
            .into_iter()
            .map(|(samples, confidence, right)| CalibrationBin {
                samples,
                confidence: confidence / samples.max(1) as f64,
                accuracy: right as f64 / samples.max(1) as f64,
            })
            .collect();
        let gap = |bin: &CalibrationBin| (bin.accuracy - bin.confidence).abs();
        let share = |bin: &CalibrationBin| bin.samples as f64 / confidences.len() as f64;
        Ok(Self {
            expected_error: bins.iter().map(|bin| share(bin) * gap(bin)).sum(),
            maximum_error: bins.iter().map(gap).fold(0.0, f64::max),
            bins,
        })
    }

    /// Of rows of class probabilities: the confidence is the highest one, its class the first that has it.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new).
    pub fn of_classes(probabilities: &[Vec<f64>], labels: &[usize], bins: usize) -> Result<Self, TrainError> {
        let taken: Vec<usize> = probabilities.iter().map(|row| first_highest(row)).collect();
        // Rounding may put the sum of a softmax a last bit above 1.
        let confidences: Vec<f64> = probabilities
            .iter()
            .zip(&taken)
            .map(|(row, &class)| {
                row.get(class).map_or(f64::NAN, |&p| if p < 1.0 + 1e-9 { p.min(1.0) } else { p })
            })
            .collect();
        let right: Vec<bool> = taken.iter().zip(labels).map(|(class, label)| class == label).collect();
        check_lengths("calibration error", labels.len(), probabilities.len())?;
        Self::new(&confidences, &right, bins)
    }
}

/// The first of the highest values.
pub(super) fn first_highest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bin_below_it() {
        let calibration =
            Calibration::new(&[0.0, 0.5, 0.75], &[false, true, true], 2).expect("three samples");
        assert_eq!(calibration.bins.iter().map(|bin| bin.samples).collect::<Vec<_>>(), [2, 1]);
        assert!((calibration.expected_error - (2.0 * 0.25 + 0.25) / 3.0).abs() < 1e-12);
        assert_eq!(calibration.maximum_error, 0.25);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Calibration::new(&[0.5], &[true], 0).is_err());
        assert!(Calibration::new(&[1.5], &[true], 2).is_err());
        assert!(Calibration::new(&[f64::NAN], &[true], 2).is_err());
        assert!(Calibration::of_classes(&[vec![]], &[0], 2).is_err());
        assert!(Calibration::of_classes(&[vec![1.0]], &[0, 0], 2).is_err());
    }
}
