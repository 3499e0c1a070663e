//! Attention, positions, recurrent layers and transformers: PyTorch's results and gradients, and what masks and dropouts promise.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Distribution, Gradients, Tensor};
use firebrick_nn::{
    Activation, AttentionConfig, AttentionMask, Bidirectional, Cell, DecoderLayer, EncoderLayer,
    LearnedPositions, MultiHeadAttention, Norm, Recurrent, RecurrentConfig, Rotary, RotaryLayout,
    TransformerConfig, sinusoidal_positions,
};

use crate::golden::{Case, Found, Golden, device, run, values};

type Parts = Vec<(String, Vec<f64>)>;

fn gradient<const D: usize>(parameter: &Param<Tensor<D>>, gradients: &Gradients) -> Tensor<D> {
    parameter.val().grad(gradients).expect("a gradient")
}

/// A dense layer that PyTorch keeps transposed.
fn set_linear(case: &Case, layer: &mut Linear, name: &str, device: &Device) {
    case.set_transposed(&mut layer.weight, &format!("{name}.weight"), device);
    case.set(layer.bias.as_mut().expect("a bias"), &format!("{name}.bias"), device);
}

fn of_linear(layer: &Linear, name: &str, gradients: &Gradients) -> Parts {
    let bias = layer.bias.as_ref().expect("a bias");
    vec![
        (format!("{name}.weight"), values(gradient(&layer.weight, gradients).transpose())),
        (format!("{name}.bias"), values(gradient(bias, gradients))),
    ]
}

/// PyTorch's attention has queries, keys and values in one matrix.
fn set_attention(case: &Case, layer: &mut MultiHeadAttention, prefix: &str, device: &Device) {
    let weight = case.tensor::<2>(&format!("{prefix}in_proj_weight"), device);
    let bias = case.tensor::<1>(&format!("{prefix}in_proj_bias"), device);
    let width = weight.dims()[1];
    for (index, part) in [&mut layer.query, &mut layer.key, &mut layer.value].into_iter().enumerate() {
        part.weight = Param::from_tensor(weight.clone().narrow(0, index * width, width).transpose());
        part.bias = Some(Param::from_tensor(bias.clone().narrow(0, index * width, width)));
    }
    set_linear(case, &mut layer.output, &format!("{prefix}out_proj"), device);
}

fn of_attention(layer: &MultiHeadAttention, prefix: &str, gradients: &Gradients) -> Parts {
    let parts = [&layer.query, &layer.key, &layer.value];
    let weights = parts.map(|part| gradient(&part.weight, gradients).transpose());
    let biases = parts.map(|part| gradient(part.bias.as_ref().expect("a bias"), gradients));
    let mut all = of_linear(&layer.output, &format!("{prefix}out_proj"), gradients);
    all.push((format!("{prefix}in_proj_weight"), values(Tensor::cat(weights.into(), 0))));
    all.push((format!("{prefix}in_proj_bias"), values(Tensor::cat(biases.into(), 0))));
    all
}

fn set_norm(case: &Case, norm: &mut Norm, name: &str, device: &Device) {
    case.set(&mut norm.norm.gamma, &format!("{name}.weight"), device);
    case.set(norm.norm.beta.as_mut().expect("a shift"), &format!("{name}.bias"), device);
}

fn of_norm(norm: &Norm, name: &str, gradients: &Gradients) -> Parts {
    let beta = norm.norm.beta.as_ref().expect("a shift");
    vec![
        (format!("{name}.weight"), values(gradient(&norm.norm.gamma, gradients))),
        (format!("{name}.bias"), values(gradient(beta, gradients))),
    ]
}

fn set_recurrent(case: &Case, layer: &mut Recurrent, suffix: &str, device: &Device) {
    case.set_transposed(&mut layer.input_weight, &format!("weight_ih_l0{suffix}"), device);
    case.set_transposed(&mut layer.hidden_weight, &format!("weight_hh_l0{suffix}"), device);
    case.set(&mut layer.input_bias, &format!("bias_ih_l0{suffix}"), device);
    case.set(&mut layer.hidden_bias, &format!("bias_hh_l0{suffix}"), device);
}

