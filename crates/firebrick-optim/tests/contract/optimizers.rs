//! What every optimizer promises.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use firebrick_optim::OptimizerConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    problem: Problem,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Problem {
    pub(crate) x: Vec<Vec<f32>>,
    y: Vec<Vec<f32>>,
    pub(crate) w: Vec<Vec<f32>>,
    b: Vec<f32>,
}

/// An optimizer, its rate, and all weights then biases after some steps.
#[derive(Deserialize)]
struct Case {
    source: String,
    config: OptimizerConfig,
    rate: f64,
    steps: std::collections::BTreeMap<usize, Vec<f64>>,
}

#[derive(Module, Debug)]
pub(crate) struct Line {
    w: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/optimizers.json")).expect("valid JSON")
}

pub(crate) fn device() -> Device {
    #[allow(deprecated)]
    Device::ndarray().autodiff()
}

fn matrix(rows: &[Vec<f32>]) -> Tensor<2> {
    let flat: Vec<f32> = rows.concat();
    Tensor::<1>::from_floats(flat.as_slice(), &device()).reshape([rows.len(), rows[0].len()])
}

impl Line {
    pub(crate) fn start(problem: &Problem) -> Self {
        let b = Tensor::<1>::from_floats(problem.b.as_slice(), &device());
        Self { w: Param::from_tensor(matrix(&problem.w)), b: Param::from_tensor(b) }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values: Vec<f32> = self.w.val().into_data().try_to_vec().expect("f32");
        values.extend(self.b.val().into_data().try_to_vec::<f32>().expect("f32"));
        values
    }

    /// The mean of `(x w + b - y)²`.
    pub(crate) fn loss(&self, problem: &Problem) -> Tensor<1> {
        let miss = matrix(&problem.x).matmul(self.w.val()) + self.b.val().unsqueeze() - matrix(&problem.y);
        (miss.clone() * miss).mean()
    }

    /// A step on the mean of `scale · (x w + b - y)²`.
    fn step(self, problem: &Problem, optimizer: &mut ModuleOptimizer, rate: f64, scale: f64) -> Self {
        let loss = self.loss(problem) * scale;
        let grads = GradientsParams::from_grads(loss.backward(), &self);
        optimizer.step(rate, self, grads)
    }
}

/// The greatest difference over the greatest size.
pub(crate) fn error(got: &[f32], want: &[f64]) -> f64 {
    let size = want.iter().fold(0.0f64, |size, want| size.max(want.abs()));
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs());
    off.fold(0.0f64, |worst, off| if off.is_nan() { f64::INFINITY } else { worst.max(off) }) / size
}

/// `cargo test -p firebrick-optim --features ndarray -- --nocapture` prints the figures of docs/optimization.md.
#[test]
fn fifty_steps_match_the_framework() {
    let golden = golden();
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let mut optimizer = case.config.init().expect("valid");
        let mut line = Line::start(&golden.problem);
        let mut worst = 0.0f64;
        for step in 1..=50 {
            line = line.step(&golden.problem, &mut optimizer, case.rate, 1.0);
            if let Some(want) = case.steps.get(&step) {
                worst = worst.max(error(&line.values(), want));
            }
        }
        println!("{worst:.1e} {} {:?}", case.source, case.config);
        if worst > 1e-5 {
            wrong.push(format!("{worst:.1e} {} {:?}", case.source, case.config));
        }
    }
    assert!(wrong.is_empty(), "golden file made by `{}`:\n{}", golden.made_by, wrong.join("\n"));
}

/// The frameworks' own constructors, with nothing but a rate, beside our presets of their names.
#[test]
fn presets_are_the_frameworks_defaults() {
    #[derive(Deserialize)]
    struct Presets {
        made_by: String,
        presets: Vec<Preset>,
    }
    #[derive(Deserialize)]
    struct Preset {
        framework: String,
        name: String,
        rate: f64,
        values: Vec<f64>,
    }
    let problem = golden().problem;
    let Presets { made_by, presets } =
        serde_json::from_str(include_str!("../goldens/presets.json")).expect("valid JSON");
    for preset in &presets {
        let (name, framework) = (preset.name.as_str(), preset.framework.as_str());
        let config = match framework {
            "keras" => OptimizerConfig::keras(name),
            _ => OptimizerConfig::torch(name),
        };
        let config = config.unwrap_or_else(|| panic!("{framework} has {name}"));
        let text = format!("{name}:preset={framework}");
        assert_eq!(text.parse::<OptimizerConfig>().as_ref(), Ok(&config), "{text}");
        let mut optimizer = config.init().expect("valid");
        let mut line = Line::start(&problem);
        for _ in 0..50 {
            line = line.step(&problem, &mut optimizer, preset.rate, 1.0);
        }
        let off = error(&line.values(), &preset.values);
        println!("{off:.1e} {framework}'s {name} with its defaults");
        assert!(off <= 1e-5, "{framework} {name}: {off:.1e} (goldens: {made_by})");
    }
    let of = |framework: &str, config: fn(&str) -> Option<OptimizerConfig>| {
        let listed = presets.iter().filter(|preset| preset.framework == framework);
        let listed: std::collections::BTreeSet<&str> = listed.map(|preset| preset.name.as_str()).collect();
        let ours: std::collections::BTreeSet<&str> =
            OptimizerConfig::NAMES.into_iter().filter(|name| config(name).is_some()).collect();
        assert_eq!(listed, ours, "{framework}");
    };
    of("keras", OptimizerConfig::keras);
    of("torch", OptimizerConfig::torch);
    let changed: OptimizerConfig = "rmsprop:preset=torch,momentum=0.5".parse().expect("valid");
    let OptimizerConfig::RmsProp { rho, momentum, .. } = changed else { panic!("{changed:?}") };
    assert_eq!((rho, momentum), (0.99, 0.5));
}

