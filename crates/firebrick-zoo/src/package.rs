//! A trained model in one safetensors file that says what it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot};
use burn::tensor::Device;
use firebrick_augment::Preprocess;
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::table_package::MOST_HIDDEN;
use crate::{AttentionPool, Checkpoint, Classifier, CreateOptions, ZooError, create, find};

/// The one key of the file's metadata. A second one would make the bytes depend on a hash map's order.
const KEY: &str = "firebrick";
/// Of the manifest; a reader refuses a newer one.
pub(crate) const FORMAT: u32 = 1;
/// No network here was trained on images with longer sides.
const MOST_PIXELS: u32 = 4096;
/// No honest header is longer than this, bytes.
const MAX_HEADER: u64 = 100 << 20;
/// No honest manifest has more than this beside a tokenizer, bytes: values of JSON take thirty times their text.
const MAX_MANIFEST: usize = 16 << 20;

/// What a package says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this list.
    pub format: u32,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Name of the model in the zoo.
    pub architecture: String,
    /// Widths of the head's hidden layers.
    pub hidden: Vec<usize>,
    /// Dropout of the head in training.
    pub dropout: f64,
    /// Attention over the backbone's feature map, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionPool>,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// How an image becomes an input.
    pub preprocess: Preprocess,
    /// Where weights and data came from.
    pub provenance: Provenance,
    /// The configuration of the run that made it.
    pub config: serde_json::Value,
}

/// Where a model's weights and data came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Address or file of the weights that training started from; none from scratch.
    pub weights: Option<String>,
    /// Their hash, where it is known.
    pub weights_sha256: Option<String>,
    /// What may be done with them, where it is known.
    pub weights_licence: Option<String>,
    /// The data that it was trained on.
    pub data: String,
    /// Whether the backbone was kept as it was.
    pub frozen_backbone: bool,
}

/// A model and what it says of itself.
pub struct Package {
    /// What it is.
    pub manifest: Manifest,
    /// Its weights.
    pub model: Classifier,
}

impl Manifest {
    /// A manifest of this version; `config` is any JSON.
    pub fn new(
        architecture: &str,
        model: &Classifier,
        classes: Vec<String>,
        preprocess: Preprocess,
        provenance: Provenance,
        config: serde_json::Value,
    ) -> Self {
        Self {
            format: FORMAT,
            producer: format!("firebrick {}", env!("CARGO_PKG_VERSION")),
            architecture: architecture.to_owned(),
            hidden: model.head.hidden_widths(),
            dropout: model.head.dropout.prob,
            attention: model.backbone.graph().attention_pool(),
            classes,
            preprocess,
            provenance,
            config,
        }
    }
}

impl Package {
    /// Writes the package to `path`: whole or not at all, with the file that was there before kept until then.
    ///
    /// The same model gives the same bytes. Tensors have PyTorch's layout and torchvision's names.
    ///
    /// # Errors
    ///
    /// [`ZooError::Io`] naming the file, e.g. when the disk is full.
    pub fn save(&self, path: &Path) -> Result<(), ZooError> {
        write(&self.model, |name| self.model.published_name(name), &self.manifest, path)
    }

    /// Reads a package and builds its model on `device`.
    ///
    /// # Errors
    ///
    /// [`ZooError::NotAPackage`] for a safetensors file of other origin, [`ZooError::Unreadable`] for one cut
    /// short, [`ZooError::Mismatch`] if its tensors are not those of the architecture it names, [`ZooError::Heads`] if its attention
    /// is impossible.
    pub fn open(path: &Path, device: &Device) -> Result<Self, ZooError> {
        let manifest = read_manifest(path)?;
        let spec = find(&manifest.architecture)?;
        let options = CreateOptions {
            classes: manifest.classes.len(),
            hidden: manifest.hidden.clone(),
            dropout: manifest.dropout,
            image_size: Some(manifest.preprocess.input_size),
            attention: manifest.attention,
            ..CreateOptions::default()
        };
        if let Some(pool) = manifest.attention {
            spec.graph(&options.build(spec)).with_attention_pool(pool)?;
        }
        let model = create(spec, &options, device);
        let model = Checkpoint::read(path)?.load_into(model, &manifest.architecture)?;
        Ok(Self { manifest, model })
    }
}

/// Writes the tensors of a model in PyTorch's layout, under published names where they have one, and what it says of itself.
pub(crate) fn write<M: ModuleSnapshot>(
    model: &M,
    published_name: impl Fn(&str) -> Option<String>,
    manifest: &impl Serialize,
    path: &Path,
) -> Result<(), ZooError> {
    let invalid = |error: String| ZooError::io(path, "encode")(std::io::Error::other(error));
    let tensors = model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    let mut stored = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = published_name(&tensor.name).unwrap_or_else(|| tensor.name.clone());
        let shape = tensor.shape.to_vec();
        let bytes = tensor.into_bytes().map_err(|error| invalid(error.to_string()))?;
        stored.push((name, shape, bytes));
    }
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| invalid(error.to_string()))?;
    let manifest = serde_json::to_string(manifest).map_err(|error| invalid(error.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), manifest)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| invalid(error.to_string()))?;
    let mut file = temporary_beside(path)?;
    file.write_all(&bytes).map_err(ZooError::io(path, "write"))?;
    publish(file, path)
}

