//! MobileNetV3: inverted residuals with squeeze-and-excitation and hard swish. Howard et al. 2019, arXiv:1905.02244, tables 1 and 2.
//!
//! Layer for layer torchvision's, whose checkpoints they read; timm's of the same layers add another epsilon to the variances.

use firebrick_nn::{Activation, Initializer};

use crate::graph::{Conv, Graph, GraphBuilder, SqueezeExcite};
use crate::{Build, BuildOptions, Framework, ModelSpec, WeightsSpec, divisible};

/// A row of the paper's tables: kernel, expanded and output channels, whether there is squeeze-and-excitation, activation, stride.
type Row = (usize, usize, usize, bool, Activation, usize);

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSwish;

const LARGE: &[Row] = &[
    (3, 16, 16, false, RE, 1),
    (3, 64, 24, false, RE, 2),
    (3, 72, 24, false, RE, 1),
    (5, 72, 40, true, RE, 2),
    (5, 120, 40, true, RE, 1),
    (5, 120, 40, true, RE, 1),
    (3, 240, 80, false, HS, 2),
    (3, 200, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 184, 80, false, HS, 1),
    (3, 480, 112, true, HS, 1),
    (3, 672, 112, true, HS, 1),
    (5, 672, 160, true, HS, 2),
    (5, 960, 160, true, HS, 1),
    (5, 960, 160, true, HS, 1),
];

const SMALL: &[Row] = &[
    (3, 16, 16, true, RE, 2),
    (3, 72, 24, false, RE, 2),
    (3, 88, 24, false, RE, 1),
    (5, 96, 40, true, HS, 2),
    (5, 240, 40, true, HS, 1),
    (5, 240, 40, true, HS, 1),
    (5, 120, 48, true, HS, 1),
    (5, 144, 48, true, HS, 1),
    (5, 288, 96, true, HS, 2),
    (5, 576, 96, true, HS, 1),
    (5, 576, 96, true, HS, 1),
];

/// The network of these rows whose last hidden layer is `width` long.
fn mobilenet_v3(options: &BuildOptions, rows: &[Row], width: usize) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let layer = |name: &str, inputs, outputs, kernel, activation| {
        Conv::new(format!("{name}.0"), inputs, outputs, kernel)
            .norm_with(format!("{name}.1"), 1e-3, 0.01)
            .activation(activation)
    };
    let mut channels = 16;
    let mut x = b.conv(b.input(), layer("features.0", options.channels, channels, 3, HS).stride(2));
    let mut stage = 0;
    for (index, &(kernel, wide, outputs, squeezed, activation, stride)) in rows.iter().enumerate() {
        // A stage ends where the map is halved.
        if stride > 1 && index > 0 {
            stage += 1;
            b.stage(format!("stage{stage}"), x);
        }
        b.block();
        let (input, mut place) = (x, 0);
        let mut name = || {
            place += 1;
            format!("features.{}.block.{}", index + 1, place - 1)
        };
        if wide != channels {
            x = b.conv(x, layer(&name(), channels, wide, 1, activation));
        }
        x = b.conv(x, layer(&name(), wide, wide, kernel, activation).stride(stride).groups(wide));
        if squeezed {
            let squeezed = divisible((wide / 4) as f64, 8);
            let gate = Activation::HardSigmoid;
            let settings = SqueezeExcite { name: name(), channels: wide, squeezed, activation: RE, gate };
            x = b.squeeze_excite(x, settings);
        }
        let project = layer(&name(), wide, outputs, 1, Activation::None);
        let residual = stride == 1 && channels == outputs;
        x = if residual { b.conv_add(x, input, project) } else { b.conv(x, project) };
        channels = outputs;
    }
    b.stage(format!("stage{}", stage + 1), x);
    let wide = 6 * channels;
    let map = b.conv(x, layer(&format!("features.{}", rows.len() + 1), channels, wide, 1, HS));
    let pooled = b.global_average_pool(map);
    b.block();
    let hidden = b.linear(pooled, "classifier.0", [wide, width], HS, Initializer::Normal { std: 0.01 });
    b.finish(map, hidden, width, "classifier.3")
}

const fn spec(
    name: &'static str,
    build: Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "MobileNetV3",
        framework: Framework::PyTorch,
        paper: "Howard et al. 2019, arXiv:1905.02244",
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    spec(
        "mobilenet_v3_large",
        |o| mobilenet_v3(o, LARGE, 1280),
        5_483_032,
        0.217,
        &[torchvision!("mobilenet_v3_large", "5c1a4163", 22_132_818, 75.274, resize: 232)],
    ),
    spec(
        "mobilenet_v3_small",
        |o| mobilenet_v3(o, SMALL, 1024),
        2_542_856,
        0.057,
        &[torchvision!("mobilenet_v3_small", "047dcff4", 10_306_978, 67.668)],
    ),
];
