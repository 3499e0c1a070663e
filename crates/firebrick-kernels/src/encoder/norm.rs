//! Layer normalisation of tokens.

use crate::buffer::Buffer;
use crate::simd::Simd;

/// The most lanes that any instruction set has.
pub(crate) const MOST_LANES: usize = 16;

/// Ones, then zeros: a vector read `n` values before the middle keeps its first `n` lanes.
const KEEP: [f32; 2 * MOST_LANES] = {
    let mut keep = [0.0; 2 * MOST_LANES];
    let mut lane = 0;
    while lane < MOST_LANES {
        keep[lane] = 1.0;
        lane += 1;
    }
    keep
};

/// A vector with 1 in its first `count` lanes and 0 in the others.
///
/// # Panics
/// If there are fewer lanes.
#[inline(always)]
pub(crate) fn leading_ones<S: Simd>(simd: S, count: usize) -> S::Vector {
    assert!(count <= S::LANES && S::LANES <= MOST_LANES);
    // SAFETY: `LANES` values follow within the table, as was just checked.
    unsafe { simd.load(KEEP.as_ptr().add(MOST_LANES - count)) }
}

/// The lanes of a vector.
#[inline(always)]
pub(crate) fn lanes_of<S: Simd>(simd: S, vector: S::Vector) -> [f32; MOST_LANES] {
    assert!(S::LANES <= MOST_LANES);
    let mut values = [0.0; MOST_LANES];
    // SAFETY: the array has room for a vector, as was just checked.
    unsafe { simd.store(values.as_mut_ptr(), vector) };
    values
}

/// The sum of a vector's lanes, pairwise.
#[inline(always)]
pub(crate) fn sum_of<S: Simd>(simd: S, vector: S::Vector) -> f32 {
    let mut values = lanes_of(simd, vector);
    let mut half = MOST_LANES / 2;
    while half > 0 {
        for lane in 0..half {
            values[lane] += values[lane + half];
        }
        half /= 2;
    }
    values[0]
}

/// A norm over rows that are filled up with zeros to whole vectors.
#[derive(Debug)]
pub(crate) struct TokenNorm {
    gamma: Buffer,
    beta: Buffer,
    width: usize,
    epsilon: f32,
}

impl TokenNorm {
    pub(crate) fn new(gamma: &[f32], beta: &[f32], epsilon: f32, lanes: usize) -> Self {
        let width = gamma.len();
        let filled = |values: &[f32]| {
            let mut buffer = Buffer::zeroed(width.next_multiple_of(lanes));
            buffer[..width].copy_from_slice(values);
            buffer
        };
        Self { gamma: filled(gamma), beta: filled(beta), width, epsilon }
    }

    /// Normalises row after row; the zeros at the end of a row stay zeros.
    pub(crate) fn run<S: Simd>(&self, simd: S, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), output.len());
        simd.vectorize(
            #[inline(always)]
            || {
                let rows = output.chunks_exact_mut(self.gamma.len());
                for (input, output) in input.chunks_exact(self.gamma.len()).zip(rows) {
                    self.row(simd, input, output);
                }
            },
        );
    }

    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, input: &[f32], output: &mut [f32]) {
        let lanes = S::LANES;
        // SAFETY: every vector is a chunk of `lanes` values.
        unsafe {
            let mut sum = simd.splat(0.0);
            for x in input.chunks_exact(lanes) {
                sum = simd.add(sum, simd.load(x.as_ptr()));
            }
            let mean = sum_of(simd, sum) / self.width as f32;
            let centre = simd.splat(-mean);

            // The second pass is what keeps the variance of a row that is far from zero.
            let mut squares = simd.splat(0.0);
            let (whole, rest) = input.split_at(self.width / lanes * lanes);
            for x in whole.chunks_exact(lanes) {
                let x = simd.add(simd.load(x.as_ptr()), centre);
                squares = simd.mul_add(x, x, squares);
            }
            if !rest.is_empty() {
                let keep = leading_ones(simd, self.width % lanes);
                let x = simd.mul(simd.add(simd.load(rest.as_ptr()), centre), keep);
                squares = simd.mul_add(x, x, squares);
            }
            let variance = sum_of(simd, squares) / self.width as f32;
            let scale = simd.splat(1.0 / (variance + self.epsilon).sqrt());

            let params = self.gamma.chunks_exact(lanes).zip(self.beta.chunks_exact(lanes));
            let values = input.chunks_exact(lanes).zip(output.chunks_exact_mut(lanes));
            for ((x, y), (gamma, beta)) in values.zip(params) {
                let x = simd.mul(simd.add(simd.load(x.as_ptr()), centre), scale);
                let y_value = simd.mul_add(x, simd.load(gamma.as_ptr()), simd.load(beta.as_ptr()));
                simd.store(y.as_mut_ptr(), y_value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    fn check<S: Simd>(simd: S) {
        for width in [1usize, 2, 15, 16, 17, 33, 100] {
            // Far from zero, where one pass would lose the variance.
            let rows: Vec<f32> = (0..3 * width).map(|i| 1000.0 + (i * i % 7) as f32).collect();
            let gamma: Vec<f32> = (0..width).map(|i| 1.0 + i as f32 / 10.0).collect();
            let beta: Vec<f32> = (0..width).map(|i| 0.5 - i as f32 / 7.0).collect();
            let epsilon = 1e-5;
            let norm = TokenNorm::new(&gamma, &beta, epsilon, S::LANES);
            let stride = width.next_multiple_of(S::LANES);
            let mut input = vec![0.0; 3 * stride];
            for (to, from) in input.chunks_mut(stride).zip(rows.chunks(width)) {
                to[..width].copy_from_slice(from);
            }
            let mut output = vec![f32::NAN; 3 * stride];
            norm.run(simd, &input, &mut output);
            for (row, actual) in rows.chunks(width).zip(output.chunks(stride)) {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
                let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
                for i in 0..width {
                    let normal = (f64::from(row[i]) - mean) / (variance + f64::from(epsilon)).sqrt();
                    let expected = normal * f64::from(gamma[i]) + f64::from(beta[i]);
                    let error = (f64::from(actual[i]) - expected).abs();
                    assert!(error < 2e-3, "{simd:?}, width {width}: {} is not {expected}", actual[i]);
                }
                assert!(actual[width..].iter().all(|&x| x == 0.0), "{simd:?}, width {width}: {actual:?}");
            }
        }
    }

    #[test]
    fn normalises_rows_of_any_width() {
        check(Scalar::<1>);
        check(Scalar::<4>);
        check(Scalar::<8>);
        #[cfg(target_arch = "x86_64")]
        {
            crate::simd::Avx2::detect().into_iter().for_each(check);
            crate::simd::Avx512::detect().into_iter().for_each(check);
        }
        #[cfg(target_arch = "aarch64")]
        crate::simd::Neon::detect().into_iter().for_each(check);
    }
}
