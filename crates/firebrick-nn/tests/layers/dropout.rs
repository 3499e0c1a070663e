//! What dropouts drop, and that what stays keeps its mean.

use burn::module::Param;
use burn::nn::LinearConfig;
use burn::tensor::{Device, Gradients, Tensor};
use firebrick_nn::dropout::{AlphaDropout, DropBlock, DropConnect, DropPath, SpatialDropout};

use firebrick_nn::{Cell, Recurrent, RecurrentConfig};

use crate::golden::{Case, Found, Golden, device, run, values};

/// A layer with the masks that the peer drew.
fn found(case: &Case, device: &Device) -> Found {
    let nothing = |_: &Gradients| Vec::new();
    match case.name.as_str() {
        "spatial" => {
            let layer = SpatialDropout::new(0.25).expect("valid");
            run(case.input::<4>(0, device), |x| layer.apply(x, case.input::<4>(1, device)), nothing)
        }
        "path" => {
            let layer = DropPath::new(0.4).expect("valid");
            run(case.input::<3>(0, device), |x| layer.apply(x, case.input::<3>(1, device)), nothing)
        }
        "alpha" => {
            let layer = AlphaDropout::new(0.3).expect("valid");
            run(case.input::<2>(0, device), |x| layer.apply(x, case.input::<2>(1, device)), nothing)
        }
        "block" => {
            let layer = DropBlock::new(0.3, 3).expect("valid");
            run(case.input::<4>(0, device), |x| layer.apply(x, case.input::<4>(1, device)), nothing)
        }
        "connect" => {
            let mut linear = LinearConfig::new(6, 4).init(device);
            case.set_transposed(&mut linear.weight, "weight", device);
            case.set(linear.bias.as_mut().expect("a bias"), "bias", device);
            let layer = DropConnect::new(linear, 0.25).expect("valid");
            run(
                case.input::<2>(0, device),
                |x| layer.apply(x, case.input::<2>(1, device)),
                |gradients| {
                    let weight = layer.linear.weight.val().grad(gradients).expect("a gradient").transpose();
                    let bias = layer.linear.bias.as_ref().expect("a bias").val();
                    let bias = bias.grad(gradients).expect("a gradient");
                    vec![("weight".to_owned(), values(weight)), ("bias".to_owned(), values(bias))]
                },
            )
        }
        "recurrent_rnn" => recurrent(case, Cell::Rnn, device),
        "recurrent_lstm" => recurrent(case, Cell::Lstm, device),
        "recurrent_gru" => recurrent(case, Cell::Gru, device),
        other => panic!("no layer is called {other}"),
    }
}

/// Keras has one bias where PyTorch has two, but in its GRU, whose two are rows of one tensor.
fn recurrent(case: &Case, cell: Cell, device: &Device) -> Found {
    let mut layer: Recurrent = RecurrentConfig::new(cell, 3, 4).init(0, device).expect("valid");
    case.set(&mut layer.input_weight, "input_weight", device);
    case.set(&mut layer.hidden_weight, "hidden_weight", device);
    let row =
        |index: usize| Param::from_tensor(case.tensor::<2>("bias", device).narrow(0, index, 1).squeeze());
    let two = cell == Cell::Gru;
    if two {
        (layer.input_bias, layer.hidden_bias) = (row(0), row(1));
    } else {
        case.set(&mut layer.input_bias, "bias", device);
        layer.hidden_bias = Param::from_tensor(layer.hidden_bias.val().zeros_like());
    }
    let mask = |index| Some(case.input::<2>(index, device));
    run(
        case.input::<3>(0, device),
        |x| layer.apply(x, None, mask(1), mask(2)).0,
        |gradients| {
            let of = |bias: &Param<Tensor<1>>| values(bias.val().grad(gradients).expect("a gradient"));
            let mut bias = of(&layer.input_bias);
            if two {
                bias.extend(of(&layer.hidden_bias));
            }
            let of = |weight: &Param<Tensor<2>>| values(weight.val().grad(gradients).expect("a gradient"));
            vec![
                ("input_weight".to_owned(), of(&layer.input_weight)),
                ("hidden_weight".to_owned(), of(&layer.hidden_weight)),
                ("bias".to_owned(), bias),
            ]
        },
    )
}

