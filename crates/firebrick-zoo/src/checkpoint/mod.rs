//! Weights from files, checked name by name before any is used, and weights into files.
//!
//! Every format is read into one table: a name, a shape in PyTorch's order of axes, a type, and numbers that are read when they
//! are used, as `f32`. What the formats are is said at [`Format`]; how Keras' layouts become PyTorch's, at
//! [`Checkpoint::read`].

mod classifier;
mod format;
mod hdf5;
mod keras;
pub mod keras_names;
mod likeness;
mod mismatch;
mod onnx;
mod parameters;
mod pickle;
mod prefix;
mod pytorch;
mod safetensors;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod tfjs;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::store::burn_pack::{self, Tensor as StoredTensor};
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{DType, Shape, TensorData};
use firebrick_nn::ClassifierHead;

pub use format::Format;
pub use keras_names::KerasNames;
pub use likeness::{Likeness, likeness};
pub use mismatch::{Mismatch, Misshapen};
use parameters::{Parameter, parameters};
use source::Source;
pub use table::Dtype;
pub(crate) use table::Entry;
use table::{Reason, Table, transpose};
pub use write::{NamedTensor, write_safetensors};

use crate::{BertEncoder, ZooError};

/// The tensors of a file by name; their numbers are read when they are used.
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    tensors: Table,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors of {} ({})", self.tensors.len(), self.path.display(), self.format)
    }
}

/// Names and shapes of a model's tensors, with its name.
pub type Fingerprint = (String, Vec<(String, Vec<usize>)>);

/// How much longer than the archive a file in it may be.
const MAX_EXPANSION: u64 = 64;
/// No honest configuration of a model is longer than this, bytes.
const MAX_CONFIG: u64 = 16 << 20;

