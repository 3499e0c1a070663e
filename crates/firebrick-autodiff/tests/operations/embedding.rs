//! Rows of a table.

use crate::agreement::{agrees, check, values};
use burn::tensor::{Device, Int, Tensor};
use firebrick_autodiff::embedding;

/// Ids of which some come several times and most never, on the device of `like`.
fn ids([batch, places]: [usize; 2], rows: usize, like: &Tensor<2>) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..batch * places).map(|place| (place * place % rows) as i32).collect();
    Tensor::<1, Int>::from_data(ids.as_slice(), &like.device()).reshape([batch, places])
}

#[test]
fn agrees_over_odd_shapes_in_both_layouts() {
    for (rows, width, batch, places) in [(1, 1, 1, 1), (5, 3, 2, 4), (70, 17, 3, 33), (1000, 33, 2, 9)] {
        for turned in [false, true] {
            let what = format!("{rows} x {width}, {batch} x {places} ids, turned: {turned}");
            agrees(&what, 2e-6, &[values(rows * width, 1)], |inputs| {
                let table = match turned {
                    false => inputs[0].clone().reshape([rows, width]),
                    true => inputs[0].clone().reshape([width, rows]).transpose(),
                };
                let ids = ids([batch, places], rows, &table);
                embedding(table, ids).flatten(0, 2)
            });
        }
    }
}

#[test]
fn agrees_for_ids_that_are_transposed() {
    agrees("transposed ids", 1e-6, &[values(6 * 5, 3)], |inputs| {
        let table = inputs[0].clone().reshape([6, 5]);
        let ids = ids([4, 3], 6, &table).transpose();
        embedding(table, ids).flatten(0, 2)
    });
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("table", &[4, 3])], |inputs| {
        let table = inputs.tensor::<2>(0);
        let ids = ids([2, 3], 4, &table);
        embedding(table, ids)
    });
}

#[test]
#[should_panic(expected = "embedding: id 3 at place [1, 0], of a table of 3 rows")]
fn refuses_an_id_that_does_not_exist() {
    let device = Device::ndarray();
    embedding(Tensor::zeros([3, 2], &device), Tensor::from_ints([[2, 0], [3, 1]], &device));
}

#[test]
#[should_panic(expected = "embedding: id -1 at place [0, 0], of a table of 3 rows")]
fn refuses_a_negative_id() {
    let device = Device::ndarray();
    embedding(Tensor::zeros([3, 2], &device), Tensor::from_ints([[-1]], &device));
}

#[test]
#[should_panic(expected = "embedding: the input is empty: its shape is [1, 0]")]
fn refuses_no_ids() {
    let device = Device::ndarray();
    embedding(Tensor::zeros([3, 2], &device), Tensor::zeros([1, 0], &device));
}
