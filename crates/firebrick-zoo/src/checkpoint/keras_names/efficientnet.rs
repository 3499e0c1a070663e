//! `keras.applications.EfficientNetB0` to `EfficientNetB7`.

use super::KerasNames;
use super::pair::{Numbers, from, many, one};

/// Blocks of the first stage, which expands nothing, so that its parts come one earlier.
const FIRST: &[Numbers] = &[from(0, 0, 26)];
/// The other stages, and their blocks.
const PLACE: &[Numbers] = &[from(2, 2, 6), from(0, 0, 26)];

pub(super) static NAMES: KerasNames = KerasNames {
    pairs: &[
        one("stem_conv", "features.0.0"),
        one("stem_bn", "features.0.1"),
        many("block1@_dwconv", "features.1.#.block.0.0", FIRST),
        many("block1@_bn", "features.1.#.block.0.1", FIRST),
        many("block1@_se_reduce", "features.1.#.block.1.fc1", FIRST),
        many("block1@_se_expand", "features.1.#.block.1.fc2", FIRST),
        many("block1@_project_conv", "features.1.#.block.2.0", FIRST),
        many("block1@_project_bn", "features.1.#.block.2.1", FIRST),
        many("block#@_expand_conv", "features.#.#.block.0.0", PLACE),
        many("block#@_expand_bn", "features.#.#.block.0.1", PLACE),
        many("block#@_dwconv", "features.#.#.block.1.0", PLACE),
        many("block#@_bn", "features.#.#.block.1.1", PLACE),
        many("block#@_se_reduce", "features.#.#.block.2.fc1", PLACE),
        many("block#@_se_expand", "features.#.#.block.2.fc2", PLACE),
        many("block#@_project_conv", "features.#.#.block.3.0", PLACE),
        many("block#@_project_bn", "features.#.#.block.3.1", PLACE),
        one("top_conv", "features.8.0"),
        one("top_bn", "features.8.1"),
        one("predictions", "classifier.1"),
    ],
    preparing: &["normalization"],
    ..KerasNames::NONE
};
