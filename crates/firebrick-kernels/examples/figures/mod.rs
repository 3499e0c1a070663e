//! What the timing examples have in common: summaries and random values.

/// The minimum and the median.
pub fn summary(times: &mut [f64]) -> [f64; 2] {
    times.sort_unstable_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

/// Uniform between `-scale` and `scale`; a linear congruential generator is random enough to keep values from vanishing.
pub fn random(count: usize, scale: f32) -> Vec<f32> {
    let mut state = count as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    std::iter::repeat_with(next).take(count).collect()
}
