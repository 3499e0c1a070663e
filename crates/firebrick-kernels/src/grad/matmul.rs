//! Products of matrices whose sizes are known when they arrive, packed on the way.
//!
//! The tiles are those of the plan's products (`product.rs`). Here both operands are packed for a single use: the right one as a whole,
//! the left one by each task for itself, because rows that lie a power of two apart evict each other from the cache. Sums are
//! interrupted every [`DEPTH`] values so that what is read again stays in the cache. Each element is summed in one order that
//! follows from the shapes alone.

use super::lanes;
use crate::activation::Finish;
use crate::buffer::Shared;
use crate::chain::Pooled;
use crate::product::{Addressing, Pixels, Product, Runs, Start};
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Vectors of columns in a panel: pairs make tiles of many rows.
const PANEL: usize = 2;

/// Values of a row that are multiplied before the next panel's turn.
const DEPTH: usize = 256;

/// Rows of a task.
const ROWS: usize = 48;

/// So many tasks at least, where there are columns enough: with fewer, threads would wait for the last one.
const TASKS: usize = 16;

/// Lanes of the widest instruction set.
const MOST_LANES: usize = 16;

/// The bias of a panel without one.
const ZEROS: [f32; PANEL * MOST_LANES] = [0.0; PANEL * MOST_LANES];

/// A matrix somewhere in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) values: &'a [f32],
    /// Values from one row to the next.
    pub(crate) row: usize,
    /// Values from one column to the next.
    pub(crate) column: usize,
}

impl<'a> Strided<'a> {
    /// A matrix whose rows lie one after another.
    pub(crate) fn rows(values: &'a [f32], columns: usize) -> Self {
        Self { values, row: columns, column: 1 }
    }

    /// The matrix with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    pub(crate) fn from(self, row: usize, column: usize) -> Self {
        Self { values: &self.values[row * self.row + column * self.column..], ..self }
    }
}

/// A right operand: panels of [`PANEL`] vectors of columns, filled up with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    /// `[panels, depth, PANEL, LANES]`.
    values: Pooled,
    /// Filled up to whole vectors.
    depth: usize,
    columns: usize,
    /// Columns of a panel.
    panel: usize,
}

impl Packed {
    /// Packs `[rows, columns]`.
    pub(crate) fn new<S: Simd>(simd: S, matrix: Strided<'_>, rows: usize, columns: usize) -> Self {
        let mut this = Self::unpacked(rows, columns, S::LANES);
        let panels = this.values.chunks_exact_mut((this.depth * this.panel).max(1));
        panels.enumerate().for_each(|(index, to)| pack(simd, matrix, rows, columns, index, to));
        this
    }

    /// As `new`, on several threads.
    fn new_shared<S: Simd>(simd: S, matrix: Strided<'_>, rows: usize, columns: usize) -> Self {
        let mut this = Self::unpacked(rows, columns, S::LANES);
        let panels = this.values.par_chunks_exact_mut((this.depth * this.panel).max(1)).with_max_len(1);
        panels.enumerate().for_each(|(index, to)| pack(simd, matrix, rows, columns, index, to));
        this
    }

    fn unpacked(rows: usize, columns: usize, lanes: usize) -> Self {
        let (panel, depth) = (PANEL * lanes, rows.next_multiple_of(lanes));
        Self { values: Pooled::take(columns.div_ceil(panel) * depth * panel), depth, columns, panel }
    }

    /// What a panel has of some rows, the last of which may be filled up.
    fn part(&self, panel: usize, rows: &Range<usize>) -> &[f32] {
        let first = panel * self.depth * self.panel;
        let end = rows.end.next_multiple_of(self.panel / PANEL);
        &self.values[first + rows.start * self.panel..first + end * self.panel]
    }

    /// Columns of a panel.
    pub(crate) fn panel(&self) -> usize {
        self.panel
    }

    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(self.panel)
    }

    /// Columns, filled up.
    pub(crate) fn width(&self) -> usize {
        self.panels() * self.panel
    }
}

