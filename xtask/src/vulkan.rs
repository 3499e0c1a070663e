//! Whether this machine has a Vulkan driver, without which the wgpu tests cannot run.
//!
//! The Vulkan loader finds drivers by small JSON manifests in well-known folders, or where
//! `VK_DRIVER_FILES` (formerly `VK_ICD_FILENAMES`) points.
//! Source: "Driver discovery" in the Vulkan loader's LoaderDriverInterface document.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Why wgpu cannot run here; `None` where a driver is found.
///
/// macOS has Metal and Windows has Direct3D, so there the answer is always `None`.
pub fn missing_driver() -> Option<String> {
    if cfg!(any(target_os = "macos", target_os = "windows")) {
        return None;
    }
    missing_driver_in(&places(|variable| env::var_os(variable)))
}

fn missing_driver_in(places: &[PathBuf]) -> Option<String> {
    if places.iter().any(|place| holds_a_manifest(place)) {
        return None;
    }
    let searched: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    Some(format!(
        "no Vulkan driver found in {}; Debian: apt-get install mesa-vulkan-drivers",
        searched.join(", ")
    ))
}

/// Files and folders in which the loader looks for manifests.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let paths = |value: OsString| env::split_paths(&value).collect::<Vec<_>>();

    // Either of these replaces the search; the newer name wins.
    if let Some(value) = set("VK_DRIVER_FILES").or_else(|| set("VK_ICD_FILENAMES")) {
        return paths(value);
    }
    let mut places = set("VK_ADD_DRIVER_FILES").map(paths).unwrap_or_default();
    if let Some(home) = set("HOME") {
        places.push(Path::new(&home).join(".local/share/vulkan/icd.d"));
    }
    for folder in ["/etc", "/usr/local/share", "/usr/share"] {
        places.push(Path::new(folder).join("vulkan/icd.d"));
    }
    places
}

fn holds_a_manifest(place: &Path) -> bool {
    let is_manifest = |path: &Path| path.extension().is_some_and(|end| end == "json") && path.is_file();
    match fs::read_dir(place) {
        Ok(entries) => entries.flatten().any(|entry| is_manifest(&entry.path())),
        Err(_) => is_manifest(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_driver_by_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("lvp_icd.x86_64.json"), "{}").unwrap();
        assert_eq!(missing_driver_in(&[folder.path().to_owned()]), None);
        assert_eq!(missing_driver_in(&[folder.path().join("lvp_icd.x86_64.json")]), None);
    }

    #[test]
    fn names_the_places_searched_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("README"), "no manifest").unwrap();
        let absent = folder.path().join("absent");
        let reason = missing_driver_in(&[folder.path().to_owned(), absent.clone()]).unwrap();
        assert!(reason.contains(&folder.path().display().to_string()), "{reason}");
        assert!(reason.contains(&absent.display().to_string()), "{reason}");
        assert!(reason.contains("apt-get install mesa-vulkan-drivers"), "{reason}");
    }

    #[test]
    fn a_driver_named_by_variable_replaces_the_search() {
        let both = |name: &str| match name {
            "VK_DRIVER_FILES" => Some(OsString::from("/opt/new.json:/opt/more")),
            "VK_ICD_FILENAMES" => Some(OsString::from("/opt/old.json")),
            _ => None,
        };
        let expected = [PathBuf::from("/opt/new.json"), PathBuf::from("/opt/more")];
        if cfg!(unix) {
            assert_eq!(places(both), expected);
        }
    }

    #[test]
    fn searches_the_standard_folders() {
        let places = places(|name| (name == "HOME").then(|| OsString::from("/somebody")));
        for folder in ["/somebody/.local/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"]
        {
            assert!(places.contains(&PathBuf::from(folder)), "{folder} in {places:?}");
        }
    }
}
