//! Devices by name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Where tensors live and are computed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A real GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU, by burn-ndarray.
    NdArray,
    /// The CPU, by burn-flex.
    Flex,
    /// A GPU, by burn-wgpu.
    Wgpu,
}

impl DeviceChoice {
    /// All choices, in the order in which they are explained.
    pub const ALL: [Self; 4] = [Self::Auto, Self::NdArray, Self::Flex, Self::Wgpu];

    /// Opens the device. Autodiff is not on; [`fit`](crate::fit) turns it on for what it trains.
    ///
    /// # Errors
    ///
    /// [`TrainError::Device`] if this build lacks the backend, or the machine an adapter.
    pub fn open(self) -> Result<Device, TrainError> {
        match self {
            Self::Auto => real_gpu().or_else(cpu).ok_or_else(|| TrainError::Device {
                name: self.to_string(),
                reason: "this build has no backend; build with the feature `ndarray`, `flex` or `wgpu`"
                    .to_owned(),
            }),
            Self::NdArray => ndarray().ok_or_else(|| self.not_built()),
            Self::Flex => flex().ok_or_else(|| self.not_built()),
            Self::Wgpu if !cfg!(feature = "wgpu") => Err(self.not_built()),
            Self::Wgpu => any_adapter().ok_or_else(|| TrainError::Device {
                name: self.to_string(),
                reason: "no graphics adapter was found; install a Vulkan driver (on Debian the package \
                         mesa-vulkan-drivers has one that runs on the CPU), or use --device ndarray"
                    .to_owned(),
            }),
        }
    }

    fn not_built(self) -> TrainError {
        TrainError::Device {
            name: self.to_string(),
            reason: format!("this build has no such backend; build with `--features {self}`"),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::NdArray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
        })
    }
}

impl FromStr for DeviceChoice {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        Self::ALL.into_iter().find(|choice| choice.to_string() == name).ok_or_else(|| TrainError::Device {
            name: name.to_owned(),
            reason: "there are auto, ndarray, flex and wgpu".to_owned(),
        })
    }
}

fn cpu() -> Option<Device> {
    ndarray().or_else(flex)
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "burn-ndarray is deprecated upstream and first class here")]
fn ndarray() -> Option<Device> {
    Some(Device::ndarray())
}
#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Option<Device> {
    None
}

#[cfg(feature = "flex")]
fn flex() -> Option<Device> {
    Some(Device::flex())
}
#[cfg(not(feature = "flex"))]
fn flex() -> Option<Device> {
    None
}

#[cfg(feature = "wgpu")]
mod adapters {
    use burn::tensor::{Device, DeviceKind, DeviceType};

    /// Every adapter, GPUs first: asking for one that is not there would panic later.
    fn listed() -> Vec<Device> {
        Device::enumerate(DeviceType::Wgpu).into_vec()
    }

    pub(super) fn any() -> Option<Device> {
        (!listed().is_empty()).then(|| Device::wgpu(DeviceKind::DefaultDevice))
    }

    pub(super) fn real_gpu() -> Option<Device> {
        let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0)];
        let listed = listed();
        kinds.into_iter().map(Device::wgpu).find(|device| listed.contains(device))
    }
}

#[cfg(feature = "wgpu")]
fn any_adapter() -> Option<Device> {
    adapters::any()
}
#[cfg(not(feature = "wgpu"))]
fn any_adapter() -> Option<Device> {
    None
}

#[cfg(feature = "wgpu")]
fn real_gpu() -> Option<Device> {
    adapters::real_gpu()
}
#[cfg(not(feature = "wgpu"))]
fn real_gpu() -> Option<Device> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for choice in DeviceChoice::ALL {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().expect("its own name"), choice);
        }
        let message = "gpu".parse::<DeviceChoice>().expect_err("no such name").to_string();
        assert!(message.contains("gpu") && message.contains("wgpu"), "{message}");
    }
}
