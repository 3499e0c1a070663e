//! `cargo xtask ci`: everything CI does, cheapest step first, up to the first failure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::metadata::{Metadata, Package};
use crate::test::Backend;
use crate::{assets, bench, layers, process, test, text};

/// The package whose examples CI runs.
const EXAMPLES_PACKAGE: &str = "firebrick-examples";

/// Every example with the arguments by which it ends within a minute.
///
/// They are built with all backends, to share the tests' build: say which device to use.
const EXAMPLES: &[(&str, &[&str])] = &[];

/// A step's name and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 9] = [
    ("fmt", fmt),
    ("layers", layers::check),
    ("text", text::check),
    ("assets", assets::check),
    ("clippy", clippy),
    ("doc", doc),
    ("test", test_everything),
    ("examples", run_examples),
    ("bench --quick", bench_quickly),
];

/// Runs the steps and prints how long each one took.
pub fn run() -> Result<()> {
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in STEPS {
        eprintln!("== {name}");
        let start = Instant::now();
        outcome = step().with_context(|| format!("step {name}"));
        times.push(start.elapsed());
        if outcome.is_err() {
            break;
        }
    }
    eprint!("{}", table(&times, outcome.is_ok()));
    outcome
}

/// One line a step; `times` has those that were begun, of which only the last can have failed.
fn table(times: &[Duration], passed: bool) -> String {
    let mut table = String::from("== seconds\n");
    for (index, (name, _)) in STEPS.iter().enumerate() {
        let failed_here = !passed && index + 1 == times.len();
        let mark = if failed_here { "  FAILED" } else { "" };
        match times.get(index) {
            Some(time) => writeln!(table, "{name:<16}{:>8.1}{mark}", time.as_secs_f64()),
            None => writeln!(table, "{name:<16}{:>8}  not run", "-"),
        }
        .expect("a String takes everything");
    }
    let total: Duration = times.iter().sum();
    let verdict = if passed { "passed" } else { "FAILED" };
    writeln!(
        table,
        "{:<16}{:>8.1}  {verdict}",
        "total",
        total.as_secs_f64()
    )
    .expect("a String takes everything");
    table
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
    for (name, arguments) in EXAMPLES {
        process::run(&mut cargo_run_example(name, arguments))?;
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

/// With the same features as the tests, whose build of the dependencies it then shares.
fn cargo_run_example(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["run", "-p", EXAMPLES_PACKAGE, "--features"])
        .arg(test::features(&Backend::ALL))
        .args(["--example", name]);
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_its_commands() {
        let commands = [
            (cargo_fmt(), "cargo fmt --all --check"),
            (
                cargo_clippy(),
                "cargo clippy --workspace --all-targets --features flex,wgpu -- -D warnings",
            ),
            (
                cargo_doc(),
                "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --features flex,wgpu",
            ),
            (
                cargo_run_example("custom_model", &["--device", "ndarray"]),
                "cargo run -p firebrick-examples --features flex,wgpu --example custom_model -- --device ndarray",
            ),
            (
                cargo_run_example("custom_model", &[]),
                "cargo run -p firebrick-examples --features flex,wgpu --example custom_model",
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
    fn the_table_shows_where_it_failed_and_what_was_not_run() {
        let table = table(
            &[Duration::from_millis(1500), Duration::from_secs(2)],
            false,
        );
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "fmt                  1.5");
        assert_eq!(lines[2], "layers               2.0  FAILED");
        assert_eq!(lines[3], "text                   -  not run");
        assert_eq!(lines[10], "total                3.5  FAILED");
    }

    #[test]
    fn the_table_sums_up_a_run_that_passed() {
        let times = [Duration::from_secs(1); STEPS.len()];
        let table = table(&times, true);
        assert!(
            table.ends_with("total                9.0  passed\n"),
            "{table}"
        );
        assert!(!table.contains("FAILED") && !table.contains("not run"));
    }
}
