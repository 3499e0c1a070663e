//! `cargo xtask ci`: everything CI does, cheapest step first, up to the first failure.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::metadata::{Metadata, Package};
use crate::test::Backend;
use crate::{assets, bench, fetch, layers, process, test, text};

/// The package whose examples CI runs.
const EXAMPLES_PACKAGE: &str = "firebrick-examples";

/// Every example, with the arguments by which it ends within a minute.
///
/// They are built with all backends, as the tests are, so let the arguments say which device to use.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("augment_preview", &[]),
    ("cross_validation", &["5", "1", "10"]),
    ("custom_model", &["ndarray", "1", "320"]),
    ("image_search", &["builtin:fashion", "200", "40"]),
    ("mlp_from_scratch", &["100"]),
    ("regularizers", &["regularizers.png", "60"]),
    ("sentence_similarity", &[]),
    ("tabular", &["60"]),
    ("toy_translation", &["1000"]),
    ("train_gpt", &["examples/data/lighthouse.txt", "300", "gpt.safetensors"]),
    ("transfer_learning", &["builtin:fashion", "1", "32"]),
];

/// A step's name and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 10] = [
    ("fmt", fmt),
    ("layers", layers::check),
    ("text", text::check),
    ("assets", assets::check),
    ("fetch", fetch::if_possible),
    ("clippy", clippy),
    ("doc", doc),
    ("test", test_everything),
    ("examples", run_examples),
    ("bench", bench_quickly),
];

/// Arguments of `cargo xtask ci`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these steps, in CI's order
    #[arg(value_parser = PossibleValuesParser::new(STEPS.map(|(name, _)| name)))]
    steps: Vec<String>,
}

/// Runs the steps and prints how long each one took.
pub fn run(args: &Args) -> Result<()> {
    let steps = choose(&args.steps);
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in &steps {
        eprintln!("== {name}");
        let start = Instant::now();
        outcome = step().with_context(|| format!("step {name}"));
        times.push(start.elapsed());
        if outcome.is_err() {
            break;
        }
    }
    eprint!("{}", table(&steps, &times, outcome.is_ok()));
    outcome
}

fn choose(names: &[String]) -> Vec<Step> {
    STEPS
        .into_iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|chosen| chosen == name))
        .collect()
}

/// One line a step; `times` has those that were begun, of which only the last can have failed.
fn table(steps: &[Step], times: &[Duration], passed: bool) -> String {
    let mut lines = vec!["== seconds".to_owned()];
    for (index, (name, _)) in steps.iter().enumerate() {
        let failed_here = !passed && index + 1 == times.len();
        let mark = if failed_here { "  FAILED" } else { "" };
        lines.push(match times.get(index) {
            Some(time) => format!("{name:<10}{:>8.1}{mark}", time.as_secs_f64()),
            None => format!("{name:<10}{:>8}  not run", "-"),
        });
    }
    let total: Duration = times.iter().sum();
    let verdict = if passed { "passed" } else { "FAILED" };
    lines.push(format!("{:<10}{:>8.1}  {verdict}\n", "total", total.as_secs_f64()));
    lines.join("\n")
}

fn fmt() -> Result<()> {
    process::run(&mut cargo_fmt()).context("mend it with `cargo fmt --all`")
}

fn clippy() -> Result<()> {
    process::run(&mut cargo_clippy())
}

fn doc() -> Result<()> {
    process::run(&mut cargo_doc())
}

fn test_everything() -> Result<()> {
    test::run(&test::Args::default())
}

fn bench_quickly() -> Result<()> {
    bench::run(&bench::Args::quick())
}

fn run_examples() -> Result<()> {
    let metadata = Metadata::read()?;
    let package = metadata
        .package(EXAMPLES_PACKAGE)
        .with_context(|| format!("the workspace has no package {EXAMPLES_PACKAGE}"))?;
    compare_with_table(&example_names(package), EXAMPLES)?;
    process::run(&mut cargo_build_examples())?;
    for (name, arguments) in EXAMPLES {
        process::run(&mut built_example(&metadata.target_directory, name, arguments))?;
    }
    Ok(())
}

fn example_names(package: &Package) -> BTreeSet<&str> {
    package
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(|kind| kind == "example"))
        .map(|target| target.name.as_str())
        .collect()
}

