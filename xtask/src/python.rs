//! Python environments outside the checkout, one for each set of pinned requirements.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{process, workspace};

/// Written into an environment when all its packages are installed: the requirements it satisfies.
const INSTALLED: &str = "installed-requirements.txt";

/// The Python interpreter of an environment that satisfies the `requirements`, a file relative to the workspace.
///
/// The environment lies in `folder` of the cache folder, is made when it is first asked for, and reused from then on.
pub fn environment(requirements: &Path, folder: &str) -> Result<PathBuf> {
    let shown = requirements.display();
    let wanted = fs::read_to_string(workspace::root().join(requirements))
        .with_context(|| format!("{shown} must be there and pin the frameworks' versions"))?;
    if let Some(line) = unpinned(&wanted) {
        bail!("{shown}: \"{line}\" is not pinned: write NAME==VERSION");
    }

    let folder = workspace::cache_folder()?.join(folder).join(short_hash(&wanted));
    let python = interpreter(&folder);
    let installed = folder.join(INSTALLED);
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    process::run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements),
    )?;
    fs::write(&installed, &wanted).with_context(|| format!("writing {}", installed.display()))?;
    Ok(python)
}

/// Where an environment has its interpreter.
pub fn interpreter(environment: &Path) -> PathBuf {
    environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// The first line of the requirements that does not name an exact version.
fn unpinned(requirements: &str) -> Option<&str> {
    requirements
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .find(|line| !line.is_empty() && !line.contains("=="))
}

/// Enough of a hash to tell requirements apart, short enough to read.
fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_pinned_exactly() {
        assert_eq!(unpinned("# Keras' own transforms\nkeras==3.15.1\n\nscipy==1.16.0 # affine\n"), None);
        assert_eq!(unpinned("keras==3.15.1\npillow>=12\n"), Some("pillow>=12"));
        assert_eq!(unpinned("numpy\n"), Some("numpy"));
    }

    #[test]
    fn other_requirements_get_another_environment() {
        assert_ne!(short_hash("keras==3.15.1"), short_hash("keras==3.15.0"));
        assert_eq!(short_hash("keras==3.15.1").len(), 12);
    }

    #[test]
    fn says_which_requirements_are_missing() {
        let error = environment(Path::new("benches/absent.txt"), "peers-venv").unwrap_err();
        assert!(error.to_string().contains("benches/absent.txt"), "{error}");
    }
}