/// Packs panel `index` of `[rows, columns]`; what is behind the matrix's rows and columns becomes zero.
fn pack<S: Simd>(simd: S, matrix: Strided<'_>, rows: usize, columns: usize, index: usize, to: &mut [f32]) {
    let panel = PANEL * S::LANES;
    let columns = index * panel..columns.min((index + 1) * panel);
    let count = columns.len();
    to[rows * panel..].fill(0.0);
    if matrix.column == 1 && count == panel {
        simd.vectorize(
            #[inline(always)]
            || {
                for (row, to) in to.chunks_exact_mut(PANEL * S::LANES).take(rows).enumerate() {
                    let from = &matrix.from(row, columns.start).values[..PANEL * S::LANES];
                    for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
                        lanes::write(simd, to, lanes::read(simd, from));
                    }
                }
            },
        );
        return;
    }
    if count < panel {
        to.fill(0.0);
    }
    // Rows lie side by side: a cache line of each column at a time.
    for first in (0..rows).step_by(MOST_LANES) {
        let end = rows.min(first + MOST_LANES);
        for (index, column) in columns.clone().enumerate() {
            let from = matrix.from(first, column);
            let to = to[first * panel + index..].iter_mut().step_by(panel).take(end - first);
            to.zip(from.values.iter().step_by(from.row)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// A part of a product: some rows, some panels, all or some of the sum.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// `[rows, depth]`; dense along one of them.
    pub(crate) left: Strided<'a>,
    pub(crate) rows: usize,
    pub(crate) right: &'a Packed,
    /// The rows of the right operand that the left one's columns meet.
    pub(crate) depth: Range<usize>,
    pub(crate) panels: Range<usize>,
    /// Values from one row of the result to the next.
    pub(crate) result_row: usize,
}

impl Part<'_> {
    /// `result = left · right`, `[rows, columns of the panels]`, with all columns of a panel that is not full.
    ///
    /// # Panics
    /// If an operand is too short.
    pub(crate) fn set<S: Simd>(&self, simd: S, result: &mut [f32]) {
        // SAFETY: the result is borrowed exclusively.
        unsafe { self.run(simd, Some(&[]), Finish::NOTHING, Shared::new(result)) }
    }

    /// `result += left · right`.
    ///
    /// # Panics
    /// If an operand is too short.
    pub(crate) fn add<S: Simd>(&self, simd: S, result: &mut [f32]) {
        // SAFETY: the result is borrowed exclusively.
        unsafe { self.run(simd, None, Finish::NOTHING, Shared::new(result)) }
    }

    /// Begins with a bias, which is filled up to whole panels or empty, or with what the result holds.
    ///
    /// # Safety
    /// Nobody else uses the rows and columns of the result that this part has.
    unsafe fn run<S: Simd>(&self, simd: S, bias: Option<&[f32]>, finish: Finish, result: Shared<'_>) {
        if self.rows == 0 || self.panels.is_empty() {
            return;
        }
        let table = |row: usize| Pixels::new((0..self.rows).map(|i| (i * row) as u32).collect());
        let (left, to) = (table(self.left.row), table(self.result_row));
        let panel_len = self.right.depth * self.right.panel;
        let mut first = self.depth.start;
        loop {
            let last = (first + DEPTH).min(self.depth.end);
            let runs = match self.left.column {
                1 => Runs::new(vec![0], last - first),
                column => Runs::new((0..last - first).map(|k| (k * column) as u32).collect(), 1),
            };
            let done = last == self.depth.end;
            for panel in self.panels.clone() {
                let right = &self.right.values[panel * panel_len..(panel + 1) * panel_len];
                let start = match bias {
                    Some(bias) if first == self.depth.start => {
                        let at = panel * self.right.panel;
                        Start::Bias(bias.get(at..at + self.right.panel).unwrap_or(&ZEROS))
                    }
                    _ => Start::Partial,
                };
                let product = Product {
                    left: self.left.from(0, first - self.depth.start).values,
                    runs: &runs,
                    first_run: 0,
                    run_count: runs.count(),
                    right: &right[first * self.right.panel..last * self.right.panel],
                    vectors: PANEL,
                    start,
                    residual: None,
                    finish: if done { finish } else { Finish::NOTHING },
                    result: result.from((panel - self.panels.start) * self.right.panel),
                    result_plane: S::LANES,
                    addressing: Addressing::Tables(&left, &to),
                    pixels: self.rows,
                    upcoming: &[],
                };
                // SAFETY: handed on to the caller; the panels' columns do not overlap.
                unsafe { product.run(simd) };
            }
            if done {
                return;
            }
            first = last;
        }
    }
}

/// The sizes of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

/// `finish(left · right + bias)`, `[rows, columns]`, on several threads.
///
/// # Panics
/// If an operand is too short.
pub(crate) fn product<S: Simd>(
    simd: S,
    sizes: Sizes,
    left: Strided<'_>,
    right: Strided<'_>,
    bias: Option<&[f32]>,
    finish: Finish,
) -> Vec<f32> {
    let Sizes { rows, depth, columns } = sizes;
    if rows * columns == 0 || depth == 0 {
        let bias = bias.unwrap_or(&[]);
        let zeros = bias.is_empty() && finish.curve.is_none() && finish.lowest <= 0.0;
        assert!(rows * columns == 0 || zeros, "a product without values that does not give zeros");
        return vec![0.0; rows * columns];
    }
    let mut result = Vec::with_capacity(rows * columns);
    let right = Packed::new_shared(simd, right, depth, columns);
    let mut filled = bias.unwrap_or(&[]).to_vec();
    if !filled.is_empty() {
        assert_eq!(filled.len(), columns, "a bias for each column");
        filled.resize(right.width(), 0.0);
    }
    let job = Job { left, right: &right, sizes, bias: &filled, finish };
    // Few groups of panels: each packs the left operand anew.
    let panels = right.panels().div_ceil(TASKS.div_ceil(rows.div_ceil(ROWS)));
    let groups = right.panels().div_ceil(panels);
    let shared = Shared::spare(&mut result, rows * columns);
    (0..rows.div_ceil(ROWS) * groups).into_par_iter().with_max_len(1).for_each_init(
        || Pooled::take(ROWS * DEPTH.next_multiple_of(S::LANES)),
        |scratch, task| {
            let first_row = task / groups * ROWS;
            let rows = first_row..rows.min(first_row + ROWS);
            let first_panel = task % groups * panels;
            let panels = first_panel..right.panels().min(first_panel + panels);
            // SAFETY: the tasks' rows and columns do not overlap.
            unsafe { job.run(simd, rows, panels, scratch, shared) };
        },
    );
    // SAFETY: the tasks have written every row of every panel.
    unsafe { result.set_len(rows * columns) };
    result
}

/// A product whose tasks each compute some rows and panels.
struct Job<'a> {
    left: Strided<'a>,
    right: &'a Packed,
    sizes: Sizes,
    /// Filled up to whole panels, or empty.
    bias: &'a [f32],
    finish: Finish,
}

