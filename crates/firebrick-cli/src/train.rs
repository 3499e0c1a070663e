//! `firebrick train`: a classifier from a folder of images, or by way of `table` a plain network from a CSV file.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use firebrick::augment::{Augmentation, Geometry, Interpolation, Preprocess};
use firebrick::burn::tensor::Device;
use firebrick::data::{DecodeLimits, FolderOptions, ImageFolder, Sample};
use firebrick::nn::{ClassifierHead, Network};
use firebrick::train::{
    Batches, Callback, EarlyStopping, Extracted, ImageBatches, ImageOptions, ImageTransform, LossConfig,
    Mixing, Monitor, Outcome, RateFinder, SaveWeights, Stop, TrainError, WriteHistory, evaluate, extract,
    featurewise_statistics, find_rate, fit, write_curves,
};
use firebrick::zoo::graph::Graph;
use firebrick::zoo::{Classifier, CreateOptions, Manifest, ModelSpec, Package, Provenance, check_widths};

use crate::Ended;
use crate::choices::{DataSource, Freeze, Weights};
use crate::config::{Config, Settings};
use crate::folds;
use crate::interrupt;
use crate::lr_find;
use crate::open::{check_side, image_model, start_anew};
use crate::progress::{self, EpochProgress};
use crate::run_folder::RunFolder;
use crate::table;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// TOML file of these flags; a flag wins over the file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

impl Args {
    pub(crate) fn resolve(self) -> Result<Config> {
        Config::resolve(self.settings, self.config.as_deref())
    }
}

/// The folder that holds the images of `source`; built-in ones are unpacked to the cache first.
pub(crate) fn folder_of(source: &DataSource) -> Result<PathBuf> {
    match source {
        DataSource::Folder(path) => Ok(path.clone()),
        #[cfg(feature = "fashion")]
        DataSource::BuiltinFashion => Ok(firebrick::data::builtin_fashion(&firebrick::data::cache_dir()?)?),
        #[cfg(not(feature = "fashion"))]
        DataSource::BuiltinFashion => {
            bail!("this build has no built-in data; build with the feature `fashion`")
        }
    }
}

pub(crate) fn run(args: Args) -> Result<Ended> {
    train_or_find(args.resolve()?, None)
}

/// Trains; or, with a finder, does the same up to the first step and then looks for a learning rate.
pub(crate) fn train_or_find(config: Config, finder: Option<RateFinder>) -> Result<Ended> {
    let started = Instant::now();
    if config.data.is_table() {
        return table::train(config, finder, started);
    }
    let spec = image_model(&config.model)?;
    check_network(&config, spec)?;
    let augmentation = config.augment.augmentation()?;
    let device = config.device.open()?;
    // Dropout draws from the device's own generator, which starts anywhere unless it is told where.
    device.seed(config.seed);
    let data = ImageFolder::open(
        folder_of(&config.data)?,
        &FolderOptions { validation_split: config.val_split, seed: config.seed },
    )?;
    let options = CreateOptions { classes: data.classes.len(), ..create_options(&config) };
    check_head(&options, spec)?;
    let model = || start_anew(spec, &config.weights, &options, &device);
    // A search for a rate has nothing to save: Ctrl-C just ends it.
    let stop = if finder.is_some() { Arc::default() } else { interrupt::flag()? };
    if config.folds > 0 {
        // What the folder holds for validation is data like any other here.
        let samples = [data.train.as_slice(), &data.validation].concat();
        let labels: Vec<usize> = samples.iter().map(|sample| sample.label).collect();
        let folds = folds::of(&config).stratified(&labels)?;
        return folds::run(&config, spec.name, &folds, |folder, fold| {
            let take = |places: &[usize]| places.iter().map(|&place| samples[place].clone()).collect();
            let (train, validation): (Vec<Sample>, Vec<Sample>) = (take(&fold.train), take(&fold.validation));
            device.seed(config.seed);
            let model = model()?;
            let preprocess = preprocess(&config, spec, augmentation.as_ref(), &train)?;
            let run = Run {
                manifest: manifest(&config, spec, &model, &data, preprocess)?,
                graph: model.backbone.graph().clone(),
                loss: loss(&config, &train, data.classes.len())?,
                finder,
                config: config.clone(),
                augmentation: augmentation.clone(),
                device: device.clone(),
                folder,
                stop: Arc::clone(&stop),
            };
            let accuracy = run.train(model, train, validation, Instant::now())?;
            Ok(accuracy.map(|accuracy| vec![("accuracy", accuracy)]))
        });
    }
    let folder = RunFolder::create(config.out.0.as_deref(), spec.name)?;
    folder.write_config(&config)?;
    let model = model()?;
    progress::line(&format!(
        "{} classes, {} training and {} validation images; writing to {}",
        data.classes.len(),
        data.train.len(),
        data.validation.len(),
        folder.path().display()
    ));

    let preprocess = preprocess(&config, spec, augmentation.as_ref(), &data.train)?;
    let run = Run {
        manifest: manifest(&config, spec, &model, &data, preprocess)?,
        graph: model.backbone.graph().clone(),
        loss: loss(&config, &data.train, data.classes.len())?,
        finder,
        config,
        augmentation,
        device,
        folder,
        stop,
    };
    match run.train(model, data.train, data.validation, started)? {
        Some(figure) => {
            match finder {
                None => writeln!(std::io::stdout(), "Test accuracy: {figure:.4}")?,
                Some(_) => lr_find::tell(figure)?,
            }
            Ok(Ended::Done)
        }
        None => Ok(Ended::Interrupted),
    }
}

