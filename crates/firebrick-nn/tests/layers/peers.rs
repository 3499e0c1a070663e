//! Layers against PyTorch: burn's, with the settings that make them the same, and ours.

use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
use burn::nn::pool::{
    AdaptiveAvgPool1dConfig, AdaptiveAvgPool2dConfig, AdaptiveAvgPool3dConfig, AvgPool1dConfig,
    AvgPool2dConfig, MaxPool1dConfig, MaxPool2dConfig,
};
use burn::nn::{
    BatchNormConfig, EmbeddingConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, LinearConfig,
    PaddingConfig1d, PaddingConfig2d, PaddingConfig3d, RmsNormConfig,
};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use firebrick_nn::{
    AdaptiveMaxPool2d, BlurPool, LayerScale, LearnedPositions, PatchEmbedding, SeparableConv2d, SqueezeExcite,
};

use crate::golden::{Case, Found, Golden, device, run, values, weights};

type Parts = Vec<(String, Vec<f64>)>;

/// Gradients of `$parameter`s, each called `$name`.
macro_rules! gradients {
    ($gradients:expr; $($name:literal: $parameter:expr),* $(,)?) => {
        vec![$(($name.to_owned(), values($parameter.val().grad($gradients).expect("a gradient")))),*]
    };
}

/// Sets weight and bias of a convolution, runs it, and collects both gradients.
macro_rules! convolution {
    ($case:expr, $device:expr, $rank:literal, $config:expr) => {{
        let (case, device): (&Case, &Device) = ($case, $device);
        let mut layer = $config.init(device);
        case.set(&mut layer.weight, "weight", device);
        case.set(layer.bias.as_mut().expect("a bias"), "bias", device);
        run(case.input::<$rank>(0, device), |x| layer.forward(x), |gradients| {
            gradients!(gradients; "weight": layer.weight, "bias": layer.bias.as_ref().expect("a bias"))
        })
    }};
}

/// Sets the scale and the shift of a norm, runs it, and collects both gradients.
macro_rules! norm {
    ($case:expr, $device:expr, $rank:literal, $config:expr, $layer:ident => $gamma:expr, $beta:expr) => {{
        let (case, device): (&Case, &Device) = ($case, $device);
        let mut $layer = $config.init(device);
        case.set($gamma, "weight", device);
        case.set($beta, "bias", device);
        let running = $layer.clone();
        run(case.input::<$rank>(0, device), |x| running.forward(x), |gradients| {
            gradients!(gradients; "weight": $gamma, "bias": $beta)
        })
    }};
}

fn nothing(_: &Gradients) -> Parts {
    Vec::new()
}