impl Job<'_> {
    /// Computes these rows and panels of the result.
    ///
    /// # Safety
    /// Nobody else uses them.
    unsafe fn run<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: &mut [f32],
        result: Shared<'_>,
    ) {
        let Sizes { depth, columns, .. } = self.sizes;
        let panel = self.right.panel;
        // A panel that is not full is computed beside the result, because its last columns have no place there.
        let full = panels.start..panels.end.min(columns / panel);
        let mut wide = if full.len() < panels.len() { vec![0.0; rows.len() * panel] } else { Vec::new() };
        let table = |row: usize| Pixels::new((0..rows.len()).map(|i| (i * row) as u32).collect());
        let (to_result, to_wide) = (table(columns), table(panel));
        for first in (0..depth).step_by(DEPTH) {
            let values = first..depth.min(first + DEPTH);
            let packed = PackedLeft::new(simd, self.left, &rows, &values, scratch);
            let done = values.end == depth;
            for index in panels.clone() {
                let (to, table) = if full.contains(&index) {
                    (result.from(rows.start * columns + index * panel), &to_result)
                } else {
                    (Shared::new(&mut wide), &to_wide)
                };
                let start = match first {
                    0 => Start::Bias(self.bias.get(index * panel..(index + 1) * panel).unwrap_or(&ZEROS)),
                    _ => Start::Partial,
                };
                let product = Product {
                    left: packed.values,
                    runs: &packed.runs,
                    first_run: 0,
                    run_count: packed.runs.count(),
                    right: self.right.part(index, &values),
                    vectors: PANEL,
                    start,
                    residual: None,
                    finish: if done { self.finish } else { Finish::NOTHING },
                    result: to,
                    result_plane: S::LANES,
                    addressing: match &packed.pixels {
                        Some(pixels) => Addressing::Tables(pixels, table),
                        None => Addressing::Scatter(table),
                    },
                    pixels: rows.len(),
                    upcoming: if index + 1 < panels.end { self.right.part(index + 1, &values) } else { &[] },
                };
                // SAFETY: handed on to the caller; the panels' columns do not overlap.
                unsafe { product.run(simd) };
            }
        }
        if !wide.is_empty() {
            let at = full.end * panel;
            for (row, wide) in rows.zip(wide.chunks_exact(panel)) {
                // SAFETY: handed on to the caller.
                unsafe { result.put(row * columns + at, &wide[..columns - at]) };
            }
        }
    }
}

/// Some rows and columns of a left operand, side by side in the cache.
struct PackedLeft<'a> {
    values: &'a [f32],
    runs: Runs,
    /// Where rows begin; `None` if one vector apart.
    pixels: Option<Pixels>,
}

