//! `cargo xtask bench`: the criterion benches of the package `firebrick-benches`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// Where the scripts lie that measure the same work in other frameworks, relative to the workspace.
const PEERS: &str = "benches/peers";

/// Settings of criterion that trade precision for time: enough to see that a bench still runs.
const QUICK: [&str; 6] = ["--warm-up-time", "0.3", "--measurement-time", "1", "--sample-size", "10"];

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Few, short samples: shows that the benches run, not how fast
    #[arg(long)]
    quick: bool,

    /// List the peers, the same work in other frameworks, and run nothing
    #[arg(long, conflicts_with_all = ["quick", "filter"])]
    peers: bool,

    /// Only the benches whose name contains FILTER
    filter: Option<String>,
}

impl Args {
    /// All benches with `--quick`.
    pub fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }
}

/// Runs the benches, or lists the peers.
pub fn run(args: &Args) -> Result<()> {
    if args.peers {
        for peer in peers(&workspace::root().join(PEERS))? {
            println!("{PEERS}/{peer}");
        }
        return Ok(());
    }
    process::run(&mut cargo_bench(args))
}

fn cargo_bench(args: &Args) -> Command {
    let mut command = Command::new("cargo");
    // The pattern leaves out the package's library, whose test harness does not know criterion's flags.
    command.args(["bench", "-p", "firebrick-benches", "--bench", "*"]);
    let quick = args.quick.then_some(QUICK).into_iter().flatten();
    let words: Vec<&str> = quick.chain(args.filter.as_deref()).collect();
    if !words.is_empty() {
        command.arg("--").args(words);
    }
    command
}

/// The file names of the peers' scripts in `folder`, sorted.
fn peers(folder: &Path) -> Result<Vec<String>> {
    let mut scripts = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "py") {
                scripts.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }
    if scripts.is_empty() {
        bail!("there are no peers to compare with yet: no *.py in {PEERS}");
    }
    scripts.sort();
    Ok(scripts)
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

    fn typed(line: &[&str]) -> String {
        let words = std::iter::once("bench").chain(line.iter().copied());
        process::typed(&cargo_bench(&Line::parse_from(words).args))
    }

    #[test]
    fn runs_all_benches_with_their_own_settings() {
        assert_eq!(typed(&[]), "cargo bench -p firebrick-benches --bench '*'");
    }

    #[test]
    fn hands_quick_settings_and_filter_to_criterion() {
        assert_eq!(
            typed(&["--quick", "resize"]),
            "cargo bench -p firebrick-benches --bench '*' \
             -- --warm-up-time 0.3 --measurement-time 1 --sample-size 10 resize"
        );
    }

    #[test]
    fn lists_the_peers_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pil_resize.py", "keras_augment.py", "README.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(peers(folder.path()).unwrap(), ["keras_augment.py", "pil_resize.py"]);
    }

    #[test]
    fn says_that_there_are_no_peers() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().to_owned(), folder.path().join("absent")] {
            let error = peers(&place).unwrap_err().to_string();
            assert!(error.contains("no peers"), "{error}");
        }
    }
}
