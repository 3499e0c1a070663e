//! MobileNet: depthwise and pointwise convolutions in turn. Howard et al. 2017, arXiv:1704.04861, table 1.
//!
//! Layer for layer and name for name timm's `mobilenetv1_100` and `mobilenetv1_125`, torchvision has none; or Keras' `MobileNet`, whose
//! layers have the same names here.

use firebrick_nn::{Activation, Padding};

use super::{NORM_OF_KERAS, NORM_OF_PYTORCH};
use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{BuildOptions, Framework, KerasInput, ModelSpec, divisible};

/// Output channels, repeats and first stride of each stage.
const STAGES: [(usize, usize, usize); 5] = [(64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2)];

/// What tells timm's network from Keras'.
struct Flavour {
    /// Epsilon and momentum of the norms.
    norm: (f64, f64),
    /// Around the first convolution.
    stem: Padding,
    /// Around depthwise convolutions with a stride.
    strided: Padding,
}

const HALF: Padding = Padding::Explicit([[1; 2]; 2]);
const TIMM: Flavour = Flavour { norm: NORM_OF_PYTORCH, stem: HALF, strided: HALF };
/// Its depthwise convolutions have a line below and one at the right whatever the size, so that an odd map loses half a pixel.
const KERAS: Flavour =
    Flavour { norm: NORM_OF_KERAS, stem: Padding::Same, strided: Padding::Explicit([[0, 1]; 2]) };

fn mobilenet_v1(options: &BuildOptions, width: f64, flavour: &Flavour) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let mut channels = divisible(32.0 * width, 8);
    let layer = |name: String, norm: String, inputs, outputs, kernel| {
        let (epsilon, momentum) = flavour.norm;
        let conv = Conv::new(name, inputs, outputs, kernel).norm_with(norm, epsilon, momentum);
        conv.activation(Activation::Relu6)
    };
    let stem = layer("conv_stem".into(), "bn1".into(), options.channels, channels, 3);
    let mut x = b.conv(b.input(), stem.stride(2).padding(flavour.stem));
    for (stage, (base, repeats, first_stride)) in STAGES.into_iter().enumerate() {
        let outputs = divisible(base as f64 * width, 8);
        for repeat in 0..repeats {
            b.block();
            let stride = if repeat == 0 { first_stride } else { 1 };
            let name = |part: &str| format!("blocks.{stage}.{repeat}.{part}");
            let depthwise = layer(name("conv_dw"), name("bn1"), channels, channels, 3);
            let depthwise = if stride > 1 { depthwise.padding(flavour.strided) } else { depthwise };
            x = b.conv(x, depthwise.stride(stride).groups(channels));
            x = b.conv(x, layer(name("conv_pw"), name("bn2"), channels, outputs, 1));
            channels = outputs;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, channels, "classifier")
}

const fn keras(name: &'static str, build: crate::Build, parameters: u64) -> ModelSpec {
    ModelSpec { framework: Framework::Keras(KerasInput::MinusOneToOne), ..spec(name, build, parameters) }
}

const fn spec(name: &'static str, build: crate::Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        name,
        family: "MobileNet",
        framework: Framework::PyTorch,
        paper: "Howard et al. 2017, arXiv:1704.04861",
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: None,
        weights: &[],
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    // The paper gives 569 million.
    ModelSpec {
        multiply_adds: Some(0.569),
        ..spec("mobilenet_v1", |o| mobilenet_v1(o, 1.0, &TIMM), 4_231_976)
    },
    spec("mobilenet_v1_1.25", |o| mobilenet_v1(o, 1.25, &TIMM), 6_270_840),
    ModelSpec {
        multiply_adds: Some(0.569),
        ..keras("keras_mobilenet", |o| mobilenet_v1(o, 1.0, &KERAS), 4_231_976)
    },
    keras("keras_mobilenet_0.25", |o| mobilenet_v1(o, 0.25, &KERAS), 470_072),
    keras("keras_mobilenet_0.5", |o| mobilenet_v1(o, 0.5, &KERAS), 1_331_592),
    keras("keras_mobilenet_0.75", |o| mobilenet_v1(o, 0.75, &KERAS), 2_585_560),
];