/// What the configuration says of the network.
fn create_options(config: &Config) -> CreateOptions {
    CreateOptions {
        hidden: config.hidden.0.clone(),
        dropout: config.dropout,
        drop_path: config.drop_path,
        image_size: config.input_size.0.map(|side| [side, side]),
        seed: config.seed,
        ..CreateOptions::default()
    }
}

/// Checks what the network must agree to, from its description alone: the size of the images, the stage that is frozen, and those with a rate
/// of their own.
fn check_network(config: &Config, spec: &ModelSpec) -> Result<()> {
    ensure!(
        (0.0..1.0).contains(&config.drop_path),
        "drop_path is {:?}; it must be at least 0 and less than 1",
        config.drop_path
    );
    let options = create_options(config);
    let graph = spec.graph(&options.build(spec));
    if let Some(side) = config.input_size.0 {
        check_side("input_size", side, spec, &options)?;
    }
    if let Freeze::Until(stage) = &config.freeze {
        let stages: Vec<&str> = graph.stages().iter().map(|stage| stage.name.as_str()).collect();
        ensure!(
            stages.contains(&stage.as_str()),
            "freeze is `{stage}`; it must be backbone, none, or a stage of {}: {}",
            spec.name,
            stages.join(", ")
        );
    }
    config.stage_rates.check(spec.name, &graph, &config.freeze)
}

/// Checks the head's layers before anything is computed for them.
fn check_head(options: &CreateOptions, spec: &ModelSpec) -> Result<()> {
    let mut widths = vec![spec.graph(&options.build(spec)).features()];
    widths.extend(&options.hidden);
    widths.push(options.classes);
    check_widths(&widths).map_err(|reason| anyhow!("hidden is {:?}: {reason}", options.hidden))
}

/// The loss, if one was chosen, that goes with the training labels.
fn loss(config: &Config, train: &[Sample], classes: usize) -> Result<Option<LossConfig>> {
    let labels: Vec<usize> = train.iter().map(|sample| sample.label).collect();
    config.loss_of_classes(&labels, classes)
}

/// Resize to the input size whatever the aspect (Keras' `target_size`), then the weights' normalisation or the generator's.
fn preprocess(
    config: &Config,
    spec: &ModelSpec,
    augmentation: Option<&Augmentation>,
    train: &[Sample],
) -> Result<Preprocess> {
    let mut preprocess = Preprocess {
        input_size: config.input_size.0.map_or(spec.input_size, |side| [side, side]),
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: spec.normalization(),
    };
    if let Some(augmentation) = augmentation {
        let featurewise = match augmentation {
            Augmentation::Keras(generator) if generator.needs_featurewise_statistics() => {
                Some(featurewise_statistics(
                    train,
                    &preprocess,
                    generator.rescale,
                    config.on_bad_image.into(),
                    &DecodeLimits::default(),
                )?)
            }
            _ => None,
        };
        preprocess.normalization = augmentation.normalization(&preprocess.normalization, featurewise);
    }
    Ok(preprocess)
}

fn manifest(
    config: &Config,
    spec: &ModelSpec,
    model: &Classifier,
    data: &ImageFolder,
    preprocess: Preprocess,
) -> Result<Manifest> {
    let published = spec.weights.first().filter(|_| config.weights == Weights::Imagenet);
    let provenance = Provenance {
        weights: match &config.weights {
            Weights::None => None,
            Weights::File(path) => Some(path.display().to_string()),
            Weights::Imagenet => published.map(|weights| weights.url.to_owned()),
        },
        weights_sha256: published.map(|weights| weights.sha256.to_owned()),
        weights_licence: published.map(|weights| weights.licence.to_owned()),
        data: config.data.to_string(),
        frozen_backbone: config.freeze == Freeze::Backbone,
    };
    Ok(Manifest::new(spec.name, model, data.classes.clone(), preprocess, provenance, config.provenance()?))
}

