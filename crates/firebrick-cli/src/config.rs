//! Settings of a training run: from flags, a TOML file, and defaults, in this order.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, bail, ensure};
use firebrick::burn::module::Module;
use firebrick::burn::optim::ModuleOptimizer;
use firebrick::nn::Activation;
use firebrick::optim::{GroupConfig, LbfgsConfig, OptimError, OptimizerConfig, RateConfig, StepConfig};
use firebrick::train::{DeviceChoice, FitOptions, LossConfig, MixConfig};
use serde::{Deserialize, Serialize};

use crate::choices::{Augment, Column, Columns, DataSource, Freeze, Hidden, OnBadImage, TaskChoice, Weights};
use crate::stage_rates::StageRates;

/// Declares every setting once: its flag, its key in a file, its type, its default and its help.
///
/// `Settings` is what a user gave, each part of it optional; `Config` is what a run works with.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, $value_name:literal;)*) => {
        /// What was given, in flags or in a file.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
        pub(crate) struct Settings {
            $($(#[doc = $help])+ #[arg(long, value_name = $value_name, allow_negative_numbers = true)] pub(crate) $field: Option<$type>,)*
        }

        /// The settings of a run, every one resolved.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub(crate) struct Config {
            $($(#[doc = $help])+ pub(crate) $field: $type,)*
        }

        impl Settings {
            /// Keys of a file, which are the flags' names.
            fn keys() -> Vec<String> {
                vec![$(stringify!($field).replace('_', "-"),)*]
            }

            /// These settings, with those of `file` where there are none, and the defaults where there are none either.
            fn resolve(self, file: Self) -> Result<Config> {
                Ok(Config { $($field: match self.$field.or(file.$field) {
                    Some(value) => value,
                    None => $default,
                },)* })
            }
        }
    };
}

settings! {
    /// A CSV file with a header; or a folder of images: `train/` and `validation/` with a folder a class in each, or one folder of class folders;
    /// or `builtin:fashion`, a sample of Fashion-MNIST
    data: DataSource = bail!("no data was given; use --data FOLDER, or --data builtin:fashion to try it out"), "FILE.csv|DIR|builtin:fashion";
    /// Column of a CSV file that is to be told
    target: Column = Column(None), "COLUMN";
    /// What the target is: one of some classes, or a number [default: classify for a column of texts]
    task: TaskChoice = TaskChoice(None), "classify|regress";
    /// Columns of a CSV file that are left out, e.g. names and numbers of rows
    without: Columns = Columns(Vec::new()), "COLUMN[,COLUMN...]";
    /// Cross-validate: train this many models, each validated on another part of the data; 0 for one model [default: 0]
    folds: usize = 0, "N";
    /// Repeat the cross-validation with other parts [default: 1]
    repeats: usize = 1, "N";
    /// Column of a CSV file whose equal values stay in one fold, e.g. the patient; it is no input
    group: Column = Column(None), "COLUMN";
    /// Share of each class that is kept for validation where the folder has no validation part [default: 0.2]
    val_split: f32 = 0.2, "SHARE";
    /// Model, see `firebrick models` [default: mobilenet_v2]
    model: String = "mobilenet_v2".to_owned(), "NAME";
    /// Weights to start from; of a file the head is passed over, whatever it is [default: imagenet]
    weights: Weights = Weights::Imagenet, "imagenet|none|FILE";
    /// What is not trained: all but the head, nothing, or everything up to a stage, e.g. layer3 of a ResNet (`firebrick summary` lists
    /// them); what is frozen uses its running statistics [default: backbone]
    freeze: Freeze = Freeze::Backbone, "backbone|none|STAGE";
    /// Widths of dense layers before the last one [default: 128]
    hidden: Hidden = Hidden(vec![128]), "N[,N...]|none";
    /// After each dense layer but the last of a plain network, e.g. gelu, silu, tanh, selu or leaky_relu:slope=0.3 [default: relu]
    activation: String = "relu".to_owned(), "NAME";
    /// Share of the pooled features that is dropped in training [default: 0]
    dropout: f64 = 0.0, "SHARE";
    /// Probability of dropping the last residual branch in training, less for those before: stochastic depth, in models that have it
    /// [default: 0]
    drop_path: f64 = 0.0, "P";
    /// Side of the square that images are resized to, pixels [default: the model's own, 224]
    input_size: InputSize = InputSize(None), "PIXELS";
    /// Epochs at most [default: 100]
    epochs: usize = 100, "N";
    /// Images of a step [default: 32]
    batch_size: usize = 32, "N";
    /// Learning rate [default: 0.001]
    lr: f64 = 1e-3, "RATE";
    /// Optimizer and its settings, e.g. adamw:weight_decay=0.05: adadelta, adafactor, adagrad, adam, adamax, adamw, amsgrad, lamb, lars,
    /// lion, muon, nadam, radam, rmsprop or sgd, with preset=keras or preset=torch for that framework's defaults; or
    /// lbfgs:steps=20,strong_wolfe=true, a step over all the data an epoch, best with --lr 1 [default: adam]
    optimizer: String = "adam".to_owned(), "NAME[:KEY=VALUE,...]";
    /// Loss and its settings, e.g. cross_entropy:label_smoothing=0.1,class_weights=balanced: cross_entropy, binary_cross_entropy, focal,
    /// binary_focal, kl_divergence, cosine, triplet, nt_xent, mse, mae, huber or smooth_l1 [default: cross_entropy for classes, mse for
    /// numbers]
    loss: String = "auto".to_owned(), "NAME[:KEY=VALUE,...]";
    /// Mix the inputs of a batch and their classes: mixup=ALPHA, cutmix=ALPHA, or both, either as likely [default: none]
    mix: String = "none".to_owned(), "KIND=ALPHA,...";
    /// How the learning rate moves from step to step, e.g. cosine:warmup=100: constant, cosine, cosine_restarts, exponential, linear,
    /// multi_step, noam, one_cycle, polynomial or step; or plateau:factor=0.5,patience=3, which watches val_loss [default: constant]
    schedule: String = "constant".to_owned(), "NAME[:KEY=VALUE,...]";
    /// Clip gradients: value=C every entry, norm=C every tensor, global_norm=C all together [default: none]
    clip: String = "none".to_owned(), "KIND=C";
    /// Batches whose mean gradient is one step; as many as an epoch has for whole-set gradient descent [default: 1]
    accumulate: usize = 1, "N";
    /// Parameter groups: no_decay=true (biases and norms have no weight decay), layer_decay=D (a layer's rate is D times that of
    /// the next one) [default: none]
    groups: String = "none".to_owned(), "KEY=VALUE,...";
    /// Factors of the learning rate by stage, e.g. stage1=0.1,head=2, beside layer_decay: stages that are not named keep 1, head is all that
    /// is behind the last stage; `firebrick summary` lists the stages, and what is not to be trained is said by --freeze [default: none]
    stage_rates: StageRates = StageRates::default(), "STAGE=FACTOR,...";
    /// Regularise weights: l1=L, l2=L, max_norm=C, unit_norm=true, non_negative=true, only=PART-OF-A-PATH; and gradients: noise=N
    /// [default: none]
    regularize: String = "none".to_owned(), "KEY=VALUE,...";
    /// Validate and keep averaged weights: ema=DECAY of every step, or swa=EPOCH from this epoch on [default: none]
    average: String = "none".to_owned(), "ema=DECAY|swa=EPOCH";
    /// Lookahead over the optimizer: k=STEPS,alpha=SHARE [default: none]
    lookahead: String = "none".to_owned(), "KEY=VALUE,...";
    /// Sharpness-aware minimisation with this radius, e.g. 0.05, in two passes a batch; 0 for none [default: 0]
    sam: f64 = 0.0, "RADIUS";
    /// Random variation of the images: none; keras (rotation 40, shifts, shear and zoom 0.2, flips); torchvision (crop and flip),
    /// randaugment, trivialaugment, autoaugment or augmix; or a TOML file of ImageDataGenerator's settings or of [[step]] tables [default: none]
    augment: Augment = Augment::Named("none".to_owned()), "NAME|FILE.toml";
    /// End after this many epochs without a better val_loss; 0 for never [default: 10]
    early_stopping: usize = 10, "EPOCHS";
    /// Whether to end with the weights of the best epoch [default: true]
    restore_best: bool = true, "true|false";
    /// Seed of everything random [default: 0]
    seed: u64 = 0, "N";
    /// Threads that read images; the result is the same for any number [default: 2]
    workers: usize = 2, "N";
    /// Device: auto takes a GPU if there is one [default: auto]
    device: DeviceChoice = DeviceChoice::Auto, "auto|ndarray|flex|wgpu";
    /// What to do with an image that cannot be read [default: fail]
    on_bad_image: OnBadImage = OnBadImage::Fail, "fail|skip";
    /// Folder to write to; it must be new or empty [default: runs/MODEL-N]
    out: Out = Out(None), "DIR";
}

/// Side of the inputs; the model's own where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct InputSize(#[serde(skip_serializing_if = "Option::is_none")] pub(crate) Option<u32>);

impl std::str::FromStr for InputSize {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|side| Self(Some(side)))
    }
}

