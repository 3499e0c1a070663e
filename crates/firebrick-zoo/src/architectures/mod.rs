//! The image backbones, a family a file: a function that builds a graph, and the table of its members.

/// Weights that torchvision publishes: file name up to its hash, the hash's first digits, bytes, top-1 accuracy, and whatever differs from
/// `WeightsSpec::TORCHVISION`.
macro_rules! torchvision {
    ($file:literal, $hash:literal, $bytes:literal, $top_1:literal $(, $field:ident: $value:expr)*) => {
        crate::WeightsSpec {
            file: concat!($file, "-", $hash, ".pth"),
            url: concat!("https://download.pytorch.org/models/", $file, "-", $hash, ".pth"),
            sha256: $hash,
            bytes: $bytes,
            top_1: $top_1,
            $($field: $value,)*
            ..crate::WeightsSpec::TORCHVISION
        }
    };
}

mod alexnet;
mod composite;
mod convnext;
mod densenet;
mod efficientnet;
mod efficientnet_lite;
mod efficientnet_v2;
mod googlenet;
mod inception_v3;
mod mobilenet_v1;
mod mobilenet_v2;
mod mobilenet_v3;
mod regnet;
mod resnet;
mod squeezenet;
mod swin;
mod vgg;
mod vit;

pub use composite::AttentionPool;

use crate::ModelSpec;

/// The tables of all families.
pub(crate) static FAMILIES: &[&[ModelSpec]] = &[
    alexnet::MODELS,
    vgg::MODELS,
    squeezenet::MODELS,
    googlenet::MODELS,
    inception_v3::MODELS,
    resnet::MODELS,
    densenet::MODELS,
    mobilenet_v1::MODELS,
    mobilenet_v2::MODELS,
    mobilenet_v3::MODELS,
    efficientnet::MODELS,
    efficientnet_v2::MODELS,
    efficientnet_lite::MODELS,
    regnet::MODELS,
    convnext::MODELS,
    vit::MODELS,
    swin::MODELS,
];

/// Epsilon of norms, and the weight of the newest batch in their running statistics: PyTorch's, and Keras' defaults.
pub(crate) const NORM_OF_PYTORCH: (f64, f64) = (1e-5, 0.1);
pub(crate) const NORM_OF_KERAS: (f64, f64) = (1e-3, 0.01);

/// The nearest multiple of `divisor` that is at least 90 % of `channels`: how the MobileNets and EfficientNets round widths.
pub(crate) fn divisible(channels: f64, divisor: usize) -> usize {
    let step = divisor as f64;
    let rounded = (((channels + step / 2.0) / step).floor() as usize * divisor).max(divisor);
    if (rounded as f64) < 0.9 * channels { rounded + divisor } else { rounded }
}

/// The probability of dropping branch `index` of `count` in training: 0 for the first, `last` for the last, and evenly between (Huang et
/// al. 2016, arXiv:1603.09382).
pub(crate) fn growing(last: f64, index: usize, count: usize) -> f64 {
    last * index as f64 / (count.max(2) - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_dropped_the_more_often_the_later_they_are() {
        assert_eq!([0, 1, 2].map(|index| growing(0.2, index, 3)), [0.0, 0.1, 0.2]);
        assert_eq!(growing(0.2, 0, 1), 0.0);
    }

    #[test]
    fn drop_path_reaches_the_last_branch_of_every_transformer() {
        for (name, layers) in [("vit_tiny_patch16_224", 12), ("swin_t", 12), ("convnext_tiny", 18)] {
            let spec = crate::find(name).expect("in the zoo");
            let options = crate::CreateOptions { drop_path: 0.3, ..Default::default() };
            let graph = spec.graph(&options.build(spec));
            let mut dropped: Vec<f64> = graph
                .nodes()
                .iter()
                .filter_map(|node| match node.op {
                    crate::graph::Op::DropPath(p) => Some(p),
                    _ => None,
                })
                .collect();
            dropped.dedup();
            // The first branch is never dropped.
            assert_eq!(dropped.len(), layers - 1, "{name}");
            assert!(dropped.is_sorted() && dropped.last() == Some(&0.3), "{name}: {dropped:?}");
        }
    }

    #[test]
    fn channels_round_to_multiples_of_eight_and_never_lose_a_tenth() {
        for (channels, expected) in
            [(32.0, 32), (32.0 * 0.35, 16), (24.0 * 0.35, 8), (1.0, 8), (44.8, 48), (12.0, 16)]
        {
            assert_eq!(divisible(channels, 8), expected, "{channels}");
        }
    }
}
