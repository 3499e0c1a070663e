//! What every schedule promises.

use firebrick_optim::{ReduceOnPlateauConfig, ScheduleConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    base: f64,
    cases: Vec<Case>,
    plateaus: Vec<Plateau>,
}

/// The rates of all steps of a run.
#[derive(Deserialize)]
struct Case {
    source: String,
    schedule: String,
    rates: Vec<f64>,
}

/// The figures of epochs, and after which of them (from 0) the rate became what.
#[derive(Deserialize)]
struct Plateau {
    config: ReduceOnPlateauConfig,
    figures: Vec<f64>,
    drops: Vec<(usize, f64)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/schedules.json")).expect("valid JSON")
}

/// With `--nocapture` it prints the figures of docs/optimization.md.
#[test]
fn two_hundred_steps_match_the_framework() {
    let golden = golden();
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let schedule: ScheduleConfig = case.schedule.parse().expect("a schedule");
        let steps = case.rates.len();
        assert_eq!(steps, 200);
        schedule.validate(steps).expect("valid");
        let mut worst = (0.0, 0);
        for (step, want) in case.rates.iter().enumerate() {
            let off = ((schedule.rate(golden.base, step, steps) - want) / want).abs();
            if off.is_nan() || off > worst.0 {
                worst = (off, step);
            }
        }
        println!("{:.1e} {} {}", worst.0, case.source, case.schedule);
        if worst.0.is_nan() || worst.0 > 1e-5 {
            wrong.push(format!("{} {}: {:.1e} at step {}", case.source, case.schedule, worst.0, worst.1));
        }
    }
    assert!(wrong.is_empty(), "golden file made by `{}`:\n{}", golden.made_by, wrong.join("\n"));
}

#[test]
fn every_name_has_a_golden() {
    let golden = golden();
    for name in ScheduleConfig::NAMES {
        let has = golden.cases.iter().any(|case| case.schedule.split(':').next() == Some(name));
        assert!(has, "{name} is in no case of {}", golden.made_by);
    }
}

#[test]
fn a_plateau_drops_the_rate_where_keras_does() {
    let golden = golden();
    let mut drops = 0;
    for (number, case) in golden.plateaus.iter().enumerate() {
        let mut rule = case.config.init().expect("valid");
        let mut rate = golden.base;
        let mut got = Vec::new();
        for (epoch, figure) in case.figures.iter().enumerate() {
            // The state goes through text between any two epochs, as in a run that is resumed.
            let text = serde_json::to_string(&rule).expect("plain data");
            rule = serde_json::from_str(&text).expect("plain data");
            let next = rule.observe(*figure, rate);
            if next != rate {
                got.push((epoch, next));
            }
            rate = next;
        }
        let epochs = |drops: &[(usize, f64)]| drops.iter().map(|drop| drop.0).collect::<Vec<_>>();
        // Keras keeps the rate in f32, which ends at 0; f64 goes on for a while.
        let got: Vec<_> = got.into_iter().filter(|drop| drop.1 > 1e-38).collect();
        let want: Vec<_> = case.drops.iter().copied().filter(|drop| drop.1 > 1e-38).collect();
        assert_eq!(epochs(&got), epochs(&want), "case {number} of {}", golden.made_by);
        for (got, want) in got.iter().zip(&want) {
            assert!((got.1 - want.1).abs() <= 1e-5 * want.1, "case {number}: {got:?} != {want:?}");
        }
        drops += want.len();
    }
    assert!(drops > 20, "{drops} drops tell little");
}

#[test]
fn what_is_wrong_in_a_schedule_is_named() {
    for (text, named) in [
        ("cosin", "cosin"),
        ("step", "every"),
        ("step:every=0", "every"),
        ("step:every=3,factor=0", "factor"),
        ("multi_step:at=[20,10]", "at"),
        ("multi_step:at=soon", "at"),
        ("exponential:factor=-1", "factor"),
        ("polynomial:power=0", "power"),
        ("polynomial:end=2", "end"),
        ("cosine:end=-0.1", "end"),
        ("cosine_restarts:first=0", "first"),
        ("cosine_restarts:first=5,growth=0", "growth"),
        ("linear:start=2", "start"),
        ("one_cycle:rise=1", "rise"),
        ("one_cycle:start_division=0", "start_division"),
        ("noam:width=0", "width"),
        ("noam:warmup_steps=0", "warmup_steps"),
        ("cosine:warmup=200", "warmup"),
        ("cosine:warmup=0", "warmup"),
        ("cosine:warmup=20,warmup_start=2", "warmup_start"),
        ("cosine:warmup=20,end=2", "end"),
        ("cosine:warmap=20", "warmap"),
        ("cosine:warmup_start=0.1", "warmup_start"),
    ] {
        let result = text.parse::<ScheduleConfig>().and_then(|schedule| schedule.validate(200));
        let message = result.expect_err(text).to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
    let too_long = "cosine:warmup=200".parse::<ScheduleConfig>().expect("a schedule").validate(200);
    let message = too_long.expect_err("too long").to_string();
    assert!(message.contains("`warmup` is 200") && message.contains("200 steps of the run"), "{message}");
    for (field, config) in [
        ("factor", ReduceOnPlateauConfig { factor: 1.0, ..Default::default() }),
        ("min_delta", ReduceOnPlateauConfig { min_delta: -1.0, ..Default::default() }),
        ("min_rate", ReduceOnPlateauConfig { min_rate: f64::NAN, ..Default::default() }),
    ] {
        let message = config.init().expect_err(field).to_string();
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn a_schedule_survives_as_data() {
    for case in golden().cases {
        let schedule: ScheduleConfig = case.schedule.parse().expect("a schedule");
        let text = serde_json::to_string(&schedule).expect("plain data");
        assert_eq!(serde_json::from_str::<ScheduleConfig>(&text).expect("plain data"), schedule);
    }
}
