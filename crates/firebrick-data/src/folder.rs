//! Class folders: where the samples of an image classifier come from.

use std::path::{Path, PathBuf};

use crate::error::{DataError, shortened};
use crate::scan::{Found, Listing, file_name, metadata};
use crate::split::stratified_split;

/// An image file and its class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Its class: an index into the list of classes.
    pub label: usize,
}

/// How [`ImageFolder::open`] splits a folder that has no validation part of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderOptions {
    /// The share of each class's images that is for validation, in `0.0..1.0`. Default: 0.2.
    pub validation_split: f32,
    /// Decides which images these are. Default: 0.
    pub seed: u64,
}

impl Default for FolderOptions {
    fn default() -> Self {
        Self { validation_split: 0.2, seed: 0 }
    }
}

/// Images in one folder for each class, as for Keras' `flow_from_directory` and torchvision's `ImageFolder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    /// The folder that was opened.
    pub root: PathBuf,
    /// The classes: the folders' names, sorted byte by byte.
    pub classes: Vec<String>,
    /// Samples for training, sorted by class, then by path.
    pub train: Vec<Sample>,
    /// Samples for validation, sorted by class, then by path. Empty only if asked for with a split of 0.
    pub validation: Vec<Sample>,
}

/// Names of the folder that holds the validation part, in order of preference.
const VALIDATION_NAMES: [&str; 4] = ["validation", "val", "valid", "test"];

impl ImageFolder {
    /// Finds the classes and images below `root`. No image is opened.
    ///
    /// `root` holds either
    /// - `train/` and one of `validation/`, `val/`, `valid/`, `test/` (the first of these, if several), each
    ///   with the same class folders; or
    /// - `train/` alone, which is split as the next; or
    /// - one folder for each class, split class by class ([`stratified_split`]) as `options` say.
    ///
    /// Class folders are searched recursively for files with an [image extension](crate::IMAGE_EXTENSIONS).
    /// Hidden files, hidden folders and files of other kinds are left out; links are followed.
    ///
    /// # Errors
    ///
    /// If `root` is missing or no folder; if there are fewer than two classes, a class without images, or
    /// images that lie beside the class folders; if the two parts' classes differ; if the split is out of
    /// range or leaves nothing to validate.
    pub fn open(root: impl AsRef<Path>, options: &FolderOptions) -> Result<Self, DataError> {
        let root = root.as_ref();
        let fraction = options.validation_split;
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::InvalidSplit { path: root.into(), fraction });
        }
        let (training, validating) = match Layout::of(root)? {
            Layout::Parts { train, validation: Some(validation) } => {
                return Self::of_two_parts(root, &train, &validation);
            }
            Layout::Parts { train, validation: None } => (train, fraction),
            Layout::Classes => (root.to_owned(), fraction),
        };

        let folders = class_folders(&training)?;
        at_least_two(&training, &folders)?;
        let (classes, samples) = label(folders);
        let labels: Vec<_> = samples.iter().map(|sample| sample.label).collect();
        let (train, validation) = stratified_split(&labels, validating, options.seed);
        if validation.is_empty() && fraction > 0.0 {
            return Err(DataError::NothingToValidate { path: training });
        }
        let pick = |indices: Vec<usize>| indices.into_iter().map(|i| samples[i].clone()).collect();
        Ok(Self { root: root.into(), classes, train: pick(train), validation: pick(validation) })
    }

    fn of_two_parts(root: &Path, train: &Path, validation: &Path) -> Result<Self, DataError> {
        let train_folders = class_folders(train)?;
        let validation_folders = class_folders(validation)?;
        let missing_in = |folders: &[ClassFolder], others: &[ClassFolder]| -> Vec<String> {
            let is_missing = |name: &&String| !others.iter().any(|other| other.name == **name);
            folders.iter().map(|folder| &folder.name).filter(is_missing).cloned().collect()
        };
        let only_train = missing_in(&train_folders, &validation_folders);
        let only_validation = missing_in(&validation_folders, &train_folders);
        if !only_train.is_empty() || !only_validation.is_empty() {
            return Err(DataError::ClassesDiffer {
                train: train.into(),
                validation: validation.into(),
                only_train,
                only_validation,
            });
        }
        at_least_two(train, &train_folders)?;
        let (classes, train) = label(train_folders);
        let (_, validation) = label(validation_folders);
        Ok(Self { root: root.into(), classes, train, validation })
    }
}