/// An example that nobody runs rots: the table names all there are.
fn compare_with_table(names: &BTreeSet<&str>, table: &[(&str, &[&str])]) -> Result<()> {
    let listed: BTreeSet<&str> = table.iter().map(|(name, _)| *name).collect();
    if let Some(name) = names.difference(&listed).next() {
        bail!("example {name} is not run: give it a line in EXAMPLES, xtask/src/ci.rs");
    }
    if let Some(name) = listed.difference(names).next() {
        bail!("there is no example {name}: take its line out of EXAMPLES, xtask/src/ci.rs");
    }
    Ok(())
}

fn cargo_fmt() -> Command {
    let mut command = Command::new("cargo");
    command.args(["fmt", "--all", "--check"]);
    command
}

fn cargo_clippy() -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["clippy", "--workspace", "--all-targets", "--features"])
        .arg(test::features(&Backend::ALL))
        .args(["--", "-D", "warnings"]);
    command
}

/// With the same features as clippy, whose check of the dependencies it then shares.
fn cargo_doc() -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["doc", "--workspace", "--no-deps", "--features"])
        .arg(test::features(&Backend::ALL))
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// Of the whole workspace, as the tests: `cargo run -p` would settle on fewer features of shared
/// dependencies, and compile most of them once more.
fn cargo_build_examples() -> Command {
    let mut command = Command::new("cargo");
    command.args(["build", "--workspace", "--examples", "--features"]).arg(test::features(&Backend::ALL));
    command
}

fn built_example(target_directory: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(target_directory.join("debug/examples").join(name));
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_its_commands() {
        let commands = [
            (cargo_fmt(), "cargo fmt --all --check"),
            (cargo_clippy(), "cargo clippy --workspace --all-targets --features flex,wgpu -- -D warnings"),
            (cargo_doc(), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --features flex,wgpu"),
            (cargo_build_examples(), "cargo build --workspace --examples --features flex,wgpu"),
            (
                built_example(Path::new("target"), "custom_model", &["--device", "ndarray"]),
                "target/debug/examples/custom_model --device ndarray",
            ),
        ];
        for (command, expected) in commands {
            assert_eq!(process::typed(&command), expected);
        }
    }

    #[test]
    fn every_example_is_run() {
        let table: &[(&str, &[&str])] = &[("augment_preview", &[]), ("custom_model", &["--quick"])];
        let both = BTreeSet::from(["augment_preview", "custom_model"]);
        compare_with_table(&both, table).unwrap();

        let more = BTreeSet::from(["augment_preview", "custom_model", "transfer_learning"]);
        let error = compare_with_table(&more, table).unwrap_err().to_string();
        assert!(error.contains("transfer_learning is not run"), "{error}");

        let fewer = BTreeSet::from(["custom_model"]);
        let error = compare_with_table(&fewer, table).unwrap_err().to_string();
        assert!(error.contains("no example augment_preview"), "{error}");
    }

    #[test]
    fn knows_an_example_by_its_kind() {
        let package: Package = serde_json::from_value(serde_json::json!({
            "name": EXAMPLES_PACKAGE, "dependencies": [], "features": {},
            "targets": [
                { "name": "firebrick_examples", "kind": ["lib"] },
                { "name": "custom_model", "kind": ["example"] },
            ],
        }))
        .unwrap();
        assert_eq!(example_names(&package), BTreeSet::from(["custom_model"]));
    }

    #[test]
    fn runs_all_steps_or_those_named_in_its_own_order() {
        let names = |chosen: &[&str]| -> Vec<&str> {
            let chosen: Vec<String> = chosen.iter().map(|name| name.to_string()).collect();
            choose(&chosen).iter().map(|(name, _)| *name).collect()
        };
        assert_eq!(names(&[]), STEPS.map(|(name, _)| name));
        assert_eq!(names(&["text", "layers"]), ["layers", "text"]);
    }

    #[test]
    fn the_table_shows_where_it_failed_and_what_was_not_run() {
        let times = [Duration::from_millis(1500), Duration::from_secs(2)];
        assert_eq!(
            table(&STEPS[..3], &times, false),
            "== seconds\n\
             fmt            1.5\n\
             layers         2.0  FAILED\n\
             text             -  not run\n\
             total          3.5  FAILED\n"
        );
    }

    #[test]
    fn the_table_sums_up_a_run_that_passed() {
        let times = [Duration::from_secs(1); STEPS.len()];
        let table = table(&STEPS, &times, true);
        assert!(table.ends_with("total         10.0  passed\n"), "{table}");
        assert!(!table.contains("FAILED") && !table.contains("not run"));
    }
}