/// The run folder; the next free one where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Out(pub(crate) Option<PathBuf>);

impl std::str::FromStr for Out {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Some(text.into())))
    }
}

impl Config {
    /// Resolves flags, the file at `path` if there is one, and defaults; then checks every number.
    pub(crate) fn resolve(flags: Settings, path: Option<&Path>) -> Result<Self> {
        let file = match path {
            Some(path) => read(path)?,
            None => Settings::default(),
        };
        let mut config = flags.resolve(file)?;
        config.check()?;
        // What is written of the run is then all there is to know of it.
        config.augment = config.augment.load()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let share = |name: &str, value: f64| {
            ensure!((0.0..1.0).contains(&value), "{name} is {value}, it must be at least 0 and less than 1");
            Ok(())
        };
        share("val-split", f64::from(self.val_split))?;
        ensure!(
            self.val_split > 0.0,
            "val-split is 0, but early stopping and the test need images; give 0.1 or more"
        );
        share("dropout", self.dropout)?;
        ensure!(
            self.folds == 0 || (2..=1000).contains(&self.folds),
            "folds is {}, it must be 0 or 2 to 1000",
            self.folds
        );
        ensure!((1..=1000).contains(&self.repeats), "repeats is {}, it must be 1 to 1000", self.repeats);
        ensure!(
            self.folds > 0 || (self.repeats == 1 && self.group.0.is_none()),
            "repeats and group are of cross-validation; use --folds 5 with them"
        );
        self.check_kind_of_data()?;
        for (name, value) in [("epochs", self.epochs), ("batch-size", self.batch_size)] {
            ensure!(value > 0, "{name} is 0, it must be at least 1");
        }
        ensure!(self.batch_size <= 1 << 16, "batch-size is {}, it must be at most 65536", self.batch_size);
        ensure!(self.workers <= 256, "workers is {}, it must be at most 256", self.workers);
        ensure!(
            self.lr.is_finite() && self.lr > 0.0,
            "lr is {}, it must be a number greater than 0",
            self.lr
        );
        for &width in &self.hidden.0 {
            ensure!((1..=1 << 20).contains(&width), "hidden has a width of {width}, it must be 1 to 1048576");
        }
        if let Some(side) = self.input_size.0 {
            ensure!((1..=4096).contains(&side), "input-size is {side}, it must be 1 to 4096");
        }
        // TOML's whole numbers have a sign, and the configuration is written as TOML.
        ensure!(i64::try_from(self.seed).is_ok(), "seed is {}, it must be at most {}", self.seed, i64::MAX);
        self.optimizer()?.validate()?;
        // How long the run is, only the loop knows; it checks again.
        self.schedule()?.validate(usize::MAX)?;
        self.step()?.validate(self.epochs)?;
        self.groups()?.check(&self.optimizer()?)?;
        let compares_inputs =
            matches!(self.loss()?, Some(LossConfig::Triplet { .. } | LossConfig::NtXent { .. }));
        ensure!(
            !(compares_inputs && self.mix()?.is_on()),
            "mix is `{}`, but the loss `{}` compares inputs of one class each; leave it out or take another loss",
            self.mix,
            self.loss
        );
        self.activation.parse::<Activation>()?;
        self.mix()?.validate()?;
        Ok(())
    }

