//! Depthwise convolution: each channel with its own kernel, one block of channels at a time.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed in two dimensions; loops over constants unroll into registers"
)]

use crate::activation::Finish;
use crate::simd::Simd;

/// One block of channels, `LANES` wide, over some rows of output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depthwise<'a> {
    /// Rows of padded input, `[rows, row_length]`, from the first tap of the first output row on.
    pub(crate) input: &'a [f32],
    /// Values from one row of the input to the next.
    pub(crate) row_length: usize,
    /// `[kernel height, kernel width, LANES]`.
    pub(crate) weight: &'a [f32],
    /// `[LANES]`.
    pub(crate) bias: &'a [f32],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) finish: Finish,
    /// Output rows and columns.
    pub(crate) size: [usize; 2],
}

impl Depthwise<'_> {
    /// Computes the rows into `output`, `[rows, columns, LANES]`.
    ///
    /// # Panics
    /// If an operand is too short.
    pub(crate) fn run<S: Simd>(&self, simd: S, output: &mut [f32]) {
        let [rows, columns] = self.size;
        if rows == 0 || columns == 0 {
            return;
        }
        let lanes = S::LANES;
        let last_row = (rows - 1) * self.stride[0] + self.kernel[0] - 1;
        let last_column = (columns - 1) * self.stride[1] + self.kernel[1] - 1;
        assert!((last_column + 1) * lanes <= self.row_length);
        assert!(last_row * self.row_length + (last_column + 1) * lanes <= self.input.len());
        assert!(self.weight.len() >= self.kernel[0] * self.kernel[1] * lanes && self.bias.len() >= lanes);
        assert!(output.len() >= rows * columns * lanes);
        // SAFETY: the asserts cover the last address of each operand.
        unsafe {
            match (self.kernel, self.stride[1]) {
                ([3, 3], 1) => rows_of::<S, 3, 1>(simd, self, output),
                ([3, 3], 2) => rows_of::<S, 3, 2>(simd, self, output),
                ([5, 5], 1) => rows_of::<S, 5, 1>(simd, self, output),
                ([5, 5], 2) => rows_of::<S, 5, 2>(simd, self, output),
                _ => rows_of::<S, 0, 0>(simd, self, output),
            }
        }
    }
}

/// All rows; `K` and `STRIDE` are the square kernel's side and the horizontal stride, or 0 where they are not known.
///
/// # Safety
/// The operands are as long as [`Depthwise::run`] asserts.
#[inline(never)]
unsafe fn rows_of<S: Simd, const K: usize, const STRIDE: usize>(
    simd: S,
    job: &Depthwise<'_>,
    output: &mut [f32],
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let [rows, columns] = job.size;
            for row in 0..rows {
                // SAFETY: as promised by the caller: `row` and the columns lie within the output's size.
                unsafe {
                    let input = job.input.as_ptr().add(row * job.stride[0] * job.row_length);
                    let output = output.as_mut_ptr().add(row * columns * S::LANES);
                    let mut column = 0;
                    if S::DEPTHWISE_TILE >= 8 {
                        while columns - column >= 8 {
                            tile::<S, K, STRIDE, 8>(simd, job, input, output, column);
                            column += 8;
                        }
                    }
                    while columns - column >= 4 {
                        tile::<S, K, STRIDE, 4>(simd, job, input, output, column);
                        column += 4;
                    }
                    match columns - column {
                        3 => tile::<S, K, STRIDE, 3>(simd, job, input, output, column),
                        2 => tile::<S, K, STRIDE, 2>(simd, job, input, output, column),
                        1 => tile::<S, K, STRIDE, 1>(simd, job, input, output, column),
                        _ => {}
                    }
                }
            }
        },
    );
}

/// `M` neighbouring outputs. Each is the bias plus the products in the order of the taps, whatever `M` is.
///
/// # Safety
/// As [`rows_of`]; `input` and `output` are the beginnings of the row, and columns `column .. column + M` exist.
#[inline(always)]
unsafe fn tile<S: Simd, const K: usize, const STRIDE: usize, const M: usize>(
    simd: S,
    job: &Depthwise<'_>,
    input: *const f32,
    output: *mut f32,
    column: usize,
) {
    let lanes = S::LANES;
    let [height, width] = if K == 0 { job.kernel } else { [K, K] };
    let stride = if STRIDE == 0 { job.stride[1] } else { STRIDE };
    // SAFETY: the caller promises that the columns exist, and `Depthwise::run` has compared the last one's taps with the input.
    unsafe {
        let input = input.add(column * stride * lanes);
        let mut sums = [simd.load(job.bias.as_ptr()); M];
        for y in 0..height {
            for x in 0..width {
                let weight = simd.load(job.weight.as_ptr().add((y * width + x) * lanes));
                let tap = input.add(y * job.row_length + x * lanes);
                for m in 0..M {
                    sums[m] = simd.mul_add(simd.load(tap.add(m * stride * lanes)), weight, sums[m]);
                }
            }
        }
        let (lowest, highest) = (simd.splat(job.finish.lowest), simd.splat(job.finish.highest));
        for m in 0..M {
            let mut value = simd.at_most(highest, simd.at_least(lowest, sums[m]));
            if let Some(curve) = job.finish.curve {
                value = curve.apply(simd, value);
            }
            simd.store(output.add((column + m) * lanes), value);
        }
    }
}
