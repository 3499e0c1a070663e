//! `keras.applications.DenseNet121`, `DenseNet169` and `DenseNet201`.

use super::KerasNames;
use super::pair::{Numbers, from, many, one};

/// Blocks, and their layers: 48 are the most.
const PLACE: &[Numbers] = &[from(2, 1, 4), from(1, 1, 48)];
const TRANSITION: &[Numbers] = &[from(2, 1, 3)];

pub(super) static NAMES: KerasNames = KerasNames {
    pairs: &[
        one("conv1_conv", "features.conv0"),
        one("conv1_bn", "features.norm0"),
        // Before Keras 3 a slash stood between the words.
        one("conv1.conv", "features.conv0"),
        one("conv1.bn", "features.norm0"),
        many("conv#_block#_0_bn", "features.denseblock#.denselayer#.norm1", PLACE),
        many("conv#_block#_1_conv", "features.denseblock#.denselayer#.conv1", PLACE),
        many("conv#_block#_1_bn", "features.denseblock#.denselayer#.norm2", PLACE),
        many("conv#_block#_2_conv", "features.denseblock#.denselayer#.conv2", PLACE),
        many("pool#_bn", "features.transition#.norm", TRANSITION),
        many("pool#_conv", "features.transition#.conv", TRANSITION),
        one("bn", "features.norm5"),
        one("predictions", "classifier"),
        one("fc1000", "classifier"),
    ],
    ..KerasNames::NONE
};