impl Checkpoint {
    /// Reads the table of a file of weights. The format is recognised by the file's first bytes, then by its name.
    ///
    /// - PyTorch `.pth`, `.pt`, `.bin`: zip or legacy. No pickle is run, and one that asks for anything but tensors' building blocks is
    ///   refused, even where it would throw the result away. Nested dictionaries become dotted names.
    /// - `.safetensors`.
    /// - Keras `.h5` (a whole model or weights alone), `.weights.h5` and `.keras`: a tensor is called by its layer and PyTorch's word
    ///   (`Conv1.weight`, `bn_Conv1.running_var`) and has PyTorch's layout: convolutions `(out, in, h, w)`, depthwise ones
    ///   `(channels * m, 1, h, w)`, dense ones `(out, in)`. [`with_keras_names`](Self::with_keras_names) gives the names of a model.
    /// - TensorFlow.js `model.json` with its files beside it, quantised or not: as Keras.
    /// - ONNX: its initialisers under their names, also those in files beside it.
    ///
    /// # Errors
    ///
    /// [`ZooError::Io`], [`ZooError::Unreadable`] or [`ZooError::HostilePickle`].
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        // A clear message for the commonest mistake, before a reader words it its own way.
        let metadata = std::fs::metadata(path).map_err(ZooError::io(path, "read"))?;
        if metadata.is_dir() {
            return Err(unreadable(path, "it is a folder; name the file in it"));
        }
        if metadata.len() == 0 {
            return Err(unreadable(path, "it is empty"));
        }
        let source = Arc::new(Source::open(path).map_err(ZooError::io(path, "read"))?);
        let refused = |refusal| match refusal {
            pytorch::Refusal::Hostile(what) => ZooError::HostilePickle { path: path.to_owned(), what },
            pytorch::Refusal::Unreadable(reason) => unreadable(path, reason),
        };
        let mut format = Format::of(&source, path).map_err(|reason| unreadable(path, reason))?;
        let table = match format {
            Format::PyTorch | Format::Keras => {
                // A zip archive says what it is by what lies in it, whatever it is called.
                match keras_archive(path, &source).map_err(|reason| unreadable(path, reason))? {
                    Some(KerasArchive { weights, config }) => {
                        format = Format::Keras;
                        keras::read(weights, config.as_deref())
                    }
                    None => {
                        format = Format::PyTorch;
                        Ok(pytorch::read_zip(path, &source).map_err(refused)?)
                    }
                }
            }
            Format::PyTorchLegacy => Ok(pytorch::read_pickles(path, &source).map_err(refused)?),
            Format::Safetensors => safetensors::read(source),
            Format::KerasHdf5 => {
                source.bytes(0, source.length() as usize).and_then(|bytes| keras::read(bytes, None))
            }
            Format::TensorFlowJs => tfjs::read(&source, path),
            Format::Onnx => onnx::read(&source, path),
        };
        let tensors = table.map_err(|reason| unreadable(path, reason))?;
        if tensors.is_empty() {
            return Err(unreadable(path, "it holds no tensors"));
        }
        Ok(Self { path: path.to_owned(), format, tensors })
    }

    /// The format that the file was recognised as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor, in PyTorch's order of axes.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// What a tensor's numbers are stored as.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|entry| entry.dtype)
    }

    /// Numbers of a tensor in row-major order, read from the file now.
    ///
    /// # Errors
    ///
    /// [`ZooError::Unreadable`] if there is no such tensor, if the file has changed or is shorter than it says, or if the numbers
    /// are none that `f32` can hold.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, ZooError> {
        let entry =
            self.tensors.get(name).ok_or_else(|| unreadable(&self.path, format!("it has no `{name}`")))?;
        entry.read().map_err(|reason| unreadable(&self.path, format!("`{name}`: {reason}")))
    }

    /// Calls tensors by the names that `name` gives them; where it gives none, they keep theirs.
    ///
    /// # Errors
    ///
    /// [`ZooError::Unreadable`] if two tensors get one name.
    pub fn with_names(mut self, name: impl Fn(&str) -> Option<String>) -> Result<Self, ZooError> {
        let mut renamed = Table::new();
        for (old, entry) in std::mem::take(&mut self.tensors) {
            let new = name(&old).unwrap_or(old);
            if renamed.contains_key(&new) {
                return Err(unreadable(&self.path, format!("two of its tensors are `{new}`")));
            }
            renamed.insert(new, entry);
        }
        self.tensors = renamed;
        Ok(self)
    }

    /// Gives the tensors of a Keras or TensorFlow.js file a model's published names; other files are left as they are.
    ///
    /// `name` maps `LAYER.WORD`, e.g. `block_1_expand_BN.running_mean`, as [`keras_names::mobilenet_v2`] does. A model that lies in
    /// another one is found within it: what stands before its layers' names stays.
    ///
    /// # Errors
    ///
    /// [`ZooError::Unreadable`] if two tensors get one name.
    pub fn with_keras_names(self, name: impl Fn(&str) -> Option<String>) -> Result<Self, ZooError> {
        if !self.format.is_keras() {
            return Ok(self);
        }
        self.with_names(|full| {
            let cuts = std::iter::once(0).chain(full.match_indices('.').map(|(dot, _)| dot + 1));
            cuts.take(16).find_map(|cut| Some(format!("{}{}", &full[..cut], name(&full[cut..])?)))
        })
    }

    /// Reorders the columns of a dense layer that follows a flattened feature map, where the file is Keras': there a map of
    /// `[height, width, channels]` was flattened, in PyTorch one of `[channels, height, width]`. VGG's and AlexNet's first dense layers
    /// are such, with a map of `[7, 7, 512]` or `[6, 6, 256]`. Other files are left as they are.
    ///
    /// # Errors
    ///
    /// [`ZooError::Unreadable`] if there is no tensor `name`, or it has not as many columns as the map values.
    pub fn with_flattened(mut self, name: &str, map: [usize; 3]) -> Result<Self, ZooError> {
        if !self.format.is_keras() {
            return Ok(self);
        }
        let [height, width, channels] = map;
        let refused = |reason: &str| unreadable(&self.path, format!("`{name}` {reason}"));
        let entry = self.tensors.get(name).ok_or_else(|| refused("is missing"))?.clone();
        let &[rows, columns] = &entry.shape[..] else {
            return Err(refused("is no dense layer's weight"));
        };
        if Some(columns) != height.checked_mul(width).and_then(|area| area.checked_mul(channels)) {
            return Err(refused(&format!("has {columns} columns, not those of a map of {map:?}")));
        }
        let entry = entry.reshaped(vec![rows, height, width, channels]).permuted(&[0, 3, 1, 2]);
        self.tensors.insert(name.to_owned(), entry.reshaped(vec![rows, columns]));
        Ok(self)
    }

    /// The model that this file is of, by names and shapes; see [`likeness()`].
    pub fn looks_like<'a>(
        &self,
        models: impl IntoIterator<Item = (&'a str, &'a [(String, Vec<usize>)])>,
    ) -> Option<Likeness> {
        let learned: Vec<_> = self
            .tensors
            .iter()
            .filter(|(name, entry)| !is_bookkeeping(name, &entry.shape))
            .map(|(name, entry)| (name.clone(), entry.shape.clone()))
            .collect();
        likeness(&learned, models)
    }

    /// Gives the tensors of a Keras or TensorFlow.js file the names that a model's have in the zoo, and the order of columns that a flattened
    /// map has there; other files are left as they are.
    ///
    /// Layers that Keras names by counting need not be counted from the first: a session that has made other models before counts on. What
    /// prepares the images, EfficientNet's `Normalization`, is left out; where it is none of the published ones, a warning says so.
    ///
    /// # Errors
    ///
    /// [`ZooError::Unreadable`] if two tensors get one name.
    pub fn with_names_of_keras(mut self, names: &KerasNames) -> Result<Self, ZooError> {
        if !self.format.is_keras() {
            return Ok(self);
        }
        for word in names.counted() {
            self = self.counted_from_the_first(word)?;
        }
        let prepares = |name: &str| {
            let layer = name.rsplit('.').nth(1).unwrap_or_default();
            names.preparing().iter().any(|word| keras_names::counted_layer(layer, word).is_some())
        };
        self.check_normalization(prepares);
        self.retain(|name| !prepares(name));
        let checkpoint = self.with_keras_names(|name| names.published(name))?;
        let Some((dense, map)) = names.flattened() else { return Ok(checkpoint) };
        let is_dense = |name: &str| {
            name.strip_suffix(dense).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        let columns = map.iter().product();
        // One of other images is left, to be reported with its shape.
        let fits = |(name, entry): &(&String, &Entry)| is_dense(name) && entry.shape.get(1) == Some(&columns);
        let found = checkpoint.tensors.iter().find(fits).map(|(name, _)| name.clone());
        match found {
            Some(name) => checkpoint.with_flattened(&name, map),
            None => Ok(checkpoint),
        }
    }

    /// Counts the layers of this word anew, those of each model in the file for themselves.
    fn counted_from_the_first(self, word: &str) -> Result<Self, ZooError> {
        // Of a name: what stands before the layer, which one it is, and what stands behind it.
        let parts = |name: &str| -> Option<(String, usize, String)> {
            let (owner, leaf) = name.rsplit_once('.')?;
            let (before, layer) =
                owner.rsplit_once('.').map_or(("", owner), |(before, layer)| (before, layer));
            Some((before.to_owned(), keras_names::counted_layer(layer, word)?, leaf.to_owned()))
        };
        let mut numbers = BTreeSet::new();
        numbers.extend(self.names().filter_map(parts).map(|(before, number, _)| (before, number)));
        self.with_names(|name| {
            let (before, number, leaf) = parts(name)?;
            let first = (before.clone(), 0);
            let place = numbers.range(first..(before.clone(), number)).count();
            let layer = if place == 0 { word.to_owned() } else { format!("{word}_{place}") };
            Some(if before.is_empty() {
                format!("{layer}.{leaf}")
            } else {
                format!("{before}.{layer}.{leaf}")
            })
        })
    }

    /// Warns of a `Normalization` that does other than those of Keras' published files, which is what the zoo's preprocessing does.
    fn check_normalization(&self, prepares: impl Fn(&str) -> bool) {
        for (leaf, published) in [("mean", [0.485, 0.456, 0.406]), ("variance", [0.229, 0.224, 0.225])] {
            let name = self.tensors.keys().find(|name| prepares(name) && name.ends_with(&format!(".{leaf}")));
            let Some(values) = name.and_then(|name| self.tensors[name].read().ok()) else { continue };
            let near = values.len() == 3 && values.iter().zip(published).all(|(a, b)| (a - b).abs() < 1e-3);
            if !near {
                tracing::warn!(
                    "{}: its Normalization layer has a {leaf} of {values:?}, not Keras' {published:?}: it was trained on images that are \
                     normalised otherwise than here",
                    self.path.display()
                );
            }
        }
    }

    /// Gives a BERT encoder these weights, all of them or none.
    ///
    /// Names are those of transformers' `BertModel`, or of one with a head, which is passed over. So is the buffer `position_ids`, which
    /// counts up.
    ///
    /// # Errors
    ///
    /// Those of [`load_into`](Self::load_into).
    pub fn load_into_bert(self, model: BertEncoder, name: &str) -> Result<BertEncoder, ZooError> {
        self.without_bert_heads().load(model, name, BertEncoder::transformers_name)
    }

    /// Gives a plain network these weights, all of them or none; see [`load_into`](Self::load_into).
    pub(crate) fn load_into_mlp(self, model: ClassifierHead) -> Result<ClassifierHead, ZooError> {
        self.load(model, "a plain network", |_, _| None)
    }

    /// Passes over the tensors whose names are not kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Gives a tensor another name where `rename` has one.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors.map(|(name, tensor)| (rename(&name).unwrap_or(name), tensor)).collect();
    }

    /// Takes a tensor apart along its first axis, into as many of equal size as there are names. One that cannot be is left, to be reported as
    /// extra.
    pub(crate) fn split_rows<const N: usize>(&mut self, name: &str, parts: [String; N]) {
        let divides = |entry: &Entry| entry.shape.first().is_some_and(|rows| rows % N == 0);
        let Some(whole) = self.tensors.get(name).filter(|entry| divides(entry)).cloned() else { return };
        self.tensors.remove(name);
        for (index, part) in parts.into_iter().enumerate() {
            self.tensors.insert(part, whole.clone().rows(index, N));
        }
    }

    /// Gives a model these weights. `published_name` is the name in a checkpoint of a tensor of the model by its path.
    pub(crate) fn load<M: Module>(
        self,
        model: M,
        name: &str,
        published_name: impl Fn(&M, &str) -> Option<String>,
    ) -> Result<M, ZooError> {
        self.load_adapted(model, name, published_name, |_, _, _, _| None, zoo)
    }

    /// As [`load`](Self::load); a tensor of another shape than the model's is misshapen only where `adapt`, given its published name and the
    /// model's shape, makes nothing of it. `models` are what the file may be of instead, asked for only when it does not fit.
    fn load_adapted<M: Module>(
        mut self,
        mut model: M,
        name: &str,
        published_name: impl Fn(&M, &str) -> Option<String>,
        adapt: impl Fn(&M, &str, &Entry, &[usize]) -> Option<Entry>,
        models: impl FnOnce() -> Vec<Fingerprint>,
    ) -> Result<M, ZooError> {
        let mut expected = parameters(&model);
        for parameter in &mut expected {
            if let Some(published) = published_name(&model, &parameter.path) {
                parameter.path = published;
            }
        }
        let published: Vec<String> = expected.iter().map(|parameter| parameter.path.clone()).collect();
        self.strip_prefixes(&published);
        let mut mismatch = Mismatch::default();
        let mut objection = None;
        let refusal = Refusal::default();
        let mut wanted = Vec::with_capacity(expected.len());
        for parameter in &expected {
            let fitted = |entry: &Entry| {
                fitted(entry, &parameter.shape)
                    .or_else(|shape| adapt(&model, &parameter.path, entry, &parameter.shape).ok_or(shape))
            };
            let found = self.tensors.get(&parameter.path);
            objection = objection.or_else(|| Some((parameter.path.clone(), found?.objection()?)));
            match found.map(fitted) {
                None => mismatch.missing.push(parameter.path.clone()),
                Some(Err(found)) => mismatch.misshapen.push(Misshapen {
                    name: parameter.path.clone(),
                    expected: parameter.shape.clone(),
                    found,
                }),
                Some(Ok(entry)) => wanted.push(stored(parameter, entry, &self.path, &refusal)),
            }
        }
        let known: std::collections::HashSet<&str> =
            expected.iter().map(|parameter| parameter.path.as_str()).collect();
        let extra = |(name, entry): (&String, &Entry)| {
            (!known.contains(name.as_str()) && !is_bookkeeping(name, &entry.shape)).then(|| name.clone())
        };
        mismatch.extra = self.tensors.iter().filter_map(extra).collect();
        if !mismatch.is_empty() {
            let models = models();
            let models = models.iter().map(|(name, tensors)| (name.as_str(), tensors.as_slice()));
            mismatch.looks_like = self.looks_like(models).filter(|likeness| likeness.model != name);
            return Err(ZooError::Mismatch {
                path: self.path,
                model: name.to_owned(),
                mismatch: Box::new(mismatch),
            });
        }
        if let Some((tensor, reason)) = objection {
            return Err(ZooError::Unusable { path: self.path, tensor, reason });
        }
        let result = model.apply(wanted, None, None, true);
        if let Some(error) = result.errors.first() {
            let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(refusal.unwrap_or_else(|| unreadable(&self.path, error)));
        }
        debug_assert!(result.missing.is_empty(), "{:?}", result.missing);
        Ok(model)
    }

    /// Takes prefixes off the names where that makes them fit. If all of the model lies under one, what lies elsewhere is of the
    /// training run, such as an optimizer's state, and is left out.
    fn strip_prefixes(&mut self, published: &[String]) {
        let compiled = self.tensors.keys().any(|name| prefix::without_orig_mod(name).is_some());
        if compiled {
            let tensors = std::mem::take(&mut self.tensors);
            self.tensors = tensors
                .into_iter()
                .map(|(name, entry)| (prefix::without_orig_mod(&name).unwrap_or(name), entry))
                .collect();
        }
        let published = || published.iter().map(String::as_str);
        let prefix = prefix::best(self.names(), published());
        if prefix.is_empty() {
            return;
        }
        let whole = published().all(|name| self.tensors.contains_key(&format!("{prefix}{name}")));
        let before = self.tensors.len();
        self.tensors = std::mem::take(&mut self.tensors)
            .into_iter()
            .filter_map(|(name, entry)| match name.strip_prefix(&prefix) {
                Some(rest) => Some((rest.to_owned(), entry)),
                None => (!whole).then_some((name, entry)),
            })
            .collect();
        tracing::debug!(prefix, left_out = before - self.tensors.len(), "names fit without their prefix");
    }
}