fn of_recurrent(layer: &Recurrent, suffix: &str, gradients: &Gradients) -> Parts {
    vec![
        (format!("weight_ih_l0{suffix}"), values(gradient(&layer.input_weight, gradients).transpose())),
        (format!("weight_hh_l0{suffix}"), values(gradient(&layer.hidden_weight, gradients).transpose())),
        (format!("bias_ih_l0{suffix}"), values(gradient(&layer.input_bias, gradients))),
        (format!("bias_hh_l0{suffix}"), values(gradient(&layer.hidden_bias, gradients))),
    ]
}

fn padding(device: &Device) -> Tensor<2, Bool> {
    Tensor::from_data([[false, false, false, true], [false, true, true, true]], device)
}

fn transformer(case: &Case) -> TransformerConfig {
    let norm_first = case.name.ends_with("pre");
    let activation = if norm_first { Activation::Gelu } else { Activation::Relu };
    TransformerConfig { dropout: 0.0, norm_first, activation, ..TransformerConfig::new(4, 2, 6, 1) }
}

fn encoder(case: &Case, device: &Device) -> Found {
    let mut layer: EncoderLayer = transformer(case).init_encoder(0, device).expect("valid").layers.remove(0);
    set_attention(case, &mut layer.attention, "self_attn.", device);
    set_linear(case, &mut layer.feed_forward.expand, "linear1", device);
    set_linear(case, &mut layer.feed_forward.project, "linear2", device);
    set_norm(case, &mut layer.norm_1, "norm1", device);
    set_norm(case, &mut layer.norm_2, "norm2", device);
    run(
        case.input::<3>(0, device),
        |x| layer.forward(x, &AttentionMask::default()),
        |gradients| {
            let mut parts = of_attention(&layer.attention, "self_attn.", gradients);
            parts.extend(of_linear(&layer.feed_forward.expand, "linear1", gradients));
            parts.extend(of_linear(&layer.feed_forward.project, "linear2", gradients));
            parts.extend(of_norm(&layer.norm_1, "norm1", gradients));
            parts.extend(of_norm(&layer.norm_2, "norm2", gradients));
            parts
        },
    )
}

fn decoder(case: &Case, device: &Device) -> Found {
    let mut layer: DecoderLayer = transformer(case).init_decoder(0, device).expect("valid").layers.remove(0);
    set_attention(case, &mut layer.self_attention, "self_attn.", device);
    set_attention(case, &mut layer.cross_attention, "multihead_attn.", device);
    set_linear(case, &mut layer.feed_forward.expand, "linear1", device);
    set_linear(case, &mut layer.feed_forward.project, "linear2", device);
    for (norm, name) in
        [(&mut layer.norm_1, "norm1"), (&mut layer.norm_2, "norm2"), (&mut layer.norm_3, "norm3")]
    {
        set_norm(case, norm, name, device);
    }
    let memory = case.input::<3>(1, device);
    let forward = |x| layer.forward(x, memory, &AttentionMask::causal(), &AttentionMask::default());
    run(case.input::<3>(0, device), forward, |gradients| {
        let mut parts = of_attention(&layer.self_attention, "self_attn.", gradients);
        parts.extend(of_attention(&layer.cross_attention, "multihead_attn.", gradients));
        parts.extend(of_linear(&layer.feed_forward.expand, "linear1", gradients));
        parts.extend(of_linear(&layer.feed_forward.project, "linear2", gradients));
        for (norm, name) in [(&layer.norm_1, "norm1"), (&layer.norm_2, "norm2"), (&layer.norm_3, "norm3")] {
            parts.extend(of_norm(norm, name, gradients));
        }
        parts
    })
}

