//! DenseNet: every layer reads all layers before it. Huang et al. 2017, arXiv:1608.06993, table 1.
//!
//! Layer for layer torchvision's, whose checkpoints they read, or Keras', whose layers have the same names here. The dropout that the paper has for small sets without augmentation is left
//! out.

use firebrick_autodiff::CountPadding;
use firebrick_nn::Activation;

use super::NORM_OF_PYTORCH;
use crate::graph::{Conv, Graph, GraphBuilder};
use crate::{Alias, Build, BuildOptions, Framework, KerasInput, ModelSpec, WeightsSpec};

/// What tells the members of the family apart.
struct Config {
    /// Channels that a layer adds.
    growth: usize,
    /// Channels of the first convolution.
    stem: usize,
    /// Layers of the four blocks.
    layers: [usize; 4],
    /// Epsilon and momentum of the norms.
    norm: (f64, f64),
}

const DENSENET121: Config = Config { growth: 32, stem: 64, layers: [6, 12, 24, 16], norm: NORM_OF_PYTORCH };
const OF_KERAS: Config = Config { norm: (1.001e-5, 0.01), ..DENSENET121 };

fn densenet(options: &BuildOptions, config: &Config) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let relu = Activation::Relu;
    let mut channels = config.stem;
    let (epsilon, momentum) = config.norm;
    let norm =
        |b: &mut GraphBuilder, x, name: String, channels| b.batch_norm(x, name, channels, config.norm, relu);
    let stem = Conv::new("features.conv0", options.channels, channels, 7);
    let stem = stem.norm_with("features.norm0", epsilon, momentum);
    let mut x = b.conv(b.input(), stem.stride(2).activation(relu));
    b.stage("stem", x);
    x = b.max_pool(x, 3, 2, 1, false);
    for (block, layers) in config.layers.into_iter().enumerate() {
        if block > 0 {
            b.block();
            let name = format!("features.transition{block}");
            x = norm(&mut b, x, format!("{name}.norm"), channels);
            x = b.conv(x, Conv::new(format!("{name}.conv"), channels, channels / 2, 1));
            x = b.average_pool(x, 2, 2, 0, CountPadding::Yes);
            channels /= 2;
        }
        for layer in 1..=layers {
            b.block();
            let name = format!("features.denseblock{}.denselayer{layer}", block + 1);
            // A bottleneck of four times the growth, then what is added.
            let wide = 4 * config.growth;
            let y = norm(&mut b, x, format!("{name}.norm1"), channels);
            let narrow = Conv::new(format!("{name}.conv1"), channels, wide, 1);
            let narrow = narrow.norm_with(format!("{name}.norm2"), epsilon, momentum);
            let y = b.conv(y, narrow.activation(relu));
            let y = b.conv(y, Conv::new(format!("{name}.conv2"), wide, config.growth, 3));
            x = b.concat(&[x, y]);
            channels += config.growth;
        }
        b.stage(format!("denseblock{}", block + 1), x);
    }
    x = norm(&mut b, x, "features.norm5".to_owned(), channels);
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, channels, "classifier")
}

/// The files that torchvision publishes have names from before its layers were called `norm1` and `conv1`.
const PUBLISHED: &[Alias] = &[Alias { framework: "torchvision's files", name: dotted }];

/// `features.denseblock1.denselayer2.norm.1.weight` of `features.denseblock1.denselayer2.norm1.weight`.
fn dotted(name: &str) -> Option<String> {
    let (layer, leaf) = name.rsplit_once('.')?;
    let (parent, layer) = layer.split_once(".denselayer")?;
    let (number, layer) = layer.split_once('.')?;
    let (kind, digit) = layer.split_at_checked(layer.len().checked_sub(1)?)?;
    Some(format!("{parent}.denselayer{number}.{kind}.{digit}.{leaf}"))
}

const fn keras(name: &'static str, build: Build, parameters: u64, giga: f64) -> ModelSpec {
    ModelSpec {
        framework: Framework::Keras(KerasInput::Imagenet),
        aliases: &[],
        ..spec(name, build, parameters, giga, &[])
    }
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
        family: "DenseNet",
        framework: Framework::PyTorch,
        paper: "Huang et al. 2017, arXiv:1608.06993",
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: Some(giga),
        weights,
        aliases: PUBLISHED,
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    spec(
        "densenet121",
        |o| densenet(o, &DENSENET121),
        7_978_856,
        2.834,
        &[torchvision!("densenet121", "a639ec97", 32_343_852, 74.434)],
    ),
    spec(
        "densenet161",
        |o| densenet(o, &Config { growth: 48, stem: 96, layers: [6, 12, 36, 24], ..DENSENET121 }),
        28_681_000,
        7.728,
        &[torchvision!("densenet161", "8d451a50", 115_730_809, 77.138)],
    ),
    spec(
        "densenet169",
        |o| densenet(o, &Config { layers: [6, 12, 32, 32], ..DENSENET121 }),
        14_149_480,
        3.36,
        &[torchvision!("densenet169", "b2777c0a", 57_366_021, 75.6)],
    ),
    spec(
        "densenet201",
        |o| densenet(o, &Config { layers: [6, 12, 48, 32], ..DENSENET121 }),
        20_013_928,
        4.291,
        &[torchvision!("densenet201", "c1103571", 81_131_996, 76.896)],
    ),
    keras("keras_densenet121", |o| densenet(o, &OF_KERAS), 7_978_856, 2.834),
    keras(
        "keras_densenet169",
        |o| densenet(o, &Config { layers: [6, 12, 32, 32], ..OF_KERAS }),
        14_149_480,
        3.36,
    ),
    keras(
        "keras_densenet201",
        |o| densenet(o, &Config { layers: [6, 12, 48, 32], ..OF_KERAS }),
        20_013_928,
        4.291,
    ),
];