/// The end of a run that was interrupted before its first step.
fn nothing_yet() -> Option<f64> {
    progress::line("stopped before the first step; there was nothing to save");
    None
}

/// A run that is ready to train.
struct Run {
    config: Config,
    loss: Option<LossConfig>,
    /// In place of training.
    finder: Option<RateFinder>,
    augmentation: Option<Augmentation>,
    manifest: Manifest,
    /// The network's, for the stages of its parameters.
    graph: Graph,
    device: Device,
    folder: RunFolder,
    stop: Arc<AtomicBool>,
}

impl Run {
    /// Trains, saves and measures: the accuracy in the end, or with a finder the rate that it suggests; none after Ctrl-C.
    fn train(
        self,
        model: Classifier,
        train: Vec<Sample>,
        validation: Vec<Sample>,
        started: Instant,
    ) -> Result<Option<f64>> {
        match &self.config.freeze {
            Freeze::Until(stage) => {
                let Classifier { backbone, head } = model;
                let frozen = backbone.compile_until(stage, self.manifest.preprocess.input_size)?;
                let map = |images| frozen.map(images);
                let mut train = Extracted::new(self.training_images(train)?, map);
                let mut validation = Extracted::new(self.images(validation, false), map);
                let rest = Classifier { backbone: backbone.after(stage)?, head };
                let assemble = |rest: &Classifier| Classifier {
                    backbone: rest.backbone.clone().rejoin(&backbone),
                    head: rest.head.clone(),
                };
                self.fit(rest, &mut train, &mut validation, assemble, started)
            }
            Freeze::None => {
                let mut train = self.training_images(train)?;
                let mut validation = self.images(validation, false);
                self.fit(model, &mut train, &mut validation, |network| network.clone(), started)
            }
            Freeze::Backbone => {
                let Classifier { backbone, head } = model;
                let frozen = backbone.compile(self.manifest.preprocess.input_size)?;
                let pooled = |images| frozen.pooled(images);
                let assemble =
                    |head: &ClassifierHead| Classifier { backbone: backbone.clone(), head: head.clone() };
                let Some(mut validation) = self.features(validation, pooled, "validation")? else {
                    return Ok(nothing_yet());
                };
                if self.is_random()? {
                    let mut train = Extracted::new(self.training_images(train)?, pooled);
                    return self.fit(head, &mut train, &mut validation, assemble, started);
                }
                progress::line(
                    "the backbone is frozen and nothing is random before it: its features are computed once and kept",
                );
                let Some(train) = self.features(train, pooled, "training")? else {
                    return Ok(nothing_yet());
                };
                let mut train = train.shuffled(self.config.seed);
                self.fit(head, &mut train, &mut validation, assemble, started)
            }
        }
    }

    /// Whether a training image differs from epoch to epoch.
    fn is_random(&self) -> Result<bool> {
        Ok(self.augmentation.as_ref().is_some_and(Augmentation::is_random) || self.config.mix()?.is_on())
    }

    fn training_images(&self, samples: Vec<Sample>) -> Result<Mixing<ImageBatches>> {
        Ok(Mixing::new(self.images(samples, true), self.config.mix()?, self.config.seed)?)
    }

    /// Batches of images; those for training are shuffled and augmented.
    fn images(&self, samples: Vec<Sample>, training: bool) -> ImageBatches {
        let preprocess = self.manifest.preprocess;
        let seed = self.config.seed;
        let transform = match &self.augmentation {
            Some(augmentation) if training && augmentation.is_random() => {
                ImageTransform::Augment { preprocess, augmentation: augmentation.clone(), seed }
            }
            _ => ImageTransform::Evaluate(preprocess),
        };
        self.image_batches(samples, transform, training.then_some(seed))
    }

    fn image_batches(
        &self,
        samples: Vec<Sample>,
        transform: ImageTransform,
        shuffle: Option<u64>,
    ) -> ImageBatches {
        let options = ImageOptions {
            batch_size: self.config.batch_size,
            workers: self.config.workers,
            shuffle,
            on_bad: self.config.on_bad_image.into(),
            limits: DecodeLimits::default(),
        };
        ImageBatches::new(samples, transform, &options, &self.device)
    }