impl<'a> PackedLeft<'a> {
    /// Packs in the order in which the matrix lies, so that whole rows or columns are copied.
    fn new<S: Simd>(
        simd: S,
        matrix: Strided<'_>,
        rows: &Range<usize>,
        columns: &Range<usize>,
        scratch: &'a mut [f32],
    ) -> Self {
        let (count, depth) = (rows.len(), columns.len());
        if matrix.column != 1 {
            // `[columns, rows]`.
            let scratch = &mut scratch[..count * depth];
            for (column, to) in columns.clone().zip(scratch.chunks_exact_mut(count)) {
                let from = matrix.from(rows.start, column);
                match from.row {
                    1 => to.copy_from_slice(&from.values[..count]),
                    row => {
                        to.iter_mut().zip(from.values.iter().step_by(row)).for_each(|(to, from)| *to = *from)
                    }
                }
            }
            let runs = Runs::new((0..depth).map(|column| (column * count) as u32).collect(), 1);
            let pixels = Some(Pixels::new((0..count as u32).collect()));
            return Self { values: scratch, runs, pixels };
        }
        // `[planes, rows, LANES]`, filled up with zeros, which meet the right operand's.
        let planes = depth.div_ceil(S::LANES);
        let scratch = &mut scratch[..planes * count * S::LANES];
        simd.vectorize(
            #[inline(always)]
            || {
                for (row, first) in rows.clone().zip((0..).step_by(S::LANES)) {
                    let from = matrix.from(row, columns.start).values[..depth].chunks(S::LANES);
                    let planes = scratch.chunks_exact_mut(count * S::LANES);
                    for (from, plane) in from.zip(planes) {
                        let to = &mut plane[first..][..S::LANES];
                        if from.len() == S::LANES {
                            lanes::write(simd, to, lanes::read(simd, from));
                        } else {
                            lanes::write(simd, to, lanes::read_part(simd, from, 0.0));
                        }
                    }
                }
            },
        );
        let runs = Runs::planes(planes, count * S::LANES, S::LANES);
        Self { values: scratch, runs, pixels: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimdLevel;
    use crate::chain::Work;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    struct Multiply {
        sizes: Sizes,
        turned: [bool; 2],
    }

    impl Work for Multiply {
        type Output = Vec<f32>;

        fn run<S: Simd>(self, simd: S) -> Vec<f32> {
            let Sizes { rows, depth, columns } = self.sizes;
            let (a, b, bias) = operands(self.sizes);
            let turned = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
            };
            let (a_turned, b_turned) = (turned(&a, rows, depth), turned(&b, depth, columns));
            let left = match self.turned[0] {
                true => Strided::rows(&a_turned, rows).transposed(),
                false => Strided::rows(&a, depth),
            };
            let right = match self.turned[1] {
                true => Strided::rows(&b_turned, depth).transposed(),
                false => Strided::rows(&b, columns),
            };
            product(simd, self.sizes, left, right, Some(&bias), Finish::NOTHING)
        }
    }

    fn operands(sizes: Sizes) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let Sizes { rows, depth, columns } = sizes;
        (values(rows * depth, 1), values(depth * columns, 2), values(columns, 3))
    }

    #[test]
    fn multiplies_matrices_of_any_size_and_order_at_every_level() {
        at_every_level(|level| {
            for (rows, depth, columns) in
                [(1, 1, 1), (2, 3, 5), (7, 300, 16), (13, 17, 33), (100, 64, 300), (5, 513, 31), (200, 9, 8)]
            {
                let sizes = Sizes { rows, depth, columns };
                let (a, b, bias) = operands(sizes);
                let mut expected = vec![0.0; rows * columns];
                for row in 0..rows {
                    for column in 0..columns {
                        let terms = (0..depth)
                            .map(|k| f64::from(a[row * depth + k]) * f64::from(b[k * columns + column]));
                        expected[row * columns + column] = f64::from(bias[column]) + terms.sum::<f64>();
                    }
                }
                for turned in [[false, false], [true, false], [false, true], [true, true]] {
                    let actual = level.run(Multiply { sizes, turned });
                    assert_close(&actual, &expected, 1e-5, &format!("{level}, {sizes:?}, {turned:?}"));
                }
            }
        });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let sizes = Sizes { rows: 300, depth: 400, columns: 70 };
        for level in SimdLevel::available() {
            let run = || level.run(Multiply { sizes, turned: [true, false] });
            assert!(on_threads(1, run) == on_threads(3, run), "{level}");
        }
    }
}
