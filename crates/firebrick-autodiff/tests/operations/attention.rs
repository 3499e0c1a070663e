//! Scaled dot-product attention.

use crate::agreement::{agrees, check, devices, values};
use burn::tensor::{Bool, Device, Tensor};
use firebrick_autodiff::{AttentionOptions, attention, self_attention};

/// A mask that hides about a third of the keys, never the first one.
fn mask(dims: [usize; 4], device: &Device) -> Tensor<4, Bool> {
    let count: usize = dims.iter().product();
    let hidden: Vec<bool> = (0..count).map(|place| place % dims[3] != 0 && place * 7 % 3 == 0).collect();
    Tensor::<1, Bool>::from_data(hidden.as_slice(), device).reshape(dims)
}

#[test]
fn agrees_with_masks_of_every_shape() {
    let shapes = [
        // batch, heads, queries, keys, width, value width
        [1, 1, 1, 1, 1, 1],
        [2, 3, 5, 7, 4, 6],
        [1, 2, 70, 67, 16, 16],
        [2, 1, 3, 130, 9, 33],
    ];
    for [b, h, q, k, w, v] in shapes {
        let inputs = [values(b * h * q * w, 1), values(b * h * k * w, 2), values(b * h * k * v, 3)];
        let masks = [None, Some([b, h, q, k]), Some([b, 1, 1, k]), Some([1, h, q, k]), Some([1, 1, q, k])];
        for (dims, causal) in masks.into_iter().flat_map(|dims| [(dims, false), (dims, true)]) {
            agrees(
                &format!("{:?}, mask {dims:?}, causal {causal}", [b, h, q, k, w, v]),
                2e-5,
                &inputs,
                |t| {
                    let query = t[0].clone().reshape([b, h, q, w]);
                    let mask = dims.map(|dims| mask(dims, &query.device()));
                    let options = AttentionOptions { mask, causal, ..Default::default() };
                    let (key, value) =
                        (t[1].clone().reshape([b, h, k, w]), t[2].clone().reshape([b, h, k, v]));
                    attention(query, key, value, options).flatten(0, 3)
                },
            );
        }
    }
}

#[test]
fn agrees_for_heads_and_tokens_exchanged_in_memory() {
    let inputs = [values(2 * 6 * 12, 1), values(2 * 5 * 12, 2), values(2 * 5 * 12, 3)];
    agrees("exchanged", 1e-5, &inputs, |t| {
        let heads = |index: usize, tokens: usize| t[index].clone().reshape([2, tokens, 3, 4]).swap_dims(1, 2);
        let options = AttentionOptions { scale: Some(0.3), ..Default::default() };
        attention(heads(0, 6), heads(1, 5), heads(2, 5), options).swap_dims(1, 2).flatten(0, 3)
    });
}

#[test]
fn agrees_for_packed_queries_keys_and_values() {
    for (batch, tokens, heads, width) in [(1, 1, 1, 1), (2, 5, 3, 4), (1, 70, 2, 16)] {
        let inputs = [values(batch * tokens * 3 * heads * width, 1)];
        let masks = [None, Some([batch, heads, tokens, tokens]), Some([1, 1, 1, tokens])];
        for (dims, causal) in masks.into_iter().flat_map(|dims| [(dims, false), (dims, true)]) {
            let what =
                format!("{batch} x {tokens}, {heads} heads of {width}, mask {dims:?}, causal {causal}");
            agrees(&what, 2e-5, &inputs, |t| {
                let qkv = t[0].clone().reshape([batch, tokens, 3 * heads * width]);
                let mask = dims.map(|dims| mask(dims, &qkv.device()));
                self_attention(qkv, heads, AttentionOptions { mask, causal, ..Default::default() })
                    .flatten(0, 2)
            });
        }
    }
}

#[test]
fn agrees_for_biases_that_begin_anew() {
    let (batch, tokens, heads, width) = (6, 5, 2, 4);
    for (rows, masked) in [(1, None), (2, None), (6, Some(1)), (3, Some(3)), (1, Some(2))] {
        let scores = rows * heads * tokens * tokens;
        let inputs = [values(batch * tokens * 3 * heads * width, 1), values(scores, 2)];
        let what = format!("a bias for {rows} of {batch} sequences, a mask for {masked:?}");
        agrees(&what, 2e-5, &inputs, |t| {
            let qkv = t[0].clone().reshape([batch, tokens, 3 * heads * width]);
            let bias = Some(t[1].clone().reshape([rows, heads, tokens, tokens]));
            let mask = masked.map(|rows| mask([rows, 1, tokens, tokens], &qkv.device()));
            let options = AttentionOptions { mask, bias, ..Default::default() };
            self_attention(qkv, heads, options).flatten(0, 2)
        });
        let inputs = [
            values(batch * heads * 3 * width, 1),
            values(batch * heads * tokens * width, 2),
            values(batch * heads * tokens * 6, 3),
            values(rows * heads * 3 * tokens, 4),
        ];
        agrees(&what, 2e-5, &inputs, |t| {
            let bias = Some(t[3].clone().reshape([rows, heads, 3, tokens]));
            let mask = masked.map(|rows| mask([rows, 1, 3, tokens], &t[0].device()));
            let of = |index: usize, tokens, width| t[index].clone().reshape([batch, heads, tokens, width]);
            let options = AttentionOptions { mask, bias, ..Default::default() };
            attention(of(0, 3, width), of(1, tokens, width), of(2, tokens, 6), options).flatten(0, 3)
        });
    }
}

