//! `keras.applications.ResNet50`, `ResNet101` and `ResNet152`.

use super::KerasNames;
use super::pair::{Numbers, from, many, one};

/// Stages, and their blocks: 36 are the most.
const PLACE: &[Numbers] = &[from(2, 1, 4), from(1, 0, 36)];

pub(super) static NAMES: KerasNames = KerasNames {
    pairs: &[
        one("conv1_conv", "conv1"),
        one("conv1_bn", "bn1"),
        many("conv#_block#_0_conv", "layer#.#.downsample.0", PLACE),
        many("conv#_block#_0_bn", "layer#.#.downsample.1", PLACE),
        many("conv#_block#_1_conv", "layer#.#.conv1", PLACE),
        many("conv#_block#_1_bn", "layer#.#.bn1", PLACE),
        many("conv#_block#_2_conv", "layer#.#.conv2", PLACE),
        many("conv#_block#_2_bn", "layer#.#.bn2", PLACE),
        many("conv#_block#_3_conv", "layer#.#.conv3", PLACE),
        many("conv#_block#_3_bn", "layer#.#.bn3", PLACE),
        one("predictions", "fc"),
        one("probs", "fc"),
        one("fc1000", "fc"),
    ],
    ..KerasNames::NONE
};
