//! The matrix product of pixels and weights: what convolutions and linear layers come down to.
//!
//! The left operand is read in place, wherever its pixels lie: row `p` of the matrix is made of the runs of values that
//! begin at `pixel offset(p) + run offset(r)`. So a pointwise convolution reads its input as it is, and a convolution with a
//! larger kernel has one run for each tap and block of channels; nothing is gathered into a matrix first. The right operand is
//! a *panel* of packed weights: for each value of the runs, in order, one to three vectors of output channels.
//!
//! A tile of pixels and a panel of channels is computed in registers. Each element is its bias plus the products in the
//! order of the runs, whatever the tile's size; and a sum that is put down as partial result and taken up again goes on
//! exactly. So neither threads, nor the batch, nor a pixel's place in a tile change a bit of the result.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed in two dimensions; loops over constants unroll into registers"
)]

use crate::activation::Finish;
use crate::buffer::Shared;
use crate::simd::Simd;

/// Values of a cache line.
const LINE: usize = 16;

/// So many steps of a sum ahead, weights are fetched into the first-level cache. A panel is about as large as that cache, so they come from
/// the second level; a processor looks about five steps ahead of itself, which covers that on some and not on others.
const AHEAD: usize = 8;

/// An offset within an operand; tables of them are narrow, because tiles read many.
///
/// # Panics
/// If it is 2^32 or more.
pub(crate) fn offset(values: usize) -> u32 {
    u32::try_from(values).expect("an operand's rows lie less than 2^32 values behind its first")
}

/// Runs of values which, one after another, make a row of the left operand.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    offsets: Vec<u32>,
    length: usize,
    /// From one value of a run to the next.
    step: usize,
    /// One past the largest offset that any run reads.
    end: usize,
}

impl Runs {
    /// Runs of `length` values each, beginning at `offsets`.
    pub(crate) fn new(offsets: Vec<u32>, length: usize) -> Self {
        let end = offsets.iter().max().map_or(0, |&last| last as usize + length);
        Self { offsets, length, step: 1, end }
    }

    /// Runs of `length` values each, `step` apart, which together are all multiples of `step` below `count * length * step`.
    pub(crate) fn across(count: usize, length: usize, step: usize) -> Self {
        let offsets = (0..count).map(|index| offset(index * length * step)).collect();
        Self { offsets, length, step, end: (count * length).saturating_sub(1) * step + 1 }
    }

    /// A run of one vector in each of `count` planes, `plane` values apart.
    pub(crate) fn planes(count: usize, plane: usize, lanes: usize) -> Self {
        Self::new((0..count).map(|index| offset(index * plane)).collect(), lanes)
    }

    pub(crate) fn count(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

/// Where each pixel begins, in values from the operand's start; in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct Pixels {
    offsets: Vec<u32>,
}

impl Pixels {
    /// Pixels `step` values apart, from 0 on.
    ///
    /// # Panics
    /// If the last offset is 2^32 or more.
    pub(crate) fn every(step: usize, count: usize) -> Self {
        Self { offsets: (0..count).map(|pixel| offset(pixel * step)).collect() }
    }

    /// # Panics
    /// If the offsets do not ascend.
    pub(crate) fn new(offsets: Vec<u32>) -> Self {
        assert!(offsets.is_sorted(), "a pixel lies before the one it follows");
        Self { offsets }
    }

    /// The largest offset of the first `count` pixels.
    ///
    /// # Panics
    /// If there are fewer.
    fn last_of(&self, count: usize) -> usize {
        self.offsets[count - 1] as usize
    }
}

/// How the pixels of both sides are found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Addressing<'a> {
    /// Pixel `p` is at `p * LANES` on both sides.
    Contiguous,
    /// Pixel `p` is at `p * LANES` on the left; the table says where it goes.
    Scatter(&'a Pixels),
    /// Pixel `p` is at `p` on the left: a matrix that lies column by column. The table says where it goes.
    Adjacent(&'a Pixels),
    /// A table for each side: left, result.
    Tables(&'a Pixels, &'a Pixels),
}

/// What the sums begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// The bias of each column.
    Bias(&'a [f32]),
    /// What an earlier product over other runs has left in the result.
    Partial,
}

/// One panel's product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) left: &'a [f32],
    pub(crate) runs: &'a Runs,
    /// The runs to sum over, of which `right` holds the weights.
    pub(crate) first_run: usize,
    pub(crate) run_count: usize,
    /// Packed weights, `[run_count, run length, vectors, LANES]`.
    pub(crate) right: &'a [f32],
    /// Vectors of output channels: 1 to 3.
    pub(crate) vectors: usize,
    pub(crate) start: Start<'a>,
    /// Added to the sums before `finish`; addressed as the result is.
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) finish: Finish,
    pub(crate) result: Shared<'a>,
    /// Distance of a panel's vectors in the result.
    pub(crate) result_plane: usize,
    /// Values from this result to that of the next product, which is fetched meanwhile: results seldom lie in a cache, and a tile that
    /// had to fetch all of its own at once would wait. 0 if it isn't known.
    pub(crate) next_result: usize,
    pub(crate) addressing: Addressing<'a>,
    pub(crate) pixels: usize,
    /// What will be read next: it is fetched towards the core a few lines at a time, so that nobody waits for it.
    pub(crate) upcoming: Upcoming<'a>,
}

