//! What comes between a gradient and a weight: clipping, penalties, constraints, averages, groups, accumulation.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Distribution, Tensor};
use firebrick_optim::{
    Accumulator, GroupConfig, LbfgsConfig, OptimizerConfig, RateConfig, RegularizeConfig, StepConfig,
    Stepper, sam_ascent,
};
use serde::Deserialize;

use crate::optimizers::{Line, Problem, device, error};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    rate: f64,
    steps: usize,
    problem: Problem,
    cases: Vec<Case>,
}

/// What was set, and all weights then biases in the end.
#[derive(Deserialize)]
struct Case {
    source: String,
    settings: BTreeMap<String, String>,
    values: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/steps.json")).expect("valid JSON")
}

fn config(settings: &BTreeMap<String, String>) -> StepConfig {
    let mut config = StepConfig::default();
    for (name, text) in settings {
        match name.as_str() {
            "clip" => config.clip = Some(text.parse().expect(text)),
            "regularize" => config.regularize = text.parse().expect(text),
            "average" => config.average = Some(text.parse().expect(text)),
            "lookahead" => config.lookahead = Some(text.parse().expect(text)),
            "sam" => config.sam = text.parse().expect(text),
            _ => {}
        }
    }
    config
}

fn gradients(line: &Line, problem: &Problem) -> GradientsParams {
    GradientsParams::from_grads(line.loss(problem).backward(), line)
}

/// What L-BFGS asks for: `scale` times the loss, and its gradients.
fn evaluate(line: Line, problem: &Problem, scale: f64) -> (f64, GradientsParams) {
    let loss = line.loss(problem) * scale;
    let value: Vec<f64> = loss.clone().into_data().convert::<f64>().try_to_vec().expect("just converted");
    (value[0], GradientsParams::from_grads(loss.backward(), &line))
}

/// A run of `steps` epochs of one batch.
fn run(golden: &Golden, settings: &BTreeMap<String, String>) -> Line {
    let mut line = Line::start(&golden.problem);
    if let Some(text) = settings.get("lbfgs") {
        let mut optimizer = text.parse::<LbfgsConfig>().expect(text).init().expect(text);
        let calls = settings.get("calls").map_or(2, |calls| calls.parse().expect("a number"));
        for _ in 0..calls {
            line = optimizer.step(golden.rate, line, |line| evaluate(line, &golden.problem, 1.0)).0;
        }
        return line;
    }
    let optimizer: OptimizerConfig =
        settings.get("optimizer").map_or("sgd", |text| text).parse().expect("optimizer");
    let groups =
        settings.get("groups").map_or(Ok(GroupConfig::default()), |text| text.parse()).expect("groups");
    let optimizer = groups.init(&optimizer, &line).expect("valid");
    let rate = RateConfig::default().init(golden.rate, golden.steps).expect("valid");
    let mut stepper = Stepper::new(optimizer, rate, &config(settings), golden.steps).expect("valid");
    for epoch in 1..=golden.steps {
        let mut found = gradients(&line, &golden.problem);
        if let Some(rho) = stepper.sam() {
            found = gradients(&sam_ascent(line.clone(), &mut found, rho), &golden.problem);
        }
        line = stepper.add(line, found, golden.problem.x.len());
        line = stepper.end_epoch(line, epoch);
    }
    stepper.averaged(&line)
}

/// With `--nocapture` it prints the figures of docs/optimization.md.
#[test]
fn thirty_steps_match_the_framework() {
    let golden = golden();
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let off = error(&run(&golden, &case.settings).values(), &case.values);
        let text = format!("{off:.1e} {} {:?}", case.source, case.settings);
        println!("{text}");
        if off.is_nan() || off > 1e-5 {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "golden file made by `{}`:\n{}", golden.made_by, wrong.join("\n"));
}

#[test]
fn a_restored_lbfgs_goes_on_to_equal_bits_and_stays_where_the_gradient_is_zero() {
    let problem = golden().problem;
    let config: LbfgsConfig = "steps=3,history=4".parse().expect("valid");
    let mut original = config.init().expect("valid");
    let mut line = Line::start(&problem);
    for _ in 0..3 {
        line = original.step(0.5, line, |line| evaluate(line, &problem, 1.0)).0;
    }
    let bytes = original.into_bytes().expect("bytes");
    let mut restored = config.init().expect("valid").from_bytes(bytes).expect("bytes");
    let mut copy = line.clone();
    for _ in 0..3 {
        line = original.step(0.5, line, |line| evaluate(line, &problem, 1.0)).0;
        copy = restored.step(0.5, copy, |line| evaluate(line, &problem, 1.0)).0;
    }
    assert_eq!(line.values(), copy.values());

    let start = Line::start(&problem);
    let before = start.values();
    let mut fresh = config.init().expect("valid");
    let (after, _) = fresh.step(0.5, start, |line| evaluate(line, &problem, 0.0));
    assert_eq!(after.values(), before);
}

