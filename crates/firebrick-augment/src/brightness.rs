//! Keras' brightness change, which goes through an 8-bit image.

use crate::channel_shift::range;

/// Multiplies by `factor` what is left of the values after truncation to 8 bits, truncates the product again and
/// clips it to `0..=255`, as Keras' `apply_brightness_shift(x, factor, scale=False)` does by way of PIL's
/// `ImageEnhance.Brightness`.
///
/// `may_exceed` says that values may lie outside `0..=255`, which takes a `cval` out there. As in Keras the image is
/// then stretched to 8 bits before and back afterwards.
pub(crate) fn brightness(values: &mut [f32], factor: f32, may_exceed: bool) {
    let (min, max) = if may_exceed { range(values) } else { (0.0, 255.0) };
    if min >= 0.0 && max <= 255.0 {
        for value in values {
            *value = scale_8_bit(*value, factor);
        }
        return;
    }
    let span = max - min;
    // An image of one value has no span; Keras then leaves the zeros as they are.
    let divisor = if span == 0.0 { 1.0 } else { span };
    for value in values {
        let stretched = (*value - min) / divisor * 255.0;
        *value = scale_8_bit(stretched, factor) / 255.0 * span + min;
    }
}

#[inline(always)]
fn scale_8_bit(value: f32, factor: f32) -> f32 {
    // Through `i32`, because the processor converts four of them at a time.
    let product = (value as i32) as f32 * factor;
    (product.clamp(0.0, 255.0) as i32) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_before_and_after_the_product() {
        let mut values = [0.0, 9.9, 101.5, 255.0];
        brightness(&mut values, 0.5, false);
        assert_eq!(values, [0.0, 4.0, 50.0, 127.0]);
    }

    #[test]
    fn keeps_whole_values_at_factor_one() {
        let mut values = [0.0, 1.0, 128.0, 255.0];
        brightness(&mut values, 1.0, false);
        assert_eq!(values, [0.0, 1.0, 128.0, 255.0]);
    }

    #[test]
    fn clips_what_becomes_too_bright() {
        let mut values = [200.0];
        brightness(&mut values, 3.0, false);
        assert_eq!(values, [255.0]);
    }

    #[test]
    fn survives_an_image_of_one_value_outside_eight_bits() {
        let mut values = [300.0; 4];
        brightness(&mut values, 0.5, true);
        assert_eq!(values, [300.0; 4]);
    }
}
