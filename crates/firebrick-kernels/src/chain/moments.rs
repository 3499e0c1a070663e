//! Mean and variance of channels, gathered tile by tile.
//!
//! Each tile gives the mean and the sum of squared distances from that mean, computed in two passes while the tile is in the
//! cache. Tiles are merged in their order in f64 (Chan, Golub and LeVeque 1979), so the result does not depend on threads, and
//! a mean far from zero costs no digits.

use super::memory::Pooled;
use crate::buffer::Shared;
use crate::simd::Simd;

/// Two figures a channel for each tile: what [`Parts::merge`] and [`Parts::sum`] make of them.
pub(crate) struct Parts {
    /// `[tiles, 2, channels filled up to whole vectors]`.
    values: Pooled,
    /// Values behind each tile's figures.
    counts: Vec<usize>,
    width: usize,
}

impl Parts {
    /// Room for tiles of `counts` values a channel, `width` channels wide.
    pub(crate) fn new(counts: Vec<usize>, width: usize) -> Self {
        Self { values: Pooled::take(counts.len() * 2 * width), counts, width }
    }

    /// The places that tiles write, each its own.
    pub(crate) fn shared(&mut self) -> PartsShared<'_> {
        PartsShared { values: Shared::new(&mut self.values), width: self.width }
    }

    fn tile(&self, index: usize) -> (&[f32], &[f32]) {
        self.values[index * 2 * self.width..][..2 * self.width].split_at(self.width)
    }

    /// Means and biased variances of `channels` channels, of tiles whose figures are mean and sum of squared distances.
    pub(crate) fn merge(&self, channels: usize) -> Vec<(f64, f64)> {
        let mut merged = vec![(0.0f64, 0.0f64); channels];
        let mut seen = 0.0f64;
        for (index, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            let total = seen + count;
            let (means, squares) = self.tile(index);
            for ((mean, square), (&tile_mean, &tile_square)) in
                merged.iter_mut().zip(means.iter().zip(squares))
            {
                let delta = f64::from(tile_mean) - *mean;
                *mean += delta * (count / total);
                *square += f64::from(tile_square) + delta * delta * (seen * count / total);
            }
            seen = total;
        }
        for (_, square) in &mut merged {
            *square /= seen;
        }
        merged
    }

    /// Sums of both figures of `channels` channels.
    pub(crate) fn sum(&self, channels: usize) -> Vec<(f64, f64)> {
        let mut sums = vec![(0.0f64, 0.0f64); channels];
        for index in 0..self.counts.len() {
            let (first, second) = self.tile(index);
            for ((a, b), (&first, &second)) in sums.iter_mut().zip(first.iter().zip(second)) {
                *a += f64::from(first);
                *b += f64::from(second);
            }
        }
        sums
    }

    /// Values behind a channel's figures.
    pub(crate) fn count(&self) -> usize {
        self.counts.iter().sum()
    }
}

/// The figures of all tiles, while tasks write them.
#[derive(Clone, Copy)]
pub(crate) struct PartsShared<'a> {
    values: Shared<'a>,
    width: usize,
}

impl PartsShared<'_> {
    /// Puts down the two figures of one block of channels of a tile.
    ///
    /// # Safety
    /// Nobody else writes this block of this tile.
    ///
    /// # Panics
    /// If there is no such tile or block.
    #[inline(always)]
    pub(crate) unsafe fn put<S: Simd>(
        self,
        simd: S,
        tile: usize,
        plane: usize,
        first: S::Vector,
        second: S::Vector,
    ) {
        for (row, vector) in [first, second].into_iter().enumerate() {
            let at = (tile * 2 + row) * self.width + plane * S::LANES;
            // SAFETY: `write` checks the range, which is one vector long; the caller excludes others.
            unsafe { simd.store(self.values.write(at, S::LANES).as_mut_ptr(), vector) };
        }
    }
}

/// Mean and sum of squared distances from it, for each lane of `values`: `[pixels, LANES]`.
#[inline(always)]
pub(crate) fn moments<S: Simd>(simd: S, values: &[f32]) -> (S::Vector, S::Vector) {
    let lanes = S::LANES;
    let pixels = values.len() / lanes;
    let at = |pixel: usize| {
        // SAFETY: the pixel lies within the slice, by the loops below.
        unsafe { simd.load(values.as_ptr().add(pixel * lanes)) }
    };
    /// Sums that run side by side, so that an addition need not wait for the one before.
    const SUMS: usize = 4;
    let whole = pixels - pixels % SUMS;
    let mut sums = [simd.splat(0.0); SUMS];
    for pixel in (0..whole).step_by(SUMS) {
        for (offset, sum) in sums.iter_mut().enumerate() {
            *sum = simd.add(*sum, at(pixel + offset));
        }
    }
    for pixel in whole..pixels {
        sums[0] = simd.add(sums[0], at(pixel));
    }
    let total = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
    let mean = simd.mul(total, simd.splat(1.0 / pixels as f32));
    let minus_mean = simd.mul(mean, simd.splat(-1.0));
    let mut squares = [simd.splat(0.0); SUMS];
    for pixel in (0..whole).step_by(SUMS) {
        for (offset, square) in squares.iter_mut().enumerate() {
            let distance = simd.add(at(pixel + offset), minus_mean);
            *square = simd.mul_add(distance, distance, *square);
        }
    }
    for pixel in whole..pixels {
        let distance = simd.add(at(pixel), minus_mean);
        squares[0] = simd.mul_add(distance, distance, squares[0]);
    }
    (mean, simd.add(simd.add(squares[0], squares[1]), simd.add(squares[2], squares[3])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    #[test]
    fn merges_tiles_of_different_sizes_as_if_they_were_one() {
        let simd = Scalar::<2>;
        // A mean a thousand times the deviation: the textbook formula would lose six digits.
        let values: Vec<f32> =
            (0..46).map(|i| 1000.0 + ((i * 7) % 13) as f32 * 0.25 + (i % 2) as f32 * 50.0).collect();
        let counts = vec![5, 1, 17];
        let mut parts = Parts::new(counts.clone(), 2);
        let shared = parts.shared();
        let mut first = 0;
        for (tile, count) in counts.into_iter().enumerate() {
            let (mean, squares) = moments(simd, &values[first * 2..(first + count) * 2]);
            // SAFETY: one thread.
            unsafe { shared.put(simd, tile, 0, mean, squares) };
            first += count;
        }
        assert_eq!(parts.count(), 23);
        for (lane, (mean, variance)) in parts.merge(2).into_iter().enumerate() {
            let lane: Vec<f64> = values.iter().skip(lane).step_by(2).map(|&v| f64::from(v)).collect();
            let expected = lane.iter().sum::<f64>() / 23.0;
            let spread = lane.iter().map(|v| (v - expected).powi(2)).sum::<f64>() / 23.0;
            assert!((mean - expected).abs() < 1e-4 && (variance - spread).abs() < 1e-4 * spread);
        }
    }
}