#[test]
fn with_a_mask_that_is_given_every_dropout_is_the_peers() {
    let device = device().autodiff();
    let golden: Golden = serde_json::from_str(include_str!("../goldens/dropout.json")).expect("valid JSON");
    assert_eq!(golden.cases.len(), 8);
    for case in &golden.cases {
        case.check(&found(case, &device), &golden.made_by, 1e-5);
    }
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

#[test]
fn channels_and_samples_are_dropped_whole_and_the_rest_is_scaled() {
    let device = device().autodiff();
    device.seed(3);
    let ones = Tensor::<4>::ones([20, 30, 3, 2], &device);
    for (what, y, group) in [
        ("channels", SpatialDropout::new(0.25).expect("valid").forward(ones.clone()), 6),
        ("samples", DropPath::new(0.25).expect("valid").forward(ones.clone()), 180),
    ] {
        let y = values(y);
        let groups: Vec<&[f64]> = y.chunks(group).collect();
        assert!(groups.iter().all(|group| group.iter().all(|value| value == &group[0])), "{what}");
        assert!(groups.iter().all(|group| group[0] == 0.0 || (group[0] - 4.0 / 3.0).abs() < 1e-6), "{what}");
        let dropped = groups.iter().filter(|group| group[0] == 0.0).count() as f64 / groups.len() as f64;
        let deviation = (0.25 * 0.75 / groups.len() as f64).sqrt();
        assert!((dropped - 0.25).abs() < 4.0 * deviation, "{what}: {dropped}");
    }
}

#[test]
fn alpha_dropout_keeps_mean_and_variance() {
    let device = device().autodiff();
    device.seed(4);
    let x = Tensor::<2>::random([200, 500], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
    for p in [0.1, 0.5] {
        let (mean, variance) =
            mean_and_variance(&values(AlphaDropout::new(p).expect("valid").forward(x.clone())));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{p}: {mean} {variance}");
    }
}

#[test]
fn blocks_are_squares_and_cover_their_share() {
    let device = device().autodiff();
    device.seed(5);
    let (rows, columns, block) = (24, 20, 5);
    let ones = Tensor::<4>::ones([4, 8, rows, columns], &device);
    let y = values(DropBlock::new(0.2, block).expect("valid").forward(ones.clone()));
    let dropped = y.iter().filter(|value| **value == 0.0).count() as f64 / y.len() as f64;
    // Blocks overlap, so a little less than asked for.
    assert!((0.12..0.22).contains(&dropped), "{dropped}");
    let (mean, _) = mean_and_variance(&y);
    assert!((mean - 1.0).abs() < 1e-5, "{mean}");
    // Every dropped pixel lies in some square that is dropped altogether.
    for plane in y.chunks(rows * columns) {
        let zero = |row: usize, column: usize| plane[row * columns + column] == 0.0;
        let square = |top: usize, left: usize| {
            (top..top + block).all(|row| (left..left + block).all(|column| zero(row, column)))
        };
        for row in 0..rows {
            for column in 0..columns {
                let tops = row.saturating_sub(block - 1)..=row.min(rows - block);
                let covered = tops.into_iter().any(|top| {
                    (column.saturating_sub(block - 1)..=column.min(columns - block))
                        .any(|left| square(top, left))
                });
                assert!(!zero(row, column) || covered, "{row} {column}");
            }
        }
    }
    let small = Tensor::<4>::ones([1, 1, 2, 3], &device);
    assert_eq!(DropBlock::new(0.5, 7).expect("valid").forward(small).dims(), [1, 1, 2, 3]);
}

#[test]
fn weights_are_dropped_rather_than_outputs() {
    let device = device().autodiff();
    device.seed(6);
    let mut linear = LinearConfig::new(400, 50).with_bias(false).init(&device);
    linear.weight = burn::module::Param::from_tensor(Tensor::ones([400, 50], &device));
    let layer = DropConnect::new(linear, 0.25).expect("valid");
    let x = Tensor::<2>::ones([3, 400], &device);
    let y = values(layer.forward(x.clone()));
    // One mask for the batch: all rows are the same, and no two outputs have lost the same weights.
    assert!(y.chunks(50).all(|row| row == &y[..50]));
    let (mean, variance) = mean_and_variance(&y[..50]);
    // 400 weights of mean 1, kept with probability 3/4 and scaled by 4/3: each has variance 1/3.
    assert!((mean - 400.0).abs() < 4.0 * (400.0 / 3.0 / 50.0f64).sqrt(), "{mean}");
    assert!((60.0..250.0).contains(&variance), "{variance}");
    let evaluated = values(burn::module::Module::valid(&layer).forward(x.inner()));
    assert!(evaluated.iter().all(|value| *value == 400.0));
    let gradients = layer.forward(Tensor::<2>::ones([1, 400], &device)).sum().backward();
    let gradient = values(layer.linear.weight.val().grad(&gradients).expect("a gradient"));
    let kept = gradient.iter().filter(|value| **value != 0.0).count() as f64 / gradient.len() as f64;
    assert!((kept - 0.75).abs() < 0.02, "{kept}");
}

#[test]
fn wrong_settings_are_named() {
    let linear = || LinearConfig::new(2, 2).init(&device());
    for (message, parts) in [
        (SpatialDropout::new(1.5).expect_err("over 1").to_string(), ["SpatialDropout", "`p` is 1.5"]),
        (DropPath::new(-0.1).expect_err("below 0").to_string(), ["DropPath", "`p` is -0.1"]),
        (AlphaDropout::new(1.0).expect_err("all").to_string(), ["AlphaDropout", "less than 1"]),
        (
            DropConnect::new(linear(), f64::NAN).expect_err("no number").to_string(),
            ["DropConnect", "`p` is NaN"],
        ),
        (DropBlock::new(0.1, 4).expect_err("even").to_string(), ["`block` is 4", "odd"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
