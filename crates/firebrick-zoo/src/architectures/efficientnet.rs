//! EfficientNet B0 to B7: width, depth and image size scaled together. Tan & Le 2019, arXiv:1905.11946, table 1.
//!
//! Layer for layer torchvision's, whose checkpoints they read, or Keras', whose layers have the same names here. timm's B0 to B4 are the same; its larger ones add another epsilon to the
//! variances.

use firebrick_augment::Interpolation;
use firebrick_nn::{Activation, Padding};

use super::{NORM_OF_KERAS, NORM_OF_PYTORCH};
use crate::graph::{Conv, Graph, GraphBuilder, SqueezeExcite, Value};
use crate::{Alias, Build, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec, divisible};

/// A stage of an EfficientNet: blocks of one kind.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    /// Whether expansion and depthwise convolution are one full convolution, and no channel is scaled (Fused-MBConv).
    pub fused: bool,
    /// Times the input's channels.
    pub expansion: usize,
    /// Of the depthwise or full convolution.
    pub kernel: usize,
    /// Of the first block.
    pub stride: usize,
    /// Channels of the results.
    pub outputs: usize,
    /// How many.
    pub blocks: usize,
}

/// A network's stages and what is around them.
pub(super) struct Config<'a> {
    /// Channels of the first convolution.
    pub stem: usize,
    pub stages: &'a [Stage],
    /// Channels of the last convolution.
    pub features: usize,
    /// Epsilon and momentum of its norms.
    pub norm: (f64, f64),
    /// Around convolutions with a stride, where it is not half the kernel.
    pub strided: Option<Padding>,
}

impl Config<'_> {
    fn strided(&self, conv: Conv, stride: usize) -> Conv {
        match self.strided {
            Some(padding) if stride > 1 => conv.stride(stride).padding(padding),
            _ => conv.stride(stride),
        }
    }
}

/// The network, of both versions of the family.
pub(super) fn network(options: &BuildOptions, config: &Config) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let silu = Activation::Silu;
    let layer = |name: &str, inputs, outputs, kernel, activation| {
        layer(config, name, inputs, outputs, kernel, activation)
    };
    let mut channels = config.stem;
    let stem = layer("features.0", options.channels, channels, 3, silu);
    let mut x = b.conv(b.input(), config.strided(stem, 2));
    let total: usize = config.stages.iter().map(|stage| stage.blocks).sum();
    let mut before = 0;
    for (index, stage) in config.stages.iter().enumerate() {
        for block in 0..stage.blocks {
            b.block();
            let ends = Block {
                config,
                stage,
                name: format!("features.{}.{block}.block", index + 1),
                channels,
                stride: if block == 0 { stage.stride } else { 1 },
                drop_path: options.drop_path * before as f64 / (total - 1) as f64,
            };
            x = if stage.fused { ends.fused(&mut b, x) } else { ends.inverted_residual(&mut b, x) };
            channels = stage.outputs;
            before += 1;
        }
        b.stage(format!("stage{}", index + 1), x);
    }
    let last = format!("features.{}", config.stages.len() + 1);
    let map = b.conv(x, layer(&last, channels, config.features, 1, silu));
    let pooled = b.global_average_pool(map);
    b.finish(map, pooled, config.features, "classifier.1")
}

/// Within a layer torchvision numbers convolution 0 and norm 1.
fn layer(
    config: &Config,
    name: &str,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    activation: Activation,
) -> Conv {
    let (epsilon, momentum) = config.norm;
    Conv::new(format!("{name}.0"), inputs, outputs, kernel)
        .norm_with(format!("{name}.1"), epsilon, momentum)
        .activation(activation)
}

/// A block seen from outside.
struct Block<'a> {
    config: &'a Config<'a>,
    stage: &'a Stage,
    name: String,
    channels: usize,
    stride: usize,
    drop_path: f64,
}

