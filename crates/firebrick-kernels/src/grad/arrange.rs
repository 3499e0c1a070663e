//! Rows of a matrix put in another order.

use rayon::prelude::*;

/// Rows that a thread copies at a time, values.
const TOGETHER: usize = 1 << 14;

/// For each of `batch` matrices of `rows` rows, the rows that `from` names one after another, zeros where it names none:
/// `[batch, rows, width]` to `[batch, from.len(), width]`.
///
/// # Panics
/// If `values` has another length, or a row does not exist.
pub fn arrange(values: &[f32], [batch, rows, width]: [usize; 3], from: &[Option<u32>]) -> Vec<f32> {
    assert_eq!(values.len(), batch * rows * width, "arrange: values of other matrices");
    let mut arranged = vec![0.0; batch * from.len() * width];
    if arranged.is_empty() {
        return arranged;
    }
    let together = (TOGETHER / width).clamp(1, from.len());
    let of_matrices = arranged.par_chunks_exact_mut(from.len() * width).enumerate();
    of_matrices.for_each(|(matrix, arranged)| {
        let values = &values[matrix * rows * width..][..rows * width];
        let pieces = arranged.par_chunks_mut(together * width).zip(from.par_chunks(together));
        pieces.for_each(|(arranged, from)| {
            for (to, from) in arranged.chunks_exact_mut(width).zip(from) {
                if let Some(row) = *from {
                    to.copy_from_slice(&values[row as usize * width..][..width]);
                }
            }
        });
    });
    arranged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_rows_in_order_with_zeros_between() {
        let values: Vec<f32> = (0..12).map(|value| value as f32 + 1.0).collect();
        let arranged = arrange(&values, [2, 3, 2], &[Some(2), None, Some(0), Some(2)]);
        let expected = [5, 6, 0, 0, 1, 2, 5, 6, 11, 12, 0, 0, 7, 8, 11, 12].map(|value| value as f32);
        assert_eq!(arranged, expected);
        assert!(arrange(&values, [2, 3, 2], &[]).is_empty());
        assert!(arrange(&[], [0, 3, 2], &[Some(1)]).is_empty());
        // More than one piece.
        let from: Vec<_> = (0..5000).rev().map(Some).collect();
        let values: Vec<f32> = (0..5000 * 7).map(|value| value as f32).collect();
        let arranged = arrange(&values, [1, 5000, 7], &from);
        assert!(arranged.chunks(7).rev().zip(values.chunks(7)).all(|(a, b)| a == b));
    }

    #[test]
    #[should_panic(expected = "range")]
    fn refuses_a_row_that_is_not_there() {
        arrange(&[1.0, 2.0], [1, 1, 2], &[Some(1)]);
    }
}