/// Values that will be read next: some from the beginning of each of several rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upcoming<'a> {
    values: &'a [f32],
    /// Values from one row to the next.
    row: usize,
    /// Cache lines of a row; at least 1.
    row_lines: usize,
    /// Of all rows' lines, in order, those from here on
    first: usize,
    /// and so many.
    count: usize,
}

impl<'a> Upcoming<'a> {
    pub(crate) const NOTHING: Self = Self { values: &[], row: 0, row_lines: 1, first: 0, count: 0 };

    /// `width` values of each of `rows` rows, which begin `row` values apart.
    pub(crate) fn rows(values: &'a [f32], rows: usize, row: usize, width: usize) -> Self {
        // A line more than the values fill, as they may begin anywhere in one.
        let row_lines = width.div_ceil(LINE) + 1;
        Self { values, row, row_lines, first: 0, count: rows * row_lines }
    }

    /// Piece `index` of those of `share` lines each; the last ones may be shorter or empty.
    pub(crate) fn piece(&self, index: usize, share: usize) -> Self {
        let before = self.count.min(index * share);
        Self { first: self.first + before, count: share.min(self.count - before), ..*self }
    }

    /// What is left without the first `lines`.
    fn behind(&self, lines: usize) -> Self {
        let before = self.count.min(lines);
        Self { first: self.first + before, count: self.count - before, ..*self }
    }

    /// Lines of each of `count` pieces.
    pub(crate) fn share(&self, count: usize) -> usize {
        self.count.div_ceil(count)
    }
}

impl<'a> From<&'a [f32]> for Upcoming<'a> {
    fn from(values: &'a [f32]) -> Self {
        let count = values.len().div_ceil(LINE);
        Self { values, row: 0, row_lines: count.max(1), first: 0, count }
    }
}

