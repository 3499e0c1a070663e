//! MobileNetV2: inverted residuals and linear bottlenecks. Sandler et al. 2018, arXiv:1801.04381, table 2.
//!
//! Layer for layer torchvision's `mobilenet_v2`, whose checkpoints it reads.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrick_nn::{Activation, ConvNormAct, ConvNormActConfig, LayerSummary, seed_of};

/// Settings of a [`MobileNetV2`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MobileNetV2Config {
    /// Width multiplier of every layer's channels; the last layer never has fewer than 1,280.
    pub width: f64,
}

/// Expansion, output channels, repeats and first stride of each stage (table 2 of the paper).
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// The nearest multiple of 8 that is at least 90 % of `channels`.
fn divisible_by_8(channels: f64) -> usize {
    let rounded = (((channels + 4.0) / 8.0).floor() as usize * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}

impl MobileNetV2Config {
    /// Makes the backbone on `device`; its first weights depend on `seed` alone.
    ///
    /// # Panics
    ///
    /// If the width is not positive.
    pub fn init(&self, seed: u64, device: &Device) -> MobileNetV2 {
        assert!(self.width > 0.0, "the width multiplier must be positive, got {}", self.width);
        let mut parameter = 0;
        let mut block = |config: ConvNormActConfig| {
            parameter += 1;
            config.init(seed_of(seed, parameter), device)
        };
        let mut channels = divisible_by_8(32.0 * self.width);
        let stem =
            block(ConvNormActConfig::new(3, channels, 3).with_stride(2).with_activation(Activation::Relu6));
        let mut blocks = Vec::new();
        for (expansion, base, repeats, first_stride) in STAGES {
            let out = divisible_by_8(base as f64 * self.width);
            for repeat in 0..repeats {
                let stride = if repeat == 0 { first_stride } else { 1 };
                let wide = channels * expansion;
                blocks.push(InvertedResidual {
                    expand: (expansion > 1).then(|| {
                        block(ConvNormActConfig::new(channels, wide, 1).with_activation(Activation::Relu6))
                    }),
                    depthwise: block(
                        ConvNormActConfig::new(wide, wide, 3)
                            .with_stride(stride)
                            .with_groups(wide)
                            .with_activation(Activation::Relu6),
                    ),
                    project: block(ConvNormActConfig::new(wide, out, 1)),
                    residual: stride == 1 && channels == out,
                });
                channels = out;
            }
        }
        let last =
            block(ConvNormActConfig::new(channels, self.features(), 1).with_activation(Activation::Relu6));
        MobileNetV2 { stem, blocks, last }
    }

    /// Channels of the last feature map.
    pub fn features(&self) -> usize {
        divisible_by_8(1280.0 * self.width.max(1.0))
    }
}

/// Expand (1x1), filter depthwise (3x3), project (1x1, no activation), add the input where shapes allow.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// Pointwise convolution to the wide channels; absent where the expansion is 1.
    pub expand: Option<ConvNormAct>,
    /// Depthwise 3x3 convolution of the wide channels.
    pub depthwise: ConvNormAct,
    /// Pointwise convolution to the narrow channels, linear.
    pub project: ConvNormAct,
    /// Whether the input is added to the output.
    #[module(skip)]
    pub residual: bool,
}

impl InvertedResidual {
    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ConvNormAct::forward_chain(&self.convs(), self.residual, x)
    }

    /// Its convolutions in order.
    pub(crate) fn convs(&self) -> Vec<&ConvNormAct> {
        self.expand.iter().chain([&self.depthwise, &self.project]).collect()
    }

    fn summarize(&self, name: &str, mut shape: [usize; 3], rows: &mut Vec<LayerSummary>) -> [usize; 3] {
        if let Some(expand) = &self.expand {
            shape = expand.summarize(&format!("{name}.expand"), shape, rows);
        }
        shape = self.depthwise.summarize(&format!("{name}.depthwise"), shape, rows);
        self.project.summarize(&format!("{name}.project"), shape, rows)
    }
}

/// The backbone: images to a feature map of 1/32 of their size.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    /// 3x3 convolution, stride 2.
    pub stem: ConvNormAct,
    /// The 17 inverted residuals.
    pub blocks: Vec<InvertedResidual>,
    /// Pointwise convolution to the features.
    pub last: ConvNormAct,
}

