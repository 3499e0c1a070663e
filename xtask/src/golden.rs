//! `cargo xtask golden`: regenerates golden files with the frameworks they are compared with.
//!
//! A generator is `tests/goldens/generate*.py` in any crate; the `requirements.txt` beside it pins the
//! frameworks' versions. Each set of requirements gets a Python environment of its own in the cache
//! folder, which is made once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{process, workspace};

/// Written into an environment when all its packages are installed: the requirements it satisfies.
const INSTALLED: &str = "installed-requirements.txt";

/// Arguments of `cargo xtask golden`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the generators whose path contains NAME, like `augment` or `generate_resize`
    name: Option<String>,
}

/// Runs the generators.
pub fn run(args: &Args) -> Result<()> {
    let generators: Vec<PathBuf> =
        workspace::tracked_and_new_files()?.into_iter().filter(|file| is_generator(file)).collect();
    let chosen = choose(&generators, args.name.as_deref())?;
    for generator in chosen {
        let python = environment_for(generator)?;
        process::run(Command::new(python).arg(generator))?;
    }
    eprintln!("look at the changes with `git diff --stat -- '*/goldens/*'`");
    Ok(())
}

fn is_generator(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.parent().is_some_and(|folder| folder.ends_with("tests/goldens"))
        && name.starts_with("generate")
        && name.ends_with(".py")
}

fn choose<'a>(generators: &'a [PathBuf], name: Option<&str>) -> Result<Vec<&'a PathBuf>> {
    let chosen: Vec<&PathBuf> = generators
        .iter()
        .filter(|path| name.is_none_or(|name| path.to_string_lossy().contains(name)))
        .collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let known: Vec<String> = generators.iter().map(|path| path.display().to_string()).collect();
    match name {
        Some(name) if !known.is_empty() => {
            bail!("no generator's path contains \"{name}\"; there are: {}", known.join(", "))
        }
        _ => bail!("there is no tests/goldens/generate*.py in any crate"),
    }
}

/// The Python interpreter of an environment that satisfies the generator's requirements.
fn environment_for(generator: &Path) -> Result<PathBuf> {
    let requirements = generator.with_file_name("requirements.txt");
    let wanted = fs::read_to_string(workspace::root().join(&requirements)).with_context(|| {
        format!("{} needs its frameworks pinned in {}", generator.display(), requirements.display())
    })?;
    if let Some(line) = unpinned(&wanted) {
        bail!("{}: \"{line}\" is not pinned: write NAME==VERSION", requirements.display());
    }

    let folder = workspace::cache_folder()?.join("golden-venv").join(short_hash(&wanted));
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let installed = folder.join(INSTALLED);
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    process::run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements),
    )?;
    fs::write(&installed, &wanted).with_context(|| format!("writing {}", installed.display()))?;
    Ok(python)
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

    fn generators() -> Vec<PathBuf> {
        vec![
            "crates/firebrick-augment/tests/goldens/generate_affine.py".into(),
            "crates/firebrick-optim/tests/goldens/generate.py".into(),
        ]
    }

    #[test]
    fn knows_generators_by_place_and_name() {
        for generator in generators() {
            assert!(is_generator(&generator), "{}", generator.display());
        }
        for other in [
            "crates/firebrick-augment/tests/goldens/affine.json",
            "crates/firebrick-augment/tests/goldens/read_affine.py",
            "crates/firebrick-augment/tests/generate.py",
            "assets/fashion/make_sample.py",
        ] {
            assert!(!is_generator(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn runs_all_generators_or_those_named() {
        let generators = generators();
        assert_eq!(choose(&generators, None).unwrap().len(), 2);
        assert_eq!(choose(&generators, Some("augment")).unwrap(), [&generators[0]]);
        assert_eq!(choose(&generators, Some("generate.py")).unwrap(), [&generators[1]]);
    }

    #[test]
    fn names_the_generators_there_are() {
        let error = choose(&generators(), Some("resize")).unwrap_err().to_string();
        assert!(error.contains("\"resize\"") && error.contains("generate_affine.py"), "{error}");
        assert!(choose(&[], None).is_err());
    }

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
}