    /// Refuses settings that mean nothing for the data, rather than passing them over.
    fn check_kind_of_data(&self) -> Result<()> {
        if self.data.is_table() {
            let of_images = [
                ("augment", self.augment != Augment::Named("none".to_owned())),
                ("input-size", self.input_size.0.is_some()),
                ("model", !["mobilenet_v2", "mlp"].contains(&self.model.as_str())),
                ("weights", matches!(self.weights, Weights::File(_))),
                ("stage-rates", !self.stage_rates.is_none()),
            ];
            if let Some((name, _)) = of_images.iter().find(|(_, given)| *given) {
                bail!(
                    "{name} is of images; a CSV file trains a plain network of the layers that hidden says"
                );
            }
            return Ok(());
        }
        let of_tables = [
            ("target", self.target.0.is_some()),
            ("task", self.task.0.is_some()),
            ("without", !self.without.0.is_empty()),
            ("group", self.group.0.is_some()),
            ("activation", self.activation != "relu"),
        ];
        match of_tables.iter().find(|(_, given)| *given) {
            Some((name, _)) => bail!("{name} is of tables, but data is `{}`, not a .csv file", self.data),
            None => Ok(()),
        }
    }

    /// L-BFGS, if it is the optimizer.
    fn lbfgs(&self) -> Result<Option<LbfgsConfig>> {
        let (name, settings) = self.optimizer.split_once(':').unwrap_or((&self.optimizer, ""));
        if name != "lbfgs" {
            return Ok(None);
        }
        let lbfgs = settings.parse()?;
        ensure!(
            self.mix == "none",
            "mix is `{}`, but lbfgs wants the same loss in every step; leave it out",
            self.mix
        );
        for (name, value) in [
            ("schedule", &self.schedule),
            ("clip", &self.clip),
            ("groups", &self.groups),
            ("regularize", &self.regularize),
            ("lookahead", &self.lookahead),
            ("average", &self.average),
        ] {
            let plain = ["none", "constant"].contains(&value.as_str());
            ensure!(
                plain,
                "{name} is `{value}`, but lbfgs takes its own steps; leave it out or use another optimizer"
            );
        }
        ensure!(
            self.stage_rates.is_none(),
            "stage-rates is `{}`, but lbfgs takes its own steps; leave it out or use another optimizer",
            self.stage_rates
        );
        ensure!(
            self.accumulate == 1 && self.sam == 0.0,
            "accumulate and sam go with other optimizers than lbfgs; leave them out"
        );
        ensure!(
            self.data.is_table() || self.freeze == Freeze::Backbone,
            "freeze is {}, but lbfgs trains dense layers alone; use --freeze backbone or another optimizer",
            self.freeze
        );
        Ok(Some(lbfgs))
    }

