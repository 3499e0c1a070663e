//! Published weights: compiled in, from the cache folder, or downloaded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sha2::{Digest, Sha256};

#[cfg(feature = "download")]
use crate::download::download;
use crate::{Checkpoint, Classifier, CreateOptions, ModelSpec, WeightsSpec, ZooError, create};

/// Told of a download: bytes so far, bytes in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Weights that are compiled in, by file name.
#[cfg(feature = "embedded-weights")]
static EMBEDDED: &[(&str, &[u8])] =
    &[("mobilenet_v2-b0353104.pth", include_bytes!("../../../assets/mobilenet_v2-b0353104.pth"))];
#[cfg(not(feature = "embedded-weights"))]
static EMBEDDED: &[(&str, &[u8])] = &[];

/// The model of `spec` with its published weights and its original head.
///
/// They are looked for among the compiled-in ones (feature `embedded-weights`), then in the cache folder
/// (see [`firebrick_data::cache_dir`]), then at their official address (feature `download`).
///
/// # Errors
///
/// [`ZooError::NoWeights`] if none are published, and whatever keeps the file from being found, checked or read.
pub fn load_pretrained(
    spec: &ModelSpec,
    device: &Device,
    progress: Progress<'_>,
) -> Result<Classifier, ZooError> {
    load_pretrained_with(spec, &CreateOptions::default(), device, progress)
}

/// As [`load_pretrained`], with what the options say of images and stochastic depth; their classes and hidden layers do not count.
///
/// # Errors
///
/// Those of [`load_pretrained`].
pub fn load_pretrained_with(
    spec: &ModelSpec,
    options: &CreateOptions,
    device: &Device,
    progress: Progress<'_>,
) -> Result<Classifier, ZooError> {
    let weights = spec
        .weights
        .first()
        .ok_or_else(|| ZooError::NoWeights { model: spec.name.to_owned(), weights: "imagenet".to_owned() })?;
    let options = CreateOptions { classes: 1000, hidden: Vec::new(), ..options.clone() };
    let model = create(spec, &options, device);
    if let Some((_, bytes)) = EMBEDDED.iter().find(|(file, _)| *file == weights.file) {
        check_hash(Path::new(weights.file), &hex(&Sha256::digest(bytes)), weights)?;
        // The reader wants a file; this one lives as long as the reading takes.
        let mut file = tempfile::Builder::new()
            .suffix(".pth")
            .tempfile()
            .map_err(ZooError::io(&std::env::temp_dir(), "make a temporary file in"))?;
        file.write_all(bytes).map_err(ZooError::io(file.path(), "write"))?;
        return Checkpoint::read(file.path())?.load_into(model, spec.name);
    }
    let path = locate(weights, &firebrick_data::cache_dir()?.join("weights"), progress)?;
    Checkpoint::read(&path)?.load_into(model, spec.name)
}

/// The path of published weights in `folder`; they are downloaded to it if they are not there and checked if they are.
///
/// # Errors
///
/// [`ZooError::WrongHash`], [`ZooError::Download`], [`ZooError::NotFound`] or [`ZooError::Io`].
pub fn locate(weights: &WeightsSpec, folder: &Path, progress: Progress<'_>) -> Result<PathBuf, ZooError> {
    let path = folder.join(weights.file);
    match File::open(&path) {
        Ok(mut file) => {
            let hash = hash_of(&mut file, weights.bytes, progress).map_err(ZooError::io(&path, "read"))?;
            check_hash(&path, &hash, weights)?;
            Ok(path)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => download(weights, &path, progress),
        Err(error) => Err(ZooError::io(&path, "read")(error)),
    }
}

/// The hash of a file from where it stands, in hexadecimal.
pub(crate) fn hash_of(file: &mut dyn Read, expected: u64, progress: Progress<'_>) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut hashed = |bytes: &[u8]| {
        hash.update(bytes);
        Ok(())
    };
    copy(file, &mut hashed, 0, expected, progress)?;
    Ok(hex(&hash.finalize()))
}

pub(crate) fn check_hash(path: &Path, found: &str, weights: &WeightsSpec) -> Result<(), ZooError> {
    match weights.sha256.len() >= 8 && found.starts_with(weights.sha256) {
        true => Ok(()),
        false => Err(ZooError::WrongHash {
            path: path.to_owned(),
            found: found.to_owned(),
            expected: weights.sha256.to_owned(),
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hands on what is behind the first `done` of `expected` bytes, and at most one more, so that a longer file fails its hash instead of
/// filling the disk.
pub(crate) fn copy(
    from: &mut dyn Read,
    to: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    mut done: u64,
    expected: u64,
    progress: Progress<'_>,
) -> std::io::Result<()> {
    let mut from = from.take((expected + 1).saturating_sub(done));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => {
                to(&buffer[..count])?;
                done += count as u64;
                progress(done, expected);
            }
        }
    }
}

#[cfg(not(feature = "download"))]
fn download(weights: &WeightsSpec, path: &Path, _: Progress<'_>) -> Result<PathBuf, ZooError> {
    Err(ZooError::NotFound { url: weights.url.to_owned(), path: path.to_owned() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Five bytes at an address.
    pub(crate) fn spec(url: &'static str) -> WeightsSpec {
        WeightsSpec {
            name: "test",
            file: "test.pth",
            url,
            // Of the five bytes "right".
            sha256: "27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9",
            bytes: 5,
            ..WeightsSpec::TORCHVISION
        }
    }

    #[test]
    fn a_file_in_the_folder_is_checked_and_used() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("test.pth");
        std::fs::write(&path, b"right").expect("write");
        assert_eq!(locate(&spec("http://127.0.0.1:9/"), folder.path(), &mut |_, _| ()).expect("right"), path);
        for wrong in [&b"wrong"[..], b"right and more"] {
            std::fs::write(&path, wrong).expect("write");
            let error =
                locate(&spec("http://127.0.0.1:9/"), folder.path(), &mut |_, _| ()).expect_err("wrong bytes");
            assert!(matches!(error, ZooError::WrongHash { .. }), "{error}");
        }
    }
}