/// The entry in the shape that is wanted, or the shape that it has.
fn fitted(entry: &Entry, wanted: &[usize]) -> Result<Entry, Vec<usize>> {
    if entry.shape == wanted {
        return Ok(entry.clone());
    }
    // A dense layer may be published as a convolution of one pixel.
    if without_ones(&entry.shape) == without_ones(wanted) {
        return Ok(entry.clone().reshaped(wanted.to_vec()));
    }
    if entry.perhaps_depthwise {
        let depthwise = keras::as_depthwise(entry.clone());
        if depthwise.shape == wanted {
            return Ok(depthwise);
        }
    }
    Err(entry.shape.clone())
}

/// A shape without the ones at its end.
fn without_ones(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|&length| length != 1).map_or(0, |last| last + 1);
    &shape[..kept]
}

/// The first error of reading, which burn would put into its own words.
type Refusal = Arc<Mutex<Option<ZooError>>>;

/// The tensor of a parameter in the module's layout, to be read when it is applied.
fn stored(parameter: &Parameter, entry: Entry, path: &Path, refusal: &Refusal) -> StoredTensor {
    let name = parameter.path.clone();
    let turned = parameter.turned;
    let mut shape = entry.shape.clone();
    if turned {
        shape.reverse();
    }
    let (path, refusal) = (path.to_owned(), Arc::clone(refusal));
    bridge::deferred(parameter.own.clone(), DType::F32, Shape::from(shape.clone()), None, move || {
        let values = entry.read().map_err(|reason| unreadable(&path, format!("`{name}`: {reason}")));
        let usable = values.and_then(|values| match flaw(&name, &values) {
            None => Ok(values),
            Some(reason) => Err(ZooError::Unusable { path: path.clone(), tensor: name.clone(), reason }),
        });
        let values = usable.map_err(|error| {
            let words = error.to_string();
            refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            burn_pack::Error::ValidationError(words)
        })?;
        let values = match turned {
            true => transpose(&values, entry.shape[0], entry.shape[1]),
            false => values,
        };
        Ok(TensorData::new(values, shape.clone()))
    })
}

