//! Keras' channel shift.

/// Adds `intensity` to every value and clips to the range that the values had before, as Keras' `apply_channel_shift`.
pub(crate) fn channel_shift(values: &mut [f32], intensity: f32) {
    let (min, max) = range(values);
    for value in values {
        // Not `clamp`, which panics where `min > max`: an empty image has such a range.
        *value = (*value + intensity).max(min).min(max);
    }
}

/// The smallest and the largest value.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &value| {
        (if value < min { value } else { min }, if value > max { value } else { max })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_to_the_range_the_image_had() {
        let mut values = [10.0, 100.0, 200.0];
        channel_shift(&mut values, 30.0);
        assert_eq!(values, [40.0, 130.0, 200.0]);
        let mut values = [10.0, 100.0, 200.0];
        channel_shift(&mut values, -150.0);
        assert_eq!(values, [10.0, 10.0, 50.0]);
    }
}
