//! Rows in another order.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{Arrangement, arrange};

/// Backwards, without the second row, and with a new one in front.
fn backwards(rows: usize) -> Arrangement {
    let from = (0..rows).rev().filter(|&row| row != 1).map(Some);
    Arrangement::new(rows, std::iter::once(None).chain(from))
}

#[test]
fn agrees_over_odd_shapes_in_both_layouts() {
    for [batch, rows, width] in [[1, 1, 1], [2, 5, 3], [3, 70, 17]] {
        let inputs = [values(batch * rows * width, 1)];
        for turned in [false, true] {
            agrees(&format!("{batch} x {rows} x {width}, turned: {turned}"), 1e-6, &inputs, |t| {
                let x = match turned {
                    false => t[0].clone().reshape([batch, rows, width]),
                    true => t[0].clone().reshape([batch, width, rows]).swap_dims(1, 2),
                };
                arrange(x, &backwards(rows)).flatten(0, 2)
            });
        }
    }
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("x", &[2, 4, 3])], |inputs| arrange(inputs.tensor(0), &backwards(4)));
}

#[test]
fn the_inverse_brings_rows_back() {
    let x = Tensor::<3>::from_floats([[[1.0], [2.0], [3.0]]], &Device::ndarray());
    let there = arrange(x, &backwards(3));
    let values = |tensor: Tensor<3>| tensor.into_data().try_to_vec::<f32>().unwrap();
    assert_eq!(values(there.clone()), [0.0, 3.0, 1.0]);
    assert_eq!(values(arrange(there, &backwards(3).inverse())), [1.0, 0.0, 3.0]);
}

#[test]
#[should_panic(expected = "arrange: row 1 comes twice")]
fn refuses_a_row_twice() {
    Arrangement::new(3, [Some(1), Some(0), Some(1)]);
}

#[test]
#[should_panic(expected = "arrange: row 3 of 3")]
fn refuses_a_row_that_is_not_there() {
    Arrangement::new(3, [Some(3)]);
}
