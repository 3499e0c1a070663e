//! `keras.applications.VGG16` and `VGG19`, whose last map is flattened channels last.

use super::KerasNames;
use super::pair::one;

const FLATTENED: Option<(&str, [usize; 3])> = Some(("classifier.0.weight", [7, 7, 512]));

pub(super) static VGG16: KerasNames = KerasNames {
    pairs: &[
        one("block1_conv1", "features.0"),
        one("block1_conv2", "features.2"),
        one("block2_conv1", "features.5"),
        one("block2_conv2", "features.7"),
        one("block3_conv1", "features.10"),
        one("block3_conv2", "features.12"),
        one("block3_conv3", "features.14"),
        one("block4_conv1", "features.17"),
        one("block4_conv2", "features.19"),
        one("block4_conv3", "features.21"),
        one("block5_conv1", "features.24"),
        one("block5_conv2", "features.26"),
        one("block5_conv3", "features.28"),
        one("fc1", "classifier.0"),
        one("fc2", "classifier.3"),
        one("predictions", "classifier.6"),
    ],
    flattened: FLATTENED,
    ..KerasNames::NONE
};

pub(super) static VGG19: KerasNames = KerasNames {
    pairs: &[
        one("block1_conv1", "features.0"),
        one("block1_conv2", "features.2"),
        one("block2_conv1", "features.5"),
        one("block2_conv2", "features.7"),
        one("block3_conv1", "features.10"),
        one("block3_conv2", "features.12"),
        one("block3_conv3", "features.14"),
        one("block3_conv4", "features.16"),
        one("block4_conv1", "features.19"),
        one("block4_conv2", "features.21"),
        one("block4_conv3", "features.23"),
        one("block4_conv4", "features.25"),
        one("block5_conv1", "features.28"),
        one("block5_conv2", "features.30"),
        one("block5_conv3", "features.32"),
        one("block5_conv4", "features.34"),
        one("fc1", "classifier.0"),
        one("fc2", "classifier.3"),
        one("predictions", "classifier.6"),
    ],
    flattened: FLATTENED,
    ..KerasNames::NONE
};
