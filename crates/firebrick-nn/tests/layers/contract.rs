//! What holds for every layer, ours and those of burn's that docs/layers.md names: every parameter gets a gradient, gradients are the slopes in
//! f64, evaluation is the same twice, weights round-trip, and the shape is the documented one.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AvgPool2dConfig, MaxPool1dConfig, MaxPool2dConfig,
};
use burn::nn::{
    BatchNormConfig, DropoutConfig, EmbeddingConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    LinearConfig, RmsNormConfig,
};
use burn::tensor::{DType, Device, Distribution, Gradients, Int, Tensor, TensorData};
use firebrick_autodiff::{GradientCheck, Inputs, check_gradient};
use firebrick_nn::dropout::{AlphaDropout, DropBlock, DropConnect, DropPath, SpatialDropout};
use firebrick_nn::{
    Activation, AdaptiveMaxPool2d, AttentionConfig, AttentionMask, Bidirectional, BlurPool, Cell,
    ConvNormActConfig, HeadConfig, LayerScale, LearnedPositions, Network, PatchEmbedding, RecurrentConfig,
    Rotary, SeparableConv2d, SqueezeExcite, TransformerConfig, dense,
};

use crate::golden::{device, values, weights};

/// Counts trained parameters, and those whose gradient is not all zero.
struct Count<'a> {
    gradients: &'a Gradients,
    parameters: usize,
    moved: usize,
}

impl ModuleVisitor for Count<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Running statistics are visited, too.
        if !param.is_require_grad() {
            return;
        }
        self.parameters += 1;
        let gradient = param.val().grad(self.gradients);
        self.moved +=
            usize::from(gradient.is_some_and(|gradient| values(gradient).iter().any(|value| *value != 0.0)));
    }
}

/// Values of a layer in f64, the trained ones among them apart.
#[derive(Default)]
struct Values {
    trained: Vec<bool>,
    data: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let trained = param.is_require_grad();
        self.trained.push(trained);
        if trained {
            let name = format!("parameter {}", self.data.len());
            self.data.push((name, param.val().into_data().convert::<f64>()));
        }
    }
}

/// Puts inputs of a function where trained values are, and makes the others f64.
struct Put<'a> {
    inputs: &'a Inputs,
    trained: std::slice::Iter<'a, bool>,
    next: usize,
}

impl ModuleMapper for Put<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.trained.next().expect("as many as were seen") {
            return Param::initialized(param.id, param.val().cast(DType::F64));
        }
        self.next += 1;
        Param::initialized(param.id, self.inputs.tensor(self.next - 1))
    }
}

