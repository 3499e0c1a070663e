//! Weights of sequence models out, as files that transformers and PyTorch load.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot};
use safetensors::{Dtype, tensor::TensorView};

use crate::package::{publish, temporary_beside};
use crate::{BertClassifier, BertEncoder, BertMaskedLm, BertTokenClassifier, Gpt, Transformer, ZooError};

/// A tensor in PyTorch's layout: its shape and its numbers, little-endian.
type Stored = (Vec<usize>, Vec<u8>);

macro_rules! saves {
    ($($model:ty as $theirs:literal),+) => {$(
        impl $model {
            #[doc = concat!("Writes the weights as a safetensors file of ", $theirs, "'s names and layout: whole or not at all. The same weights give the")]
            /// same bytes.
            ///
            /// # Errors
            /// [`ZooError::Io`] naming the file, e.g. when the disk is full.
            pub fn save(&self, path: &Path) -> Result<(), ZooError> {
                write(collect(self, |name| self.transformers_name(name), path)?, path)
            }
        }
    )+};
}

saves!(
    Gpt as "transformers' `GPT2LMHeadModel`",
    BertEncoder as "transformers' `BertModel`",
    BertMaskedLm as "transformers' `BertForMaskedLM`",
    BertClassifier as "transformers' `BertForSequenceClassification`",
    BertTokenClassifier as "transformers' `BertForTokenClassification`"
);

impl Transformer {
    /// Writes the weights as a safetensors file, under the names and in the layout that
    /// [`Checkpoint::load_into_transformer`](crate::Checkpoint::load_into_transformer) reads: whole or not at all. The same weights give the same
    /// bytes.
    ///
    /// # Errors
    /// [`ZooError::Io`] naming the file, e.g. when the disk is full.
    pub fn save(&self, path: &Path) -> Result<(), ZooError> {
        let mut tensors = collect(self, |name| self.torch_name(name), path)?;
        // PyTorch keeps queries', keys' and values' projections as one.
        let queries: Vec<String> = tensors.keys().filter(|name| name.contains(".q_proj.")).cloned().collect();
        for query in queries {
            let [key, value] = ["k", "v"].map(|part| query.replace(".q_proj.", &format!(".{part}_proj.")));
            let parts = [&query, &key, &value].map(|name| tensors.remove(name));
            if let [Some((mut shape, mut bytes)), Some(keys), Some(values)] = parts {
                shape[0] += keys.0[0] + values.0[0];
                bytes.extend(keys.1);
                bytes.extend(values.1);
                tensors.insert(query.replace(".q_proj.", ".in_proj_"), (shape, bytes));
            }
        }
        write(tensors, path)
    }
}

fn unwritable(path: &Path, error: impl std::fmt::Display) -> ZooError {
    ZooError::io(path, "encode")(std::io::Error::other(error.to_string()))
}

fn collect<M: Module>(
    model: &M,
    published_name: impl Fn(&str) -> Option<String>,
    path: &Path,
) -> Result<BTreeMap<String, Stored>, ZooError> {
    let tensors = model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    let stored = tensors.into_iter().map(|tensor| {
        let name = published_name(&tensor.name).unwrap_or_else(|| tensor.name.clone());
        let shape = tensor.shape.to_vec();
        let bytes = tensor.into_bytes().map_err(|error| unwritable(path, error))?;
        Ok((name, (shape, bytes.to_vec())))
    });
    stored.collect()
}

fn write(tensors: BTreeMap<String, Stored>, path: &Path) -> Result<(), ZooError> {
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| unwritable(path, error))?;
    // What transformers looks for. One key, so that no hash map's order decides the bytes.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| unwritable(path, error))?;
    let mut file = temporary_beside(path)?;
    file.write_all(&bytes).map_err(ZooError::io(path, "write"))?;
    publish(file, path)
}