fn found(case: &Case, device: &Device) -> Found {
    let recurrent = |cell| {
        let mut layer = RecurrentConfig::new(cell, 3, 4).init(0, device).expect("valid");
        set_recurrent(case, &mut layer, "", device);
        run(
            case.input::<3>(0, device),
            |x| layer.forward(x, None).0,
            |gradients| of_recurrent(&layer, "", gradients),
        )
    };
    let rotary = |layout| {
        let rotary = Rotary { layout, ..Rotary::default() };
        run(case.input::<4>(0, device), |x| rotary.forward(x, 0), |_| Vec::new())
    };
    match case.name.as_str() {
        "attention" | "attention_causal" | "attention_padding" | "attention_cross" => {
            let mut layer = AttentionConfig::new(6, 2).init(0, device).expect("valid");
            set_attention(case, &mut layer, "", device);
            let mask = match case.name.as_str() {
                "attention_causal" => AttentionMask::causal(),
                "attention_padding" => AttentionMask::padding(padding(device)),
                _ => AttentionMask::default(),
            };
            let memory = (case.inputs.len() > 1).then(|| case.input::<3>(1, device));
            let forward = |x: Tensor<3>| layer.forward(x.clone(), memory.unwrap_or(x), &mask);
            run(case.input::<3>(0, device), forward, |gradients| of_attention(&layer, "", gradients))
        }
        "attention_grouped" => {
            let config = AttentionConfig { kv_heads: 2, ..AttentionConfig::new(8, 4) };
            let mut layer = config.init(0, device).expect("valid");
            for (linear, name) in [
                (&mut layer.query, "query"),
                (&mut layer.key, "key"),
                (&mut layer.value, "value"),
                (&mut layer.output, "output"),
            ] {
                set_linear(case, linear, name, device);
            }
            let forward = |x: Tensor<3>| layer.forward(x.clone(), x, &AttentionMask::default());
            run(case.input::<3>(0, device), forward, |gradients| {
                let named = [
                    (&layer.query, "query"),
                    (&layer.key, "key"),
                    (&layer.value, "value"),
                    (&layer.output, "output"),
                ];
                named.into_iter().flat_map(|(linear, name)| of_linear(linear, name, gradients)).collect()
            })
        }
        "rotary_interleaved" => rotary(RotaryLayout::Interleaved),
        "rotary_halves" => rotary(RotaryLayout::Halves),
        "rnn" => recurrent(Cell::Rnn),
        "lstm" => recurrent(Cell::Lstm),
        "gru" => recurrent(Cell::Gru),
        "gru_bidirectional" => {
            let mut layer =
                Bidirectional::new(&RecurrentConfig::new(Cell::Gru, 3, 2), 0, device).expect("valid");
            set_recurrent(case, &mut layer.forwards, "", device);
            set_recurrent(case, &mut layer.backwards, "_reverse", device);
            run(
                case.input::<3>(0, device),
                |x| layer.forward(x),
                |gradients| {
                    let mut parts = of_recurrent(&layer.forwards, "", gradients);
                    parts.extend(of_recurrent(&layer.backwards, "_reverse", gradients));
                    parts
                },
            )
        }
        "encoder_pre" | "encoder_post" => encoder(case, device),
        "decoder_pre" | "decoder_post" => decoder(case, device),
        other => panic!("no layer is called {other}"),
    }
}

#[test]
fn every_sequence_layer_and_its_gradients_are_pytorchs() {
    let device = device().autodiff();
    for text in [include_str!("../goldens/attention.json"), include_str!("../goldens/sequence.json")] {
        let golden: Golden = serde_json::from_str(text).expect("valid JSON");
        assert!(golden.cases.len() >= 7);
        for case in &golden.cases {
            case.check(&found(case, &device), &golden.made_by, 1e-5);
        }
    }
}

#[test]
fn sinusoids_are_the_papers() {
    let table = values(sinusoidal_positions(7, 6, &device()));
    for position in 0..7 {
        for place in 0..6 {
            let angle = position as f64 / 10_000f64.powf((place / 2 * 2) as f64 / 6.0);
            let expected = if place % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((table[position * 6 + place] - expected).abs() < 1e-6, "{position} {place}");
        }
    }
}