#[derive(Module, Debug)]
struct Weights {
    w: Param<Tensor<2>>,
}

/// Batches of 5, 3 and 4 samples are one of 12, to the last digits of f64.
#[test]
fn accumulated_gradients_are_those_of_the_large_batch() {
    let device = device();
    let draw = |shape: [usize; 2]| {
        Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device).cast(DType::F64).detach()
    };
    let (x, y) = (draw([12, 6]), draw([12, 2]));
    let module = Weights { w: Param::from_tensor(draw([6, 2])) };
    let of = |from: usize, to: usize| {
        let miss = x.clone().narrow(0, from, to - from).matmul(module.w.val())
            - y.clone().narrow(0, from, to - from);
        GradientsParams::from_grads(miss.square().mean().backward(), &module)
    };
    let read = |gradients: &GradientsParams| -> Vec<f64> {
        let gradient: Tensor<2> = gradients.get(module.w.id).expect("a gradient");
        gradient.into_data().try_to_vec().expect("f64")
    };
    let want = read(&of(0, 12));
    let mut accumulator = Accumulator::default();
    assert!(accumulator.take(&module).is_none());
    for (from, to) in [(0, 5), (5, 8), (8, 12)] {
        accumulator.add(&module, of(from, to), to - from);
    }
    let got = read(&accumulator.take(&module).expect("three batches"));
    let off = got.iter().zip(&want).map(|(got, want)| (got - want).abs() / want.abs()).fold(0.0, f64::max);
    println!("{off:.1e} accumulation, f64");
    assert!(off < 1e-12, "{off:e}");
    // A batch alone is not touched.
    accumulator.add(&module, of(0, 5), 5);
    assert_eq!(read(&accumulator.take(&module).expect("one batch")), read(&of(0, 5)));
}

#[test]
fn a_layers_rate_shrinks_towards_the_input_and_only_vectors_lose_their_decay() {
    #[derive(Module, Debug)]
    struct Net {
        stem: Line,
        blocks: Vec<Line>,
        head: Line,
    }
    let problem = golden().problem;
    let line = || Line::start(&problem);
    let net = Net { stem: line(), blocks: vec![line(), line()], head: line() };
    let groups: GroupConfig = "no_decay=true,layer_decay=0.5".parse().expect("valid");
    // Without a gradient to speak of, AdamW moves by its decay alone: 0.1 · 0.5 of a weight, times the layer's factor.
    let optimizer: OptimizerConfig = "adamw:weight_decay=0.5".parse().expect("valid");
    let mut optimizer = groups.init(&optimizer, &net).expect("valid");
    let lines =
        |net: &Net| [net.stem.clone(), net.blocks[0].clone(), net.blocks[1].clone(), net.head.clone()];
    let loss = lines(&net).iter().map(|line| line.loss(&problem) * 0.0).reduce(|a, b| a + b).expect("four");
    let found = GradientsParams::from_grads(loss.backward(), &net);
    let before = line().values();
    let net = optimizer.step(0.1, net, found);
    for (line, factor) in lines(&net).iter().zip([0.125, 0.25, 0.5, 1.0]) {
        let want: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(i, value)| f64::from(*value) * if i < 12 { 1.0 - 0.05 * factor } else { 1.0 })
            .collect();
        let off = error(&line.values(), &want);
        assert!(off < 1e-6, "{factor}: {off:e}");
    }
    let adam: OptimizerConfig = "adam".parse().expect("valid");
    let message = groups.init(&adam, &net).err().expect("no decay").to_string();
    assert!(message.contains("`no_decay`") && message.contains("`adam`"), "{message}");
}

#[test]
fn a_parameter_has_the_rate_that_its_path_says() {
    #[derive(Module, Debug)]
    struct Net {
        stem: Line,
        head: Line,
    }
    let problem = golden().problem;
    let net = Net { stem: Line::start(&problem), head: Line::start(&problem) };
    let optimizer: OptimizerConfig = "sgd".parse().expect("valid");
    let init = |stem: f64| {
        let factor = move |path: &str| if path.starts_with("stem.") { stem } else { 1.0 };
        GroupConfig::default().init_with_factors(&optimizer, &net, factor)
    };
    let moved = |stem: f64| {
        let loss = net.stem.loss(&problem) + net.head.loss(&problem);
        let found = GradientsParams::from_grads(loss.backward(), &net);
        let after = init(stem).expect("valid").step(0.1, net.clone(), found);
        let by = |before: &Line, after: &Line| -> Vec<f64> {
            let pairs = after.values().into_iter().zip(before.values());
            pairs.map(|(after, before)| f64::from(after) - f64::from(before)).collect()
        };
        [by(&net.stem, &after.stem), by(&net.head, &after.head)]
    };
    let [stem, head] = moved(0.0);
    assert!(stem.iter().all(|by| *by == 0.0) && head.iter().any(|by| *by != 0.0));
    let [stem, head] = moved(0.25);
    for (stem, head) in stem.iter().zip(head) {
        assert!((stem - 0.25 * head).abs() < 1e-6, "{stem} is not a quarter of {head}");
    }
    for wrong in [-1.0, f64::NAN] {
        let message = init(wrong).err().expect("out of range").to_string();
        assert!(message.contains("`factor`"), "{message}");
    }
}

