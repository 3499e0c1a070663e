//! From files on disk to batches of samples, in the same order every time.
//!
//! - [`ImageFolder`] finds the classes and pictures below a folder and splits them; [`open_evaluation`] and
//!   [`list_images`] do so for a trained model.
//! - [`decode`] turns a JPEG, PNG, WebP, BMP, GIF or TIFF file into upright 8-bit RGB, within
//!   [`DecodeLimits`].
//! - [`Loader`] asks a [`Dataset`] for samples on several threads and delivers batches whose content does not
//!   depend on how many.
//! - [`read_idx`] reads the files of the MNIST family.
//! - [`Table`] reads a CSV file, and a [`TableEncoder`] makes rows of numbers of it: standardised, one-hot, nothing missing.
//! - [`KFold`] divides samples for cross-validation: plain, stratified, grouped, repeated.
//! - [`builtin_fashion`] unpacks the sample data set that is compiled in (feature `fashion`).
//!
//! This crate knows nothing of tensors: what an item is, is up to the [`Dataset`].
//!
//! ```no_run
//! use std::sync::Arc;
//! use firebrick_data::{DecodeLimits, FolderOptions, ImageDataset, ImageFolder, Loader, LoaderOptions};
//!
//! # fn main() -> Result<(), firebrick_data::DataError> {
//! let folder = ImageFolder::open("flowers", &FolderOptions::default())?;
//! let train = ImageDataset::new(folder.train, DecodeLimits::default());
//! let loader = Loader::new(Arc::new(train), LoaderOptions { shuffle: Some(0), ..Default::default() });
//! for batch in loader.epoch(0) {
//!     for (image, label) in batch?.items {
//!         let class = &folder.classes[label];
//!         let (_width, _height, _class) = (image.width(), image.height(), class);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod cache;
mod dataset;
mod decode;
mod error;
#[cfg(feature = "fashion")]
mod fashion;
mod folder;
mod folds;
mod idx;
mod jpeg;
mod loader;
mod scan;
mod shuffle;
mod signature;
mod split;
mod table;
mod table_encoder;
mod workers;

pub use cache::cache_dir;
pub use dataset::{Dataset, ImageDataset};
pub use decode::{DecodeLimits, decode, decode_bytes};
pub use error::DataError;
#[cfg(feature = "fashion")]
pub use fashion::builtin_fashion;
pub use folder::{FolderOptions, ImageFolder, Sample, open_evaluation};
pub use folds::{Fold, KFold};
pub use idx::{IdxArray, IdxLimits, parse_idx, read_idx};
pub use image::RgbImage;
pub use loader::{BadSample, Batch, Epoch, Loader, LoaderOptions, OnBadSample};
pub use scan::{IMAGE_EXTENSIONS, list_images};
pub use shuffle::shuffled;
pub use split::stratified_split;
pub use table::{Table, TableLimits};
pub use table_encoder::{ColumnEncoding, Encoding, TableEncoder, Target, Task};