/// The samples to evaluate a model with, whose classes are `classes`, in the model's order.
///
/// `root` holds class folders, or `train/` and a validation part as for [`ImageFolder::open`], of which the
/// validation part is taken. Not every class needs a folder; one class is enough. Samples are sorted by
/// folder name, then by path.
///
/// # Errors
///
/// If a folder's name is none of `classes`, and for what [`ImageFolder::open`] refuses.
pub fn open_evaluation(root: impl AsRef<Path>, classes: &[String]) -> Result<Vec<Sample>, DataError> {
    let root = root.as_ref();
    let part = match Layout::of(root)? {
        Layout::Parts { validation: Some(validation), .. } => validation,
        Layout::Parts { train, validation: None } => {
            return Err(DataError::NoValidation { path: root.into(), train });
        }
        Layout::Classes => root.to_owned(),
    };
    let mut samples = Vec::new();
    for folder in class_folders(&part)? {
        let Some(label) = classes.iter().position(|class| *class == folder.name) else {
            return Err(DataError::UnknownClass {
                path: folder.path,
                class: folder.name,
                count: classes.len(),
                known: shortened(classes),
            });
        };
        samples.extend(folder.images.into_iter().map(|path| Sample { path, label }));
    }
    Ok(samples)
}

/// What the folders in a data set's root are.
enum Layout {
    Classes,
    Parts { train: PathBuf, validation: Option<PathBuf> },
}

impl Layout {
    fn of(root: &Path) -> Result<Self, DataError> {
        if !metadata(root)?.is_dir() {
            return Err(DataError::NotAFolder { path: root.into() });
        }
        let folders = Listing::of(root)?.folders;
        let named =
            |name: &str| folders.iter().find(|folder| file_name(folder).eq_ignore_ascii_case(name)).cloned();
        let Some(train) = named("train") else { return Ok(Self::Classes) };

        let mut parts = VALIDATION_NAMES.into_iter().filter_map(named);
        let validation = parts.next();
        if let (Some(taken), Some(left)) = (&validation, parts.next()) {
            tracing::info!("validating with {}; {} is not used", taken.display(), left.display());
        }
        // "train" may be a class, beside "car" and "ship": then images lie directly in it, and there is no
        // validation part.
        if validation.is_none() && Listing::of(&train)?.folders.is_empty() && folders.len() > 1 {
            return Ok(Self::Classes);
        }
        Ok(Self::Parts { train, validation })
    }
}

/// A class and its images, of which there is at least one.
struct ClassFolder {
    path: PathBuf,
    name: String,
    images: Vec<PathBuf>,
}