#[test]
fn noise_has_its_variance_and_depends_on_seed_and_step_alone() {
    let device = device();
    let module = Weights { w: Param::from_tensor(Tensor::zeros([100, 100], &device)) };
    let config: RegularizeConfig = "noise=0.3".parse().expect("valid");
    let noise = |seed, step| -> Vec<f32> {
        let mut found = GradientsParams::new();
        found.register(module.w.id, Tensor::<2>::zeros([100, 100], &device.clone().inner()));
        config.add_noise(&module, &mut found, seed, step);
        found.get::<2>(module.w.id).expect("a gradient").into_data().try_to_vec().expect("f32")
    };
    for step in [0, 9] {
        let values = noise(1, step);
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 1e4;
        let want = 0.3 / (1.0 + step as f64).powf(0.55);
        // Four standard errors of a variance of 10,000 draws.
        assert!((variance / want - 1.0).abs() < 4.0 * (2.0f64 / 1e4).sqrt(), "{variance} {want}");
    }
    assert_eq!(noise(1, 3), noise(1, 3));
    assert_ne!(noise(1, 3), noise(2, 3));
    assert_ne!(noise(1, 3)[0] / noise(1, 4)[0], (5.0f32 / 4.0).powf(0.275));
}

#[test]
fn penalties_and_constraints_are_of_chosen_weights_and_reported() {
    let problem = golden().problem;
    let line = Line::start(&problem);
    let weights: Vec<f64> = problem.w.concat().into_iter().map(f64::from).collect();
    let config: RegularizeConfig = "l1=0.5,l2=0.25".parse().expect("valid");
    let want: f64 = weights.iter().map(|w| 0.5 * w.abs() + 0.25 * w * w).sum();
    let got = config.penalty(&line).expect("a penalty");
    assert!((got / want - 1.0).abs() < 1e-6, "{got} {want}");
    let elsewhere: RegularizeConfig = "l1=0.5,non_negative=true,only=\"head\"".parse().expect("valid");
    assert_eq!(elsewhere.penalty(&line), Some(0.0));
    assert_eq!(elsewhere.constrain(line.clone()).values(), line.values());
    assert_eq!("l1=0.5,non_negative=true,only=head".parse(), Ok(elsewhere), "a word needs no quotes");
    assert_eq!(RegularizeConfig::default().penalty(&line), None);
}

#[test]
fn what_is_wrong_is_named() {
    let message = |kind: &str, text: &str| -> String {
        match kind {
            "clip" => text.parse::<firebrick_optim::Clip>().err().map(|error| error.to_string()),
            "lbfgs" => text.parse::<LbfgsConfig>().err().map(|error| error.to_string()),
            "groups" => text.parse::<GroupConfig>().err().map(|error| error.to_string()),
            "regularize" => text.parse::<RegularizeConfig>().err().map(|error| error.to_string()),
            "lookahead" => {
                text.parse::<firebrick_optim::LookaheadConfig>().err().map(|error| error.to_string())
            }
            _ => text
                .parse::<firebrick_optim::AverageConfig>()
                .and_then(|average| average.validate(10))
                .err()
                .map(|error| error.to_string()),
        }
        .unwrap_or_else(|| panic!("{kind} {text} was taken"))
    };
    for (kind, text, named) in [
        ("clip", "norm=0", "clip norm` is 0"),
        ("clip", "nrom=1", "`nrom`"),
        ("clip", "1", "key=value"),
        ("clip", "norm=1,value=1", "single key"),
        ("groups", "layer_decay=1.5", "`layer_decay` is 1.5"),
        ("groups", "decay=1", "`decay`"),
        ("regularize", "l1=-1", "`l1` is -1"),
        ("regularize", "l3=1", "`l3`"),
        ("regularize", "l1=little,only=head", "`l1` is `little`, it must be a number"),
        ("regularize", "max_norm=0", "`max_norm` is 0"),
        ("regularize", "max_norm=1,unit_norm=true", "unit_norm"),
        ("lookahead", "k=0", "lookahead k` is 0"),
        ("lookahead", "alpha=0", "lookahead alpha` is 0"),
        ("lbfgs", "steps=0", "lbfgs steps` is 0"),
        ("average", "ema=1", "`ema` is 1"),
        ("average", "swa=11", "10 epochs"),
    ] {
        let message = message(kind, text);
        assert!(message.contains(named), "{kind} {text}: {message}");
    }
}
