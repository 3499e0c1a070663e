//! What holds for every layer of this crate: every parameter gets a gradient, evaluation is the same twice, weights round-trip, and the shape is
//! the documented one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::LinearConfig;
use burn::tensor::{Device, Distribution, Gradients, Tensor};
use firebrick_nn::dropout::{AlphaDropout, DropBlock, DropConnect, DropPath, SpatialDropout};
use firebrick_nn::{
    AttentionConfig, AttentionMask, Bidirectional, BlurPool, Cell, LayerScale, LearnedPositions,
    PatchEmbedding, RecurrentConfig, SeparableConv2d, SqueezeExcite, TransformerConfig,
};

use crate::golden::{device, values, weights};

/// Counts parameters, and those whose gradient is not all zero.
struct Count<'a> {
    gradients: &'a Gradients,
    parameters: usize,
    moved: usize,
}

impl ModuleVisitor for Count<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parameters += 1;
        let gradient = param.val().grad(self.gradients);
        self.moved +=
            usize::from(gradient.is_some_and(|gradient| values(gradient).iter().any(|value| *value != 0.0)));
    }
}

fn check<M: Module, const I: usize, const O: usize>(
    name: &str,
    make: impl Fn(u64, &Device) -> M,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
    input: [usize; I],
    output: [usize; O],
    parameters: usize,
) {
    let device = device().autodiff();
    device.seed(1);
    let layer = make(1, &device);
    let x = Tensor::<I>::random(input, Distribution::Normal(0.0, 1.0), &device).require_grad();
    let y = forward(&layer, x.clone());
    assert_eq!(y.dims(), output, "{name}");
    let gradients = (y.clone() * weights(&y)).sum().backward();
    let mut count = Count { gradients: &gradients, parameters: 0, moved: 0 };
    layer.visit(&mut count);
    assert_eq!(
        (count.parameters, count.moved),
        (parameters, parameters),
        "{name}: parameters, and those with a gradient"
    );

    let (evaluated, x) = (layer.clone().valid(), x.inner());
    let once = values(forward(&evaluated, x.clone()));
    assert_eq!(once, values(forward(&evaluated, x.clone())), "{name} in evaluation mode");
    let other = make(2, &x.device()).load_record(layer.valid().into_record());
    assert_eq!(values(forward(&other, x)), once, "{name} after its weights were loaded");
}

#[test]
fn every_layer_keeps_the_contract() {
    let linear = |seed, device: &Device| {
        device.seed(seed);
        LinearConfig::new(5, 4).init(device)
    };
    check(
        "SeparableConv2d",
        |seed, device| SeparableConv2d::new(3, 4, 3, 2, seed, device).expect("valid"),
        SeparableConv2d::forward,
        [2, 3, 7, 5],
        [2, 4, 4, 3],
        3,
    );
    check(
        "SqueezeExcite",
        |seed, device| SqueezeExcite::new(4, 8, seed, device).expect("valid"),
        SqueezeExcite::forward,
        [2, 4, 5, 3],
        [2, 4, 5, 3],
        4,
    );
    check(
        "LayerScale",
        |_, device| LayerScale::new(4, 1e-5, device).expect("valid"),
        LayerScale::forward,
        [2, 3, 4],
        [2, 3, 4],
        1,
    );
    check(
        "PatchEmbedding",
        |seed, device| PatchEmbedding::new(3, 2, 6, seed, device).expect("valid"),
        PatchEmbedding::forward,
        [2, 3, 5, 6],
        [2, 6, 6],
        2,
    );
    check(
        "BlurPool",
        |_, _| BlurPool::new(3, 2).expect("valid"),
        BlurPool::forward,
        [2, 3, 5, 6],
        [2, 3, 3, 3],
        0,
    );
    check(
        "DropConnect",
        |seed, device| DropConnect::new(linear(seed, device), 0.3).expect("valid"),
        DropConnect::forward,
        [3, 5],
        [3, 4],
        2,
    );
    check(
        "SpatialDropout",
        |_, _| SpatialDropout::new(0.3).expect("valid"),
        SpatialDropout::forward,
        [2, 3, 4],
        [2, 3, 4],
        0,
    );
    check(
        "AlphaDropout",
        |_, _| AlphaDropout::new(0.3).expect("valid"),
        AlphaDropout::forward,
        [2, 3, 4],
        [2, 3, 4],
        0,
    );
    check("DropPath", |_, _| DropPath::new(0.3).expect("valid"), DropPath::forward, [2, 3, 4], [2, 3, 4], 0);
    check(
        "DropBlock",
        |_, _| DropBlock::new(0.3, 3).expect("valid"),
        DropBlock::forward,
        [2, 3, 4, 5],
        [2, 3, 4, 5],
        0,
    );
    let none = AttentionMask::default();
    for (kv_heads, parameters) in [(2, 8), (1, 8)] {
        let config = AttentionConfig { kv_heads, dropout: 0.2, ..AttentionConfig::new(6, 2) };
        // A bias of the keys moves all scores of a query alike, so it has no gradient: without biases.
        let config = AttentionConfig { bias: false, ..config };
        check(
            "MultiHeadAttention",
            |seed, device| config.init(seed, device).expect("valid"),
            |layer, x: Tensor<3>| layer.forward(x.clone(), x, &none),
            [2, 4, 6],
            [2, 4, 6],
            parameters / 2,
        );
    }
    check(
        "LearnedPositions",
        |seed, device| LearnedPositions::new(4, 6, seed, device).expect("valid"),
        LearnedPositions::forward,
        [2, 4, 6],
        [2, 4, 6],
        1,
    );
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru] {
        let config = RecurrentConfig {
            input_dropout: 0.2,
            recurrent_dropout: 0.2,
            ..RecurrentConfig::new(cell, 3, 4)
        };
        check(
            "Recurrent",
            |seed, device| config.init(seed, device).expect("valid"),
            |layer, x: Tensor<3>| layer.forward(x, None).0,
            [2, 5, 3],
            [2, 5, 4],
            4,
        );
        check(
            "Bidirectional",
            |seed, device| Bidirectional::new(&config, seed, device).expect("valid"),
            Bidirectional::forward,
            [2, 5, 3],
            [2, 5, 8],
            8,
        );
    }
}

