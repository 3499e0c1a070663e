//! `keras.applications.MobileNet` and `MobileNetV2`.

use super::KerasNames;
use super::pair::{from, many, one};

/// Blocks are counted through there, and stage by stage here.
pub(super) static V1: KerasNames = KerasNames {
    pairs: &[
        one("conv1", "conv_stem"),
        one("conv1_bn", "bn1"),
        one("conv_preds", "classifier"),
        many("conv_dw_#", "blocks.0.#.conv_dw", &[from(1, 0, 1)]),
        many("conv_dw_#_bn", "blocks.0.#.bn1", &[from(1, 0, 1)]),
        many("conv_pw_#", "blocks.0.#.conv_pw", &[from(1, 0, 1)]),
        many("conv_pw_#_bn", "blocks.0.#.bn2", &[from(1, 0, 1)]),
        many("conv_dw_#", "blocks.1.#.conv_dw", &[from(2, 0, 2)]),
        many("conv_dw_#_bn", "blocks.1.#.bn1", &[from(2, 0, 2)]),
        many("conv_pw_#", "blocks.1.#.conv_pw", &[from(2, 0, 2)]),
        many("conv_pw_#_bn", "blocks.1.#.bn2", &[from(2, 0, 2)]),
        many("conv_dw_#", "blocks.2.#.conv_dw", &[from(4, 0, 2)]),
        many("conv_dw_#_bn", "blocks.2.#.bn1", &[from(4, 0, 2)]),
        many("conv_pw_#", "blocks.2.#.conv_pw", &[from(4, 0, 2)]),
        many("conv_pw_#_bn", "blocks.2.#.bn2", &[from(4, 0, 2)]),
        many("conv_dw_#", "blocks.3.#.conv_dw", &[from(6, 0, 6)]),
        many("conv_dw_#_bn", "blocks.3.#.bn1", &[from(6, 0, 6)]),
        many("conv_pw_#", "blocks.3.#.conv_pw", &[from(6, 0, 6)]),
        many("conv_pw_#_bn", "blocks.3.#.bn2", &[from(6, 0, 6)]),
        many("conv_dw_#", "blocks.4.#.conv_dw", &[from(12, 0, 2)]),
        many("conv_dw_#_bn", "blocks.4.#.bn1", &[from(12, 0, 2)]),
        many("conv_pw_#", "blocks.4.#.conv_pw", &[from(12, 0, 2)]),
        many("conv_pw_#_bn", "blocks.4.#.bn2", &[from(12, 0, 2)]),
    ],
    ..KerasNames::NONE
};

/// The first block does not expand, so that its parts come one earlier.
pub(super) static V2: KerasNames = KerasNames {
    pairs: &[
        one("Conv1", "features.0.0"),
        one("bn_Conv1", "features.0.1"),
        one("expanded_conv_depthwise", "features.1.conv.0.0"),
        one("expanded_conv_depthwise_BN", "features.1.conv.0.1"),
        one("expanded_conv_project", "features.1.conv.1"),
        one("expanded_conv_project_BN", "features.1.conv.2"),
        many("block_#_expand", "features.#.conv.0.0", &[from(1, 2, 16)]),
        many("block_#_expand_BN", "features.#.conv.0.1", &[from(1, 2, 16)]),
        many("block_#_depthwise", "features.#.conv.1.0", &[from(1, 2, 16)]),
        many("block_#_depthwise_BN", "features.#.conv.1.1", &[from(1, 2, 16)]),
        many("block_#_project", "features.#.conv.2", &[from(1, 2, 16)]),
        many("block_#_project_BN", "features.#.conv.3", &[from(1, 2, 16)]),
        one("Conv_1", "features.18.0"),
        one("Conv_1_bn", "features.18.1"),
        one("predictions", "classifier.1"),
        one("Logits", "classifier.1"),
    ],
    ..KerasNames::NONE
};
