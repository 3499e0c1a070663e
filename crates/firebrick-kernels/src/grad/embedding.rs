//! Rows of a table, and the table's gradient.

use crate::buffer::by_blocks;
use rayon::prelude::*;

/// Values that a thread computes at a time.
const TOGETHER: usize = 1 << 14;

/// Whole rows of `width` values that are [`TOGETHER`], at least one.
fn rows_together(width: usize) -> usize {
    (TOGETHER / width).max(1)
}

/// The rows of `table`, `[rows, width]`, that `ids` name: `[ids, width]`.
///
/// # Panics
/// If `width` is 0, `table` is no whole number of rows, or a row does not exist.
pub fn embedding(table: &[f32], width: usize, ids: &[usize]) -> Vec<f32> {
    assert!(width > 0 && table.len().is_multiple_of(width), "embedding: a table of broken rows");
    let rows = table.len() / width;
    check_ids(ids, rows);
    let together = rows_together(width);
    by_blocks(ids.len() * width, together * width, ids.par_chunks(together), |ids, found| {
        for (to, id) in found.chunks_exact_mut(width).zip(ids) {
            to.copy_from_slice(&table[id * width..][..width]);
        }
    })
}

/// The gradient of [`embedding`]'s table of `rows` rows, for that of its result: for each row the sum over the places that named it, in
/// their order; zeros for the rows that none did.
///
/// # Panics
/// If `width` is 0, `grad` has another length than `ids` rows, or a row does not exist.
pub fn embedding_backward(grad: &[f32], width: usize, ids: &[usize], rows: usize) -> Vec<f32> {
    assert!(width > 0, "embedding: a table of empty rows");
    assert_eq!(grad.len(), ids.len() * width, "embedding: gradients of other rows");
    check_ids(ids, rows);
    // Each row's places side by side, in their order: the sort is stable.
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_by_key(|&place| ids[place]);
    let together = rows_together(width);
    let firsts = (0..rows.div_ceil(together)).into_par_iter();
    by_blocks(rows * width, together * width, firsts, |block, table| {
        let first = block * together;
        let from = places.partition_point(|&place| ids[place] < first);
        let named = places[from..].iter().take_while(|&&place| ids[place] < first + together);
        for &place in named {
            let row = &mut table[(ids[place] - first) * width..][..width];
            row.iter_mut().zip(&grad[place * width..]).for_each(|(sum, grad)| *sum += grad);
        }
    })
}

fn check_ids(ids: &[usize], rows: usize) {
    if let Some((place, id)) = ids.iter().enumerate().find(|(_, id)| **id >= rows) {
        panic!("embedding: id {id} at place {place}, of a table of {rows} rows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{on_threads, values};

    /// Small whole numbers: every order of summation is exact.
    fn whole(len: usize) -> Vec<f32> {
        (0..len).map(|index| (index * 7 % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn finds_rows_and_sums_their_gradients() {
        // The last ones take several blocks of the table, and of the ids.
        for (rows, width, count) in [(1, 1, 1), (5, 3, 12), (40, 1, 0), (300, 70, 500), (3, 20_000, 7)] {
            let (table, grad) = (whole(rows * width), whole(count * width));
            let ids: Vec<usize> = (0..count).map(|place| place * place % rows).collect();
            let found = embedding(&table, width, &ids);
            let mut expected = vec![0.0; rows * width];
            for (place, &id) in ids.iter().enumerate() {
                assert_eq!(found[place * width..][..width], table[id * width..][..width], "place {place}");
                for column in 0..width {
                    expected[id * width + column] += grad[place * width + column];
                }
            }
            assert_eq!(found.len(), count * width);
            assert_eq!(embedding_backward(&grad, width, &ids, rows), expected, "{rows} rows of {width}");
        }
    }

    #[test]
    fn sums_are_the_same_for_any_number_of_threads() {
        let ids: Vec<usize> = (0..2000).map(|place| place * 31 % 7 * 60).collect();
        let grad = values(2000 * 64, 1);
        let one = on_threads(1, || embedding_backward(&grad, 64, &ids, 400));
        assert_eq!(one, on_threads(3, || embedding_backward(&grad, 64, &ids, 400)));
    }

    #[test]
    #[should_panic(expected = "embedding: id 3 at place 1, of a table of 3 rows")]
    fn refuses_a_row_that_is_not_there() {
        embedding(&[0.0; 6], 2, &[0, 3]);
    }

    #[test]
    #[should_panic(expected = "embedding: id 4 at place 0, of a table of 4 rows")]
    fn refuses_the_gradient_of_a_row_that_is_not_there() {
        embedding_backward(&[0.0; 2], 2, &[4], 4);
    }
}