/// Why a learned tensor's numbers are of no use, if they are not.
fn flaw(name: &str, values: &[f32]) -> Option<Reason> {
    let count = values.len();
    let wild = values.iter().filter(|value| !value.is_finite()).count();
    if wild > 0 {
        return Some(format!(
            "{wild} of its {count} values are NaN or infinite: the training that wrote it has diverged, or the file is damaged; give an \
             earlier checkpoint"
        ));
    }
    if !name.ends_with("running_var") {
        return None;
    }
    let negative = values.iter().filter(|value| **value < 0.0).count();
    (negative > 0).then(|| {
        format!("{negative} of its {count} variances are below 0: the file is damaged, or its tensors have each other's names")
    })
}

/// Whether a tensor is computed rather than learned, so that no model here has it: BatchNorm counts its steps, transformers
/// store positions that count up and masks.
fn is_bookkeeping(name: &str, shape: &[usize]) -> bool {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    match leaf {
        "num_batches_tracked" | "position_ids" | "relative_position_index" | "attn_mask" => true,
        // GPT-2's causal mask, and the number that stands for minus infinity in it.
        "bias" | "masked_bias" => name.ends_with("attn.masked_bias") || shape.len() == 4,
        _ => false,
    }
}

/// Names and shapes of every image model of the zoo. No weight is made for it.
fn zoo() -> Vec<Fingerprint> {
    let device = burn::tensor::Device::default();
    let fingerprint = |spec: &crate::ModelSpec| {
        let model = crate::create(spec, &crate::CreateOptions::default(), &device);
        (spec.name.to_owned(), model.tensors())
    };
    crate::models().map(fingerprint).collect()
}