#[test]
#[should_panic(expected = "attention: the bias has the shape [4, 2, 5, 5], not [6, 2, 5, 5]")]
fn refuses_a_bias_of_no_divisor_of_the_batch() {
    let device = Device::ndarray();
    let bias = Some(Tensor::zeros([4, 2, 5, 5], &device));
    let options = AttentionOptions { bias, ..Default::default() };
    self_attention(Tensor::ones([6, 5, 24], &device), 2, options);
}

#[test]
fn packed_attention_is_that_of_the_three_apart() {
    for (name, device) in devices() {
        let (tokens, heads, width) = (7, 3, 4);
        let qkv = Tensor::<1>::from_data(values(2 * tokens * 36, 3).as_slice(), &device);
        let qkv = qkv.reshape([2, tokens, 36]);
        let packed = self_attention(qkv.clone(), heads, AttentionOptions::default());
        let [query, key, value] = [0, 1, 2].map(|part| {
            let part = qkv.clone().narrow(2, part * heads * width, heads * width);
            part.reshape([2, tokens, heads, width]).swap_dims(1, 2)
        });
        let apart = attention(query, key, value, AttentionOptions::default());
        let apart = apart.swap_dims(1, 2).reshape([2, tokens, heads * width]);
        let difference: f32 = (packed - apart).abs().max().into_scalar();
        assert!(difference < 1e-6, "{name}: {difference}");
    }
}

#[test]
#[should_panic(expected = "self_attention: 8 features are no queries, keys and values of 2 heads")]
fn refuses_features_that_are_not_three_times_the_heads() {
    self_attention(Tensor::ones([1, 2, 8], &Device::ndarray()), 2, AttentionOptions::default());
}

#[test]
fn its_gradient_is_that_of_differences() {
    check(&[("qkv", &[2, 3, 12])], |inputs| {
        self_attention(inputs.tensor(0), 2, AttentionOptions { causal: true, ..Default::default() })
    });
    let inputs: [(&str, &[usize]); 3] =
        [("query", &[1, 2, 3, 4]), ("key", &[1, 2, 5, 4]), ("value", &[1, 2, 5, 2])];
    check(&inputs, |inputs| {
        let query = inputs.tensor(0);
        let mask = Some(mask([1, 1, 3, 5], &query.device()));
        attention(query, inputs.tensor(1), inputs.tensor(2), AttentionOptions { mask, ..Default::default() })
    });
    check(&[("qkv", &[4, 3, 12]), ("bias", &[2, 2, 3, 3])], |inputs| {
        let options = AttentionOptions { bias: Some(inputs.tensor(1)), ..Default::default() };
        self_attention(inputs.tensor(0), 2, options)
    });
    check(&inputs, |inputs| {
        let options = AttentionOptions { causal: true, ..Default::default() };
        attention(inputs.tensor(0), inputs.tensor(1), inputs.tensor(2), options)
    });
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let tokens = |count: usize| Tensor::<4>::ones([1, 1, count, 2], &device).require_grad();
        let (query, key, value) = (tokens(2), tokens(3), tokens(3));
        let hidden = Tensor::<4, Bool>::from_data([[[[true, true, true], [false, true, false]]]], &device);
        let options = AttentionOptions { mask: Some(hidden), ..Default::default() };
        let output = attention(query, key, value.clone(), options);
        let gradients = output.clone().sum().backward();
        let read = |tensor: Tensor<4>| tensor.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(read(output), [0.0, 0.0, 1.0, 1.0], "{name}");
        for (actual, expected) in
            read(value.grad(&gradients).unwrap()).into_iter().zip([0.5, 0.5, 0.0, 0.0, 0.5, 0.5])
        {
            assert!((actual - expected).abs() < 1e-6, "{name}: {actual} is not {expected}");
        }
    }
}

#[test]
#[should_panic(expected = "attention: the mask has the shape [1, 1, 1, 3], not [1, 1, 2, 4]")]
fn refuses_a_mask_of_other_keys() {
    let device = Device::ndarray();
    let tokens = |count: usize| Tensor::<4>::ones([1, 1, count, 2], &device);
    let mask = Some(mask([1, 1, 1, 3], &device));
    attention(tokens(2), tokens(4), tokens(4), AttentionOptions { mask, ..Default::default() });
}