/// Dropouts stand still meanwhile: what they do with a mask that is given is compared with the peers. Norms of a batch do not, which would then
/// be no more than a scale.
fn check_slopes<M: Module, const I: usize, const O: usize>(
    name: &str,
    layer: &M,
    x: Tensor<I>,
    forward: &impl Fn(&M, Tensor<I>) -> Tensor<O>,
) {
    let mut values = Values::default();
    layer.visit(&mut values);
    let inputs: Vec<(&str, TensorData)> = std::iter::once(("the input", x.into_data().convert::<f64>()))
        .chain(values.data.iter().map(|(name, data)| (name.as_str(), data.clone())))
        .collect();
    let still = !["BatchNorm", "ConvNormAct"].contains(&name);
    let precision = match name {
        // Burn takes the root mean square in f32 whatever the type, which steps of 1e-5 do not resolve.
        "RmsNorm" => GradientCheck { step: 3e-3, relative: 1e-3, absolute: 1e-3 },
        _ => GradientCheck::default(),
    };
    check_gradient(&device(), &inputs, precision, |inputs| {
        let mut put = Put { inputs, trained: values.trained.iter(), next: 1 };
        // By way of `valid`, since a clone shares its running statistics.
        let layer = layer.valid().train();
        let layer = if still { layer.freeze() } else { layer }.map(&mut put);
        forward(&layer, inputs.tensor::<I>(0))
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
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

    check_slopes(name, &layer, x.clone().inner(), &forward);

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

/// A function without parameters.
#[derive(Module, Debug, Default)]
struct Nothing;

#[test]
fn every_layer_of_burns_that_we_name_keeps_the_contract() {
    let seeded = |seed, device: &Device| device.seed(seed);
    /// A layer of burn's, by its configuration; its weights are drawn from the device's generator.
    macro_rules! burns {
        ($name:literal, $config:expr, $input:expr => $output:expr, $parameters:literal) => {
            check(
                $name,
                |seed, device| {
                    seeded(seed, device);
                    $config.init(device)
                },
                |layer, x| layer.forward(x),
                $input,
                $output,
                $parameters,
            )
        };
    }
    burns!("Linear", LinearConfig::new(5, 3), [2, 5] => [2, 3], 2);
    burns!("Conv1d", Conv1dConfig::new(2, 3, 3), [2, 2, 6] => [2, 3, 4], 2);
    burns!("Conv2d", Conv2dConfig::new([2, 3], [3, 2]).with_stride([2, 1]), [1, 2, 5, 4] => [1, 3, 2, 3], 2);
    burns!("Conv3d", Conv3dConfig::new([2, 2], [2, 2, 2]), [1, 2, 3, 3, 2] => [1, 2, 2, 2, 1], 2);
    burns!("ConvTranspose1d", ConvTranspose1dConfig::new([2, 3], 3).with_stride(2), [1, 2, 3] => [1, 3, 7], 2);
    burns!("ConvTranspose2d", ConvTranspose2dConfig::new([2, 2], [2, 2]), [1, 2, 3, 2] => [1, 2, 4, 3], 2);
    burns!("ConvTranspose3d", ConvTranspose3dConfig::new([2, 1], [2, 2, 2]), [1, 2, 2, 2, 1] => [1, 1, 3, 3, 2], 2);
    burns!("BatchNorm", BatchNormConfig::new(3), [4, 3, 2, 2] => [4, 3, 2, 2], 2);
    burns!("LayerNorm", LayerNormConfig::new(5), [2, 3, 5] => [2, 3, 5], 2);
    burns!("GroupNorm", GroupNormConfig::new(2, 4), [2, 4, 3] => [2, 4, 3], 2);
    burns!("InstanceNorm", InstanceNormConfig::new(3), [2, 3, 2, 3] => [2, 3, 2, 3], 2);
    burns!("RmsNorm", RmsNormConfig::new(5), [2, 3, 5] => [2, 3, 5], 1);

    /// A function without parameters.
    macro_rules! without {
        ($name:literal, $layer:expr, $input:expr => $output:expr) => {{
            let layer = $layer;
            check($name, |_, _| Nothing, |_, x| layer.forward(x), $input, $output, 0)
        }};
    }
    without!("MaxPool1d", MaxPool1dConfig::new(2).init(), [2, 3, 6] => [2, 3, 3]);
    without!("MaxPool2d", MaxPool2dConfig::new([2, 2]).init(), [1, 2, 4, 6] => [1, 2, 2, 3]);
    without!("AvgPool2d", AvgPool2dConfig::new([2, 2]).init(), [1, 2, 4, 6] => [1, 2, 2, 3]);
    without!("AdaptiveAvgPool1d", AdaptiveAvgPool1dConfig::new(3).init(), [2, 3, 8] => [2, 3, 3]);
    without!("AdaptiveAvgPool2d", AdaptiveAvgPool2dConfig::new([2, 3]).init(), [1, 2, 5, 4] => [1, 2, 2, 3]);
    without!("AdaptiveMaxPool2d", AdaptiveMaxPool2d::new(2, 3).expect("valid"), [1, 2, 5, 4] => [1, 2, 2, 3]);

    check("Dropout", |_, _| DropoutConfig::new(0.3).init(), |layer, x| layer.forward(x), [2, 5], [2, 5], 0);
    // Of indices, which have no gradient: the input is added to what they choose.
    check(
        "Embedding",
        |seed, device| {
            seeded(seed, device);
            EmbeddingConfig::new(3, 4).init(device)
        },
        |layer, x: Tensor<3>| {
            let tokens = Tensor::<2, Int>::from_data([[0, 2], [1, 1]], &x.device());
            x + layer.forward(tokens)
        },
        [2, 2, 4],
        [2, 2, 4],
        1,
    );
}

#[test]
fn blocks_heads_and_functions_keep_the_contract() {
    check(
        "ConvNormAct",
        |seed, device| {
            ConvNormActConfig::new(4, 4, 3)
                .with_stride(2)
                .with_groups(2)
                .with_activation(Activation::Silu)
                .init(seed, device)
        },
        |layer, x: Tensor<4>| layer.forward(x),
        [2, 4, 5, 4],
        [2, 4, 3, 2],
        3,
    );
    check(
        "ClassifierHead",
        |seed, device| {
            let config = HeadConfig::new(5, 3).with_hidden([4]).with_activation(Activation::Tanh);
            config.with_dropout(0.2).init(seed, device)
        },
        |layer, x: Tensor<2>| layer.forward(x),
        [3, 5],
        [3, 3],
        4,
    );
    check(
        "dense",
        |seed, device| {
            device.seed(seed);
            LinearConfig::new(5, 4).init(device)
        },
        |layer, x: Tensor<3>| dense(layer, x, Activation::Mish),
        [2, 3, 5],
        [2, 3, 4],
        2,
    );
    check("Rotary", |_, _| Nothing, |_, x| Rotary::default().forward(x, 3), [1, 2, 3, 4], [1, 2, 3, 4], 0);
    let none = AttentionMask::default();
    for norm_first in [false, true] {
        let config = TransformerConfig {
            norm_first,
            activation: Activation::Gelu,
            dropout: 0.0,
            ..TransformerConfig::new(4, 2, 6, 1)
        };
        // Without the count of moved parameters, which the biases of keys are not.
        let device = device();
        let x = Tensor::<3>::random([2, 3, 4], Distribution::Normal(0.0, 1.0), &device);
        let encoder = config.init_encoder(1, &device.clone().autodiff()).expect("valid");
        check_slopes("TransformerEncoder", &encoder, x.clone(), &|layer, x: Tensor<3>| {
            layer.forward(x, &none)
        });
        let decoder = config.init_decoder(2, &device.clone().autodiff()).expect("valid");
        check_slopes("TransformerDecoder", &decoder, x, &|layer, x: Tensor<3>| {
            layer.forward(x.clone(), x, &AttentionMask::causal(), &none)
        });
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
