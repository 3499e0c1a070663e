//! Products of matrices whose sizes are known when they arrive, packed on the way.
//!
//! The tiles are those of the plan's products (`product.rs`). Here both operands are packed for a single use, because rows that lie a
//! power of two apart evict each other from the cache. A task computes a rectangle of the result: for [`DEPTH`] values of the sum at a
//! time it keeps a block of the right operand in its second-level cache and takes some rows of the left one after the other past it, as
//! Goto and van de Geijn describe (Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34, 2008). A right operand that is smaller
//! than the left one, a weight, is packed once for all tasks; a larger one by each task for itself, where a copy of the whole would
//! cost a way to memory and back. Each element is summed in one order that follows from the depth alone.

use super::lanes;
use crate::activation::Finish;
use crate::buffer::Shared;
use crate::chain::Pooled;
use crate::product::{Addressing, Pixels, Product, Runs, Start, Upcoming};
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Vectors of columns in a panel: pairs make tiles of many rows.
const PANEL: usize = 2;

/// Values of a row that are multiplied before the next panel's turn.
const DEPTH: usize = 384;

/// Rows of the left operand that are packed at once: those of the largest tile, so that they stay in the first-level cache beside the
/// panels that pass.
const ROWS: usize = 12;

/// Columns of a task: with [`DEPTH`], a block of the right operand of 384 KiB.
const COLUMNS: usize = 256;

/// About so many tasks at least, where there are rows enough, and so many for each thread: with fewer, threads would wait for the last one.
const TASKS: usize = 16;
const TASKS_PER_THREAD: usize = 4;

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

    /// These rows and columns, to be fetched before they are read.
    fn upcoming(self, rows: &Range<usize>, columns: &Range<usize>) -> Upcoming<'a> {
        if rows.is_empty() || columns.is_empty() {
            return Upcoming::NOTHING;
        }
        let values = self.from(rows.start, columns.start).values;
        match self.column {
            1 => Upcoming::rows(values, rows.len(), self.row, columns.len()),
            column => Upcoming::rows(values, columns.len(), column, rows.len()),
        }
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