/// Those of Keras' models in the words of its files.
fn in_words_of_keras(zoo: &[Fingerprint]) -> Vec<Fingerprint> {
    let of_keras = |(name, tensors): &Fingerprint| {
        let names = keras_names::of(crate::models().find(|spec| spec.is_keras() && spec.name == name)?)?;
        let renamed = tensors.iter().map(|(tensor, shape)| Some((names.keras(tensor)?, shape.clone())));
        Some((name.clone(), renamed.collect::<Option<Vec<_>>>()?))
    };
    zoo.iter().filter_map(of_keras).collect()
}

/// What a `.keras` archive holds.
struct KerasArchive {
    /// HDF5.
    weights: Vec<u8>,
    /// The model's layers, as JSON.
    config: Option<String>,
}

/// What is in a `.keras` archive; none if it is an archive of something else.
fn keras_archive(path: &Path, source: &Source) -> Result<Option<KerasArchive>, Reason> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut archive =
        zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(|error| error.to_string())?;
    let limit = source.length().saturating_mul(MAX_EXPANSION);
    let mut content = |name: &str, limit: u64| -> Result<Option<Vec<u8>>, Reason> {
        let Some(index) = archive.index_for_name(name) else { return Ok(None) };
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("its {name}: {error}"))?;
        match bytes.len() as u64 <= limit {
            true => Ok(Some(bytes)),
            false => Err(format!(
                "its {name} has more than {limit} bytes, which none in a file of this length has"
            )),
        }
    };
    let Some(weights) = content("model.weights.h5", limit)? else { return Ok(None) };
    let config = content("config.json", limit.min(MAX_CONFIG))?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Some(KerasArchive { weights, config }))
}

fn unreadable(path: &Path, reason: impl fmt::Display) -> ZooError {
    ZooError::Unreadable { path: path.to_owned(), reason: reason.to_string() }
}
