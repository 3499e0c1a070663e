//! Products of matrices whose sizes are known when they arrive, packed on the way.
//!
//! The tiles are those of the plan's products (`product.rs`). Here the right operand is packed for a single use, and sums are
//! interrupted every [`DEPTH`] values so that what is read again stays in the cache. Each element is summed in one order that
//! follows from the shapes alone.

use crate::activation::Finish;
use crate::buffer::{Buffer, Shared};
use crate::product::{Addressing, Pixels, Product, Runs, Start};
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Vectors of columns in a panel: pairs make tiles of many rows.
const PANEL: usize = 2;

/// Values of a row that are multiplied before the next panel's turn.
const DEPTH: usize = 256;

/// Rows and panels of a task.
const ROWS: usize = 96;
const PANELS: usize = 8;

/// The lanes of the widest panel.
const ZEROS: [f32; PANEL * 16] = [0.0; PANEL * 16];

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

    fn from(self, row: usize, column: usize) -> Self {
        Self { values: &self.values[row * self.row + column * self.column..], ..self }
    }
}

/// A right operand: panels of [`PANEL`] vectors of columns, filled up with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    /// `[panels, depth, PANEL, LANES]`.
    values: Buffer,
    depth: usize,
    columns: usize,
    /// Columns of a panel.
    panel: usize,
}

impl Packed {
    /// Packs `[depth, columns]`.
    pub(crate) fn new<S: Simd>(matrix: Strided<'_>, depth: usize, columns: usize) -> Self {
        let panel = PANEL * S::LANES;
        let mut values = Buffer::zeroed(columns.div_ceil(panel) * depth * panel);
        for (index, values) in values.chunks_exact_mut((depth * panel).max(1)).enumerate() {
            pack(matrix, index * panel, panel.min(columns - index * panel), panel, values);
        }
        Self { values, depth, columns, panel }
    }

    /// As `new`, on several threads.
    fn new_shared<S: Simd>(matrix: Strided<'_>, depth: usize, columns: usize) -> Self {
        let panel = PANEL * S::LANES;
        let mut values = Buffer::zeroed(columns.div_ceil(panel) * depth * panel);
        values.par_chunks_mut((depth * panel).max(1)).enumerate().for_each(|(index, values)| {
            pack(matrix, index * panel, panel.min(columns - index * panel), panel, values);
        });
        Self { values, depth, columns, panel }
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

/// Packs `count` columns from `first` on.
fn pack(matrix: Strided<'_>, first: usize, count: usize, panel: usize, to: &mut [f32]) {
    for (row, to) in to.chunks_exact_mut(panel).enumerate() {
        let from = matrix.from(row, first);
        if from.column == 1 {
            to[..count].copy_from_slice(&from.values[..count]);
        } else {
            to.iter_mut().take(count).enumerate().for_each(|(i, to)| *to = from.values[i * from.column]);
        }
    }
}

/// A part of a product: some rows, some panels, all or some of the sum.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// `[rows, depth]`, each row dense.
    pub(crate) left: &'a [f32],
    /// Values from one row of the left operand to the next.
    pub(crate) left_row: usize,
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
        let (left, to) = (table(self.left_row), table(self.result_row));
        let panel_len = self.right.depth * self.right.panel;
        let mut first = self.depth.start;
        loop {
            let last = (first + DEPTH).min(self.depth.end);
            let runs = Runs::new(vec![0], last - first);
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
                    left: &self.left[first - self.depth.start..],
                    runs: &runs,
                    first_run: 0,
                    run_count: 1,
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
    let mut result = vec![0.0; rows * columns];
    if result.is_empty() || depth == 0 {
        let bias = bias.unwrap_or(&[]);
        assert!(result.is_empty() || bias.is_empty() && finish.curve.is_none() && finish.lowest <= 0.0);
        return result;
    }
    let gathered;
    let (left, left_row) = if left.column == 1 {
        (left.values, left.row)
    } else {
        gathered = transpose(left.transposed(), depth, rows);
        (&gathered[..], depth)
    };
    let right = Packed::new_shared::<S>(right, depth, columns);
    let mut filled = bias.unwrap_or(&[]).to_vec();
    if !filled.is_empty() {
        assert_eq!(filled.len(), columns, "a bias for each column");
        filled.resize(right.width(), 0.0);
    }
    let full = columns / right.panel;
    let groups = right.panels().div_ceil(PANELS);
    let shared = Shared::new(&mut result);
    (0..rows.div_ceil(ROWS) * groups).into_par_iter().for_each(|task| {
        let (first_row, group) = (task / groups * ROWS, task % groups);
        let count = ROWS.min(rows - first_row);
        let panels = group * PANELS..right.panels().min((group + 1) * PANELS);
        let part = |panels: Range<usize>, result_row: usize| Part {
            left: &left[first_row * left_row..],
            left_row,
            rows: count,
            right: &right,
            depth: 0..depth,
            panels,
            result_row,
        };
        let of_full = panels.start..panels.end.min(full);
        let bias = Some(&filled[..]);
        let first = first_row * columns;
        // SAFETY: the tasks' rows and columns do not overlap, and neither do the two parts of a task.
        unsafe {
            part(of_full, columns).run(simd, bias, finish, shared.from(first + panels.start * right.panel));
            if panels.end > full {
                let mut wide = vec![0.0; count * right.panel];
                part(full..full + 1, right.panel).run(simd, bias, finish, Shared::new(&mut wide));
                let at = full * right.panel;
                for (row, wide) in wide.chunks_exact(right.panel).enumerate() {
                    let to = shared.write(first + row * columns + at, columns - at);
                    to.copy_from_slice(&wide[..columns - at]);
                }
            }
        }
    });
    result
}

/// The transposed of a `[rows, columns]` matrix, `[columns, rows]`.
pub(crate) fn transpose(matrix: Strided<'_>, rows: usize, columns: usize) -> Vec<f32> {
    const SQUARE: usize = 16;
    let mut result = vec![0.0; rows * columns];
    if result.is_empty() {
        return result;
    }
    result.par_chunks_mut(SQUARE * rows).enumerate().for_each(|(band, result)| {
        for first in (0..rows).step_by(SQUARE) {
            for (index, result) in result.chunks_exact_mut(rows).enumerate() {
                let from = matrix.from(first, band * SQUARE + index);
                let square = &mut result[first..rows.min(first + SQUARE)];
                square.iter_mut().enumerate().for_each(|(row, to)| *to = from.values[row * from.row]);
            }
        }
    });
    result
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
            let turned =
                |values: &[f32], rows, columns| transpose(Strided::rows(values, columns), rows, columns);
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
