//! The devices that a test runs on.

use firebrick::burn::tensor::Device;
use firebrick::train::DeviceChoice;

/// Every device of this build; a backend that this machine cannot run is named with the reason.
pub fn devices() -> Vec<(DeviceChoice, Device)> {
    let mut devices = Vec::new();
    for choice in [DeviceChoice::NdArray, DeviceChoice::Flex, DeviceChoice::Wgpu] {
        let skip = std::env::var("FIREBRICK_SKIP_WGPU").ok().filter(|_| choice == DeviceChoice::Wgpu);
        match skip.map_or_else(|| choice.open().map_err(|error| error.to_string()), Err) {
            Ok(device) => devices.push((choice, device)),
            Err(reason) => eprintln!("skipped {choice}: {reason}"),
        }
    }
    assert!(!devices.is_empty(), "a test needs at least one backend");
    devices
}