#[test]
fn what_is_hidden_changes_nothing_and_weights_are_shares() {
    let device = device();
    device.seed(1);
    for rotary in [None, Some(Rotary::default())] {
        let layer = AttentionConfig { rotary, ..AttentionConfig::new(8, 2) }.init(3, &device).expect("valid");
        let x = Tensor::<3>::random([2, 4, 8], Distribution::Default, &device);
        let changed = x.clone().slice_assign([0..2, 3..4, 0..8], Tensor::<3>::ones([2, 1, 8], &device) * 9.0);
        let causal = AttentionMask::causal();
        let [a, b] =
            [&x, &changed].map(|x| values(layer.forward(x.clone(), x.clone(), &causal).narrow(1, 0, 3)));
        assert_eq!(a, b, "the last token is seen by those before it");
        let hidden = Tensor::<2, Bool>::from_data([[false, false, false, true]; 2], &device);
        let mask = AttentionMask::padding(hidden);
        let [a, b] = [&x, &changed].map(|memory| values(layer.forward(x.clone(), memory.clone(), &mask)));
        assert_eq!(a, b, "padding is seen");
        for mask in [AttentionMask::default(), causal, mask] {
            let weights = values(layer.weights(x.clone(), x.clone(), &mask));
            assert!(weights.chunks(4).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-6));
            assert!(mask.padding.is_none() || weights.chunks(4).all(|row| row[3] < 1e-30));
        }
    }
}

#[test]
fn rotary_products_depend_on_the_distance_alone() {
    let device = device();
    device.seed(2);
    let x = || Tensor::<4>::random([1, 1, 1, 8], Distribution::Default, &device);
    let (query, key) = (x(), x());
    for layout in [RotaryLayout::Halves, RotaryLayout::Interleaved] {
        let rotary = Rotary { layout, ..Rotary::default() };
        let product = |a: usize, b: usize| {
            values((rotary.forward(query.clone(), a) * rotary.forward(key.clone(), b)).sum())[0]
        };
        assert!((product(2, 7) - product(11, 16)).abs() < 1e-5);
        assert!((product(2, 7) - product(2, 8)).abs() > 1e-4);
    }
}

#[test]
fn attention_dropout_and_the_fused_way_agree_in_the_mean() {
    let device = device().autodiff();
    device.seed(3);
    let make =
        |dropout| AttentionConfig { dropout, ..AttentionConfig::new(4, 2) }.init(5, &device).expect("valid");
    let (plain, dropped) = (make(0.0), make(0.5));
    let x = Tensor::<3>::random([1, 6, 4], Distribution::Default, &device);
    let forward =
        |layer: &MultiHeadAttention| values(layer.forward(x.clone(), x.clone(), &AttentionMask::default()));
    let expected = forward(&plain);
    let mut mean = vec![0.0; expected.len()];
    for _ in 0..600 {
        mean.iter_mut().zip(forward(&dropped)).for_each(|(mean, value)| *mean += value / 600.0);
    }
    let error = mean.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 0.08 && forward(&dropped) != expected, "{error}");
}

