//! The tools for gradients: checking them, writing them, and computing a block again.
#![allow(deprecated)]

mod check_gradient;
mod checkpoint;
mod custom;

use burn::tensor::Device;

/// The CPU devices of this build; what is tested here does not depend on kernels.
fn devices() -> Vec<Device> {
    vec![
        Device::ndarray(),
        #[cfg(feature = "flex")]
        Device::flex(),
    ]
}
