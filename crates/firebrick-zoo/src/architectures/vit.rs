//! Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929): an image is cut into patches, and the patches are read as words.
//!
//! B, L and H are layer for layer torchvision's, whose checkpoints they read; Ti and S, which torchvision has not, and DeiT (Touvron et
//! al. 2021, arXiv:2012.12877), the same network trained otherwise, are timm's. Each network is made for one size of images: a
//! checkpoint of another size has its positions interpolated when it is loaded (see [`interpolate_positions`](crate::interpolate_positions)).

use firebrick_augment::Interpolation;
use firebrick_nn::{Activation, Initializer, Padding};

use super::growing;
use crate::graph::{Attention, Conv, Graph, GraphBuilder, Op};
use crate::{Alias, BuildOptions, Framework, ModelSpec, PositionResampling, WeightsSpec};

/// What tells the members of the family apart.
#[derive(Clone, Copy)]
struct Config {
    /// Side of a patch, pixels.
    patch: usize,
    layers: usize,
    width: usize,
    heads: usize,
    names: &'static Names,
}

/// What the tensors are called.
struct Names {
    patches: &'static str,
    class_token: &'static str,
    positions: &'static str,
    /// Of a layer, followed by its number.
    layer: &'static str,
    /// Within a layer.
    norm_1: &'static str,
    qkv: [&'static str; 2],
    output: &'static str,
    norm_2: &'static str,
    expand: &'static str,
    project: &'static str,
    norm: &'static str,
    head: &'static str,
    initializer: Initializer,
    resampling: PositionResampling,
}

const TORCHVISION: Names = Names {
    patches: "conv_proj",
    class_token: "class_token",
    positions: "encoder.pos_embedding",
    layer: "encoder.layers.encoder_layer_",
    norm_1: "ln_1",
    qkv: ["self_attention.in_proj_weight", "self_attention.in_proj_bias"],
    output: "self_attention.out_proj",
    norm_2: "ln_2",
    expand: "mlp.0",
    project: "mlp.3",
    norm: "encoder.ln",
    head: "heads.head",
    initializer: Initializer::GlorotUniform,
    resampling: PositionResampling::AlignedCorners,
};

const TIMM: Names = Names {
    patches: "patch_embed.proj",
    class_token: "cls_token",
    positions: "pos_embed",
    layer: "blocks.",
    norm_1: "norm1",
    qkv: ["attn.qkv.weight", "attn.qkv.bias"],
    output: "attn.proj",
    norm_2: "norm2",
    expand: "mlp.fc1",
    project: "mlp.fc2",
    norm: "norm",
    head: "head",
    initializer: Initializer::Normal { std: 0.02 },
    resampling: PositionResampling::Antialiased,
};

fn vit(options: &BuildOptions, config: Config) -> Graph {
    let Config { patch, layers, width, heads, names } = config;
    let mut b = GraphBuilder::new(options.channels);
    b.fix_image_size(options.image_size);
    let patches = Conv::new(names.patches, options.channels, width, patch)
        .stride(patch)
        .padding(Padding::all(0))
        .bias()
        .initializer(Initializer::LecunNormal);
    let mut x = b.conv(b.input(), patches);
    x = b.node(Op::Tokens, &[x]);
    x = b.node(Op::Prefix { name: names.class_token.to_owned(), count: 1, width }, &[x]);
    let grid = options.image_size.map(|side| side / patch);
    let positions = Op::Positions {
        name: names.positions.to_owned(),
        prefix: 1,
        grid,
        width,
        resampling: names.resampling,
    };
    x = b.node(positions, &[x]);
    b.stage("embedding", x);
    for layer in 0..layers {
        let name = |part: &str| format!("{}{layer}.{part}", names.layer);
        let dropped = growing(options.drop_path, layer, layers);
        let attention = Attention {
            qkv: names.qkv.map(name),
            output: name(names.output),
            width,
            heads,
            initializer: names.initializer,
        };
        let y = b.layer_norm(x, name(names.norm_1), width, 1e-6);
        let y = b.attention(y, attention);
        let y = b.drop_path(y, dropped);
        x = b.add(y, x, Activation::None);
        let y = b.layer_norm(x, name(names.norm_2), width, 1e-6);
        let y = b.linear(y, name(names.expand), [width, 4 * width], Activation::Gelu, names.initializer);
        let y = b.linear(y, name(names.project), [4 * width, width], Activation::None, names.initializer);
        let y = b.drop_path(y, dropped);
        x = b.add(y, x, Activation::None);
        b.stage(format!("layer{}", layer + 1), x);
    }
    x = b.layer_norm(x, names.norm, width, 1e-6);
    let pooled = b.node(Op::Token(0), &[x]);
    let map = b.node(Op::Map { skip: 1, size: grid }, &[x]);
    b.finish(map, pooled, width, names.head)
}

/// timm's name of torchvision's tensor.
fn timm_name(name: &str) -> Option<String> {
    let (from, to) = (&TORCHVISION, &TIMM);
    if let Some(rest) = name.strip_prefix(from.layer) {
        let (layer, rest) = rest.split_once('.')?;
        let whole = |part: &str| format!("{}{layer}.{part}", to.layer);
        if let Some(place) = from.qkv.iter().position(|own| *own == rest) {
            return Some(whole(to.qkv[place]));
        }
        let pairs = [
            (from.norm_1, to.norm_1),
            (from.output, to.output),
            (from.norm_2, to.norm_2),
            (from.expand, to.expand),
            (from.project, to.project),
        ];
        return renamed(rest, &pairs).map(|part| whole(&part));
    }
    if name == from.class_token {
        return Some(to.class_token.to_owned());
    }
    if name == from.positions {
        return Some(to.positions.to_owned());
    }
    renamed(name, &[(from.patches, to.patches), (from.norm, to.norm), (from.head, to.head)])
}

/// `name` with the first of these parents that it has exchanged.
fn renamed(name: &str, pairs: &[(&str, &str)]) -> Option<String> {
    let under = |(from, to): &(&str, &str)| {
        let leaf = name.strip_prefix(from)?.strip_prefix('.')?;
        Some(format!("{to}.{leaf}"))
    };
    pairs.iter().find_map(under)
}

/// What torchvision before 0.13 called it, and the published files still do: the dense layers had names then, now they have numbers.
fn first_name(name: &str) -> Option<String> {
    Some(name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."))
}

const ALIASES: &[Alias] = &[
    Alias { framework: "torchvision before 0.13", name: first_name },
    Alias { framework: "timm", name: timm_name },
];

const DOSOVITSKIY: &str = "Dosovitskiy et al. 2021, arXiv:2010.11929";
const TOUVRON: &str = "Touvron et al. 2021, arXiv:2012.12877";
const SWAG: &str = "CC-BY-NC 4.0; trained on Instagram images (SWAG) and ImageNet";

const TINY: Config = Config { patch: 16, layers: 12, width: 192, heads: 3, names: &TIMM };
const SMALL: Config = Config { width: 384, heads: 6, ..TINY };
const BASE: Config = Config { width: 768, heads: 12, names: &TORCHVISION, ..TINY };
const LARGE: Config = Config { layers: 24, width: 1024, heads: 16, ..BASE };
const HUGE: Config = Config { patch: 14, layers: 32, width: 1280, heads: 16, ..BASE };

const fn timm(
    name: &'static str,
    family: &'static str,
    paper: &'static str,
    build: crate::Build,
    parameters: u64,
) -> ModelSpec {
    ModelSpec {
        name,
        family,
        framework: Framework::PyTorch,
        paper,
        build,
        input_size: [224, 224],
        parameters,
        multiply_adds: None,
        weights: &[],
        aliases: &[],
    }
}

const fn torchvision(
    name: &'static str,
    build: crate::Build,
    parameters: u64,
    giga: f64,
    weights: &'static [WeightsSpec],
) -> ModelSpec {
    ModelSpec {
        multiply_adds: Some(giga),
        weights,
        aliases: ALIASES,
        ..timm(name, "ViT", DOSOVITSKIY, build, parameters)
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    timm("vit_tiny_patch16_224", "ViT", TOUVRON, |o| vit(o, TINY), 5_717_416),
    timm("vit_small_patch16_224", "ViT", TOUVRON, |o| vit(o, SMALL), 22_050_664),
    torchvision(
        "vit_b_16",
        |o| vit(o, BASE),
        86_567_656,
        17.564,
        &[
            WeightsSpec {
                file: "vit_b_16-c867db91.pth",
                url: "https://download.pytorch.org/models/vit_b_16-c867db91.pth",
                sha256: "c867db91",
                bytes: 346_339_410,
                top_1: 81.072,
                ..WeightsSpec::TORCHVISION
            },
            WeightsSpec {
                name: "swag",
                licence: SWAG,
                file: "vit_b_16_lc_swag-4e70ced5.pth",
                url: "https://download.pytorch.org/models/vit_b_16_lc_swag-4e70ced5.pth",
                sha256: "4e70ced5",
                bytes: 346_339_410,
                top_1: 81.886,
                resize: 224,
                interpolation: Interpolation::Bicubic,
                ..WeightsSpec::TORCHVISION
            },
        ],
    ),
    torchvision(
        "vit_b_32",
        |o| vit(o, Config { patch: 32, ..BASE }),
        88_224_232,
        4.409,
        &[WeightsSpec {
            file: "vit_b_32-d86f8d99.pth",
            url: "https://download.pytorch.org/models/vit_b_32-d86f8d99.pth",
            sha256: "d86f8d99",
            bytes: 352_965_362,
            top_1: 75.912,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    torchvision(
        "vit_l_16",
        |o| vit(o, LARGE),
        304_326_632,
        61.555,
        &[
            WeightsSpec {
                file: "vit_l_16-852ce7e3.pth",
                url: "https://download.pytorch.org/models/vit_l_16-852ce7e3.pth",
                sha256: "852ce7e3",
                bytes: 1_217_431_340,
                top_1: 79.662,
                resize: 242,
                ..WeightsSpec::TORCHVISION
            },
            WeightsSpec {
                name: "swag",
                licence: SWAG,
                file: "vit_l_16_lc_swag-4d563306.pth",
                url: "https://download.pytorch.org/models/vit_l_16_lc_swag-4d563306.pth",
                sha256: "4d563306",
                bytes: 1_217_431_340,
                top_1: 85.146,
                resize: 224,
                interpolation: Interpolation::Bicubic,
                ..WeightsSpec::TORCHVISION
            },
        ],
    ),
    torchvision(
        "vit_l_32",
        |o| vit(o, Config { patch: 32, ..LARGE }),
        306_535_400,
        15.378,
        &[WeightsSpec {
            file: "vit_l_32-c7638314.pth",
            url: "https://download.pytorch.org/models/vit_l_32-c7638314.pth",
            sha256: "c7638314",
            bytes: 1_226_266_641,
            top_1: 76.972,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    torchvision(
        "vit_h_14",
        |o| vit(o, HUGE),
        632_045_800,
        167.295,
        &[WeightsSpec {
            name: "swag",
            licence: SWAG,
            file: "vit_h_14_lc_swag-c1eb923e.pth",
            url: "https://download.pytorch.org/models/vit_h_14_lc_swag-c1eb923e.pth",
            sha256: "c1eb923e",
            bytes: 2_528_346_375,
            top_1: 85.708,
            resize: 224,
            interpolation: Interpolation::Bicubic,
            ..WeightsSpec::TORCHVISION
        }],
    ),
    timm("deit_tiny_patch16_224", "DeiT", TOUVRON, |o| vit(o, TINY), 5_717_416),
    timm("deit_small_patch16_224", "DeiT", TOUVRON, |o| vit(o, SMALL), 22_050_664),
    timm("deit_base_patch16_224", "DeiT", TOUVRON, |o| vit(o, Config { names: &TIMM, ..BASE }), 86_567_656),
];

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use crate::{CreateOptions, create, find};

    #[test]
    #[allow(deprecated)]
    fn a_network_of_tokens_is_cut_at_a_stage() {
        let device = Device::ndarray();
        let spec = find("vit_tiny_patch16_224").expect("in the zoo");
        let options = CreateOptions { image_size: Some([32, 48]), ..CreateOptions::default() };
        let backbone = create(spec, &options, &device).backbone;
        let pixels: Vec<f32> = (0..3 * 32 * 48).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, 32, 48]), &device);
        assert_eq!(backbone.forward(images.clone()).dims(), [1, 192, 2, 3]);
        let tokens = backbone.stages(images.clone(), &["layer3"]).expect("known").remove(0);
        assert_eq!(tokens.dims(), [1, 192, 7, 1]);
        let rest = backbone.after("layer3").expect("known");
        assert_eq!(rest.pooled(tokens).into_data(), backbone.pooled(images.clone()).into_data());
        let before = backbone.compile_until("layer3", [32, 48]).expect("compiled");
        assert_eq!(before.map(images).dims(), [1, 192, 7, 1]);
    }

    #[test]
    fn a_network_made_for_one_size_names_what_another_lacks() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        let spec = find("vit_tiny_patch16_224").expect("in the zoo");
        let model = create(spec, &CreateOptions::default(), &device);
        let error = model.summarize([240, 224]).expect_err("fifteen rows of patches").to_string();
        assert!(error.contains("pos_embed") && error.contains("197"), "{error}");
    }
}