/// The class folders in `folder`, sorted by name: at least one.
fn class_folders(folder: &Path) -> Result<Vec<ClassFolder>, DataError> {
    let listing = Listing::of(folder)?;
    if let Some(image) = listing.images.first() {
        let (path, count, example) = (folder.into(), listing.images.len(), file_name(image));
        return Err(match listing.folders.is_empty() {
            true => DataError::ImagesWithoutClasses { path, count, example },
            false => DataError::ImagesBesideClasses { path, count, example },
        });
    }
    if listing.folders.is_empty() {
        return Err(DataError::NoClasses { path: folder.into() });
    }

    let mut folders = Vec::with_capacity(listing.folders.len());
    for path in listing.folders {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(class) = name.map(str::to_owned) else { return Err(DataError::ClassName { path }) };
        let Found { images, ignored, example } = Found::below(&path)?;
        if images.is_empty() {
            return Err(DataError::EmptyClass { path, class, ignored, example });
        }
        if let Some(example) = example {
            tracing::warn!(ignored, example, "{}: files that are not images are left out", path.display());
        }
        folders.push(ClassFolder { path, name: class, images });
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(folders)
}

fn at_least_two(folder: &Path, folders: &[ClassFolder]) -> Result<(), DataError> {
    let [only] = folders else { return Ok(()) };
    let hint = match Listing::of(&only.path)?.folders.as_slice() {
        [] => "A classifier needs at least two: add a folder of images for each further class".to_owned(),
        _ => format!("If the classes are the folders inside it, give {}", only.path.display()),
    };
    Err(DataError::OneClass { path: folder.into(), class: only.name.clone(), hint })
}

/// Numbers the classes in their order.
fn label(folders: Vec<ClassFolder>) -> (Vec<String>, Vec<Sample>) {
    let mut classes = Vec::with_capacity(folders.len());
    let mut samples = Vec::new();
    for (label, folder) in folders.into_iter().enumerate() {
        classes.push(folder.name);
        samples.extend(folder.images.into_iter().map(|path| Sample { path, label }));
    }
    (classes, samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            match file.strip_suffix('/') {
                Some(_) => fs::create_dir_all(path).unwrap(),
                None => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "").unwrap();
                }
            }
        }
        root
    }

    fn open(root: &tempfile::TempDir) -> Result<ImageFolder, DataError> {
        ImageFolder::open(root.path(), &FolderOptions { validation_split: 0.5, seed: 0 })
    }

    /// The message, with the temporary folder's name taken out.
    fn refused<T>(root: &tempfile::TempDir, result: Result<T, DataError>) -> String {
        let Err(error) = result else { panic!("was not refused") };
        assert!(!error.is_bad_sample());
        error.to_string().replace(&root.path().display().to_string(), "ROOT")
    }

    fn names(root: &tempfile::TempDir, samples: &[Sample]) -> Vec<(String, usize)> {
        let relative = |path: &Path| path.strip_prefix(root.path()).unwrap().display().to_string();
        samples.iter().map(|sample| (relative(&sample.path), sample.label)).collect()
    }

    fn named(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
        pairs.iter().map(|&(name, label)| (name.to_owned(), label)).collect()
    }

    #[test]
    fn takes_train_and_validation_as_they_are() {
        for part in ["validation", "val", "valid", "test", "Val"] {
            let files = ["train/b/1.jpg", "train/a/2.png", "train/a/1.png"].map(str::to_owned);
            let more = [format!("{part}/a/9.png"), format!("{part}/b/8.png")];
            let root = tree(&files.iter().chain(&more).map(String::as_str).collect::<Vec<_>>());
            let folder = open(&root).unwrap();
            assert_eq!(folder.classes, ["a", "b"]);
            assert_eq!(
                names(&root, &folder.train),
                named(&[("train/a/1.png", 0), ("train/a/2.png", 0), ("train/b/1.jpg", 1)])
            );
            assert_eq!(folder.validation.len(), 2);
            assert_eq!(folder.root, root.path());
        }
    }

    #[test]
    fn prefers_validation_to_test() {
        let root = tree(&["train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg", "val/a/7.jpg", "val/b/7.jpg"]);
        assert_eq!(
            names(&root, &open(&root).unwrap().validation),
            named(&[("val/a/7.jpg", 0), ("val/b/7.jpg", 1)])
        );
    }

    #[test]
    fn splits_train_when_it_is_alone() {
        let root = tree(&["train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "train/b/2.jpg"]);
        let folder = open(&root).unwrap();
        assert_eq!((folder.train.len(), folder.validation.len()), (2, 2));
        assert_eq!(folder.classes, ["a", "b"]);
    }

    #[test]
    fn splits_class_folders_the_same_way_every_time() {
        let files: Vec<_> = (0..30).map(|i| format!("{}/{i}.jpg", ["cat", "dog", "Ape"][i % 3])).collect();
        let root = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let options = FolderOptions::default();
        let folder = ImageFolder::open(root.path(), &options).unwrap();
        assert_eq!(folder.classes, ["Ape", "cat", "dog"]);
        assert_eq!((folder.train.len(), folder.validation.len()), (24, 6));
        assert_eq!(folder, ImageFolder::open(root.path(), &options).unwrap());
        let other = ImageFolder::open(root.path(), &FolderOptions { seed: 1, ..options }).unwrap();
        assert_ne!(folder.validation, other.validation);
        assert!(folder.validation.iter().all(|sample| !folder.train.contains(sample)));
    }

    #[test]
    fn searches_class_folders_recursively_and_leaves_other_files_out() {
        let root = tree(&[
            "a/x/1.JPG",
            "a/2.jpeg",
            "a/notes.txt",
            "a/.hidden.png",
            "b/1.png",
            ".git/1.png",
            "README.md",
        ]);
        let options = FolderOptions { validation_split: 0.0, ..Default::default() };
        let folder = ImageFolder::open(root.path(), &options).unwrap();
        assert_eq!(names(&root, &folder.train), named(&[("a/2.jpeg", 0), ("a/x/1.JPG", 0), ("b/1.png", 1)]));
        assert!(folder.validation.is_empty());
    }

    #[test]
    fn lets_a_class_be_called_train() {
        let root = tree(&["car/1.jpg", "car/2.jpg", "train/1.jpg", "train/2.jpg"]);
        assert_eq!(open(&root).unwrap().classes, ["car", "train"]);
    }

    #[test]
    fn refuses_what_is_missing_or_no_folder() {
        let root = tree(&["file.txt"]);
        let options = FolderOptions::default();
        let missing = ImageFolder::open(root.path().join("none"), &options);
        assert!(refused(&root, missing).starts_with("ROOT/none: does not exist. Check the spelling"));
        let file = ImageFolder::open(root.path().join("file.txt"), &options);
        assert!(refused(&root, file).starts_with("ROOT/file.txt: is a file, not a folder."));
    }

    #[test]
    fn refuses_an_empty_folder() {
        let root = tree(&[]);
        assert_eq!(
            refused(&root, open(&root)),
            "ROOT: holds no class folders. Make one folder of images for each class in it, e.g. ROOT/cat"
        );
    }

    #[test]
    fn refuses_images_without_class_folders() {
        let root = tree(&["1.jpg", "2.jpg"]);
        let text = refused(&root, open(&root));
        assert!(text.starts_with("ROOT: holds 2 images (1.jpg, ...) but no class folders. Move"), "{text}");
    }

    #[test]
    fn refuses_images_beside_class_folders() {
        let root = tree(&["a/1.jpg", "b/1.jpg", "loose.jpg"]);
        let text = refused(&root, open(&root));
        assert!(
            text.starts_with("ROOT: 1 image (loose.jpg) beside the class folders: of no class. Move"),
            "{text}"
        );
    }

    #[test]
    fn refuses_a_single_class_and_looks_inside_it() {
        let root = tree(&["a/1.jpg"]);
        let text = refused(&root, open(&root));
        assert!(
            text.starts_with("ROOT: holds only one class, \"a\". A classifier needs at least two"),
            "{text}"
        );

        let root = tree(&["flowers/a/1.jpg", "flowers/b/1.jpg"]);
        let text = refused(&root, open(&root));
        assert!(text.ends_with("If the classes are the folders inside it, give ROOT/flowers"), "{text}");
    }

    #[test]
    fn refuses_a_class_without_images_and_names_it() {
        let root = tree(&["a/1.jpg", "b/1.heic", "b/2.heic"]);
        assert_eq!(
            refused(&root, open(&root)),
            "ROOT/b: the class folder \"b\" holds no images; there are 2 files (1.heic, ...) of another kind. \
             Add images, or remove the folder"
        );
        let root = tree(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/"]);
        assert!(
            refused(&root, open(&root))
                .starts_with("ROOT/val/b: the class folder \"b\" holds no images. Add")
        );
    }

    #[test]
    fn refuses_parts_whose_classes_differ_and_names_those() {
        let root = tree(&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/c/1.jpg", "val/d/1.jpg"]);
        assert_eq!(
            refused(&root, open(&root)),
            "ROOT/train and ROOT/val hold different classes; only the former has \"b\"; only the latter has \"c\", \"d\". \
             Give both the same class folders"
        );
    }

    #[test]
    fn refuses_a_split_out_of_range() {
        let root = tree(&["a/1.jpg", "b/1.jpg"]);
        for fraction in [-0.1, 1.0, 20.0, f32::NAN] {
            let result =
                ImageFolder::open(root.path(), &FolderOptions { validation_split: fraction, seed: 0 });
            let text = refused(&root, result);
            assert!(text.contains(&format!("a validation split of {fraction} is not possible")), "{text}");
        }
    }

    #[test]
    fn refuses_to_leave_nothing_for_validation() {
        let root = tree(&["a/1.jpg", "b/1.jpg"]);
        assert!(refused(&root, open(&root)).starts_with("ROOT: every class has a single image"));
    }

    #[test]
    fn evaluates_in_the_order_of_the_models_classes() {
        let root = tree(&["b/1.jpg", "a/1.jpg"]);
        let classes = ["z", "b", "a"].map(str::to_owned);
        let samples = open_evaluation(root.path(), &classes).unwrap();
        assert_eq!(names(&root, &samples), named(&[("a/1.jpg", 2), ("b/1.jpg", 1)]));
    }

    #[test]
    fn evaluates_the_validation_part() {
        let root = tree(&["train/a/1.jpg", "val/a/7.jpg"]);
        let samples = open_evaluation(root.path(), &["a".to_owned()]).unwrap();
        assert_eq!(names(&root, &samples), named(&[("val/a/7.jpg", 0)]));

        let root = tree(&["train/a/1.jpg", "train/b/1.jpg"]);
        let text = refused(&root, open_evaluation(root.path(), &["a".to_owned()]));
        assert!(text.starts_with("ROOT: holds train/ but no validation part"), "{text}");
        assert!(text.ends_with("or give ROOT/train to evaluate on the training images"), "{text}");
    }

    #[test]
    fn refuses_to_evaluate_a_class_that_the_model_does_not_know() {
        let root = tree(&["a/1.jpg", "x/1.jpg"]);
        let text = refused(&root, open_evaluation(root.path(), &["a".to_owned(), "b".to_owned()]));
        assert!(
            text.starts_with("ROOT/x: the model has no class \"x\"; its 2 classes are \"a\", \"b\"."),
            "{text}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn refuses_a_class_name_that_is_no_text() {
        use std::os::unix::ffi::OsStrExt;
        let root = tree(&["a/1.jpg"]);
        let name = std::ffi::OsStr::from_bytes(b"caf\xE9");
        fs::create_dir(root.path().join(name)).unwrap();
        assert!(refused(&root, open(&root)).contains("not valid UTF-8"));
    }
}