impl Product<'_> {
    /// Computes the panel.
    ///
    /// # Safety
    /// Nobody else reads or writes the elements of the result that this product owns while it runs.
    ///
    /// # Panics
    /// If an operand is too short for what the product reads or writes.
    pub(crate) unsafe fn run<S: Simd>(&self, simd: S) {
        if self.pixels == 0 {
            return;
        }
        self.check::<S>();
        let rows = S::TILE_ROWS[self.vectors - 1];
        // Tiles of equal size, but for one pixel: a narrow last tile would wait for its own multiply-adds.
        let tiles = self.pixels.div_ceil(rows);
        let (small, large_tiles) = (self.pixels / tiles, self.pixels % tiles);
        let share = self.upcoming.share(tiles);
        let (early, late) =
            (self.upcoming.piece(0, share * large_tiles), self.upcoming.behind(share * large_tiles));
        // SAFETY: `check` has compared every offset with the operands' lengths; the caller excludes races on the result.
        unsafe {
            self.tiles(simd, small + 1, 0, large_tiles, early);
            self.tiles(simd, small, large_tiles * (small + 1), tiles - large_tiles, late);
        }
    }

    /// Panics unless every address that `run` computes lies within its operand.
    fn check<S: Simd>(&self) {
        let lanes = S::LANES;
        let spaced = (self.pixels - 1) * lanes;
        let (last_left, last_result) = match self.addressing {
            Addressing::Contiguous => (spaced, spaced),
            Addressing::Scatter(result) => (spaced, result.last_of(self.pixels)),
            Addressing::Adjacent(result) => (self.pixels - 1, result.last_of(self.pixels)),
            Addressing::Tables(left, result) => (left.last_of(self.pixels), result.last_of(self.pixels)),
        };
        assert!((1..=3).contains(&self.vectors));
        assert!(self.first_run + self.run_count <= self.runs.count());
        assert!(self.run_count > 0 && last_left + self.runs.end <= self.left.len());
        assert!(self.right.len() >= self.run_count * self.runs.length * self.vectors * lanes);
        let end = last_result + (self.vectors - 1) * self.result_plane + lanes;
        assert!(end <= self.result.len());
        assert!(self.residual.is_none_or(|residual| end <= residual.len()));
        if let Start::Bias(bias) = self.start {
            assert!(bias.len() >= self.vectors * lanes);
        }
    }

    /// Runs `count` tiles of `rows` pixels each, from pixel `first` on.
    ///
    /// # Safety
    /// As `run`, after `check`; the tiles lie within `pixels`.
    unsafe fn tiles<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        first: usize,
        count: usize,
        upcoming: Upcoming<'_>,
    ) {
        if count == 0 {
            return;
        }
        macro_rules! sizes {
            ($vectors:literal: $($rows:literal)*) => {
                match rows {
                    $($rows if const { $rows <= S::TILE_ROWS[$vectors - 1] } => {
                        // SAFETY: handed on to the caller.
                        unsafe { self.tiles_of::<S, $rows, $vectors>(simd, first, count, upcoming) }
                    })*
                    _ => unreachable!("tiles of {rows} pixels"),
                }
            };
        }
        match self.vectors {
            1 => sizes!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
            2 => sizes!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
            _ => sizes!(3: 1 2 3 4 5 6 7 8),
        }
    }

    /// # Safety
    /// As `tiles`.
    unsafe fn tiles_of<S: Simd, const M: usize, const N: usize>(
        &self,
        simd: S,
        first: usize,
        count: usize,
        upcoming: Upcoming<'_>,
    ) {
        // SAFETY: handed on to the caller.
        unsafe {
            match self.addressing {
                Addressing::Contiguous => {
                    tiles::<S, M, N, _, _>(simd, self, &Spaced, &Spaced, first, count, upcoming)
                }
                Addressing::Scatter(result) => {
                    tiles::<S, M, N, _, _>(simd, self, &Spaced, &result.offsets[..], first, count, upcoming);
                }
                Addressing::Adjacent(result) => {
                    tiles::<S, M, N, _, _>(
                        simd,
                        self,
                        &Adjacent,
                        &result.offsets[..],
                        first,
                        count,
                        upcoming,
                    );
                }
                Addressing::Tables(left, result) => {
                    tiles::<S, M, N, _, _>(
                        simd,
                        self,
                        &left.offsets[..],
                        &result.offsets[..],
                        first,
                        count,
                        upcoming,
                    );
                }
            }
        }
    }
}

/// Finds pixels.
trait Address {
    /// The offsets of `M` pixels from `pixel` on.
    ///
    /// # Safety
    /// The pixels exist.
    unsafe fn offsets<S: Simd, const M: usize>(&self, pixel: usize) -> [usize; M];
}

/// Pixels one vector apart.
struct Spaced;

impl Address for Spaced {
    #[inline(always)]
    unsafe fn offsets<S: Simd, const M: usize>(&self, pixel: usize) -> [usize; M] {
        // One sum and constants, which become part of the instructions that read the pixels.
        let first = pixel * S::LANES;
        std::array::from_fn(|m| first + m * S::LANES)
    }
}

/// Pixels side by side.
struct Adjacent;

impl Address for Adjacent {
    #[inline(always)]
    unsafe fn offsets<S: Simd, const M: usize>(&self, pixel: usize) -> [usize; M] {
        std::array::from_fn(|m| pixel + m)
    }
}

impl Address for [u32] {
    #[inline(always)]
    unsafe fn offsets<S: Simd, const M: usize>(&self, pixel: usize) -> [usize; M] {
        debug_assert!(pixel + M <= self.len());
        // SAFETY: the caller promises that the pixels exist.
        std::array::from_fn(|m| unsafe { *self.get_unchecked(pixel + m) as usize })
    }
}

/// Computes `count` tiles of `M` pixels and `N` vectors of channels.
///
/// # Safety
/// As [`Product::run`], for pixels `first .. first + M * count` of a checked product.
#[inline(never)]
unsafe fn tiles<S: Simd, const M: usize, const N: usize, L, R>(
    simd: S,
    product: &Product<'_>,
    left: &L,
    result: &R,
    first: usize,
    count: usize,
    upcoming: Upcoming<'_>,
) where
    L: Address + ?Sized,
    R: Address + ?Sized,
{
    simd.vectorize(
        #[inline(always)]
        || {
            let share = upcoming.share(count);
            for index in 0..count {
                let upcoming = Fetch::new(upcoming.piece(index, share), product.run_count);
                // SAFETY: handed on to the caller.
                unsafe { tile::<S, M, N, L, R>(simd, product, left, result, first + M * index, upcoming) };
            }
        },
    );
}

