//! Pooling.

use crate::agreement::{agrees, check, devices, values};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{
    CountPadding, Window, adaptive_average_pool, average_pool, global_average_pool, max_pool,
};

const SHAPES: [([usize; 4], Window); 5] = [
    ([1, 1, 1, 1], Window { kernel: [1, 1], stride: [1, 1], padding: [0, 0], ceil: false }),
    ([2, 3, 5, 4], Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0], ceil: false }),
    ([1, 17, 7, 9], Window { kernel: [3, 3], stride: [2, 2], padding: [1, 1], ceil: false }),
    ([2, 8, 6, 7], Window { kernel: [3, 2], stride: [3, 1], padding: [0, 1], ceil: false }),
    ([3, 5, 4, 4], Window { kernel: [4, 3], stride: [1, 3], padding: [2, 1], ceil: false }),
];

/// An image batch in both layouts: as it is, and with its channels last in memory.
fn layouts(flat: &Tensor<1>, dims: [usize; 4], which: usize) -> Tensor<4> {
    let [n, c, h, w] = dims;
    match which {
        0 => flat.clone().reshape(dims),
        _ => flat.clone().reshape([n, h, w, c]).permute([0, 3, 1, 2]),
    }
}

#[test]
fn agrees_over_odd_shapes_in_both_layouts() {
    for (dims, window) in SHAPES {
        let inputs = [values(dims.iter().product(), 1)];
        for layout in [0, 1] {
            let what = format!("{dims:?}, {window:?}, layout {layout}");
            agrees(&what, 1e-6, &inputs, |t| max_pool(layouts(&t[0], dims, layout), window).flatten(0, 3));
            for count in [CountPadding::Yes, CountPadding::No] {
                agrees(&format!("{what}, {count:?}"), 1e-6, &inputs, |t| {
                    average_pool(layouts(&t[0], dims, layout), window, count).flatten(0, 3)
                });
            }
            for output in [[1, 1], [2, 3], [3, 1]] {
                agrees(&format!("{dims:?} to {output:?}, layout {layout}"), 1e-6, &inputs, |t| {
                    adaptive_average_pool(layouts(&t[0], dims, layout), output).flatten(0, 3)
                });
            }
            agrees(&format!("{dims:?} to a mean, layout {layout}"), 1e-6, &inputs, |t| {
                global_average_pool(layouts(&t[0], dims, layout)).flatten(0, 1)
            });
        }
    }
}

#[test]
fn its_gradient_is_that_of_differences() {
    let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0], ceil: false };
    check(&[("x", &[2, 2, 5, 4])], |inputs| max_pool(inputs.tensor(0), window));
    check(&[("x", &[2, 2, 5, 4])], |inputs| average_pool(inputs.tensor(0), window, CountPadding::No));
    check(&[("x", &[2, 2, 5, 4])], |inputs| adaptive_average_pool(inputs.tensor(0), [2, 3]));
    check(&[("x", &[2, 2, 5, 4])], |inputs| global_average_pool(inputs.tensor(0)));
}

/// The counts are PyTorch's.
#[test]
fn a_window_that_hangs_over_the_edge_may_be_the_only_one() {
    let window = Window { kernel: [3, 3], stride: [2, 2], padding: [0, 0], ceil: true };
    let counts: Vec<_> = (1..7).map(|size| window.count(0, size)).collect();
    assert_eq!(counts, [None, Some(1), Some(1), Some(2), Some(2), Some(3)]);
    for dims in [[1, 3, 2, 2], [2, 5, 2, 7], [1, 4, 6, 8]] {
        let inputs = [values(dims.iter().product(), 1)];
        agrees(&format!("{dims:?}"), 1e-6, &inputs, |t| {
            max_pool(t[0].clone().reshape(dims), window).flatten(0, 3)
        });
    }
    check(&[("x", &[2, 2, 2, 4])], |inputs| max_pool(inputs.tensor(0), window));
}

#[test]
fn padding_never_wins() {
    for (name, device) in devices() {
        let x = Tensor::<4>::ones([1, 1, 2, 2], &device) * -5.0;
        let window = Window { kernel: [2, 2], stride: [2, 2], padding: [1, 1], ceil: false };
        let largest = max_pool(x, window).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(largest, [-5.0; 4], "{name}");
    }
}

#[test]
#[should_panic(expected = "pool: Max(Window { kernel: [3, 3]")]
fn refuses_a_kernel_larger_than_the_image() {
    let window = Window { kernel: [3, 3], stride: [1, 1], padding: [0, 0], ceil: false };
    max_pool(Tensor::ones([1, 1, 2, 5], &Device::ndarray()), window);
}

#[test]
#[should_panic(expected = "the padding is more than half the kernel")]
fn refuses_windows_of_padding() {
    let window = Window { kernel: [1, 1], stride: [1, 1], padding: [1, 0], ceil: false };
    max_pool(Tensor::ones([1, 1, 2, 5], &Device::ndarray()), window);
}