#[test]
fn every_name_has_a_golden() {
    let golden = golden();
    for name in OptimizerConfig::NAMES {
        let preset: OptimizerConfig = name.parse().expect(name);
        let same = |case: &Case| std::mem::discriminant(&case.config) == std::mem::discriminant(&preset);
        assert!(golden.cases.iter().any(same), "{name} is in no case of {}", golden.made_by);
    }
}

#[test]
fn a_restored_optimizer_goes_on_to_equal_bits() {
    let golden = golden();
    for case in &golden.cases {
        let mut original = case.config.init().expect("valid");
        let mut line = Line::start(&golden.problem);
        for _ in 0..7 {
            line = line.step(&golden.problem, &mut original, case.rate, 1.0);
        }
        let bytes = original.into_bytes().expect("bytes");
        let mut restored = case.config.init().expect("valid").from_bytes(bytes).expect("bytes");
        let mut copy = line.clone();
        for _ in 0..3 {
            line = line.step(&golden.problem, &mut original, case.rate, 1.0);
            copy = copy.step(&golden.problem, &mut restored, case.rate, 1.0);
        }
        assert_eq!(line.values(), copy.values(), "{:?}", case.config);
    }
}

/// A parameter whose gradient is zero from the start: it stays, or shrinks by its decay and nothing else.
#[test]
fn a_zero_gradient_moves_nothing_but_the_decay() {
    const RATE: f64 = 0.1;
    let golden = golden();
    for name in OptimizerConfig::NAMES {
        // What one step leaves of a parameter; LAMB's and LARS' trust ratios make the decay's size their own.
        let (text, left) = match name {
            "adamw" | "lion" | "adafactor" | "muon" => (format!("{name}:weight_decay=0.5"), 1.0 - RATE * 0.5),
            "lamb" => ("lamb:weight_decay=0.5".to_owned(), 1.0 - RATE),
            "lars" => ("lars:momentum=0,trust_coefficient=0.5".to_owned(), 1.0 - RATE * 0.5),
            _ => (name.to_owned(), 1.0),
        };
        let config: OptimizerConfig = text.parse().expect(name);
        let mut optimizer = config.init().expect(name);
        let start = Line::start(&golden.problem);
        let want: Vec<f64> =
            start.values().iter().map(|value| f64::from(*value) * f64::powi(left, 5)).collect();
        let mut line = start;
        for _ in 0..5 {
            line = line.step(&golden.problem, &mut optimizer, RATE, 0.0);
        }
        let off = error(&line.values(), &want);
        assert!(off <= if left == 1.0 { 0.0 } else { 1e-6 }, "{name}: {off:e}");
    }
}

#[test]
fn what_is_wrong_in_a_choice_is_named() {
    for (text, named) in [
        ("adan", "adan"),
        ("adamw:weigth_decay=0.1", "weigth_decay"),
        ("adamw:weight_decay=-1", "weight_decay"),
        ("adamw:weight_decay=much", "`weight_decay` is `much`, it must be a number"),
        ("adamw:preset=jax", "`preset` is \"jax\", it must be keras or torch"),
        ("lars:preset=torch", "PyTorch has no `lars`"),
        ("muon:preset=keras", "Keras has no `muon`"),
        ("adamw:preset=keras,weight_decay=-1", "`weight_decay` is -1"),
        ("adamw:weight_decay", "weight_decay"),
        ("adamw:epsilon=1,epsilon=2", "epsilon"),
        ("nadam:momentum_decay=-1", "momentum_decay"),
        ("radam:beta_2=0.5", "beta_2"),
        ("adagrad:initial_accumulator=-1", "initial_accumulator"),
        ("adadelta:rho=1", "rho"),
        ("rmsprop:momentum=1.5", "momentum"),
        ("lars:trust_coefficient=0", "trust_coefficient"),
        ("adafactor:beta_2_decay=0.8", "beta_2_decay"),
        ("adafactor:clip_threshold=0", "clip_threshold"),
        ("muon:steps=0", "steps"),
    ] {
        let message = text.parse::<OptimizerConfig>().expect_err(text).to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
    let table = r#"{"name": "sgd", "momentum": 0.9, "dampening": 0.1}"#;
    let message = serde_json::from_str::<OptimizerConfig>(table).expect_err("unknown key").to_string();
    assert!(message.contains("dampening"), "{message}");
}
