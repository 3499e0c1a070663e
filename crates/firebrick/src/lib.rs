//! Deep learning on Burn: pretrained backbones, exact augmentation, a training loop you can trust.
//!
//! This crate re-exports the others under one name and forwards their features; it holds no code.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`augment`] | augmentation and preprocessing of images |
//! | [`autodiff`] | differentiable operations with hand-written backward passes, gradient checking |
//! | [`data`] | folders, decoding, splits, the loader |
//! | [`kernels`] | SIMD kernels for the CPU and the plan of a frozen network |
//! | `text` | tokenizers; with the feature of that name |
//! | [`nn`] | layers, heads, losses |
//! | [`optim`] | optimizers |
//! | [`zoo`] | architectures, pretrained weights, model packages |
//! | [`train`] | fit, evaluate, predict; callbacks; devices |
//! | [`burn`] | the tensor framework below, in the version that all of this is checked against |

pub use burn;
pub use firebrick_augment as augment;
pub use firebrick_autodiff as autodiff;
pub use firebrick_data as data;
pub use firebrick_kernels as kernels;
pub use firebrick_nn as nn;
pub use firebrick_optim as optim;
#[cfg(feature = "text")]
pub use firebrick_text as text;
pub use firebrick_train as train;
pub use firebrick_zoo as zoo;

/// The README's program, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