impl Block<'_> {
    fn layer(
        &self,
        place: usize,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        activation: Activation,
    ) -> Conv {
        layer(self.config, &format!("{}.{place}", self.name), inputs, outputs, kernel, activation)
    }

    fn is_residual(&self) -> bool {
        self.stride == 1 && self.channels == self.stage.outputs
    }

    /// The last convolution, with the shortcut if there is one.
    fn project(&self, b: &mut GraphBuilder, x: Value, input: Value, conv: Conv) -> Value {
        if self.is_residual() { b.conv_residual(x, input, conv, self.drop_path) } else { b.conv(x, conv) }
    }

    /// Expansion, depthwise convolution, squeeze-and-excitation, projection (MBConv).
    fn inverted_residual(&self, b: &mut GraphBuilder, input: Value) -> Value {
        let (stage, silu) = (self.stage, Activation::Silu);
        let wide = self.channels * stage.expansion;
        let (mut x, mut place) = (input, 0);
        if stage.expansion > 1 {
            x = b.conv(x, self.layer(place, self.channels, wide, 1, silu));
            place += 1;
        }
        let depthwise = self.layer(place, wide, wide, stage.kernel, silu).groups(wide);
        x = b.conv(x, self.config.strided(depthwise, self.stride));
        let gate = SqueezeExcite {
            name: format!("{}.{}", self.name, place + 1),
            channels: wide,
            // A quarter of the block's input, not of the expanded channels.
            squeezed: (self.channels / 4).max(1),
            activation: silu,
            gate: Activation::Sigmoid,
        };
        x = b.squeeze_excite(x, gate);
        self.project(b, x, input, self.layer(place + 2, wide, stage.outputs, 1, Activation::None))
    }

    /// A full convolution that expands, and a projection; one convolution if nothing is expanded (Fused-MBConv).
    fn fused(&self, b: &mut GraphBuilder, input: Value) -> Value {
        let (stage, silu) = (self.stage, Activation::Silu);
        if stage.expansion > 1 {
            let wide = self.channels * stage.expansion;
            let expand = self.layer(0, self.channels, wide, stage.kernel, silu);
            let x = b.conv(input, self.config.strided(expand, self.stride));
            return self.project(b, x, input, self.layer(1, wide, stage.outputs, 1, Activation::None));
        }
        let only = self.layer(0, self.channels, stage.outputs, stage.kernel, silu);
        let x = b.conv(input, self.config.strided(only, self.stride));
        if !self.is_residual() {
            return x;
        }
        // Added behind the activation.
        let x = b.drop_path(x, self.drop_path);
        b.add(x, input, Activation::None)
    }
}

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

/// B0 with so many times its channels and layers.
fn efficientnet(options: &BuildOptions, width: f64, depth: f64, flavour: &Flavour) -> Graph {
    let channels = |base: usize| divisible(base as f64 * width, 8);
    let stages = B0.map(|(expansion, kernel, stride, outputs, blocks)| Stage {
        fused: false,
        expansion,
        kernel,
        stride,
        outputs: channels(outputs),
        blocks: (blocks as f64 * depth).ceil() as usize,
    });
    let Flavour { norm, strided } = *flavour;
    let config = Config { stem: channels(32), stages: &stages, features: 4 * channels(320), norm, strided };
    network(options, &config)
}

/// What tells torchvision's networks from Keras': epsilon and momentum of the norms, and padding.
struct Flavour {
    norm: (f64, f64),
    strided: Option<Padding>,
}

/// The norms of torchvision's B5 and larger come from TensorFlow.
const PYTORCH: Flavour = Flavour { norm: NORM_OF_PYTORCH, strided: None };
const TENSORFLOW: Flavour = Flavour { norm: (1e-3, 0.01), strided: None };
const KERAS: Flavour = Flavour { norm: NORM_OF_KERAS, strided: Some(Padding::Same) };

const TIMM: &[Alias] = &[Alias { framework: "timm", name: timm }];

fn timm(name: &str) -> Option<String> {
    let (layer, leaf) = name.rsplit_once('.')?;
    let layer = match layer {
        "features.0.0" => "conv_stem".to_owned(),
        "features.0.1" => "bn1".to_owned(),
        "features.8.0" => "conv_head".to_owned(),
        "features.8.1" => "bn2".to_owned(),
        "classifier.1" => "classifier".to_owned(),
        _ => {
            let (block, part) = layer.strip_prefix("features.")?.split_once(".block.")?;
            let (stage, block) = block.split_once('.')?;
            let stage: usize = stage.parse().ok()?;
            let part = match (stage, part) {
                (1, "0.0") | (2.., "1.0") => "conv_dw",
                (1, "0.1") | (2.., "0.1") => "bn1",
                (1, "2.1") | (2.., "1.1") => "bn2",
                (1, "1.fc1") | (2.., "2.fc1") => "se.conv_reduce",
                (1, "1.fc2") | (2.., "2.fc2") => "se.conv_expand",
                (1, "2.0") | (2.., "0.0") => "conv_pw",
                (2.., "3.0") => "conv_pwl",
                (2.., "3.1") => "bn3",
                _ => return None,
            };
            format!("blocks.{}.{block}.{part}", stage.checked_sub(1)?)
        }
    };
    Some(format!("{layer}.{leaf}"))
}

/// The images of Keras' models have other sizes.
const fn keras(name: &'static str, side: u32, build: Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        framework: Framework::Keras(KerasInput::Imagenet),
        multiply_adds: None,
        ..spec(name, side, build, parameters, 0.0, &[])
    }
}