/// Lines to be fetched while a tile is computed: some with each run, because a processor has room for few dozen at a time and
/// would wait for all of them.
struct Fetch {
    next: *const f32,
    /// Lines before the row's end.
    row_rest: usize,
    row_lines: usize,
    /// Values from a row's end, counted in whole lines, to the next one's beginning.
    to_next_row: usize,
    lines: usize,
    runs: usize,
    /// Lines that are due, in parts of a run.
    due: usize,
}

impl Fetch {
    #[inline(always)]
    fn new(upcoming: Upcoming<'_>, runs: usize) -> Self {
        let Upcoming { values, row, row_lines, first, count } = upcoming;
        // Most have nothing to fetch, and divisions are slow.
        let (at, column) = if count > 0 { (first / row_lines, first % row_lines) } else { (0, 0) };
        Self {
            next: values.as_ptr().wrapping_add(at * row + column * LINE),
            row_rest: row_lines - column,
            row_lines,
            to_next_row: row.wrapping_sub(row_lines * LINE),
            lines: count,
            runs,
            due: 0,
        }
    }

    /// The lines that are due with one more run.
    #[inline(always)]
    fn advance<S: Simd>(&mut self, simd: S) {
        self.due += self.lines;
        while self.due >= self.runs {
            simd.prefetch(self.line());
            self.due -= self.runs;
        }
    }

    /// The next line.
    #[inline(always)]
    fn line(&mut self) -> *const f32 {
        let line = self.next;
        self.next = self.next.wrapping_add(LINE);
        self.row_rest -= 1;
        if self.row_rest == 0 {
            self.next = self.next.wrapping_add(self.to_next_row);
            self.row_rest = self.row_lines;
        }
        line
    }
}

/// # Safety
/// As [`tiles`], for one tile.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const N: usize, L, R>(
    simd: S,
    product: &Product<'_>,
    left: &L,
    result: &R,
    pixel: usize,
    mut upcoming: Fetch,
) where
    L: Address + ?Sized,
    R: Address + ?Sized,
{
    let lanes = S::LANES;
    // SAFETY: every address below is the sum of a pixel's and a run's (or plane's) offset, and `Product::check` has compared
    // the largest such sums with the operands' lengths. The caller excludes races on the result.
    unsafe {
        let result_offsets: [usize; M] = result.offsets::<S, M>(pixel);
        let result_at = result_offsets.map(|offset| product.result.as_mut_ptr().add(offset));
        let mut sums = [[simd.splat(0.0); N]; M];
        match product.start {
            Start::Bias(bias) => {
                // What is written in the end is seldom in a cache, and few stores can wait at a time.
                for m in 0..M {
                    for n in 0..N {
                        simd.prefetch_near(result_at[m].add(n * product.result_plane));
                    }
                }
                for n in 0..N {
                    let bias = simd.load(bias.as_ptr().add(n * lanes));
                    for m in 0..M {
                        sums[m][n] = bias;
                    }
                }
            }
            Start::Partial => {
                for m in 0..M {
                    for n in 0..N {
                        sums[m][n] = simd.load(result_at[m].add(n * product.result_plane));
                    }
                }
            }
        }

        let left_at = left.offsets::<S, M>(pixel).map(|offset| product.left.as_ptr().add(offset));
        let mut weights = product.right.as_ptr();
        let runs =
            product.runs.offsets.get_unchecked(product.first_run..product.first_run + product.run_count);
        let (length, step) = (product.runs.length, product.runs.step);
        let next_results = if product.next_result == 0 { 0 } else { M * N };
        let fetch_result = |index: usize| {
            if index < next_results {
                let at = result_at[index / N].wrapping_add(index % N * product.result_plane);
                simd.prefetch(at.wrapping_add(product.next_result));
            }
        };
        if step == 1 && length == lanes {
            for (index, &run) in runs.iter().enumerate() {
                upcoming.advance(simd);
                fetch_result(index);
                for k in 0..S::LANES {
                    accumulate(simd, &left_at, run as usize + k, weights.add(k * N * lanes), &mut sums);
                }
                weights = weights.add(lanes * N * lanes);
            }
        } else if step == 1 && length == lanes / 2 {
            for (index, &run) in runs.iter().enumerate() {
                upcoming.advance(simd);
                fetch_result(index);
                for k in 0..S::LANES / 2 {
                    accumulate(simd, &left_at, run as usize + k, weights.add(k * N * lanes), &mut sums);
                }
                weights = weights.add(lanes / 2 * N * lanes);
            }
        } else {
            for (index, &run) in runs.iter().enumerate() {
                upcoming.advance(simd);
                fetch_result(index);
                for k in 0..length {
                    accumulate(simd, &left_at, run as usize + k * step, weights, &mut sums);
                    weights = weights.add(N * lanes);
                }
            }
        }

        if let Some(residual) = product.residual {
            for m in 0..M {
                let residual = residual.as_ptr().add(result_offsets[m]);
                for n in 0..N {
                    sums[m][n] = simd.add(sums[m][n], simd.load(residual.add(n * product.result_plane)));
                }
            }
        }
        let finish = &product.finish;
        let (lowest, highest) = (simd.splat(finish.lowest), simd.splat(finish.highest));
        for m in 0..M {
            for n in 0..N {
                let bounded = simd.at_most(highest, simd.at_least(lowest, sums[m][n]));
                simd.store(result_at[m].add(n * product.result_plane), bounded);
            }
        }
        if finish.curve.is_some() {
            bend::<S>(simd, finish, &result_at, N, product.result_plane);
        }
    }
}

