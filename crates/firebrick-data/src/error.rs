//! What can go wrong with data, in words a user can act on.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that files, folders and samples can do wrong.
///
/// Each message names the file or folder, the value found there, and a way out.
/// [`is_bad_sample`](Self::is_bad_sample) tells a single unusable sample from a problem with the data set as
/// a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    // One sample: the others can still be used.
    /// A file could not be opened or read.
    #[error("{}: cannot be read ({source}). Check that it exists and that you may read it", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of zero bytes.
    #[error("{}: is empty (0 bytes). Copy it again from where it came from, or remove it", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The content is no image, whatever the name says.
    #[error(
        "{}: is not an image: {found}. Remove it, or replace it with a JPEG, PNG, WebP, BMP, GIF or TIFF file",
        path.display()
    )]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// An image of a format, or of a variant of a format, that is not read.
    #[error("{}: {format} is not supported. Convert it to PNG or baseline JPEG", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format's name, e.g. `HEIC`.
        format: String,
    },
    /// The file ends before the picture does.
    #[error(
        "{}: the {format} data ends too early ({bytes} bytes are there): the file is cut short. \
         Copy it again from where it came from, or remove it",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// The file's length in bytes.
        bytes: u64,
    },
    /// The file has the right signature and impossible content.
    #[error(
        "{}: the {format} data is damaged ({reason}). Copy it again from where it came from, or remove it",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The header announces more pixels than [`DecodeLimits::max_pixels`](crate::DecodeLimits::max_pixels).
    #[error(
        "{}: is {width} x {height} pixels, {} in all; the limit is {limit}. Scale it down",
        path.display(),
        u64::from(*width) * u64::from(*height)
    )]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// The file is longer than the limit.
    #[error(
        "{}: is {bytes} bytes long; the limit is {limit}. Use a smaller file",
        path.display()
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length, or the least that it is known to be.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Decoding would take more memory than
    /// [`DecodeLimits::max_allocation`](crate::DecodeLimits::max_allocation).
    #[error(
        "{}: decoding its {width} x {height} pixels takes more than the allowed {limit} bytes of memory. \
         Scale it down",
        path.display()
    )]
    TooMuchMemory {
        /// The file.
        path: PathBuf,
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// The limit in bytes.
        limit: u64,
    },
    /// A sample that another crate's [`Dataset`](crate::Dataset) cannot use.
    #[error("{what}: {reason}")]
    BadSample {
        /// The sample: a path, or a number.
        what: String,
        /// What is wrong with it, and the way out.
        reason: String,
    },

    // A folder as a whole.
    /// There is no such file or folder.
    #[error(
        "{}: does not exist. Check the spelling; relative paths start at {}",
        path.display(),
        current_dir()
    )]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder was expected.
    #[error(
        "{}: is a file, not a folder. Give the folder that holds one folder of images for each class",
        path.display()
    )]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// A folder with nothing usable in it.
    #[error(
        "{}: holds no class folders. Make one folder of images for each class in it, e.g. {}",
        path.display(),
        path.join("cat").display()
    )]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// Images without class folders around them.
    #[error(
        "{}: holds {} but no class folders. \
         Move the images of each class into a folder named after the class",
        path.display(),
        counted(*count, "image", example)
    )]
    ImagesWithoutClasses {
        /// The folder.
        path: PathBuf,
        /// How many images lie in it.
        count: usize,
        /// The first one's name.
        example: String,
    },
    /// Images next to class folders belong to no class.
    #[error(
        "{}: {} beside the class folders: of no class. \
         Move each into its class folder, or out of this folder",
        path.display(),
        counted(*count, "image", example)
    )]
    ImagesBesideClasses {
        /// The folder.
        path: PathBuf,
        /// How many images lie there.
        count: usize,
        /// The first one's name.
        example: String,
    },
    /// A classifier needs two classes.
    #[error("{}: holds only one class, {class:?}. {hint}", path.display())]
    OneClass {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: String,
        /// The way out.
        hint: String,
    },
    /// A class folder in which no image was found.
    #[error(
        "{}: the class folder {class:?} holds no images{}. Add images, or remove the folder",
        path.display(),
        ignored_note(*ignored, example)
    )]
    EmptyClass {
        /// The class folder.
        path: PathBuf,
        /// The class.
        class: String,
        /// How many other files are in it.
        ignored: usize,
        /// The first of them, if any.
        example: Option<String>,
    },
    /// A class folder whose name is not valid Unicode.
    #[error("{}: this class folder's name is not valid UTF-8. Rename it", path.display())]
    ClassName {
        /// The class folder.
        path: PathBuf,
    },
    /// Training and validation folders must have the same classes.
    #[error(
        "{} and {} hold different classes{}{}. Give both the same class folders",
        train.display(),
        validation.display(),
        only_note("the former", only_train),
        only_note("the latter", only_validation)
    )]
    ClassesDiffer {
        /// The training folder.
        train: PathBuf,
        /// The validation folder.
        validation: PathBuf,
        /// Classes of the training folder alone.
        only_train: Vec<String>,
        /// Classes of the validation folder alone.
        only_validation: Vec<String>,
    },
    /// A class folder that the model knows nothing of.
    #[error(
        "{}: the model has no class {class:?}; its {count} classes are {known}. \
         Rename the folder, or evaluate with the model that was trained on it",
        path.display()
    )]
    UnknownClass {
        /// The class folder.
        path: PathBuf,
        /// Its name.
        class: String,
        /// How many classes the model has.
        count: usize,
        /// The first of them, for the message.
        known: String,
    },
    /// The share of validation samples is out of range.
    #[error(
        "{}: a validation split of {fraction} is not possible. \
         Give a number from 0 up to, but not including, 1",
        path.display()
    )]
    InvalidSplit {
        /// The folder.
        path: PathBuf,
        /// The share asked for.
        fraction: f32,
    },
    /// No class has an image to spare for validation.
    #[error(
        "{}: every class has a single image, so none is left for validation. \
         Add images, or give a folder with train/ and validation/",
        path.display()
    )]
    NothingToValidate {
        /// The folder.
        path: PathBuf,
    },
    /// There are training images and nothing to evaluate with.
    #[error(
        "{}: holds train/ but no validation part (validation/, val/, valid/ or test/). \
         Add one, or give {} to evaluate on the training images",
        path.display(),
        train.display()
    )]
    NoValidation {
        /// The folder.
        path: PathBuf,
        /// Its training part.
        train: PathBuf,
    },
    /// No images where some were asked for.
    #[error(
        "{}: holds no images (files ending in {}){}",
        path.display(),
        crate::scan::extension_list(),
        ignored_note(*ignored, example)
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// How many other files are in it.
        ignored: usize,
        /// The first of them, if any.
        example: Option<String>,
    },

    // Other files.
    /// A file that is not the IDX file it should be.
    #[error("{}: not a usable IDX file: {reason}", path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// A table that cannot be used as it is.
    #[error("{}{}: {reason}", path.display(), place_note(*line, column))]
    Table {
        /// The CSV file.
        path: PathBuf,
        /// The line, counted from 1, if it is about one.
        line: Option<u64>,
        /// The column, if it is about one.
        column: Option<String>,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Samples that cannot be divided into folds as asked.
    #[error("{reason}")]
    Folds {
        /// Why not, and the way out.
        reason: String,
    },
    /// A file or folder could not be written.
    #[error(
        "{}: cannot be written ({source}). Check the free space and that you may write there",
        path.display()
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The platform names no cache folder.
    #[error(
        "no cache folder is known on this system. Set the environment variable FIREBRICK_CACHE to a folder"
    )]
    NoCacheFolder,

    // The loader.
    /// More than half of an epoch's samples are unusable.
    #[error(
        "{bad} of the {total} samples are unusable: more than half, so skipping them would train on something else. \
         The first was: {first}"
    )]
    TooManyBadSamples {
        /// Unusable samples met so far.
        bad: usize,
        /// Samples in the epoch.
        total: usize,
        /// The first one's error.
        first: String,
    },
    /// [`Dataset::get`](crate::Dataset::get) panicked.
    #[error(
        "sample {index}: the data set's code panicked: {message}. This is a bug in the data set, not in the data"
    )]
    Panicked {
        /// The sample's index.
        index: usize,
        /// The panic's message.
        message: String,
    },
}

