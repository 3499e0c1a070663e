//! Models by name or by file.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use firebrick::augment::Preprocess;
use firebrick::burn::tensor::Device;
use firebrick::zoo::{
    Checkpoint, Classifier, CreateOptions, ModelSpec, Package, create, find, find_sequence, imagenet_classes,
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
        refuse_weights(path, weights)?;
        let Package { manifest, model } = Package::open(path, device)?;
        return Ok(OpenModel {
            name: manifest.architecture,
            model,
            classes: manifest.classes,
            preprocess: manifest.preprocess,
            frozen_backbone: manifest.provenance.frozen_backbone,
        });
    }
    let spec = image_model(name)?;
    let model = start(spec, weights.unwrap_or(&Weights::Imagenet), &CreateOptions::default(), device)?;
    Ok(OpenModel {
        name: spec.name.to_owned(),
        model,
        classes: imagenet_classes(),
        preprocess: published_preprocess(spec),
        frozen_backbone: false,
    })
}

/// Refuses weights beside the file of a model, which has its own.
pub(crate) fn refuse_weights(model: &Path, weights: Option<&Weights>) -> Result<()> {
    if let Some(weights) = weights {
        bail!(
            "--weights is {weights}, but {} brings its own weights; leave out --weights, or give --model the name of a model",
            model.display()
        );
    }
    Ok(())
}

/// The model of images of this name.
pub(crate) fn image_model(name: &str) -> Result<&'static ModelSpec> {
    find(name).map_err(|error| match find_sequence(name) {
        Ok(_) => anyhow!(
            "{name} is a model of sequences, and here one of images is wanted; `firebrick models` lists both, `firebrick summary --model {name}` \
             tells what it costs"
        ),
        Err(_) => error.into(),
    })
}

/// Refuses images of a side that the network cannot take, and says the smallest that it can.
pub(crate) fn check_side(setting: &str, side: u32, spec: &ModelSpec, options: &CreateOptions) -> Result<()> {
    let options = options.build(spec);
    let Err(error) = spec.graph(&options).shapes([side as usize; 2]) else { return Ok(()) };
    match spec.smallest_side(&options).filter(|least| *least > side as usize) {
        Some(least) => bail!(
            "{setting} is {side}, which is too small for {}: {error}. It takes images of {least} pixels or more",
            spec.name
        ),
        None => bail!("{setting} is {side}: {error}"),
    }
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
    let options = with_published_head(options);
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

/// The same with a new head of the options' classes and layers. That of a file is passed over, whatever it is, and need not be there.
pub(crate) fn start_anew(
    spec: &ModelSpec,
    weights: &Weights,
    options: &CreateOptions,
    device: &Device,
) -> Result<Classifier> {
    let model = match weights {
        Weights::File(path) => {
            let model = create(spec, &with_published_head(options), device);
            Checkpoint::read(path)?.load_backbone_into(model, spec.name)?
        }
        weights => start(spec, weights, options, device)?,
    };
    Ok(model.reset_head(options, device))
}

fn with_published_head(options: &CreateOptions) -> CreateOptions {
    CreateOptions { classes: 1000, hidden: Vec::new(), dropout: 0.0, ..options.clone() }
}