impl MobileNetV2 {
    /// `[batch, 3, h, w]` to `[batch, features, ceil(h / 32), ceil(w / 32)]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        // The first block has no expansion, so its convolutions go on where the stem's result, the largest tensor of all, is
        // still in the cache.
        let (first, rest) = self.blocks.split_first().expect("the paper's table has stages");
        let x = if first.residual {
            first.forward(self.stem.forward(images))
        } else {
            let convs: Vec<_> = std::iter::once(&self.stem).chain(first.convs()).collect();
            ConvNormAct::forward_chain(&convs, false, images)
        };
        let x = rest.iter().fold(x, |x, block| block.forward(x));
        self.last.forward(x)
    }

    /// Adds a row a convolution to `rows`; returns the feature map's shape for an input `[3, height, width]`.
    pub fn summarize(&self, input: [usize; 3], rows: &mut Vec<LayerSummary>) -> [usize; 3] {
        let mut shape = self.stem.summarize("stem", input, rows);
        for (index, block) in self.blocks.iter().enumerate() {
            shape = block.summarize(&format!("blocks.{index}"), shape, rows);
        }
        self.last.summarize("last", shape, rows)
    }

    /// torchvision's name of this module's tensor `path`, e.g. `blocks.1.expand.conv.weight` is
    /// `features.2.conv.0.0.weight`.
    pub(crate) fn torchvision_name(&self, path: &str) -> Option<String> {
        // Within a ConvNormAct torchvision numbers convolution 0 and norm 1.
        let numbered = |rest: &str| match rest.split_once('.')? {
            ("conv", leaf) => Some(format!("0.{leaf}")),
            ("norm", leaf) => Some(format!("1.{leaf}")),
            _ => None,
        };
        let (part, rest) = path.split_once('.')?;
        match part {
            "stem" => Some(format!("features.0.{}", numbered(rest)?)),
            "last" => Some(format!("features.{}.{}", self.blocks.len() + 1, numbered(rest)?)),
            "blocks" => {
                let (index, rest) = rest.split_once('.')?;
                let index: usize = index.parse().ok()?;
                let (layer, rest) = rest.split_once('.')?;
                let first = usize::from(self.blocks.get(index)?.expand.is_some());
                let place = match layer {
                    "expand" => format!("0.{}", numbered(rest)?),
                    "depthwise" => format!("{first}.{}", numbered(rest)?),
                    // The projection is not wrapped: convolution and norm stand in the block itself.
                    "project" => match rest.split_once('.')? {
                        ("conv", leaf) => format!("{}.{leaf}", first + 1),
                        ("norm", leaf) => format!("{}.{leaf}", first + 2),
                        _ => return None,
                    },
                    _ => return None,
                };
                Some(format!("features.{}.conv.{place}", index + 1))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    #[test]
    fn channels_round_to_multiples_of_eight_and_never_lose_a_tenth() {
        for (channels, expected) in
            [(32.0, 32), (32.0 * 0.35, 16), (24.0 * 0.35, 8), (1.0, 8), (44.8, 48), (12.0, 16)]
        {
            assert_eq!(divisible_by_8(channels), expected, "{channels}");
        }
    }

    #[test]
    fn feature_maps_are_a_thirty_second_of_the_image_rounded_up() {
        let model = MobileNetV2Config { width: 0.35 }.init(0, &device());
        for (height, width) in [(32, 32), (33, 65), (1, 1)] {
            let map = model.forward(Tensor::zeros([1, 3, height, width], &device()));
            let shape = model.summarize([3, height, width], &mut Vec::new());
            assert_eq!(shape, [1280, height.div_ceil(32), width.div_ceil(32)]);
            assert_eq!(map.dims(), [1, shape[0], shape[1], shape[2]]);
        }
    }

    #[test]
    fn names_are_torchvisions() {
        let model = MobileNetV2Config { width: 0.35 }.init(0, &device());
        for (ours, theirs) in [
            ("stem.conv.weight", "features.0.0.weight"),
            ("stem.norm.running_var", "features.0.1.running_var"),
            ("blocks.0.depthwise.conv.weight", "features.1.conv.0.0.weight"),
            ("blocks.0.project.conv.weight", "features.1.conv.1.weight"),
            ("blocks.0.project.norm.bias", "features.1.conv.2.bias"),
            ("blocks.1.expand.norm.weight", "features.2.conv.0.1.weight"),
            ("blocks.16.project.norm.running_mean", "features.17.conv.3.running_mean"),
            ("last.conv.weight", "features.18.0.weight"),
        ] {
            assert_eq!(model.torchvision_name(ours).as_deref(), Some(theirs));
        }
        assert_eq!(model.torchvision_name("blocks.99.expand.conv.weight"), None);
    }
}