    /// The optimizer with its preset; of L-BFGS, which is none of batches, a stand-in.
    fn optimizer(&self) -> Result<OptimizerConfig> {
        if self.lbfgs()?.is_some() {
            return Ok(OptimizerConfig::sgd());
        }
        self.optimizer.parse().map_err(|error| match error {
            // Which is none of batches, so that the library's list does not have it.
            OptimError::UnknownName(_) => anyhow!("{error}, lbfgs"),
            error => error.into(),
        })
    }

    /// What moves the learning rate.
    fn schedule(&self) -> Result<RateConfig> {
        Ok(self.schedule.parse()?)
    }

    /// What comes between gradients and weights.
    fn step(&self) -> Result<StepConfig> {
        Ok(StepConfig {
            accumulate: self.accumulate,
            clip: unless_none(&self.clip)?,
            regularize: unless_none(&self.regularize)?.unwrap_or_default(),
            lookahead: unless_none(&self.lookahead)?,
            sam: self.sam,
            average: unless_none(&self.average)?,
            seed: self.seed,
        })
    }

    /// The optimizer of `network`, with a group for what has a decay or a rate of its own; `factor` is that of a parameter's rate by its path.
    pub(crate) fn optimizer_of<M: Module>(
        &self,
        network: &M,
        factor: impl Fn(&str) -> f64,
    ) -> Result<ModuleOptimizer> {
        Ok(self.groups()?.init_with_factors(&self.optimizer()?, network, factor)?)
    }

    fn groups(&self) -> Result<GroupConfig> {
        Ok(unless_none(&self.groups)?.unwrap_or_default())
    }

    /// The loss, if one was chosen.
    pub(crate) fn loss(&self) -> Result<Option<LossConfig>> {
        if self.loss == "auto" { Ok(None) } else { Ok(Some(self.loss.parse()?)) }
    }

    /// The loss, if one was chosen, for classes whose training labels these are.
    pub(crate) fn loss_of_classes(&self, labels: &[usize], classes: usize) -> Result<Option<LossConfig>> {
        let Some(loss) = self.loss()? else { return Ok(None) };
        let loss = loss.balanced(labels, classes);
        loss.validate_classes(classes)?;
        Ok(Some(loss))
    }

    /// How inputs are mixed.
    pub(crate) fn mix(&self) -> Result<MixConfig> {
        Ok(unless_none(&self.mix)?.unwrap_or_default())
    }

    /// What the training loop is told.
    pub(crate) fn fit_options(&self, loss: Option<LossConfig>, stop: Arc<AtomicBool>) -> Result<FitOptions> {
        Ok(FitOptions {
            epochs: self.epochs,
            loss,
            learning_rate: self.lr,
            lbfgs: self.lbfgs()?,
            schedule: self.schedule()?,
            step: self.step()?,
            stop,
        })
    }

