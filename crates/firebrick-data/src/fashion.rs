//! The Fashion-MNIST sample that is compiled in: 2,000 training and 1,000 validation images of 10 classes.
//!
//! H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747. MIT licence. See
//! assets/fashion/PROVENANCE.md.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageFormat};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::idx::{IdxArray, IdxLimits, parse_idx};
use crate::scan::list_images;

const IMAGES: &[u8] = include_bytes!("../../../assets/fashion/images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../../assets/fashion/labels-idx1-ubyte.gz");
const LICENCE: &[u8] = include_bytes!("../../../assets/fashion/LICENSE");

/// Names of the data set's labels 0 to 9. As with any folder, a model trained on it numbers its classes by
/// sorted name.
const CLASSES: [&str; 10] = [
    "t-shirt_top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
];

const TRAIN: usize = 2_000;
const VALIDATION: usize = 1_000;

/// The folder that holds the sample as `train|validation/CLASS/NNNNN.png`, below `cache`; unpacks it there
/// the first time.
///
/// The files are 28x28 grey PNGs, numbered in the order of the sample. The folder appears complete or not at
/// all, also when several processes unpack at the same time; one that was damaged since is made anew.
///
/// # Errors
///
/// If the folder cannot be written.
pub fn builtin_fashion(cache: &Path) -> Result<PathBuf, DataError> {
    let folder = cache.join(format!("fashion-{}", short_hash()));
    if is_whole(&folder) {
        return Ok(folder);
    }
    tracing::info!("unpacking the Fashion-MNIST sample into {}", folder.display());
    fs::create_dir_all(cache).map_err(DataError::write(cache))?;
    let workshop =
        tempfile::Builder::new().prefix(".fashion-").tempdir_in(cache).map_err(DataError::write(cache))?;
    let fresh = workshop.path().join("fresh");
    unpack(&fresh)?;

    // A folder of that name is in the way if another process was faster, or if it is damaged.
    if fs::rename(&fresh, &folder).is_ok() || is_whole(&folder) {
        return Ok(folder);
    }
    match fs::rename(&folder, workshop.path().join("damaged")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(DataError::write(&folder)(error));
        }
        _ => {}
    }
    match fs::rename(&fresh, &folder) {
        Err(error) if !is_whole(&folder) => Err(DataError::write(&folder)(error)),
        _ => Ok(folder),
    }
}

/// Names the content, so that another sample gets another folder.
fn short_hash() -> String {
    let digest = Sha256::new().chain_update(IMAGES).chain_update(LABELS).finalize();
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether all images are there. A crash of the whole machine can leave a renamed folder with empty files;
/// people delete some.
fn is_whole(folder: &Path) -> bool {
    let count = |part: &str| {
        let images = list_images(&folder.join(part)).unwrap_or_default();
        images.iter().filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0)).count()
    };
    count("train") == TRAIN && count("validation") == VALIDATION
}

fn unpack(folder: &Path) -> Result<(), DataError> {
    let (images, labels) = embedded()?;
    for part in ["train", "validation"] {
        for class in CLASSES {
            let path = folder.join(part).join(class);
            fs::create_dir_all(&path).map_err(DataError::write(&path))?;
        }
    }
    let &[_, rows, columns] = images.shape.as_slice() else { unreachable!("checked by embedded()") };
    for index in 0..TRAIN + VALIDATION {
        let part = if index < TRAIN { "train" } else { "validation" };
        let class = CLASSES[usize::from(labels.entry(index)[0])];
        let path = folder.join(part).join(class).join(format!("{index:05}.png"));
        write_png(&path, images.entry(index), columns as u32, rows as u32)?;
    }
    let path = folder.join("LICENSE.txt");
    fs::write(&path, LICENCE).map_err(DataError::write(&path))
}

fn embedded() -> Result<(IdxArray, IdxArray), DataError> {
    let limits = IdxLimits::default();
    let images = parse_idx(IMAGES, Path::new("assets/fashion/images-idx3-ubyte.gz"), &limits)?;
    let labels = parse_idx(LABELS, Path::new("assets/fashion/labels-idx1-ubyte.gz"), &limits)?;
    let total = TRAIN + VALIDATION;
    assert!(
        images.shape.len() == 3 && images.len() == total && labels.shape == [total],
        "checked when they were made"
    );
    Ok((images, labels))
}

fn write_png(path: &Path, pixels: &[u8], width: u32, height: u32) -> Result<(), DataError> {
    image::save_buffer_with_format(path, pixels, width, height, ExtendedColorType::L8, ImageFormat::Png)
        .map_err(|error| {
            DataError::write(path)(match error {
                image::ImageError::IoError(error) => error,
                other => io::Error::other(other),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeLimits, FolderOptions, ImageFolder, decode};

    fn unpacked() -> (tempfile::TempDir, PathBuf) {
        let cache = tempfile::tempdir().unwrap();
        let folder = builtin_fashion(cache.path()).unwrap();
        (cache, folder)
    }

    #[test]
    fn unpacks_two_hundred_and_one_hundred_images_of_each_class() {
        let (cache, path) = unpacked();
        let folder = ImageFolder::open(&path, &FolderOptions::default()).unwrap();
        let mut classes = CLASSES;
        classes.sort_unstable();
        assert_eq!(folder.classes, classes);
        for label in 0..10 {
            assert_eq!(folder.train.iter().filter(|sample| sample.label == label).count(), 200);
            assert_eq!(folder.validation.iter().filter(|sample| sample.label == label).count(), 100);
        }
        // Nothing else is left in the cache.
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
        assert!(path.join("LICENSE.txt").is_file());
    }

    #[test]
    fn keeps_the_pixels_and_the_label() {
        let (_cache, path) = unpacked();
        let (images, labels) = embedded().unwrap();
        for index in [0, 1_999, 2_000, 2_999] {
            let part = if index < TRAIN { "train" } else { "validation" };
            let class = CLASSES[usize::from(labels.entry(index)[0])];
            let file = path.join(part).join(class).join(format!("{index:05}.png"));
            let rgb = decode(&file, &DecodeLimits::default()).unwrap();
            assert_eq!((rgb.width(), rgb.height()), (28, 28));
            assert!(rgb.pixels().zip(images.entry(index)).all(|(pixel, &grey)| pixel.0 == [grey; 3]));
        }
    }

    #[test]
    fn uses_the_folder_again_and_makes_a_damaged_one_anew() {
        let (cache, path) = unpacked();
        let marker = path.join("train/bag/mine.txt");
        fs::write(&marker, "kept").unwrap();
        assert_eq!(builtin_fashion(cache.path()).unwrap(), path);
        assert!(marker.exists());

        let victim = list_images(&path.join("train")).unwrap().swap_remove(0);
        fs::write(&victim, "").unwrap();
        assert_eq!(builtin_fashion(cache.path()).unwrap(), path);
        assert!(fs::metadata(&victim).unwrap().len() > 0);
        assert!(!marker.exists());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn lets_several_unpack_at_the_same_time() {
        let cache = tempfile::tempdir().unwrap();
        let folders: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| builtin_fashion(cache.path()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(folders.iter().all(|folder| folder == &folders[0] && is_whole(folder)));
    }

    #[test]
    fn says_where_it_cannot_write() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("file");
        fs::write(&file, "").unwrap();
        let text = builtin_fashion(&file).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}: cannot be written", file.display())), "{text}");
    }
}
