//! MobileNet: depthwise and pointwise convolutions in turn. Howard et al. 2017, arXiv:1704.04861, table 1.
//!
//! Layer for layer and name for name timm's `mobilenetv1_100` and `mobilenetv1_125`; torchvision has none.

use firebrick_nn::Activation;

use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{BuildOptions, ModelSpec, divisible};

/// Output channels, repeats and first stride of each stage.
const STAGES: [(usize, usize, usize); 5] = [(64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2)];

fn mobilenet_v1(options: &BuildOptions, width: f64) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let mut channels = divisible(32.0 * width, 8);
    let layer = |name: String, norm: String, inputs, outputs, kernel| {
        Conv::new(name, inputs, outputs, kernel).norm(norm).activation(Activation::Relu6)
    };
    let stem = layer("conv_stem".into(), "bn1".into(), options.channels, channels, 3);
    let mut x = b.conv(b.input(), stem.stride(2));
    for (stage, (base, repeats, first_stride)) in STAGES.into_iter().enumerate() {
        let outputs = divisible(base as f64 * width, 8);
        for repeat in 0..repeats {
            b.block();
            let stride = if repeat == 0 { first_stride } else { 1 };
            let name = |part: &str| format!("blocks.{stage}.{repeat}.{part}");
            let depthwise = layer(name("conv_dw"), name("bn1"), channels, channels, 3);
            x = b.conv(x, depthwise.stride(stride).groups(channels));
            x = b.conv(x, layer(name("conv_pw"), name("bn2"), channels, outputs, 1));
            channels = outputs;
        }
        b.stage(format!("stage{}", stage + 1), x);
    }
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, channels, "classifier")
}

const fn spec(name: &'static str, build: crate::Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        name,
        family: "MobileNet",
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
    ModelSpec { multiply_adds: Some(0.569), ..spec("mobilenet_v1", |o| mobilenet_v1(o, 1.0), 4_231_976) },
    spec("mobilenet_v1_1.25", |o| mobilenet_v1(o, 1.25), 6_270_840),
];
