//! Pooling.

use crate::pool_window::{PoolWindow, Pooling, Span};
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

/// One row of pooled pixels of a plane, `[columns, LANES]`: the maximum or the average under each window of output row `y`.
///
/// # Panics
/// If the windows leave the plane, or the output has another length.
pub(crate) fn pool_row<S: Simd>(
    simd: S,
    window: &PoolWindow,
    y: usize,
    plane: &[f32],
    row: usize,
    output: &mut [f32],
) {
    let rows = window.rows[y];
    let last = window.columns.last().map_or(0, |span| span.end * S::LANES);
    assert!(rows.start < rows.end && last <= row && rows.end * row <= plane.len());
    assert_eq!(output.len(), window.columns.len() * S::LANES);
    // SAFETY: the asserts cover the last value under the last window, and windows end in ascending order.
    simd.vectorize(
        #[inline(always)]
        || unsafe {
            match window.pooling {
                Pooling::Maximum => fold_windows(
                    simd,
                    (rows, &window.columns),
                    plane,
                    row,
                    output,
                    #[inline(always)]
                    |most, x| simd.larger(most, x),
                    #[inline(always)]
                    |most, _| most,
                ),
                Pooling::Average => fold_windows(
                    simd,
                    (rows, &window.columns),
                    plane,
                    row,
                    output,
                    #[inline(always)]
                    |sum, x| simd.add(sum, x),
                    #[inline(always)]
                    |sum, pixels| simd.mul(sum, simd.splat(1.0 / pixels as f32)),
                ),
            }
        },
    );
}

/// Folds the values under each window, row by row, from its first value on.
///
/// # Safety
/// The windows lie within the plane, no window is empty, and the output is one vector a window.
#[inline(always)]
unsafe fn fold_windows<S: Simd>(
    simd: S,
    (rows, columns): (Span, &[Span]),
    plane: &[f32],
    row: usize,
    output: &mut [f32],
    fold: impl Fn(S::Vector, S::Vector) -> S::Vector,
    finish: impl Fn(S::Vector, usize) -> S::Vector,
) {
    for (column, output) in columns.iter().zip(output.chunks_exact_mut(S::LANES)) {
        // SAFETY: as promised by the caller.
        unsafe {
            let first = plane.as_ptr().add(rows.start * row + column.start * S::LANES);
            let mut result = simd.load(first);
            for x in 1..column.end - column.start {
                result = fold(result, simd.load(first.add(x * S::LANES)));
            }
            for y in 1..rows.end - rows.start {
                for x in 0..column.end - column.start {
                    result = fold(result, simd.load(first.add(y * row + x * S::LANES)));
                }
            }
            simd.store(output.as_mut_ptr(), finish(result, rows.divisor * column.divisor));
        }
    }
}
