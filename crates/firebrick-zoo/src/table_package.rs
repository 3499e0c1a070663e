//! A plain network for tables in one safetensors file, with all that makes inputs of a row.

use std::path::Path;

use burn::tensor::Device;
use firebrick_data::TableEncoder;
use firebrick_nn::{Activation, ClassifierHead, HeadConfig};
use serde::{Deserialize, Serialize};

use crate::package::{FORMAT, read_metadata, write};
use crate::{Checkpoint, ZooError};

/// The architecture that a manifest names.
const ARCHITECTURE: &str = "mlp";
/// The most hidden layers.
pub(crate) const MOST_HIDDEN: usize = 1024;
/// Most numbers of a network that a manifest may ask for: 4 GiB.
const MAX_PARAMETERS: usize = 1 << 30;

/// A multi-layer perceptron beside its inputs and outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MlpSettings {
    /// Widths of the hidden layers, each followed by the activation.
    pub hidden: Vec<usize>,
    /// After each hidden layer; ReLU where a package does not say.
    #[serde(default = "relu")]
    pub activation: Activation,
    /// Share of the inputs that is dropped in training.
    pub dropout: f64,
}

impl Default for MlpSettings {
    fn default() -> Self {
        Self { hidden: Vec::new(), activation: relu(), dropout: 0.0 }
    }
}

fn relu() -> Activation {
    Activation::Relu
}

/// What a package of a plain network says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableManifest {
    /// Version of this list.
    pub format: u32,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Always `mlp`.
    pub architecture: String,
    /// The network.
    pub network: MlpSettings,
    /// How a row becomes inputs, and what the outputs mean.
    pub encoder: TableEncoder,
    /// The data that it was trained on.
    pub data: String,
    /// The configuration of the run that made it.
    pub config: serde_json::Value,
}

/// A plain network and what it says of itself.
pub struct TablePackage {
    /// What it is.
    pub manifest: TableManifest,
    /// Its weights.
    pub model: ClassifierHead,
}

impl TableManifest {
    /// A manifest of this version; `config` is any JSON.
    pub fn new(network: MlpSettings, encoder: TableEncoder, data: String, config: serde_json::Value) -> Self {
        Self {
            format: FORMAT,
            producer: format!("firebrick {}", env!("CARGO_PKG_VERSION")),
            architecture: ARCHITECTURE.to_owned(),
            network,
            encoder,
            data,
            config,
        }
    }

    /// Makes the network on `device` with first weights that depend on `seed` alone.
    ///
    /// # Errors
    ///
    /// What is wrong with the manifest: widths of zero or of more than 2^30 weights, a dropout that is not in `0..1`, an
    /// encoder that is not [valid](TableEncoder::validate).
    pub fn init(&self, seed: u64, device: &Device) -> Result<ClassifierHead, String> {
        self.encoder.validate()?;
        let MlpSettings { hidden, activation, dropout } = &self.network;
        let mut widths = vec![self.encoder.width()];
        widths.extend(hidden);
        widths.push(self.encoder.target.width());
        check_widths(&widths)?;
        if !(0.0..1.0).contains(dropout) {
            return Err(format!("dropout is {dropout}, it must be at least 0 and less than 1"));
        }
        Ok(HeadConfig::new(self.encoder.width(), self.encoder.target.width())
            .with_hidden(hidden.clone())
            .with_activation(*activation)
            .with_dropout(*dropout)
            .init(seed, device))
    }
}

/// Checks the widths of dense layers one after another, inputs and outputs among them, before any of them is made.
///
/// # Errors
///
/// If one is 0, or there are more than 1,024 hidden ones or 2^30 weights.
pub fn check_widths(widths: &[usize]) -> Result<(), String> {
    let parameters = widths
        .windows(2)
        .map(|pair| pair[0].saturating_mul(pair[1]).saturating_add(pair[1]))
        .fold(0, usize::saturating_add);
    let hidden = widths.len().saturating_sub(2);
    match widths.contains(&0) || hidden > MOST_HIDDEN || parameters > MAX_PARAMETERS {
        true => Err(format!(
            "{hidden} hidden layers of {parameters} weights are not possible; each needs a width of at least 1, all together at most {MOST_HIDDEN} layers and {MAX_PARAMETERS} weights"
        )),
        false => Ok(()),
    }
}