/// `, line 3, column `x``, as far as known.
fn place_note(line: Option<u64>, column: &Option<String>) -> String {
    let line = line.map_or(String::new(), |line| format!(", line {line}"));
    let column = column.as_ref().map_or(String::new(), |column| format!(", column `{column}`"));
    line + &column
}

impl DataError {
    /// A [`BadSample`](Self::BadSample): for data sets outside this crate.
    pub fn bad_sample(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadSample { what: what.into(), reason: reason.into() }
    }

    /// Whether a single sample is unusable, while the others may be fine.
    ///
    /// These are the errors that [`OnBadSample::Skip`](crate::OnBadSample::Skip) skips.
    pub fn is_bad_sample(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::EmptyFile { .. }
            | Self::NotAnImage { .. }
            | Self::UnsupportedFormat { .. }
            | Self::Truncated { .. }
            | Self::Corrupt { .. }
            | Self::TooManyPixels { .. }
            | Self::FileTooLarge { .. }
            | Self::TooMuchMemory { .. }
            | Self::BadSample { .. } => true,
            Self::Missing { .. }
            | Self::NotAFolder { .. }
            | Self::NoClasses { .. }
            | Self::ImagesWithoutClasses { .. }
            | Self::ImagesBesideClasses { .. }
            | Self::OneClass { .. }
            | Self::EmptyClass { .. }
            | Self::ClassName { .. }
            | Self::ClassesDiffer { .. }
            | Self::UnknownClass { .. }
            | Self::InvalidSplit { .. }
            | Self::NothingToValidate { .. }
            | Self::NoValidation { .. }
            | Self::NoImages { .. }
            | Self::Idx { .. }
            | Self::Table { .. }
            | Self::Folds { .. }
            | Self::Write { .. }
            | Self::NoCacheFolder
            | Self::TooManyBadSamples { .. }
            | Self::Panicked { .. } => false,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    #[cfg(feature = "fashion")]
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}

fn current_dir() -> String {
    std::env::current_dir().map_or_else(|_| "the current folder".into(), |path| path.display().to_string())
}

fn ignored_note(ignored: usize, example: &Option<String>) -> String {
    match example {
        Some(example) => format!("; there are {} of another kind", counted(ignored, "file", example)),
        None => String::new(),
    }
}

/// E.g. `1 image (a.jpg)` or `7 images (a.jpg, ...)`.
fn counted(count: usize, what: &str, example: &str) -> String {
    match count {
        1 => format!("1 {what} ({example})"),
        _ => format!("{count} {what}s ({example}, ...)"),
    }
}

fn only_note(which: &str, classes: &[String]) -> String {
    match classes {
        [] => String::new(),
        classes => format!("; only {which} has {}", shortened(classes)),
    }
}

/// The first few of a list of names, for a message.
pub(crate) fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text: Vec<_> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_bad_sample_from_a_bad_folder() {
        let path = PathBuf::from("a.jpg");
        assert!(DataError::EmptyFile { path: path.clone() }.is_bad_sample());
        assert!(DataError::bad_sample("17", "no mask").is_bad_sample());
        assert!(!DataError::NoClasses { path }.is_bad_sample());
    }

    #[test]
    fn names_the_pixels_of_a_huge_header() {
        let error =
            DataError::TooManyPixels { path: "a.png".into(), width: 60_000, height: 60_000, limit: 100 };
        assert_eq!(
            error.to_string(),
            "a.png: is 60000 x 60000 pixels, 3600000000 in all; the limit is 100. Scale it down"
        );
    }

    #[test]
    fn shortens_a_long_list_of_classes() {
        let names: Vec<_> = (0..12).map(|i| i.to_string()).collect();
        assert!(shortened(&names).ends_with("\"9\", and 2 more"));
    }
}
