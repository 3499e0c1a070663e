//! `cargo xtask test`: all tests of the workspace on every backend this machine can run.

use std::env;
use std::fmt;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{process, vulkan};

/// Tells the wgpu tests to skip themselves; its value is the reason they print.
const SKIP_WGPU: &str = "FIREBRICK_SKIP_WGPU";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Backends to build and test with; ndarray is always among them, being the applications' default
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Backend::ALL)]
    backends: Vec<Backend>,

    /// Only the tests whose name contains FILTER; flags of the test harness also go here
    #[arg(last = true)]
    filter: Vec<String>,
}

impl Default for Args {
    fn default() -> Self {
        Self { backends: Backend::ALL.to_vec(), filter: Vec::new() }
    }
}

/// A backend that the tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// CPU, always built.
    Ndarray,
    /// CPU, burn's newer one.
    Flex,
    /// GPU, or software Vulkan.
    Wgpu,
}

impl Backend {
    /// All of them, in the order of the time they take to build.
    pub const ALL: [Self; 3] = [Self::Ndarray, Self::Flex, Self::Wgpu];

    /// The cargo feature that builds it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Ndarray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.feature())
    }
}

/// The value of cargo's `--features` for these backends, empty where the default is enough.
///
/// ndarray is left out on purpose: the applications enable it by default, and every command of CI that
/// asks for the same features shares one build of the dependencies.
pub fn features(backends: &[Backend]) -> String {
    let optional: Vec<&str> = Backend::ALL
        .iter()
        .filter(|backend| **backend != Backend::Ndarray && backends.contains(backend))
        .map(|backend| backend.feature())
        .collect();
    optional.join(",")
}

/// Runs the tests, doc tests included, and ends with one line of figures.
pub fn run(args: &Args) -> Result<()> {
    let skipped = args.backends.contains(&Backend::Wgpu).then(why_wgpu_is_skipped).flatten();
    if let Some(reason) = &skipped {
        eprintln!("wgpu tests skipped: {reason}");
    }

    let mut command = cargo_test(args, skipped.as_deref());

    // Mesa's drivers complain where this folder is not there, as in most containers.
    let runtime_folder = match env::var_os("XDG_RUNTIME_DIR") {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("making a folder for XDG_RUNTIME_DIR")?),
    };
    if let Some(folder) = &runtime_folder {
        command.env("XDG_RUNTIME_DIR", folder.path());
    }

    let start = Instant::now();
    let mut tally = Tally::default();
    let outcome = process::run_watching(&mut command, |line| tally.read(line));
    eprintln!(
        "tests {}: {tally}; backends: {}; {:.1} s in all",
        if outcome.is_ok() { "passed" } else { "FAILED" },
        tested(&args.backends, skipped.is_some()),
        start.elapsed().as_secs_f64(),
    );
    outcome
}

/// A reason given by the caller counts before the search for a driver.
fn why_wgpu_is_skipped() -> Option<String> {
    match env::var(SKIP_WGPU) {
        Ok(reason) if !reason.is_empty() => Some(format!("{reason} ({SKIP_WGPU} is set)")),
        _ => vulkan::missing_driver(),
    }
}

fn cargo_test(args: &Args, skip_wgpu: Option<&str>) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace"]);
    let features = features(&args.backends);
    if !features.is_empty() {
        command.args(["--features", &features]);
    }
    if !args.filter.is_empty() {
        command.arg("--").args(&args.filter);
    }
    if let Some(reason) = skip_wgpu {
        command.env(SKIP_WGPU, reason);
    }
    command
}

fn tested(backends: &[Backend], wgpu_is_skipped: bool) -> String {
    Backend::ALL
        .into_iter()
        .filter(|backend| *backend == Backend::Ndarray || backends.contains(backend))
        .map(|backend| match backend {
            Backend::Wgpu if wgpu_is_skipped => "wgpu (skipped)".to_owned(),
            backend => backend.to_string(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The sum of the result lines of all test binaries.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    binaries: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Tally {
    /// Adds a line like `test result: ok. 12 passed; 0 failed; 1 ignored; ...`; others change nothing.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.binaries += 1;
        for count in counts.split("; ") {
            let Some((number, name)) = count.split_once(' ') else {
                continue;
            };
            let number: usize = number.parse().unwrap_or(0);
            match name {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} ignored in {} test binaries",
            self.passed, self.failed, self.ignored, self.binaries
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn typed(line: &[&str], skip_wgpu: Option<&str>) -> String {
        let words = std::iter::once("test").chain(line.iter().copied());
        process::typed(&cargo_test(&Line::parse_from(words).args, skip_wgpu))
    }

    #[test]
    fn tests_all_backends_unless_told_otherwise() {
        assert_eq!(typed(&[], None), "cargo test --workspace --features flex,wgpu");
        assert_eq!(process::typed(&cargo_test(&Args::default(), None)), typed(&[], None));
    }

    #[test]
    fn needs_no_feature_for_ndarray_alone() {
        assert_eq!(typed(&["--backends", "ndarray"], None), "cargo test --workspace");
        assert_eq!(typed(&["--backends", "wgpu,ndarray"], None), "cargo test --workspace --features wgpu");
    }

    #[test]
    fn hands_the_filter_to_the_test_binaries() {
        assert_eq!(
            typed(&["--backends=ndarray", "--", "keeps_the_mean", "--nocapture"], None),
            "cargo test --workspace -- keeps_the_mean --nocapture"
        );
    }

    #[test]
    fn tells_the_tests_why_wgpu_is_skipped() {
        assert_eq!(
            typed(&["--backends", "wgpu"], Some("no driver")),
            "FIREBRICK_SKIP_WGPU='no driver' cargo test --workspace --features wgpu"
        );
    }

    #[test]
    fn refuses_an_unknown_backend() {
        assert!(Line::try_parse_from(["test", "--backends", "tpu"]).is_err());
    }

    #[test]
    fn says_which_backends_were_tested() {
        assert_eq!(tested(&Backend::ALL, false), "ndarray, flex, wgpu");
        assert_eq!(tested(&[Backend::Wgpu], true), "ndarray, wgpu (skipped)");
    }

    #[test]
    fn adds_up_the_results_of_all_binaries() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test sorts ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.to_string(), "9 passed, 2 failed, 1 ignored in 2 test binaries");
    }
}