    /// As a file that `--config` reads.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("cannot write the configuration as TOML")
    }

    /// What of the configuration made the model, for its package: not where it was written or by how many threads.
    pub(crate) fn provenance(&self) -> Result<serde_json::Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(map) = value.as_object_mut() {
            map.remove("workers");
            map.remove("out");
        }
        Ok(value)
    }
}

/// What `text` says, unless it is `none`.
fn unless_none<T: FromStr<Err = OptimError>>(text: &str) -> Result<Option<T>, OptimError> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

/// A question for the nearest of `known`, with a comma before it; nothing if none is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!(", did you mean `{candidate}`?"))
        .unwrap_or_default()
}

/// Reads a file of settings; an underscore in a key is as good as a hyphen.
fn read(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| anyhow!("{}: {}", path.display(), tidy(&error)))?;
    let known = Settings::keys();
    let mut settings = toml::Table::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        if !known.contains(&name) {
            let nearest = did_you_mean(&name, known.iter().map(String::as_str));
            bail!("{}: unknown key `{key}`{nearest}; there are {}", path.display(), known.join(", "));
        }
        settings.insert(name, value);
    }
    settings.try_into().map_err(|error| anyhow!("{}: {}", path.display(), tidy(&error)))
}

/// An error of the TOML reader without its trailing line break.
fn tidy(error: &toml::de::Error) -> String {
    error.to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("data = 'x'\nepochs = 3\nbatch_size = 8\nlr = 0.5\n");
        let flags = Settings { epochs: Some(7), ..Settings::default() };
        let config = Config::resolve(flags, Some(file.path())).expect("valid");
        assert_eq!((config.epochs, config.batch_size, config.lr, config.seed), (7, 8, 0.5, 0));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file_1 = file(
            "data = 'builtin:fashion'\nhidden = [64, 32]\nstage-rates = 'stage1=0.1,head=2'\n[augment]\nrotation_range = 40.0\n",
        );
        let config = Config::resolve(Settings::default(), Some(file_1.path())).expect("valid");
        let file_2 = file(&config.to_toml().expect("TOML"));
        assert_eq!(Config::resolve(Settings::default(), Some(file_2.path())).expect("valid"), config);
    }

    #[test]
    fn a_file_says_the_hidden_layers_as_a_flag_does() {
        for (text, widths) in
            [("64", &[64][..]), ("'64,32'", &[64, 32]), ("[64, 32]", &[64, 32]), ("'none'", &[])]
        {
            let file = file(&format!("data = 'x'\nhidden = {text}\n"));
            assert_eq!(Config::resolve(Settings::default(), Some(file.path())).expect(text).hidden.0, widths);
        }
    }

    #[test]
    fn an_unknown_key_is_told_its_neighbour() {
        let message = Config::resolve(Settings::default(), Some(file("data = 'x'\nepoch = 3\n").path()))
            .expect_err("misspelt")
            .to_string();
        assert!(message.contains("`epoch`") && message.contains("`epochs`"), "{message}");
    }

    #[test]
    fn a_number_outside_its_range_is_named() {
        for (text, name) in [
            ("lr = -1.0", "lr"),
            ("lr = nan", "lr"),
            ("dropout = 1.5", "dropout"),
            ("epochs = 0", "epochs"),
            ("batch-size = 0", "batch-size"),
            ("val-split = 1.0", "val-split"),
            ("hidden = 0", "hidden"),
            ("optimizer = 'adan'", "adan"),
            ("input-size = 100000", "input-size"),
            ("stage-rates = 'stage1=0'", "--freeze"),
            ("hidden = -1", "negative"),
            ("hidden = 'wide'", "wide"),
            ("[augment]\nrotation_rnage = 40", "rotation_rnage"),
        ] {
            let file = file(&format!("data = 'x'\n{text}\n"));
            let message =
                format!("{:#}", Config::resolve(Settings::default(), Some(file.path())).expect_err(text));
            assert!(message.contains(name), "{text}: {message}");
        }
    }

    #[test]
    fn the_package_does_not_say_how_many_threads_made_it() {
        let flags = |workers| Settings {
            data: Some(DataSource::BuiltinFashion),
            workers: Some(workers),
            ..Settings::default()
        };
        let of = |workers| Config::resolve(flags(workers), None).expect("valid").provenance().expect("JSON");
        assert_eq!(of(0), of(4));
    }
}
