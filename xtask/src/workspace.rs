//! Where the workspace lies and which files belong to it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The folder of the workspace's manifest.
///
/// The variable that `cargo run` sets wins over the path known at compile time: a target folder may
/// be shared by several checkouts.
pub fn root() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&xtask).parent().expect("xtask is a folder of the workspace").to_owned()
}

/// The files that git tracks and that are still there, relative to [`root`].
pub fn tracked_files() -> Result<Vec<PathBuf>> {
    list_files(&["--cached"])
}

/// The files that git tracks or would track (new and not ignored), relative to [`root`].
pub fn tracked_and_new_files() -> Result<Vec<PathBuf>> {
    list_files(&["--cached", "--others", "--exclude-standard"])
}

fn list_files(which: &[&str]) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z"]).args(which);
    let listing = String::from_utf8(process::capture(&mut git)?)
        .context("git ls-files names a file whose path is not UTF-8")?;
    let root = root();
    let mut files: Vec<PathBuf> = listing
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|file| root.join(file).symlink_metadata().is_ok())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The project's folder for what can be made again: `firebrick` in `XDG_CACHE_HOME` or `~/.cache`.
pub fn cache_folder() -> Result<PathBuf> {
    let caches = match env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => env::home_dir()
            .context("no home folder is known: set XDG_CACHE_HOME to a writable folder")?
            .join(".cache"),
    };
    Ok(caches.join("firebrick"))
}

/// Where the libraries look for weights that are not compiled in: `weights` in `$FIREBRICK_CACHE`, else in the platform's
/// cache folder, as `firebrick_data::cache_dir` has it. xtask stands outside the house and cannot ask it.
pub fn weights_folder() -> Result<PathBuf> {
    let cache = match env::var_os("FIREBRICK_CACHE").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => dirs::cache_dir()
            .context("no cache folder is known: set FIREBRICK_CACHE to a writable folder")?
            .join("firebrick"),
    };
    Ok(cache.join("weights"))
}
