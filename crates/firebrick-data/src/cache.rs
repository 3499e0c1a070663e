//! Where downloads and unpacked data are kept.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::DataError;

/// The folder for files that can be made or fetched again: `$FIREBRICK_CACHE` if it is set and not empty,
/// else `firebrick` in the platform's cache folder (`~/.cache` on Linux, `~/Library/Caches` on macOS,
/// `%LOCALAPPDATA%` on Windows).
///
/// It may not exist yet.
///
/// # Errors
///
/// [`DataError::NoCacheFolder`] if the variable is not set and the platform names no folder.
pub fn cache_dir() -> Result<PathBuf, DataError> {
    choose(std::env::var_os("FIREBRICK_CACHE"), dirs::cache_dir())
}

fn choose(variable: Option<OsString>, platform: Option<PathBuf>) -> Result<PathBuf, DataError> {
    match variable {
        Some(folder) if !folder.is_empty() => Ok(folder.into()),
        _ => platform.map(|folder| folder.join("firebrick")).ok_or(DataError::NoCacheFolder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_the_variable_to_the_platform() {
        let platform = || Some(PathBuf::from("caches"));
        assert_eq!(choose(Some("mine".into()), platform()).unwrap(), PathBuf::from("mine"));
        assert_eq!(choose(Some("".into()), platform()).unwrap(), PathBuf::from("caches/firebrick"));
        assert_eq!(choose(None, platform()).unwrap(), PathBuf::from("caches/firebrick"));
    }

    #[test]
    fn says_what_to_set_when_there_is_no_cache_folder() {
        assert!(choose(None, None).unwrap_err().to_string().contains("FIREBRICK_CACHE"));
    }
}
