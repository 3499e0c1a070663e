//! Published weights: compiled in, from the cache folder, or downloaded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sha2::{Digest, Sha256};

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
            let mut hashed = Hashed { inner: std::io::sink(), hash: Sha256::new() };
            copy(&mut file, &mut hashed, weights.bytes, progress).map_err(ZooError::io(&path, "read"))?;
            check_hash(&path, &hex(&hashed.hash.finalize()), weights)?;
            Ok(path)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => download(weights, &path, progress),
        Err(error) => Err(ZooError::io(&path, "read")(error)),
    }
}

fn check_hash(path: &Path, found: &str, weights: &WeightsSpec) -> Result<(), ZooError> {
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

/// Copies at most `expected` bytes and one more, so that a longer file fails its hash instead of filling the disk.
fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    expected: u64,
    progress: Progress<'_>,
) -> std::io::Result<()> {
    let mut from = from.take(expected + 1);
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => {
                to.write_all(&buffer[..count])?;
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

#[cfg(feature = "download")]
fn download(weights: &WeightsSpec, path: &Path, progress: Progress<'_>) -> Result<PathBuf, ZooError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |reason: String| ZooError::Download {
        url: weights.url.to_owned(),
        reason,
        path: path.to_owned(),
        flag: "--weights",
    };
    tracing::info!(url = weights.url, "downloading weights");
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(std::time::Duration::from_secs(20)))
        .build()
        .new_agent();
    let mut response = agent.get(weights.url).call().map_err(|error| failed(error.to_string()))?;

    std::fs::create_dir_all(folder).map_err(ZooError::io(folder, "make the folder"))?;
    let mut file = crate::package::temporary_beside(path)?;
    let mut hashed = Hashed { inner: file.as_file_mut(), hash: Sha256::new() };
    copy(&mut response.body_mut().as_reader(), &mut hashed, weights.bytes, progress)
        .map_err(|error| failed(error.to_string()))?;
    let found = hex(&hashed.hash.finalize());
    check_hash(path, &found, weights)?;
    crate::package::publish(file, path)?;
    Ok(path.to_owned())
}

/// A writer and the hash of what was written to it.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &'static str) -> WeightsSpec {
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

    #[cfg(feature = "download")]
    mod download {
        use super::*;
        use std::net::TcpListener;

        /// Serves `body` once and returns its address.
        fn serve(body: &'static [u8]) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let _ = stream.read(&mut [0; 4096]);
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(body);
            });
            format!("http://{address}/test.pth")
        }

        #[test]
        fn a_download_is_checked_and_kept() {
            let folder = tempfile::tempdir().expect("temporary folder");
            let url = serve(b"right").leak();
            let mut seen = 0;
            let path =
                locate(&spec(url), &folder.path().join("new"), &mut |done, _| seen = done).expect("served");
            assert_eq!((std::fs::read(path).expect("kept"), seen), (b"right".to_vec(), 5));
        }

        #[test]
        fn wrong_bytes_are_not_kept() {
            let folder = tempfile::tempdir().expect("temporary folder");
            let error = locate(&spec(serve(b"wrong").leak()), folder.path(), &mut |_, _| ())
                .expect_err("wrong bytes");
            assert!(matches!(error, ZooError::WrongHash { .. }), "{error}");
            assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
        }

        #[test]
        fn offline_says_where_to_put_the_file() {
            let folder = tempfile::tempdir().expect("temporary folder");
            let message = locate(&spec("http://127.0.0.1:9/test.pth"), folder.path(), &mut |_, _| ())
                .expect_err("nothing listens there")
                .to_string();
            assert!(message.contains("test.pth") && message.contains("--weights"), "{message}");
        }
    }
}
