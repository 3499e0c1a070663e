//! `keras.applications.InceptionV3`, whose layers are counted through.

use super::KerasNames;
use super::pair::{Counted, one};

const STEM: &[&str] = &["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"];
const A: &[&str] = &[
    "branch1x1",
    "branch5x5_1",
    "branch5x5_2",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3",
    "branch_pool",
];
const B: &[&str] = &["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"];
const C: &[&str] = &[
    "branch1x1",
    "branch7x7_1",
    "branch7x7_2",
    "branch7x7_3",
    "branch7x7dbl_1",
    "branch7x7dbl_2",
    "branch7x7dbl_3",
    "branch7x7dbl_4",
    "branch7x7dbl_5",
    "branch_pool",
];
const D: &[&str] =
    &["branch3x3_1", "branch3x3_2", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"];
const E: &[&str] = &[
    "branch1x1",
    "branch3x3_1",
    "branch3x3_2a",
    "branch3x3_2b",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3a",
    "branch3x3dbl_3b",
    "branch_pool",
];

static COUNTED: Counted = Counted {
    places: &[
        ("", STEM),
        ("Mixed_5b.", A),
        ("Mixed_5c.", A),
        ("Mixed_5d.", A),
        ("Mixed_6a.", B),
        ("Mixed_6b.", C),
        ("Mixed_6c.", C),
        ("Mixed_6d.", C),
        ("Mixed_6e.", C),
        ("Mixed_7a.", D),
        ("Mixed_7b.", E),
        ("Mixed_7c.", E),
    ],
    layers: &[("conv2d", "conv"), ("batch_normalization", "bn")],
};

pub(super) static NAMES: KerasNames =
    KerasNames { pairs: &[one("predictions", "fc")], counted: Some(&COUNTED), ..KerasNames::NONE };