#[test]
fn transformers_of_several_layers_keep_the_contract_but_for_the_biases_of_keys() {
    let device = device().autodiff();
    device.seed(1);
    for norm_first in [false, true] {
        let config = TransformerConfig { norm_first, ..TransformerConfig::new(8, 2, 12, 3) };
        let encoder = config.init_encoder(1, &device).expect("valid");
        let decoder = config.init_decoder(2, &device).expect("valid");
        let x = Tensor::<3>::random([2, 5, 8], Distribution::Normal(0.0, 1.0), &device).require_grad();
        let none = AttentionMask::default();
        let memory = encoder.forward(x.clone(), &none);
        let y = decoder.forward(x.clone(), memory, &AttentionMask::causal(), &none);
        assert_eq!(y.dims(), [2, 5, 8]);
        // The last norm's result does not depend on a sum of equal weights.
        let gradients = (y.clone() * weights(&y)).sum().backward();
        let mut count = Count { gradients: &gradients, parameters: 0, moved: 0 };
        encoder.visit(&mut count);
        decoder.visit(&mut count);
        let last = if norm_first { 4 } else { 0 };
        assert_eq!(count.parameters, 3 * 16 + 3 * 26 + last);
        assert!(count.moved >= count.parameters - 9, "{} of {}", count.moved, count.parameters);

        let (encoder, decoder, x) = (encoder.valid(), decoder.valid(), x.inner());
        let run = |x: Tensor<3>| {
            values(decoder.forward(x.clone(), encoder.forward(x, &none), &AttentionMask::causal(), &none))
        };
        assert_eq!(run(x.clone()), run(x.clone()));
        let other =
            config.init_encoder(9, &x.device()).expect("valid").load_record(encoder.clone().into_record());
        assert_eq!(values(other.forward(x.clone(), &none)), values(encoder.forward(x, &none)));
    }
}

#[test]
fn a_blur_leaves_what_is_flat() {
    let flat = Tensor::<4>::ones([1, 2, 6, 7], &device());
    for taps in [1, 3, 5] {
        let y = values(BlurPool::new(taps, 2).expect("valid").forward(flat.clone()));
        assert!(y.len() == 24 && y.iter().all(|value| (value - 1.0).abs() < 1e-6), "{taps}: {y:?}");
    }
}

#[test]
fn wrong_settings_are_named() {
    let device = device();
    for (message, part) in [
        (SeparableConv2d::new(3, 4, 2, 1, 0, &device).expect_err("even").to_string(), "`kernel` is 2"),
        (SeparableConv2d::new(0, 4, 3, 1, 0, &device).expect_err("none").to_string(), "`in_channels` is 0"),
        (SqueezeExcite::new(4, 0, 0, &device).expect_err("none").to_string(), "`squeezed` is 0"),
        (LayerScale::new(4, f32::NAN, &device).expect_err("no number").to_string(), "`initial` is NaN"),
        (PatchEmbedding::new(3, 0, 8, 0, &device).expect_err("none").to_string(), "`patch` is 0"),
        (BlurPool::new(4, 2).expect_err("even").to_string(), "`taps` is 4"),
        (BlurPool::new(3, 0).expect_err("none").to_string(), "`stride` is 0"),
    ] {
        assert!(message.contains(part), "{message}");
    }
}