/// What a package says of itself, as JSON, read without its weights.
pub(crate) fn read_metadata(path: &Path) -> Result<String, ZooError> {
    use std::io::Read;
    let foreign = |reason: String| ZooError::NotAPackage { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(ZooError::io(path, "read"))?;
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| foreign("it is shorter than any safetensors file".to_owned()))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(foreign(format!("it is no safetensors file (its header would have {length} bytes)")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(ZooError::io(path, "read"))?;
    // The table is validated in full, with the data's length, when the weights are read.
    let header: Header = serde_json::from_slice(&header)
        .map_err(|_| foreign("it is no safetensors file, or its header is cut short".to_owned()))?;
    let manifest = header
        .metadata
        .and_then(|metadata| metadata.firebrick)
        .ok_or_else(|| foreign("it is a safetensors file without Firebrick's metadata".to_owned()))?;
    if manifest.len() > MAX_MANIFEST {
        let text = serde_json::from_str::<WithTokenizer>(&manifest).unwrap_or_default().tokenizer;
        let beside = manifest.len().saturating_sub(serde_json::to_string(&text).map_or(0, |text| text.len()));
        if beside > MAX_MANIFEST {
            return Err(foreign(format!(
                "its metadata has {beside} bytes beside a tokenizer, {MAX_MANIFEST} at most are read"
            )));
        }
    }
    Ok(manifest)
}

/// What of a safetensors header matters here; the rest is passed over.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    firebrick: Option<String>,
}

/// What of a manifest may be long.
#[derive(Default, Deserialize)]
struct WithTokenizer {
    tokenizer: String,
}

/// The manifest of a package, read without its weights.
fn read_manifest(path: &Path) -> Result<Manifest, ZooError> {
    let foreign = |reason: String| ZooError::NotAPackage { path: path.to_owned(), reason };
    let metadata = read_metadata(path)?;
    if crate::table_package::is_of_a_table(&metadata) {
        return Err(foreign("it is a model of tables, whose data is a CSV file, not images".to_owned()));
    }
    #[cfg(feature = "text")]
    if crate::gpt_package::is_of_a_gpt(&metadata) {
        return Err(foreign("it is a language model, which `firebrick generate` uses".to_owned()));
    }
    let manifest: Manifest = serde_json::from_str(&metadata)
        .map_err(|error| foreign(format!("its metadata is not a model package's ({error})")))?;
    if manifest.format > FORMAT {
        return Err(foreign(format!(
            "it was written by {} in format {}, this version reads up to {FORMAT}",
            manifest.producer, manifest.format
        )));
    }
    // A manifest is outside input: the widths in it decide what is allocated before a tensor is compared.
    let widest = manifest.hidden.iter().copied().max().unwrap_or(0);
    if manifest.classes.is_empty()
        || widest > 1 << 20
        || manifest.hidden.contains(&0)
        || manifest.hidden.len() > MOST_HIDDEN
    {
        return Err(foreign(format!(
            "its metadata names {} classes and hidden layers {:?}",
            manifest.classes.len(),
            manifest.hidden
        )));
    }
    if !(0.0..1.0).contains(&manifest.dropout) {
        return Err(foreign(format!("its metadata names a dropout of {}", manifest.dropout)));
    }
    manifest.preprocess.validate().map_err(|error| foreign(format!("its metadata: {error}")))?;
    // Positions are made for every patch.
    if manifest.preprocess.input_size.iter().any(|side| *side > MOST_PIXELS) {
        let size = manifest.preprocess.input_size;
        return Err(foreign(format!(
            "its metadata names inputs of {size:?} pixels, more than {MOST_PIXELS}"
        )));
    }
    Ok(manifest)
}

/// A temporary file in the folder of `path`, with the permissions of any new file (temporary files are private).
pub(crate) fn temporary_beside(path: &Path) -> Result<NamedTempFile, ZooError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(ZooError::io(path, "write"))
}

/// Gives a finished temporary file its name: bytes first, then the name, then the folder's entry.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> Result<(), ZooError> {
    file.as_file().sync_all().map_err(ZooError::io(path, "write"))?;
    file.persist(path).map_err(|error| ZooError::io(path, "write")(error.error))?;
    sync_folder(path);
    Ok(())
}

/// Writes down that a file has its name. Not every system can open a folder; the name is in place either way.
pub(crate) fn sync_folder(path: &Path) {
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
}
