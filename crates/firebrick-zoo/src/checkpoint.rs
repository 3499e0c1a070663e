//! Weights from files, checked name by name before any is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::burn_pack::Tensor as StoredTensor;
use burn::store::pytorch_reader::{PickleError, PickleValue, PytorchError, PytorchReader};
use burn::store::{
    BurnToPyTorchAdapter, ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter, SafetensorsStore, bridge,
};
use burn::tensor::Bytes;
use firebrick_nn::ClassifierHead;

use crate::spec::nearest;
use crate::{BertEncoder, Classifier, ZooError};

/// The tensors of a file by name; their bytes are read when they are used.
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
}

impl Checkpoint {
    /// Reads the table of a `.safetensors` file or a PyTorch checkpoint (zip or legacy; no pickle is run).
    ///
    /// # Errors
    ///
    /// [`ZooError::Io`], [`ZooError::Unreadable`] or [`ZooError::HostilePickle`].
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        // A clear message for the commonest mistake, before a reader words it its own way.
        let length = std::fs::metadata(path).map_err(ZooError::io(path, "read"))?.len();
        if length == 0 {
            return Err(unreadable(path, "it is empty"));
        }
        let tensors = if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut store = SafetensorsStore::from_file(path);
            store.get_all_tensors().map_err(|error| unreadable(path, error))?.clone()
        } else {
            let refused = |what| ZooError::HostilePickle { path: path.to_owned(), what };
            let explained = |error| match error {
                PytorchError::Pickle(PickleError::UnsupportedType(what)) => refused(what),
                other => unreadable(path, other),
            };
            // The reader runs nothing, but it passes over what it does not know, such as a call beside good weights.
            let content = PytorchReader::read_pickle_data(path, None).map_err(explained)?;
            if let Some(what) = foreign(&content) {
                return Err(refused(what.to_owned()));
            }
            let reader = PytorchReader::new(path).map_err(explained)?;
            reader
                .into_tensors()
                .into_iter()
                .map(|(name, tensor)| (name, bridge::from_pytorch(tensor)))
                .collect()
        };
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Gives `model` these weights, all of them or none.
    ///
    /// Names are the published ones (torchvision's) or those of one of the model's aliases, layouts PyTorch's. BatchNorm's
    /// `num_batches_tracked` counts steps and is passed over, as are auxiliary heads that the network does without. Positions for images of
    /// another size and a first convolution on colour images are made to fit (see [`interpolate_positions`](crate::interpolate_positions)
    /// and [`adapt_input_channels`](crate::adapt_input_channels)).
    ///
    /// # Errors
    ///
    /// [`ZooError::Mismatch`] lists what is missing, extra and misshapen; [`ZooError::Unreadable`] if the
    /// file is shorter than its table says. The model is consumed, so that no half-loaded one is left.
    pub fn load_into(self, model: Classifier, name: &str) -> Result<Classifier, ZooError> {
        let mut checkpoint = self;
        checkpoint.tensors.retain(|tensor, _| !model.backbone.graph().passes_over(tensor));
        let alias = model.alias_of(name, |tensor| checkpoint.tensors.contains_key(tensor));
        let named = |model: &Classifier, path: &str| {
            let published = model.published_name(path)?;
            Some(alias.map_or_else(|| published.clone(), |alias| alias.of(&published)))
        };
        checkpoint.load_adapted(model, name, named, Classifier::adapt)
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
        let divides = |tensor: &StoredTensor| tensor.shape.to_vec().first().is_some_and(|rows| rows % N == 0);
        let Some(whole) = self.tensors.get(name).filter(|tensor| divides(tensor)).cloned() else { return };
        self.tensors.remove(name);
        let whole_type = whole.dtype;
        let mut shape = whole.shape.to_vec();
        shape[0] /= N;
        let length = whole.byte_len() / N;
        for (index, part) in parts.into_iter().enumerate() {
            let whole = whole.clone();
            let read = move || {
                let bytes = whole.to_bytes()?[index * length..(index + 1) * length].to_vec();
                Ok(Bytes::from_bytes_vec(bytes))
            };
            let tensor = StoredTensor::deferred(part.clone(), whole_type, shape.clone(), None, length, read);
            self.tensors.insert(part, tensor);
        }
    }

    pub(crate) fn load<M: Module>(
        self,
        model: M,
        name: &str,
        published_name: impl Fn(&M, &str) -> Option<String>,
    ) -> Result<M, ZooError> {
        self.load_adapted(model, name, published_name, |_, _, _, _| None)
    }

    /// As [`load`](Self::load); a tensor of another shape than the model's counts only where `adapt`, given its published name and the
    /// model's shape, makes nothing of it.
    fn load_adapted<M: Module>(
        mut self,
        mut model: M,
        name: &str,
        published_name: impl Fn(&M, &str) -> Option<String>,
        adapt: impl Fn(&M, &str, &StoredTensor, &[usize]) -> Option<StoredTensor>,
    ) -> Result<M, ZooError> {
        let expected = model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
        let mut mismatch = Mismatch::default();
        let mut wanted = Vec::with_capacity(expected.len());
        for parameter in expected {
            let published = published_name(&model, &parameter.name).unwrap_or_else(|| parameter.name.clone());
            let found = self.tensors.remove(&published).map(|mut found| {
                // A dense layer may be published as a convolution of one pixel.
                if without_ones(&found.shape) == without_ones(&parameter.shape) {
                    found.shape = parameter.shape.clone();
                }
                match &parameter.shape {
                    shape if found.shape == *shape => found,
                    shape => adapt(&model, &published, &found, shape).unwrap_or(found),
                }
            });
            match found {
                None => mismatch.missing.push(published),
                Some(found) if found.shape != parameter.shape => mismatch.misshapen.push(Misshapen {
                    name: published,
                    expected: parameter.shape.to_vec(),
                    found: found.shape.to_vec(),
                }),
                Some(mut found) => {
                    found.name = parameter.name;
                    wanted.push(found);
                }
            }
        }
        let counts = |name: &str| COUNTS.iter().any(|end| name.ends_with(end));
        mismatch.extra = self.tensors.into_keys().filter(|name| !counts(name)).collect();
        if !mismatch.is_empty() {
            return Err(ZooError::Mismatch {
                path: self.path,
                model: name.to_owned(),
                mismatch: Box::new(mismatch),
            });
        }
        let result = model.apply(wanted, None, Some(Box::new(PyTorchToBurnAdapter)), true);
        if let Some(error) = result.errors.first() {
            return Err(unreadable(&self.path, error));
        }
        debug_assert!(result.missing.is_empty(), "{:?}", result.missing);
        Ok(model)
    }
}

