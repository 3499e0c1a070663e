//! `cargo xtask golden`: regenerates golden files with the frameworks they are compared with.
//!
//! A generator is `tests/goldens/generate*.py` in any crate, or lies one folder deeper; the `requirements.txt` beside it pins the
//! frameworks' versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{process, python, workspace};

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
        let python = python::environment(&generator.with_file_name("requirements.txt"), "golden-venv")?;
        process::run(Command::new(python).arg(generator))?;
    }
    eprintln!("look at the changes with `git diff --stat -- '*/goldens/*'`");
    Ok(())
}

fn is_generator(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // In the folder of golden files, or in one of its folders where there are many.
    file.ancestors().skip(1).take(2).any(|folder| folder.ends_with("tests/goldens"))
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
        assert!(is_generator(Path::new(
            "crates/firebrick-zoo/tests/goldens/checkpoints/generate_checkpoints.py"
        )));
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
}