const fn spec(
    name: &'static str,
    side: u32,
    build: Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        name,
        family: "EfficientNet",
        framework: Framework::PyTorch,
        paper: "Tan & Le 2019, arXiv:1905.11946",
        build,
        input_size: [side, side],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    ModelSpec {
        aliases: TIMM,
        ..spec(
            "efficientnet_b0",
            224,
            |o| efficientnet(o, 1.0, 1.0, &PYTORCH),
            5_288_548,
            0.386,
            &[torchvision!(
                "efficientnet_b0_rwightman", "7f5810bc", 21_444_953, 77.692,
                interpolation: Interpolation::Bicubic
            )],
        )
    },
    ModelSpec {
        aliases: TIMM,
        ..spec(
            "efficientnet_b1",
            240,
            |o| efficientnet(o, 1.0, 1.1, &PYTORCH),
            7_794_184,
            0.687,
            &[torchvision!("efficientnet_b1", "c27df63c", 31_600_411, 79.838, crop: 240, resize: 255)],
        )
    },
    ModelSpec {
        aliases: TIMM,
        ..spec(
            "efficientnet_b2",
            288,
            |o| efficientnet(o, 1.1, 1.2, &PYTORCH),
            9_109_994,
            1.088,
            &[torchvision!(
                "efficientnet_b2_rwightman", "c35c1473", 36_883_137, 80.608,
                crop: 288, resize: 288, interpolation: Interpolation::Bicubic
            )],
        )
    },
    ModelSpec {
        aliases: TIMM,
        ..spec(
            "efficientnet_b3",
            300,
            |o| efficientnet(o, 1.2, 1.4, &PYTORCH),
            12_233_232,
            1.827,
            &[torchvision!(
                "efficientnet_b3_rwightman", "b3899882", 49_476_535, 82.008,
                crop: 300, resize: 320, interpolation: Interpolation::Bicubic
            )],
        )
    },
    ModelSpec {
        aliases: TIMM,
        ..spec(
            "efficientnet_b4",
            380,
            |o| efficientnet(o, 1.4, 1.8, &PYTORCH),
            19_341_616,
            4.394,
            &[torchvision!(
                "efficientnet_b4_rwightman", "23ab8bcd", 78_107_902, 83.384,
                crop: 380, resize: 384, interpolation: Interpolation::Bicubic
            )],
        )
    },
    spec(
        "efficientnet_b5",
        456,
        |o| efficientnet(o, 1.6, 2.2, &TENSORFLOW),
        30_389_784,
        10.266,
        &[torchvision!(
            "efficientnet_b5_lukemelas", "1a07897c", 122_541_310, 83.444,
            crop: 456, resize: 456, interpolation: Interpolation::Bicubic
        )],
    ),
    spec(
        "efficientnet_b6",
        528,
        |o| efficientnet(o, 1.8, 2.6, &TENSORFLOW),
        43_040_704,
        19.068,
        &[torchvision!(
            "efficientnet_b6_lukemelas", "24a108a5", 173_395_149, 84.008,
            crop: 528, resize: 528, interpolation: Interpolation::Bicubic
        )],
    ),
    spec(
        "efficientnet_b7",
        600,
        |o| efficientnet(o, 2.0, 3.1, &TENSORFLOW),
        66_347_960,
        37.746,
        &[torchvision!(
            "efficientnet_b7_lukemelas", "c5b4e57e", 267_046_618, 84.122,
            crop: 600, resize: 600, interpolation: Interpolation::Bicubic
        )],
    ),
    keras("keras_efficientnet_b0", 224, |o| efficientnet(o, 1.0, 1.0, &KERAS), 5_288_548),
    keras("keras_efficientnet_b1", 240, |o| efficientnet(o, 1.0, 1.1, &KERAS), 7_794_184),
    keras("keras_efficientnet_b2", 260, |o| efficientnet(o, 1.1, 1.2, &KERAS), 9_109_994),
    keras("keras_efficientnet_b3", 300, |o| efficientnet(o, 1.2, 1.4, &KERAS), 12_233_232),
    keras("keras_efficientnet_b4", 380, |o| efficientnet(o, 1.4, 1.8, &KERAS), 19_341_616),
    keras("keras_efficientnet_b5", 456, |o| efficientnet(o, 1.6, 2.2, &KERAS), 30_389_784),
    keras("keras_efficientnet_b6", 528, |o| efficientnet(o, 1.8, 2.6, &KERAS), 43_040_704),
    keras("keras_efficientnet_b7", 600, |o| efficientnet(o, 2.0, 3.1, &KERAS), 66_347_960),
];
