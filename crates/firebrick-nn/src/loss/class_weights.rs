//! Weights of classes.

use super::LossError;

/// Weights by which every class counts the same: `samples / (classes · samples of the class)`, scikit-learn's `class_weight="balanced"`.
/// A class without a sample weighs 0.
pub fn balanced_class_weights(labels: &[usize], classes: usize) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label) {
            *count += 1;
        }
    }
    let all = labels.len() as f64;
    let weight = |&count: &usize| if count == 0 { 0.0 } else { (all / (classes * count) as f64) as f32 };
    counts.iter().map(weight).collect()
}

/// Refuses weights that are not one finite number of at least 0 a class.
pub(super) fn check(weights: &[f32], classes: usize) -> Result<(), LossError> {
    if weights.len() != classes {
        let expected = format!("a weight for each of the {classes} classes");
        return Err(LossError::new("class_weights", format!("a list of {}", weights.len()), expected));
    }
    if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        return Err(LossError::new("class_weights", weight, "numbers of at least 0"));
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        return Err(LossError::new("class_weights", "0 for every class", "greater than 0 for some class"));
    }
    Ok(())
}