impl TablePackage {
    /// Whether the file is a package of a plain network; false also for what is no package at all.
    pub fn is_at(path: &Path) -> bool {
        read_metadata(path).is_ok_and(|metadata| is_of_a_table(&metadata))
    }

    /// Writes the package to `path`, whole or not at all. The same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// [`ZooError::Io`] naming the file, e.g. when the disk is full.
    pub fn save(&self, path: &Path) -> Result<(), ZooError> {
        write(&self.model, |_| None, &self.manifest, path)
    }

    /// Reads a package and builds its network on `device`.
    ///
    /// # Errors
    ///
    /// As of [`Package::open`](crate::Package::open).
    pub fn open(path: &Path, device: &Device) -> Result<Self, ZooError> {
        let foreign = |reason: String| ZooError::NotAPackage { path: path.to_owned(), reason };
        let metadata = read_metadata(path)?;
        if !is_of_a_table(&metadata) {
            return Err(foreign("it is no model of tables".to_owned()));
        }
        let manifest: TableManifest = serde_json::from_str(&metadata)
            .map_err(|error| foreign(format!("its metadata is not a model package's ({error})")))?;
        if manifest.format > FORMAT {
            return Err(foreign(format!(
                "it was written by {} in format {}, this version reads up to {FORMAT}",
                manifest.producer, manifest.format
            )));
        }
        let model =
            manifest.init(0, device).map_err(|reason| foreign(format!("its metadata is wrong: {reason}")))?;
        let model = Checkpoint::read(path)?.load_into_mlp(model)?;
        Ok(Self { manifest, model })
    }
}

pub(crate) fn is_of_a_table(metadata: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(metadata)
        .is_ok_and(|manifest| manifest["architecture"] == ARCHITECTURE && manifest.get("encoder").is_some())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use firebrick_data::{ColumnEncoding, Encoding, Target};
    use firebrick_nn::Network;

    use super::*;
    use crate::Package;

    fn package(device: &Device) -> TablePackage {
        let number = Encoding::Number { mean: 0.1, deviation: 3.0, indicator: true };
        let encoder = TableEncoder {
            columns: vec![ColumnEncoding { name: "x".to_owned(), encoding: number }],
            target: Target::Regress { column: "y".to_owned(), mean: 2.5, deviation: 1.0 / 3.0 },
        };
        let network =
            MlpSettings { hidden: vec![5, 4, 3], activation: Activation::Elu { alpha: 0.5 }, dropout: 0.25 };
        let manifest = TableManifest::new(network, encoder, "table.csv".to_owned(), serde_json::json!({}));
        let model = manifest.init(7, device).expect("valid");
        TablePackage { manifest, model }
    }

    #[test]
    fn what_is_saved_is_opened_again_and_not_taken_for_a_model_of_images() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.safetensors");
        let saved = package(&device);
        saved.save(&path).expect("saved");
        let opened = TablePackage::open(&path, &device).expect("opened");
        assert_eq!(opened.manifest, saved.manifest);
        let inputs = Tensor::<2>::from_floats([[0.5, 0.0], [0.0, 1.0]], &device);
        assert_eq!(opened.model.forward(inputs.clone()).into_data(), saved.model.forward(inputs).into_data());
        assert!(TablePackage::is_at(&path) && !TablePackage::is_at(&folder.path().join("nowhere")));
        let message = Package::open(&path, &device).err().expect("no images").to_string();
        assert!(message.contains("model of tables"), "{message}");
    }

    #[test]
    fn a_manifest_that_asks_for_too_much_is_refused() {
        #[allow(deprecated)]
        let device = Device::ndarray();
        for network in [
            MlpSettings { hidden: vec![0], ..MlpSettings::default() },
            MlpSettings { hidden: vec![usize::MAX, usize::MAX], ..MlpSettings::default() },
            MlpSettings { hidden: vec![1 << 16, 1 << 16], ..MlpSettings::default() },
            MlpSettings { hidden: vec![4], dropout: 1.5, ..MlpSettings::default() },
        ] {
            let manifest = TableManifest { network, ..package(&device).manifest };
            assert!(manifest.init(0, &device).is_err());
        }
    }
}
