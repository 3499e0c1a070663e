//! Pooling.

use crate::simd::Simd;

/// Sums that run side by side, so that an addition need not wait for the one before.
const SUMS: usize = 4;

/// The average over the pixels of each channel: `planes` is `[output.len() / LANES, pixels, LANES]`.
///
/// # Panics
/// If `planes` is too short.
pub(crate) fn average<S: Simd>(simd: S, planes: &[f32], pixels: usize, output: &mut [f32]) {
    let lanes = S::LANES;
    assert!(pixels > 0 && planes.len() >= output.len() / lanes * pixels * lanes);
    simd.vectorize(
        #[inline(always)]
        || {
            let scale = simd.splat(1.0 / pixels as f32);
            for (output, plane) in output.chunks_exact_mut(lanes).zip(planes.chunks_exact(pixels * lanes)) {
                let mut sums = [simd.splat(0.0); SUMS];
                for group in plane.chunks(SUMS * lanes) {
                    for (sum, values) in sums.iter_mut().zip(group.chunks_exact(lanes)) {
                        // SAFETY: the chunk is one vector long.
                        *sum = simd.add(*sum, unsafe { simd.load(values.as_ptr()) });
                    }
                }
                let sum = sums.into_iter().reduce(|a, b| simd.add(a, b)).expect("there is more than one sum");
                // SAFETY: the chunk is one vector long.
                unsafe { simd.store(output.as_mut_ptr(), simd.mul(sum, scale)) };
            }
        },
    );
}
