//! EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, for small devices (Liu 2020, TensorFlow's TPU models,
//! after Tan & Le 2019, arXiv:1905.11946).
//!
//! Layer for layer and name for name timm's `tf_efficientnet_lite0` to `tf_efficientnet_lite4`: padding and epsilon are TensorFlow's.

use firebrick_nn::{Activation, Padding};

use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{Alias, Build, BuildOptions, Framework, ModelSpec, divisible};

/// Expansion, kernel, first stride, output channels and repeats of B0's stages.
const B0: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

/// Blocks of each stage; those of the first and last stay.
fn blocks(depth: f64) -> [usize; 7] {
    std::array::from_fn(|stage| match stage {
        0 | 6 => B0[stage].4,
        _ => (B0[stage].4 as f64 * depth).ceil() as usize,
    })
}

/// B0 with so many times its channels and layers; first and last convolution are B0's.
fn efficientnet_lite(options: &BuildOptions, width: f64, depth: f64) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let relu6 = Activation::Relu6;
    let layer = |conv: String, norm: String, inputs, outputs, kernel, stride| {
        let conv = Conv::new(conv, inputs, outputs, kernel).norm_with(norm, 1e-3, 0.1).stride(stride);
        // Where there is no stride, half the kernel is the same.
        if stride > 1 { conv.padding(Padding::Same) } else { conv }
    };
    let mut channels = 32;
    let stem = layer("conv_stem".into(), "bn1".into(), options.channels, channels, 3, 2);
    let mut x = b.conv(b.input(), stem.activation(relu6));
    let blocks = blocks(depth);
    let (total, mut before) = (blocks.iter().sum::<usize>(), 0);
    for (stage, (expansion, kernel, first_stride, base, _)) in B0.into_iter().enumerate() {
        let outputs = divisible(base as f64 * width, 8);
        for block in 0..blocks[stage] {
            b.block();
            let stride = if block == 0 { first_stride } else { 1 };
            let wide = channels * expansion;
            let name = |part: &str| format!("blocks.{stage}.{block}.{part}");
            let input = x;
            // The first stage expands nothing, and its norms are counted from the depthwise one.
            let [depthwise, project] = if expansion > 1 {
                let expand = layer(name("conv_pw"), name("bn1"), channels, wide, 1, 1);
                x = b.conv(x, expand.activation(relu6));
                [("conv_dw", "bn2"), ("conv_pwl", "bn3")]
            } else {
                [("conv_dw", "bn1"), ("conv_pw", "bn2")]
            };
            let conv = layer(name(depthwise.0), name(depthwise.1), wide, wide, kernel, stride);
            x = b.conv(x, conv.groups(wide).activation(relu6));
            let conv = layer(name(project.0), name(project.1), wide, outputs, 1, 1);
            let drop_path = options.drop_path * before as f64 / (total - 1) as f64;
            let residual = stride == 1 && channels == outputs;
            x = if residual { b.conv_residual(x, input, conv, drop_path) } else { b.conv(x, conv) };
            channels = outputs;
            before += 1;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let map = b.conv(x, layer("conv_head".into(), "bn2".into(), channels, 1280, 1, 1).activation(relu6));
    let pooled = b.global_average_pool(map);
    b.finish(map, pooled, 1280, "classifier")
}

/// The names of the PyPI package efficientnet-lite-pytorch, which counts blocks through.
fn counted_through(name: &str, depth: f64) -> Option<String> {
    let (layer, leaf) = name.rsplit_once('.')?;
    let layer = match layer {
        "conv_stem" => "_conv_stem".to_owned(),
        "bn1" => "_bn0".to_owned(),
        "conv_head" => "_conv_head".to_owned(),
        "bn2" => "_bn1".to_owned(),
        "classifier" => "_fc".to_owned(),
        _ => {
            let mut parts = layer.strip_prefix("blocks.")?.splitn(3, '.');
            let (stage, block): (usize, usize) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let part = match (stage, parts.next()?) {
                (0, "conv_dw") | (1.., "conv_dw") => "_depthwise_conv",
                (0, "conv_pw") | (1.., "conv_pwl") => "_project_conv",
                (1.., "conv_pw") => "_expand_conv",
                (1.., "bn1") => "_bn0",
                (0, "bn1") | (1.., "bn2") => "_bn1",
                (0, "bn2") | (1.., "bn3") => "_bn2",
                _ => return None,
            };
            let before: usize = blocks(depth).get(..stage)?.iter().sum();
            format!("_blocks.{}.{part}", before + block)
        }
    };
    Some(format!("{layer}.{leaf}"))
}

const fn spec(
    name: &'static str,
    side: u32,
    build: Build,
    parameters: u64,
    aliases: &'static [Alias],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "EfficientNet-Lite",
        framework: Framework::PyTorch,
        paper: "Tan & Le 2019, arXiv:1905.11946",
        build,
        input_size: [side, side],
        parameters,
        multiply_adds: None,
        weights: &[],
        aliases,
    }
}

const PACKAGE: &str = "efficientnet-lite-pytorch";

pub(crate) static MODELS: &[ModelSpec] = &[
    spec(
        "efficientnet_lite0",
        224,
        |o| efficientnet_lite(o, 1.0, 1.0),
        4_652_008,
        &[Alias { framework: PACKAGE, name: |name| counted_through(name, 1.0) }],
    ),
    spec(
        "efficientnet_lite1",
        240,
        |o| efficientnet_lite(o, 1.0, 1.1),
        5_416_680,
        &[Alias { framework: PACKAGE, name: |name| counted_through(name, 1.1) }],
    ),
    spec(
        "efficientnet_lite2",
        260,
        |o| efficientnet_lite(o, 1.1, 1.2),
        6_092_072,
        &[Alias { framework: PACKAGE, name: |name| counted_through(name, 1.2) }],
    ),
    spec("efficientnet_lite3", 280, |o| efficientnet_lite(o, 1.2, 1.4), 8_197_096, &[]),
    spec("efficientnet_lite4", 300, |o| efficientnet_lite(o, 1.4, 1.8), 13_006_568, &[]),
];