/// A shape without the ones at its end.
fn without_ones(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|&length| length != 1).map_or(0, |last| last + 1);
    &shape[..kept]
}

/// Ends of the names of buffers that count: steps, positions.
const COUNTS: [&str; 3] = [".num_batches_tracked", ".position_ids", ".relative_position_index"];

/// Python types that checkpoints hold beside numbers and text. PyTorch's own loader takes these and few others
/// (`torch.load` with `weights_only`).
const HARMLESS: &[&str] = &[
    "int",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "torch.Size",
    "torch.Tensor",
    "torch.TypedStorage",
    "torch.UntypedStorage",
    "torch.bfloat16",
    "torch.device",
    "torch.float16",
    "torch.float32",
    "torch.float64",
    "torch.int64",
];

/// The first Python name in a pickle, alphabetically, that stands neither for data nor for a tensor.
fn foreign(value: &PickleValue) -> Option<&str> {
    match value {
        PickleValue::Unsupported(name) => (!HARMLESS.contains(&name.as_str())).then_some(name),
        PickleValue::List(items) => items.iter().filter_map(foreign).min(),
        PickleValue::Dict(entries) => entries.values().filter_map(foreign).min(),
        _ => None,
    }
}

fn unreadable(path: &Path, reason: impl fmt::Display) -> ZooError {
    ZooError::Unreadable { path: path.to_owned(), reason: reason.to_string() }
}

/// How a checkpoint's tensors differ from a model's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors that the model has and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors that the checkpoint has and the model lacks.
    pub extra: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor whose shape is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Name in the checkpoint.
    pub name: String,
    /// The model's shape.
    pub expected: Vec<usize>,
    /// The checkpoint's shape.
    pub found: Vec<usize>,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }
}

/// How many names of a kind a message lists.
const LISTED: usize = 5;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = |f: &mut fmt::Formatter<'_>, count: usize| match count.saturating_sub(LISTED) {
            0 => Ok(()),
            rest => writeln!(f, "    and {rest} more"),
        };
        let extra: BTreeSet<&str> = self.extra.iter().map(String::as_str).collect();
        if !self.missing.is_empty() {
            writeln!(f, "  {} missing:", self.missing.len())?;
            for name in self.missing.iter().take(LISTED) {
                match nearest(name, extra.iter().copied()) {
                    Some(near) => writeln!(f, "    {name} (the file has {near})")?,
                    None => writeln!(f, "    {name}")?,
                }
            }
            more(f, self.missing.len())?;
        }
        if !self.extra.is_empty() {
            writeln!(f, "  {} that the model does not have:", self.extra.len())?;
            for name in self.extra.iter().take(LISTED) {
                writeln!(f, "    {name}")?;
            }
            more(f, self.extra.len())?;
        }
        if !self.misshapen.is_empty() {
            writeln!(f, "  {} of another shape:", self.misshapen.len())?;
            for tensor in self.misshapen.iter().take(LISTED) {
                writeln!(
                    f,
                    "    {}: {:?} in the file, {:?} in the model",
                    tensor.name, tensor.found, tensor.expected
                )?;
            }
            more(f, self.misshapen.len())?;
        }
        write!(
            f,
            "  Give the checkpoint of this architecture and width, with as many classes as it was trained for"
        )
    }
}