/// One step of the tile's sums: `sums[m][n] += left[m] * weights[n]`.
///
/// # Safety
/// `left[m] + offset` and `N` vectors at `weights` are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, const M: usize, const N: usize>(
    simd: S,
    left: &[*const f32; M],
    offset: usize,
    weights: *const f32,
    sums: &mut [[S::Vector; N]; M],
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut columns = [simd.splat(0.0); N];
        for n in 0..N {
            columns[n] = simd.load(weights.add(n * S::LANES));
        }
        for line in 0..(N * S::LANES).div_ceil(LINE) {
            simd.prefetch_near(weights.wrapping_add(AHEAD * N * S::LANES + line * LINE));
        }
        for m in 0..M {
            let value = simd.splat(*left[m].add(offset));
            for n in 0..N {
                sums[m][n] = simd.mul_add(value, columns[n], sums[m][n]);
            }
        }
    }
}

/// Applies an activation's curve to results that were just written. Apart, because it is long and seldom needed.
///
/// # Safety
/// `vectors` vectors, `plane` apart, are readable and writable from each of `results` on, and nobody else uses them.
#[inline(never)]
unsafe fn bend<S: Simd>(simd: S, finish: &Finish, results: &[*mut f32], vectors: usize, plane: usize) {
    let Some(curve) = finish.curve else { return };
    simd.vectorize(
        #[inline(always)]
        || {
            for &result in results {
                for n in 0..vectors {
                    // SAFETY: as promised by the caller.
                    unsafe {
                        let at = result.add(n * plane);
                        simd.store(at, curve.apply(simd, simd.load(at)));
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the lines begin that are fetched with one run after another, in values from the first.
    fn lines(upcoming: Upcoming<'_>, runs: usize) -> Vec<usize> {
        let mut fetch = Fetch::new(upcoming, runs);
        let first = upcoming.values.as_ptr() as usize;
        (0..upcoming.count).map(|_| (fetch.line() as usize - first) / size_of::<f32>()).collect()
    }

    #[test]
    fn fetches_every_line_of_every_row_once_whatever_the_pieces() {
        let values = vec![0.0; 1000];
        // Three lines for 40 values, as they may begin within one; and one more.
        let rows = Upcoming::rows(&values, 3, 300, 40);
        let expected = [0, 16, 32, 48, 300, 316, 332, 348, 600, 616, 632, 648];
        assert_eq!(lines(rows, 5), expected);
        for pieces in 1..15 {
            let share = rows.share(pieces);
            let all: Vec<usize> = (0..pieces).flat_map(|index| lines(rows.piece(index, share), 1)).collect();
            assert_eq!(all, expected, "{pieces} pieces");
        }
        assert_eq!(lines(Upcoming::from(&values[..33]), 1), [0, 16, 32]);
        assert!(lines(Upcoming::NOTHING, 1).is_empty());
        assert_eq!(lines(rows.behind(10), 1), [632, 648]);
    }
}