#[test]
fn a_recurrent_mask_is_the_same_in_every_step() {
    let device = device().autodiff();
    device.seed(7);
    // Weights that hand the input on: what is dropped in one step is dropped in all, and differs between sequences.
    let config = RecurrentConfig { input_dropout: 0.5, ..RecurrentConfig::new(Cell::Rnn, 16, 16) };
    let mut layer = config.init(0, &device).expect("valid");
    layer.input_weight = Param::from_tensor(Tensor::eye(16, &device));
    layer.hidden_weight = Param::from_tensor(Tensor::zeros([16, 16], &device));
    layer.input_bias = Param::from_tensor(Tensor::zeros([16], &device));
    layer.hidden_bias = Param::from_tensor(Tensor::zeros([16], &device));
    let y = values(layer.forward(Tensor::ones([2, 5, 16], &device), None).0);
    let steps: Vec<&[f64]> = y.chunks(16).collect();
    assert!(
        steps[..5].iter().all(|step| step == &steps[0]) && steps[5..].iter().all(|step| step == &steps[5])
    );
    assert!(steps[0] != steps[5] && steps[0].contains(&0.0) && steps[0].iter().any(|value| *value != 0.0));

    // The state of a dropped unit never comes back: with an identity from state to state, units either grow or stay.
    let config = RecurrentConfig { recurrent_dropout: 0.5, ..RecurrentConfig::new(Cell::Rnn, 16, 16) };
    let mut layer = config.init(0, &device).expect("valid");
    layer.input_weight = Param::from_tensor(Tensor::eye(16, &device) * 0.01);
    layer.hidden_weight = Param::from_tensor(Tensor::eye(16, &device));
    layer.input_bias = Param::from_tensor(Tensor::zeros([16], &device));
    layer.hidden_bias = Param::from_tensor(Tensor::zeros([16], &device));
    let y = values(layer.forward(Tensor::ones([1, 6, 16], &device), None).0);
    let unit = |unit: usize| (0..6).map(|step| y[step * 16 + unit]).collect::<Vec<_>>();
    let stays = (0..16).filter(|&index| unit(index).iter().all(|value| *value == unit(index)[0])).count();
    let grows = (0..16).filter(|&index| unit(index).is_sorted_by(|a, b| a < b)).count();
    assert!(stays + grows == 16 && stays > 0 && grows > 0, "{stays} {grows}");
}

#[test]
fn states_are_handed_on() {
    let device = device();
    device.seed(1);
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru] {
        let layer = RecurrentConfig::new(cell, 3, 4).init(1, &device).expect("valid");
        let x = Tensor::<3>::random([2, 6, 3], Distribution::Default, &device);
        let (whole, last) = layer.forward(x.clone(), None);
        let (first, state) = layer.forward(x.clone().narrow(1, 0, 2), None);
        let (second, end) = layer.forward(x.narrow(1, 2, 4), Some(state));
        let joined = values(Tensor::cat(vec![first, second], 1));
        assert!(values(whole).iter().zip(&joined).all(|(a, b)| (a - b).abs() < 1e-6), "{cell:?}");
        assert!(values(last.hidden).iter().zip(values(end.hidden)).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn wrong_settings_are_named() {
    let device = device();
    let attention = |config: AttentionConfig| config.init(0, &device).expect_err("wrong").to_string();
    let transformer =
        |config: TransformerConfig| config.init_encoder(0, &device).expect_err("wrong").to_string();
    let new = AttentionConfig::new;
    for (message, part) in [
        (attention(new(10, 3)), "`width` is 10, it must be a multiple of the 3 heads"),
        (attention(new(10, 0)), "`heads` is 0"),
        (
            attention(AttentionConfig { kv_heads: 3, ..new(8, 4) }),
            "`kv_heads` is 3, it must be a divisor of the 4 heads",
        ),
        (attention(AttentionConfig { dropout: 1.5, ..new(8, 4) }), "`p` is 1.5"),
        (attention(AttentionConfig { rotary: Some(Rotary::default()), ..new(9, 3) }), "even number a head"),
        (transformer(TransformerConfig::new(8, 2, 0, 1)), "`feed_forward` is 0"),
        (transformer(TransformerConfig::new(8, 2, 8, 0)), "`layers` is 0"),
        (
            transformer(TransformerConfig { epsilon: 0.0, ..TransformerConfig::new(8, 2, 8, 1) }),
            "`epsilon` is 0",
        ),
        (
            RecurrentConfig::new(Cell::Gru, 0, 2).init(0, &device).expect_err("none").to_string(),
            "`inputs` is 0",
        ),
        (LearnedPositions::new(0, 2, 0, &device).expect_err("none").to_string(), "`positions` is 0"),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let layer = new(8, 2).init(0, &device).expect("valid");
    assert_eq!(layer.num_params(), 4 * (64 + 8));
}