    /// The backbone's features of every image, computed once; none if Ctrl-C came before the end.
    fn features(
        &self,
        samples: Vec<Sample>,
        pooled: impl Fn(firebrick::burn::tensor::Tensor<4>) -> firebrick::burn::tensor::Tensor<2>,
        what: &str,
    ) -> Result<Option<firebrick::train::InMemory<2>>> {
        let transform = ImageTransform::Evaluate(self.manifest.preprocess);
        let mut images = self.image_batches(samples, transform, None);
        let started = Instant::now();
        let bar = progress::bar(images.num_samples() as u64, progress::IMAGES);
        bar.set_prefix(format!("features, {what}"));
        let features = extract(&mut images, pooled, self.config.batch_size, |done, _| {
            bar.set_position(done as u64);
            !self.stop.load(Ordering::Relaxed)
        });
        progress::finish(&bar);
        let features = features?;
        if let Some(features) = &features {
            let seconds = started.elapsed().as_secs_f64();
            let count = features.num_samples();
            progress::line(&format!(
                "features of {count} {what} images in {seconds:.1} s, {:.1} images/s",
                count as f64 / seconds
            ));
        }
        Ok(features)
    }

    fn fit<const D: usize, N: Network<D>>(
        &self,
        network: N,
        train: &mut dyn Batches<D>,
        validation: &mut dyn Batches<D>,
        assemble: impl Fn(&N) -> Classifier,
        started: Instant,
    ) -> Result<Option<f64>> {
        let config = &self.config;
        let optimizer = config.optimizer_of(&network, |path| config.stage_rates.factor(&self.graph, path))?;
        if let Some(finder) = &self.finder {
            let loss = self.loss.clone().unwrap_or(LossConfig::cross_entropy());
            let curve = find_rate(&network, optimizer, train, &loss, finder)?;
            return lr_find::keep(&curve, finder, &self.folder).map(Some);
        }
        let save = |network: &N| {
            let package = Package { manifest: self.manifest.clone(), model: assemble(network) };
            let path = self.folder.model();
            package.save(&path).with_context(|| match path.exists() {
                true => "the model could not be saved, the one saved before is kept; check the free space",
                false => "the model could not be saved; check the free space, or choose another --out",
            })
        };
        let mut bar = EpochProgress::new();
        let mut write_history = WriteHistory::new(self.folder.history());
        let mut checkpoint = SaveWeights::when_best(Monitor::ValLoss, |network: &N| {
            save(network).map_err(|e| TrainError::Callback(e.into()))
        });
        let mut early = EarlyStopping::new(Monitor::ValLoss)
            .with_patience(if config.early_stopping == 0 { usize::MAX } else { config.early_stopping })
            .with_restore_best_weights(config.restore_best);
        let options = config.fit_options(self.loss.clone(), Arc::clone(&self.stop))?;
        let training = Instant::now();
        let outcome = {
            let mut callbacks: [&mut dyn Callback<N>; 4] =
                [&mut bar, &mut write_history, &mut checkpoint, &mut early];
            fit(network, optimizer, train, Some(&mut *validation), &options, &mut callbacks)?
        };
        let training = training.elapsed();
        let best_epoch = early.best_epoch();
        let Outcome { network, history, stop } = outcome;
        save(&network)?;
        history.write_csv(&self.folder.history())?;
        write_curves(&history, &self.folder.curves())?;

        let model = self.folder.model();
        match stop {
            Stop::NonFiniteLoss { epoch, batch, loss } => {
                let place = match batch {
                    Some(batch) => format!("step {batch} of epoch {epoch}"),
                    None => format!("the validation after epoch {epoch}"),
                };
                bail!(
                    "the loss became {loss} in {place}; the last good weights are in {}. A lower --lr (now {:?}) usually helps",
                    model.display(),
                    config.lr
                );
            }
            Stop::Interrupted { epoch } => {
                progress::line(&format!("stopped in epoch {epoch}; saved {}", model.display()));
                return Ok(None);
            }
            Stop::Callback { epoch } => progress::line(&format!(
                "val_loss has not improved for {} epochs: ended after epoch {epoch}",
                config.early_stopping
            )),
            Stop::Completed => {}
        }
        if let Some(best) = best_epoch.filter(|_| config.restore_best) {
            progress::line(&format!("weights of epoch {best}, whose val_loss was the best"));
        }
        let test = evaluate(&network, validation)?;
        progress::line(&format!(
            "training took {:.1} s, everything {:.1} s; {}",
            training.as_secs_f64(),
            started.elapsed().as_secs_f64(),
            model.display()
        ));
        Ok(Some(test.accuracy))
    }
}