/// Packs some panels of `[rows, columns]` whose rows lie one after another, row by row as they are read from memory; what is behind its rows
/// and columns becomes zero.
fn pack_rows<S: Simd>(
    simd: S,
    matrix: Strided<'_>,
    rows: usize,
    columns: usize,
    panels: &Range<usize>,
    to: &mut [f32],
) {
    let panel = PANEL * S::LANES;
    let part = to.len() / panels.len();
    let full = panels.end.min(columns / panel) - panels.start;
    simd.vectorize(
        #[inline(always)]
        || {
            for row in 0..rows {
                let from = &matrix.from(row, panels.start * panel).values[..full * panel];
                for (from, to) in from.chunks_exact(PANEL * S::LANES).zip(to.chunks_exact_mut(part)) {
                    let to = &mut to[row * panel..][..panel];
                    for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
                        lanes::write(simd, to, lanes::read(simd, from));
                    }
                }
            }
        },
    );
    for (index, to) in panels.clone().zip(to.chunks_exact_mut(part)) {
        if index < panels.start + full {
            to[rows * panel..].fill(0.0);
        } else {
            pack(simd, matrix, rows, columns, index, to);
        }
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
    // Rows lie side by side: squares of a vector's size, then what is left of each column.
    let squares = if matrix.row == 1 { [rows, count].map(|len| len / S::LANES * S::LANES) } else { [0; 2] };
    simd.vectorize(
        #[inline(always)]
        || {
            for row in (0..squares[0]).step_by(S::LANES) {
                for column in (0..squares[1]).step_by(S::LANES) {
                    let from = matrix.from(row, columns.start + column).values;
                    lanes::transpose(simd, from, matrix.column, &mut to[row * panel + column..], panel);
                }
            }
        },
    );
    for (index, column) in columns.enumerate() {
        let first = if index < squares[1] { squares[0] } else { 0 };
        if first == rows {
            continue;
        }
        let from = matrix.from(first, column);
        let to = to[first * panel + index..].iter_mut().step_by(panel).take(rows - first);
        to.enumerate().for_each(|(row, to)| *to = from.values[row * from.row]);
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
        let (left, to) = (Pixels::every(self.left.row, self.rows), Pixels::every(self.result_row, self.rows));
        let panel_len = self.right.depth * self.right.panel;
        let mut first = self.depth.start;
        loop {
            let last = (first + DEPTH).min(self.depth.end);
            let runs = match self.left.column {
                1 => Runs::new(vec![0], last - first),
                column => Runs::across(1, last - first, column),
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
                    next_result: 0,
                    addressing: if self.left.row == 1 {
                        Addressing::Adjacent(&to)
                    } else {
                        Addressing::Tables(&left, &to)
                    },
                    pixels: self.rows,
                    upcoming: Upcoming::NOTHING,
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
    let mut filled = bias.unwrap_or(&[]).to_vec();
    if !filled.is_empty() {
        assert_eq!(filled.len(), columns, "a bias for each column");
        filled.resize(columns.next_multiple_of(PANEL * S::LANES), 0.0);
    }
    // Columns that lie one after another would be packed slowly by each.
    let right = if depth <= rows || right.column != 1 {
        Right::Packed(Packed::new_shared(simd, right, depth, columns))
    } else {
        Right::Matrix(right)
    };
    let job = Job { left, right, sizes, bias: &filled, finish };
    let grid = Grid::new(sizes, PANEL * S::LANES, matches!(job.right, Right::Matrix(_)));
    let shared = Shared::spare(&mut result, rows * columns);
    (0..grid.count()).into_par_iter().with_max_len(1).for_each_init(Scratch::default, |scratch, task| {
        let (rows, panels) = grid.task(task);
        // SAFETY: the tasks' rows and columns do not overlap.
        unsafe { job.run(simd, rows, panels, scratch, shared) };
    });
    // SAFETY: the tasks have written every row of every panel.
    unsafe { result.set_len(rows * columns) };
    result
}

/// How a result is divided among tasks.
struct Grid {
    rows: usize,
    rows_each: usize,
    panels: usize,
    panels_each: usize,
}

impl Grid {
    /// Tasks of few columns read the left operand often, tasks of few rows the right one, which costs more if they pack it, too. How a result
    /// is divided changes no bit of it.
    fn new(sizes: Sizes, panel: usize, packs_right: bool) -> Self {
        let panels = sizes.columns.div_ceil(panel);
        let groups = panels.div_ceil(COLUMNS / panel);
        let tasks = TASKS.max(TASKS_PER_THREAD * rayon::current_num_threads());
        let tasks = if packs_right { tasks / 2 } else { tasks };
        let rows_each = sizes.rows.div_ceil(tasks.div_ceil(groups)).next_multiple_of(ROWS);
        // A result of few rows is divided by columns instead.
        let groups = groups.max(tasks.div_ceil(sizes.rows.div_ceil(rows_each))).min(panels);
        Self { rows: sizes.rows, rows_each, panels, panels_each: panels.div_ceil(groups) }
    }

    fn groups(&self) -> usize {
        self.panels.div_ceil(self.panels_each)
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.rows_each) * self.groups()
    }

    /// The rows and panels of a task.
    fn task(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let part = |index: usize, each: usize, all: usize| index * each..all.min((index + 1) * each);
        let (row, panel) = (index / self.groups(), index % self.groups());
        (part(row, self.rows_each, self.rows), part(panel, self.panels_each, self.panels))
    }
}

/// A right operand, packed or still to be.
enum Right<'a> {
    Packed(Packed),
    Matrix(Strided<'a>),
}

/// What a task fetches while it computes some rows.
#[derive(Debug, Clone, Copy)]
enum Ahead<'a> {
    /// Each panel the next one: the first rows find a shared operand in a cache further away than the second.
    Panels,
    /// What is next to be packed, of the left operand and of the right one.
    Operands(Upcoming<'a>, Upcoming<'a>),
}

/// What a task packs.
#[derive(Default)]
struct Scratch {
    left: Option<Pooled>,
    right: Option<Pooled>,
}

/// At least `len` values, of which nothing is known.
fn room(buffer: &mut Option<Pooled>, len: usize) -> &mut [f32] {
    if buffer.as_ref().is_none_or(|buffer| buffer.len() < len) {
        *buffer = Some(Pooled::take(len));
    }
    &mut buffer.as_mut().expect("it was just made")[..len]
}

/// A product whose tasks each compute some rows and panels.
struct Job<'a> {
    left: Strided<'a>,
    right: Right<'a>,
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
        scratch: &mut Scratch,
        result: Shared<'_>,
    ) {
        let Sizes { depth, columns, .. } = self.sizes;
        let panel = PANEL * S::LANES;
        // A panel that is not full is computed beside the result, because its last columns have no place there.
        let full = panels.start..panels.end.min(columns / panel);
        let mut wide = if full.len() < panels.len() { vec![0.0; rows.len() * panel] } else { Vec::new() };
        let (to_result, to_wide) =
            (Pixels::every(columns, ROWS.min(rows.len())), Pixels::every(panel, ROWS.min(rows.len())));
        let columns_here = panels.start * panel..columns.min(panels.end * panel);
        // Blocks of equal depth: a short last one would cost a pass over the result for little.
        let most = depth.div_ceil(depth.div_ceil(DEPTH)).next_multiple_of(S::LANES);
        for first in (0..depth).step_by(most) {
            let values = first..depth.min(first + most);
            let next_values = values.end..depth.min(values.end + most);
            let part = values.len().next_multiple_of(S::LANES) * panel;
            let block: &[f32] = match self.right {
                Right::Packed(_) => &[],
                Right::Matrix(matrix) => {
                    let block = room(&mut scratch.right, panels.len() * part);
                    pack_rows(simd, matrix.from(first, 0), values.len(), columns, &panels, block);
                    block
                }
            };
            let right = |index: usize| match &self.right {
                Right::Packed(packed) => packed.part(index, &values),
                Right::Matrix(_) => &block[(index - panels.start) * part..][..part],
            };
            let finish = if values.end == depth { self.finish } else { Finish::NOTHING };
            let runs_of = |count| packed_runs::<S>(self.left, count, values.len());
            let (whole, rest) = (runs_of(ROWS), runs_of(rows.len() % ROWS));
            for first_row in rows.clone().step_by(ROWS) {
                let some = first_row..rows.end.min(first_row + ROWS);
                let left = room(&mut scratch.left, ROWS * DEPTH.next_multiple_of(S::LANES));
                let left = pack_left(simd, self.left, &some, &values, left);
                let runs = if some.len() == ROWS { &whole } else { &rest };
                let ahead = self.ahead(&rows, &columns_here, &some, &values, &next_values);
                for index in panels.clone() {
                    let (to, table) = if full.contains(&index) {
                        (result.from(first_row * columns + index * panel), &to_result)
                    } else {
                        (Shared::new(&mut wide).from((first_row - rows.start) * panel), &to_wide)
                    };
                    let start = match first {
                        0 => Start::Bias(self.bias.get(index * panel..(index + 1) * panel).unwrap_or(&ZEROS)),
                        _ => Start::Partial,
                    };
                    let product = Product {
                        left,
                        runs,
                        first_run: 0,
                        run_count: runs.count(),
                        right: right(index),
                        vectors: PANEL,
                        start,
                        residual: None,
                        finish,
                        result: to,
                        result_plane: S::LANES,
                        next_result: if index + 1 < full.end { panel } else { 0 },
                        addressing: match lies_across(self.left) {
                            true => Addressing::Adjacent(table),
                            false => Addressing::Scatter(table),
                        },
                        pixels: some.len(),
                        upcoming: match ahead {
                            Ahead::Panels if index + 1 < panels.end => right(index + 1).into(),
                            Ahead::Panels => Upcoming::NOTHING,
                            Ahead::Operands(left, right) => {
                                let (index, half) = (index - panels.start, panels.len().div_ceil(2));
                                if index < half {
                                    left.piece(index, left.share(half))
                                } else {
                                    right.piece(index - half, right.share(panels.len() - half))
                                }
                            }
                        },
                    };
                    // SAFETY: handed on to the caller; the panels' columns do not overlap.
                    unsafe { product.run(simd) };
                }
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

    /// What is fetched while a task computes `some` of its rows.
    fn ahead(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        some: &Range<usize>,
        values: &Range<usize>,
        next_values: &Range<usize>,
    ) -> Ahead<'_> {
        let right = match self.right {
            Right::Packed(_) if some.start == rows.start => return Ahead::Panels,
            Right::Packed(_) => Upcoming::NOTHING,
            Right::Matrix(matrix) => {
                let all = matrix.upcoming(next_values, columns);
                all.piece((some.start - rows.start) / ROWS, all.share(rows.len().div_ceil(ROWS)))
            }
        };
        let left = if some.end < rows.end {
            self.left.upcoming(&(some.end..rows.end.min(some.end + ROWS)), values)
        } else {
            self.left.upcoming(&(rows.start..rows.end.min(rows.start + ROWS)), next_values)
        };
        Ahead::Operands(left, right)
    }
}

/// Whether a left operand is packed column by column, as it lies; else its rows begin one vector apart.
fn lies_across(left: Strided<'_>) -> bool {
    left.column != 1
}

/// The runs of `count` packed rows of `depth` values.
fn packed_runs<S: Simd>(left: Strided<'_>, count: usize, depth: usize) -> Runs {
    let vectors = depth.div_ceil(S::LANES);
    match lies_across(left) {
        true => Runs::across(vectors, S::LANES, count),
        false => Runs::planes(vectors, count * S::LANES, S::LANES),
    }
}

/// Packs some rows and columns of a left operand side by side, in the order in which they lie, so that whole rows or columns are copied:
/// `[columns, rows]` or `[planes, rows, LANES]`, filled up with zeros, which meet the right operand's.
fn pack_left<'a, S: Simd>(
    simd: S,
    left: Strided<'_>,
    rows: &Range<usize>,
    columns: &Range<usize>,
    scratch: &'a mut [f32],
) -> &'a [f32] {
    let (count, depth) = (rows.len(), columns.len());
    let scratch = &mut scratch[..count * depth.next_multiple_of(S::LANES)];
    if lies_across(left) {
        scratch[count * depth..].fill(0.0);
        for (column, to) in columns.clone().zip(scratch.chunks_exact_mut(count)) {
            let from = left.from(rows.start, column);
            match from.row {
                1 => to.copy_from_slice(&from.values[..count]),
                row => to.iter_mut().enumerate().for_each(|(index, to)| *to = from.values[index * row]),
            }
        }
        return scratch;
    }
    simd.vectorize(
        #[inline(always)]
        || {
            for (row, first) in rows.clone().zip((0..).step_by(S::LANES)) {
                let from = left.from(row, columns.start).values[..depth].chunks(S::LANES);
                for (from, plane) in from.zip(scratch.chunks_exact_mut(count * S::LANES)) {
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
    scratch
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
            for (rows, depth, columns) in [
                (1, 1, 1),
                (2, 3, 5),
                (7, 300, 16),
                (13, 17, 33),
                (100, 64, 300),
                (5, 513, 31),
                (200, 9, 8),
                (110, 500, 41),
                (560, 500, 41),
            ] {
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
        // More threads than four divide a result otherwise; with the second sizes, tasks pack the right operand themselves.
        for sizes in
            [Sizes { rows: 600, depth: 400, columns: 300 }, Sizes { rows: 300, depth: 400, columns: 600 }]
        {
            for level in SimdLevel::available() {
                let run = || level.run(Multiply { sizes, turned: [true, false] });
                let alone = on_threads(1, run);
                assert!(alone == on_threads(3, run), "{level}, {sizes:?}");
                assert!(alone == on_threads(16, run), "{level}, {sizes:?}");
            }
        }
    }
}
