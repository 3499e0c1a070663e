//! How rows are shared among threads.
//!
//! Rows are cut into blocks whose size follows from the shape alone. A block is computed by one thread, and what blocks add to
//! a common sum is added in their order. So the number of threads changes no bit.

use std::ops::Range;

/// Values that are worth another thread's attention.
const WORTH_A_TASK: usize = 16 * 1024;

/// The most blocks that keep a partial sum, each as large as a row.
const MOST_PARTIALS: usize = 64;

/// Rows of a block where blocks share nothing.
pub(crate) fn block(row_length: usize) -> usize {
    WORTH_A_TASK.div_ceil(row_length.max(1)).max(1)
}

/// Rows of a block where every block has a partial sum of its own.
pub(crate) fn summing_block(rows: usize, row_length: usize) -> usize {
    block(row_length).max(rows.div_ceil(MOST_PARTIALS))
}

/// The rows of block `index`.
pub(crate) fn rows_of(index: usize, block: usize, rows: usize) -> Range<usize> {
    index * block..rows.min((index + 1) * block)
}
