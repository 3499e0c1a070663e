//! The product behind a weight's gradient: sums of outer products over pixels.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed in two dimensions; loops over constants unroll into registers"
)]

use crate::pack::panels_of;
use crate::simd::Simd;

/// `result[row][column] += sum over pixels of left[pixel][row] * right[pixel][column]`, channels in blocks on both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer<'a> {
    /// `[planes, at least pixels, LANES]`: the gradient of the result.
    pub(crate) left: &'a [f32],
    /// Values from one block of channels to the next.
    pub(crate) left_plane: usize,
    pub(crate) left_planes: usize,
    /// `[planes, at least pixels, LANES]`: the input.
    pub(crate) right: &'a [f32],
    pub(crate) right_plane: usize,
    pub(crate) right_planes: usize,
    /// Where pieces of pixels begin on both sides.
    pub(crate) starts: &'a [(usize, usize)],
    /// Pixels of a piece.
    pub(crate) pixels: usize,
    /// Values from one pixel of an operand to the next.
    pub(crate) left_step: usize,
    pub(crate) right_step: usize,
    /// Values from one row of the result to the next.
    pub(crate) result_row: usize,
}

impl Outer<'_> {
    /// Values of a result of these blocks of rows and columns, both filled up to whole vectors.
    pub(crate) fn result_len(left_planes: usize, right_planes: usize, lanes: usize) -> usize {
        left_planes * lanes * right_planes * lanes
    }

    /// Adds the product to `result`. Each element is a sum over the pixels in their order, added once.
    ///
    /// # Panics
    /// If an operand is too short.
    pub(crate) fn add_to<S: Simd>(&self, simd: S, result: &mut [f32]) {
        let lanes = S::LANES;
        assert!(self.left_planes > 0 && self.right_planes > 0);
        if self.pixels == 0 {
            return;
        }
        let left = (self.left_planes - 1) * self.left_plane + (self.pixels - 1) * self.left_step + lanes;
        let right = (self.right_planes - 1) * self.right_plane + (self.pixels - 1) * self.right_step + lanes;
        for &(left_start, right_start) in self.starts {
            assert!(left_start + left <= self.left.len());
            assert!(right_start + right <= self.right.len());
        }
        let rows = self.left_planes * lanes;
        assert!(result.len() >= (rows - 1) * self.result_row + self.right_planes * lanes);
        // SAFETY: the asserts cover the last address of each operand.
        unsafe {
            match lanes {
                1 => self.columns::<S, 1>(simd, result),
                2 => self.columns::<S, 2>(simd, result),
                16 => self.columns::<S, 8>(simd, result),
                _ => self.columns::<S, 4>(simd, result),
            }
        }
    }

    /// # Safety
    /// The operands are as long as `add_to` asserts, and `M` divides `LANES`.
    unsafe fn columns<S: Simd, const M: usize>(&self, simd: S, result: &mut [f32]) {
        // A group of blocks of the right operand stays in the cache while the left one passes.
        for (first, count) in panels_of(self.right_planes, 3) {
            // SAFETY: handed on to the caller.
            unsafe {
                match count {
                    1 => rows::<S, M, 1>(simd, self, first, result),
                    2 => rows::<S, M, 2>(simd, self, first, result),
                    _ => rows::<S, M, 3>(simd, self, first, result),
                }
            }
        }
    }
}

/// All rows of `N` blocks of columns from block `first` on.
///
/// # Safety
/// As [`Outer::columns`]; the blocks exist.
#[inline(never)]
unsafe fn rows<S: Simd, const M: usize, const N: usize>(
    simd: S,
    job: &Outer<'_>,
    first: usize,
    result: &mut [f32],
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = S::LANES;
            for row in (0..job.left_planes * lanes).step_by(M) {
                // SAFETY: row and block lie within the operands, whose lengths the caller has checked.
                unsafe {
                    let left = job.left.as_ptr().add(row / lanes * job.left_plane + row % lanes);
                    let right = job.right.as_ptr().add(first * job.right_plane);
                    let at = |m: usize, n: usize| (row + m) * job.result_row + (first + n) * lanes;
                    // Read at the end: by then they have come from the second level.
                    for m in 0..M {
                        for n in 0..N {
                            simd.prefetch_near(result.as_ptr().wrapping_add(at(m, n)));
                        }
                    }
                    let mut sums = [[simd.splat(0.0); N]; M];
                    for &(left_start, right_start) in job.starts {
                        let (mut left, mut right) = (left.add(left_start), right.add(right_start));
                        for _ in 0..job.pixels {
                            let mut columns = [simd.splat(0.0); N];
                            for n in 0..N {
                                columns[n] = simd.load(right.add(n * job.right_plane));
                            }
                            for m in 0..M {
                                let value = simd.splat(*left.add(m));
                                for n in 0..N {
                                    sums[m][n] = simd.mul_add(value, columns[n], sums[m][n]);
                                }
                            }
                            left = left.wrapping_add(job.left_step);
                            right = right.wrapping_add(job.right_step);
                        }
                    }
                    for m in 0..M {
                        for n in 0..N {
                            let at = result.as_mut_ptr().add(at(m, n));
                            simd.store(at, simd.add(simd.load(at), sums[m][n]));
                        }
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    fn check<S: Simd>(simd: S) {
        let lanes = S::LANES;
        for (left_planes, right_planes, pieces, pixels, gap) in
            [(1, 1, 1, 1, 0), (2, 3, 1, 5, 1), (3, 4, 2, 7, 0), (1, 5, 3, 2, 2), (2, 7, 1, 13, 0)]
        {
            let plane = (pieces * pixels + gap) * lanes;
            let starts: Vec<_> = (0..pieces).map(|piece| [piece * pixels * lanes; 2].into()).collect();
            let values = |planes: usize, step: usize| -> Vec<f32> {
                (0..planes * plane).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
            };
            let (left, right) = (values(left_planes, 5), values(right_planes, 7));
            let len = Outer::result_len(left_planes, right_planes, lanes);
            let mut result = vec![0.5; len];
            let job = Outer {
                left: &left,
                left_plane: plane,
                left_planes,
                right: &right,
                right_plane: plane,
                right_planes,
                starts: &starts,
                pixels,
                left_step: lanes,
                right_step: lanes,
                result_row: right_planes * lanes,
            };
            job.add_to(simd, &mut result);
            let at = |values: &[f32], channel: usize, pixel: usize| {
                values[channel / lanes * plane + pixel * lanes + channel % lanes]
            };
            for (index, &value) in result.iter().enumerate() {
                let (row, column) = (index / (right_planes * lanes), index % (right_planes * lanes));
                let sum: f32 = (0..pieces * pixels).map(|p| at(&left, row, p) * at(&right, column, p)).sum();
                // Small whole numbers: every order of summation is exact.
                assert_eq!(value, 0.5 + sum, "{simd:?}, row {row}, column {column}");
            }
        }
    }

    #[test]
    fn sums_outer_products_at_each_level() {
        check(Scalar::<1>);
        check(Scalar::<4>);
        #[cfg(target_arch = "x86_64")]
        {
            crate::simd::Avx2::detect().into_iter().for_each(check);
            crate::simd::Avx512::detect().into_iter().for_each(check);
        }
        #[cfg(target_arch = "aarch64")]
        crate::simd::Neon::detect().into_iter().for_each(check);
    }
}
