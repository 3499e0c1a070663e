//! Models by name or by file.

use std::path::Path;

use anyhow::Result;
use firebrick::augment::Preprocess;
use firebrick::burn::tensor::Device;
use firebrick::zoo::{
    Checkpoint, Classifier, CreateOptions, ModelSpec, Package, create, find, imagenet_classes,
    load_pretrained_with,
};

use crate::choices::Weights;
use crate::progress;

/// A model and what is needed to use it.
pub(crate) struct OpenModel {
    pub(crate) name: String,
    pub(crate) model: Classifier,
    pub(crate) classes: Vec<String>,
    pub(crate) preprocess: Preprocess,
    /// Whether only the head was trained.
    pub(crate) frozen_backbone: bool,
}

/// Opens a package by its path, or a model of the zoo by its name, with its published weights or those of a file.
pub(crate) fn open(name: &str, weights: Option<&Weights>, device: &Device) -> Result<OpenModel> {
    let path = Path::new(name);
    // A name of the zoo has no dot before an extension and no separator; whatever has is a file, also if it is not there.
    let is_file = path.components().count() > 1
        || path.extension().is_some_and(|e| e == "safetensors")
        || path.is_file();
    if is_file && find(name).is_err() {
        let Package { manifest, model } = Package::open(path, device)?;
        return Ok(OpenModel {
            name: manifest.architecture,
            model,
            classes: manifest.classes,
            preprocess: manifest.preprocess,
            frozen_backbone: manifest.provenance.frozen_backbone,
        });
    }
    let spec = find(name)?;
    let model = start(spec, weights.unwrap_or(&Weights::Imagenet), &CreateOptions::default(), device)?;
    Ok(OpenModel {
        name: spec.name.to_owned(),
        model,
        classes: imagenet_classes(),
        preprocess: published_preprocess(spec),
        frozen_backbone: false,
    })
}

/// The preprocessing of the published weights; the model's own where there are none.
fn published_preprocess(spec: &ModelSpec) -> Preprocess {
    match spec.weights.first() {
        Some(weights) => weights.preprocess(spec.input_size),
        None => Preprocess {
            input_size: spec.input_size,
            geometry: firebrick::augment::Geometry::Squash,
            interpolation: firebrick::augment::Interpolation::Bilinear,
            normalization: spec.normalization(),
        },
    }
}

/// A model of the zoo with the weights that were asked for.
///
/// The head is the published one; the options say what else there is to choose.
pub(crate) fn start(
    spec: &ModelSpec,
    weights: &Weights,
    options: &CreateOptions,
    device: &Device,
) -> Result<Classifier> {
    let options = CreateOptions { classes: 1000, hidden: Vec::new(), dropout: 0.0, ..options.clone() };
    Ok(match weights {
        Weights::None => create(spec, &options, device),
        Weights::File(path) => {
            Checkpoint::read(path)?.load_into(create(spec, &options, device), spec.name)?
        }
        Weights::Imagenet => {
            let mut bar = None;
            let model = load_pretrained_with(spec, &options, device, &mut |done, total| {
                bar.get_or_insert_with(|| progress::bar(total, "weights [{bar:28}] {bytes}/{total_bytes}"))
                    .set_position(done);
            })?;
            if let Some(bar) = bar {
                progress::finish(&bar);
            }
            model
        }
    })
}