fn found(case: &Case, device: &Device) -> Found {
    match case.name.as_str() {
        "linear" => {
            let mut layer = LinearConfig::new(5, 3).init(device);
            case.set_transposed(&mut layer.weight, "weight", device);
            case.set(layer.bias.as_mut().expect("a bias"), "bias", device);
            run(
                case.input::<3>(0, device),
                |x| layer.forward(x),
                |gradients| {
                    let weight = layer.weight.val().grad(gradients).expect("a gradient").transpose();
                    let bias =
                        layer.bias.as_ref().expect("a bias").val().grad(gradients).expect("a gradient");
                    vec![("weight".to_owned(), values(weight)), ("bias".to_owned(), values(bias))]
                },
            )
        }
        "conv1d" => {
            convolution!(
                case,
                device,
                3,
                Conv1dConfig::new(3, 4, 3).with_stride(2).with_padding(PaddingConfig1d::Explicit(1, 1))
            )
        }
        "conv2d" => {
            let padding = PaddingConfig2d::Explicit(1, 0, 1, 0);
            convolution!(
                case,
                device,
                4,
                Conv2dConfig::new([4, 6], [3, 2]).with_stride([2, 1]).with_padding(padding).with_groups(2)
            )
        }
        "conv3d" => {
            let padding = PaddingConfig3d::Explicit(1, 1, 1);
            convolution!(case, device, 5, Conv3dConfig::new([2, 3], [2, 2, 2]).with_padding(padding))
        }
        "conv_transpose1d" => {
            let config =
                ConvTranspose1dConfig::new([3, 2], 3).with_stride(2).with_padding(1).with_padding_out(1);
            convolution!(case, device, 3, config)
        }
        "conv_transpose2d" => {
            let config = ConvTranspose2dConfig::new([3, 2], [3, 3]).with_stride([2, 2]).with_padding([1, 1]);
            convolution!(case, device, 4, config)
        }
        "conv_transpose3d" => {
            convolution!(
                case,
                device,
                5,
                ConvTranspose3dConfig::new([2, 2], [2, 2, 2]).with_stride([2, 2, 2])
            )
        }
        "depthwise2d" => {
            let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
            convolution!(
                case,
                device,
                4,
                Conv2dConfig::new([4, 4], [3, 3]).with_padding(padding).with_groups(4)
            )
        }
        "separable2d" => {
            let mut layer = SeparableConv2d::new(3, 4, 3, 2, 0, device).expect("valid");
            case.set(&mut layer.depthwise.weight, "depthwise.weight", device);
            case.set(&mut layer.pointwise.weight, "pointwise.weight", device);
            case.set(layer.pointwise.bias.as_mut().expect("a bias"), "pointwise.bias", device);
            run(
                case.input::<4>(0, device),
                |x| layer.forward(x),
                |gradients| {
                    gradients!(gradients; "depthwise.weight": layer.depthwise.weight,
                    "pointwise.weight": layer.pointwise.weight,
                    "pointwise.bias": layer.pointwise.bias.as_ref().expect("a bias"))
                },
            )
        }
        "batch_norm" => {
            norm!(case, device, 4, BatchNormConfig::new(3), layer => &mut layer.gamma, &mut layer.beta)
        }
        "layer_norm" => {
            norm!(case, device, 3, LayerNormConfig::new(6), layer => &mut layer.gamma, layer.beta.as_mut().expect("a shift"))
        }
        "group_norm" => {
            let config = GroupNormConfig::new(2, 6);
            norm!(case, device, 3, config, layer => layer.gamma.as_mut().expect("a scale"), layer.beta.as_mut().expect("a shift"))
        }
        "instance_norm" => {
            let config = InstanceNormConfig::new(3);
            norm!(case, device, 4, config, layer => layer.gamma.as_mut().expect("a scale"), layer.beta.as_mut().expect("a shift"))
        }
        "rms_norm" => {
            let mut layer = RmsNormConfig::new(6).init(device);
            case.set(&mut layer.gamma, "weight", device);
            run(
                case.input::<2>(0, device),
                |x| layer.forward(x),
                |gradients| gradients!(gradients; "weight": layer.gamma),
            )
        }
        "max_pool2d" => {
            let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
            let layer = MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(padding).init();
            run(case.input::<4>(0, device), |x| layer.forward(x), nothing)
        }
        "avg_pool2d" => {
            let layer = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
            run(case.input::<4>(0, device), |x| layer.forward(x), nothing)
        }
        "adaptive_avg_pool2d" => {
            let layer = AdaptiveAvgPool2dConfig::new([3, 2]).init();
            run(case.input::<4>(0, device), |x| layer.forward(x), nothing)
        }
        "max_pool1d" => {
            let layer =
                MaxPool1dConfig::new(3).with_stride(2).with_padding(PaddingConfig1d::Explicit(1, 1)).init();
            run(case.input::<3>(0, device), |x| layer.forward(x), nothing)
        }
        "avg_pool1d" => {
            let layer = AvgPool1dConfig::new(3).with_stride(2).init();
            run(case.input::<3>(0, device), |x| layer.forward(x), nothing)
        }
        "adaptive_avg_pool1d" => {
            let layer = AdaptiveAvgPool1dConfig::new(3).init();
            run(case.input::<3>(0, device), |x| layer.forward(x), nothing)
        }
        "adaptive_avg_pool3d" => {
            let layer = AdaptiveAvgPool3dConfig::new([2, 3, 2]).init();
            run(case.input::<5>(0, device), |x| layer.forward(x), nothing)
        }
        "adaptive_max_pool2d" => {
            let layer = AdaptiveMaxPool2d::new(3, 2).expect("valid");
            run(case.input::<4>(0, device), |x| layer.forward(x), nothing)
        }
        "global_avg_pool2d" => {
            run(case.input::<4>(0, device), firebrick_autodiff::global_average_pool, nothing)
        }
        "conv2d_dilated" => {
            let padding = PaddingConfig2d::Explicit(2, 2, 2, 2);
            convolution!(
                case,
                device,
                4,
                Conv2dConfig::new([2, 3], [3, 3]).with_padding(padding).with_dilation([2, 2])
            )
        }
        "embedding" => {
            let mut layer = EmbeddingConfig::new(7, 4).init(device);
            case.set(&mut layer.weight, "weight", device);
            let array = &case.inputs[0];
            let tokens: Vec<i32> = array.values.iter().map(|&token| token as i32).collect();
            let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, array.shape.clone()), device);
            let y = layer.forward(tokens);
            let gradients = (y.clone() * weights(&y)).sum().backward();
            let mut parts = vec![("output".to_owned(), values(y))];
            parts.extend(gradients!(&gradients; "weight": layer.weight));
            Found { parts }
        }
        "learned_positions" => {
            let mut layer = LearnedPositions::new(6, 5, 0, device).expect("valid");
            case.set(&mut layer.embedding, "table.weight", device);
            run(
                case.input::<3>(0, device),
                |x| layer.forward(x),
                |gradients| gradients!(gradients; "table.weight": layer.embedding),
            )
        }
        "blur_pool" => {
            let layer = BlurPool::new(3, 2).expect("valid");
            run(case.input::<4>(0, device), |x| layer.forward(x), nothing)
        }
        "squeeze_excite" => {
            let mut layer = SqueezeExcite::new(4, 2, 0, device).expect("valid");
            // torchvision's are convolutions of one pixel.
            for (linear, name) in [(&mut layer.reduce, "fc1"), (&mut layer.expand, "fc2")] {
                let weight = case
                    .tensor::<4>(&format!("{name}.weight"), device)
                    .flatten::<3>(2, 3)
                    .squeeze_dim::<2>(2);
                linear.weight = burn::module::Param::from_tensor(weight.transpose());
                case.set(linear.bias.as_mut().expect("a bias"), &format!("{name}.bias"), device);
            }
            run(
                case.input::<4>(0, device),
                |x| layer.forward(x),
                |gradients| {
                    let weight = |linear: &burn::nn::Linear| {
                        values(linear.weight.val().grad(gradients).expect("a gradient").transpose())
                    };
                    let mut parts = gradients!(gradients; "fc1.bias": layer.reduce.bias.as_ref().expect("a bias"),
                    "fc2.bias": layer.expand.bias.as_ref().expect("a bias"));
                    parts.push(("fc1.weight".to_owned(), weight(&layer.reduce)));
                    parts.push(("fc2.weight".to_owned(), weight(&layer.expand)));
                    parts
                },
            )
        }
        "layer_scale" => {
            let mut layer = LayerScale::new(5, 0.1, device).expect("valid");
            case.set(&mut layer.gamma, "gamma", device);
            run(
                case.input::<3>(0, device),
                |x| layer.forward(x),
                |gradients| gradients!(gradients; "gamma": layer.gamma),
            )
        }
        "patch_embedding" => {
            let mut layer = PatchEmbedding::new(3, 2, 5, 0, device).expect("valid");
            case.set(&mut layer.project.weight, "project.weight", device);
            case.set(layer.project.bias.as_mut().expect("a bias"), "project.bias", device);
            run(
                case.input::<4>(0, device),
                |x| layer.forward(x),
                |gradients| {
                    gradients!(gradients; "project.weight": layer.project.weight,
                    "project.bias": layer.project.bias.as_ref().expect("a bias"))
                },
            )
        }
        other => panic!("no layer is called {other}"),
    }
}

#[test]
fn every_layer_and_its_gradients_are_pytorchs() {
    let device = device().autodiff();
    for text in [
        include_str!("../goldens/layers.json"),
        include_str!("../goldens/layers_conv.json"),
        include_str!("../goldens/layers_pool.json"),
    ] {
        let golden: Golden = serde_json::from_str(text).expect("valid JSON");
        assert!(golden.cases.len() >= 9);
        for case in &golden.cases {
            case.check(&found(case, &device), &golden.made_by, 1e-5);
        }
    }
}
