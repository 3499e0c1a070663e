//! Finding image files below a folder.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// Extensions of files that are taken for images, in any case. What such a file really is, its content
/// decides.
pub const IMAGE_EXTENSIONS: [&str; 11] =
    ["bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// The image files of a folder and of all folders below it, sorted; or the given file alone, whatever its
/// extension.
///
/// Hidden files and folders (`.name`) are left out, links are followed, and no folder is visited twice.
///
/// # Errors
///
/// If `path` does not exist, a folder cannot be read, or there are no images in it.
pub fn list_images(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let found = Found::below(path)?;
    if found.images.is_empty() {
        return Err(DataError::NoImages {
            path: path.into(),
            ignored: found.ignored,
            example: found.example,
        });
    }
    Ok(found.images)
}

/// What a path leads to; an error for a path that leads nowhere.
pub(crate) fn metadata(path: &Path) -> Result<fs::Metadata, DataError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DataError::Missing { path: path.into() },
        _ => DataError::read(path)(error),
    })
}

/// The extensions, for a message.
pub(crate) fn extension_list() -> String {
    IMAGE_EXTENSIONS.map(|extension| format!(".{extension}")).join(", ")
}

/// One folder's own content, hidden entries left out, each part sorted by name, byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub folders: Vec<PathBuf>,
    pub images: Vec<PathBuf>,
    pub others: Vec<PathBuf>,
}

impl Listing {
    pub fn of(folder: &Path) -> Result<Self, DataError> {
        let mut listing = Self::default();
        for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
            let entry = entry.map_err(DataError::read(folder))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(DataError::read(&path))?;
            // A link that leads nowhere is kept as a file: reading it will say so.
            let is_folder = kind.is_dir() || kind.is_symlink() && path.is_dir();
            // Opening a pipe or a socket could wait for ever.
            let is_image = (kind.is_file() || kind.is_symlink()) && has_image_extension(&path);
            match (is_folder, is_image) {
                (true, _) => listing.folders.push(path),
                (false, true) => listing.images.push(path),
                (false, false) => listing.others.push(path),
            }
        }
        listing.folders.sort();
        listing.images.sort();
        listing.others.sort();
        Ok(listing)
    }
}

/// The images of a folder and of all folders below it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sorted by path, component by component, byte by byte.
    pub images: Vec<PathBuf>,
    /// How many files of other kinds there are, and the name of one.
    pub ignored: usize,
    pub example: Option<String>,
}

impl Found {
    pub fn below(folder: &Path) -> Result<Self, DataError> {
        let mut found = Self::default();
        let mut visited = HashSet::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            // Links may lead back to a folder above: each real folder counts once.
            let real = fs::canonicalize(&folder).map_err(DataError::read(&folder))?;
            if !visited.insert(real) {
                continue;
            }
            let listing = Listing::of(&folder)?;
            found.images.extend(listing.images);
            found.ignored += listing.others.len();
            if found.example.is_none() {
                found.example = listing.others.first().map(|path| file_name(path));
            }
            // The last is popped first: reversed, folders are visited by name.
            pending.extend(listing.folders.into_iter().rev());
        }
        found.images.sort();
        Ok(found)
    }
}

/// A path's last component, for a message.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn has_image_extension(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        }
        root
    }

    fn listed(root: &Path) -> Vec<String> {
        let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        list_images(root).unwrap().into_iter().map(relative).collect()
    }

    #[test]
    fn lists_images_of_nested_folders_sorted_by_bytes() {
        let root =
            tree(&["b.jpg", "B.JPG", "a/z.png", "a/deep/y.Webp", "notes.txt", "10.gif", "9.tif", "a.bmp"]);
        assert_eq!(
            listed(root.path()),
            ["10.gif", "9.tif", "B.JPG", "a/deep/y.Webp", "a/z.png", "a.bmp", "b.jpg"]
        );
    }

    #[test]
    fn leaves_out_hidden_files_and_folders() {
        let root = tree(&["a.jpg", ".b.jpg", "._a.jpg", ".cache/c.jpg"]);
        assert_eq!(listed(root.path()), ["a.jpg"]);
    }

    #[test]
    fn takes_a_single_file_as_it_is() {
        let root = tree(&["photo.dat"]);
        let path = root.path().join("photo.dat");
        assert_eq!(list_images(&path).unwrap(), [path]);
    }

    #[test]
    fn says_what_is_there_instead_of_images() {
        let root = tree(&["a.heic", "b.heic"]);
        let text = list_images(root.path()).unwrap_err().to_string();
        assert!(text.contains("there are 2 files (a.heic, ...) of another kind"), "{text}");
        assert!(text.contains(".jpg"), "{text}");
    }

    #[test]
    fn names_a_path_that_does_not_exist() {
        let text = list_images(Path::new("no/such/folder")).unwrap_err().to_string();
        assert!(text.starts_with("no/such/folder: does not exist."), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_and_survives_a_circle() {
        use std::os::unix::fs::symlink;
        let elsewhere = tree(&["far.jpg"]);
        let root = tree(&["a/near.jpg"]);
        symlink(elsewhere.path(), root.path().join("link")).unwrap();
        symlink(root.path(), root.path().join("a/up")).unwrap();
        symlink("nowhere", root.path().join("broken.png")).unwrap();
        assert_eq!(listed(root.path()), ["a/near.jpg", "broken.png", "link/far.jpg"]);
    }
}
