//! Keras' channel shift.

/// Adds `intensity` to every value and clips to the range that the values had before, as Keras' `apply_channel_shift`.
pub(crate) fn channel_shift(values: &mut [f32], intensity: f32) {
    let (min, max) = range(values);
    for value in values {
        // Not `clamp`, which panics where `min > max`: an empty image has such a range.
        *value = (*value + intensity).max(min).min(max);
    }
}

/// The smallest and the largest value, compared in eight lanes that the processor can work on at the same time.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    let smaller = |a: f32, b: f32| if b < a { b } else { a };
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (mut min, mut max) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for lane in 0..8 {
            min[lane] = smaller(min[lane], block[lane]);
            max[lane] = larger(max[lane], block[lane]);
        }
    }
    for &value in rest {
        min[0] = smaller(min[0], value);
        max[0] = larger(max[0], value);
    }
    (min.into_iter().fold(f32::INFINITY, smaller), max.into_iter().fold(f32::NEG_INFINITY, larger))
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
