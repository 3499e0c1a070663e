//! `cargo xtask bench`: the criterion benches of the package `firebrick-benches`; with `--peers`, the same work in other
//! frameworks, alternately with ours, and the table of ratios.

mod ours;
mod peers;
mod rows;
mod table;
mod worker;

use std::process::Command;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::process;

/// Settings of criterion that trade precision for time: enough to see that a bench still runs.
const QUICK: [&str; 6] = ["--warm-up-time", "0.3", "--measurement-time", "1", "--sample-size", "10"];

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Few, short samples: shows that the benches run, not how fast
    #[arg(long)]
    quick: bool,

    /// Measure the same work in PyTorch, ONNX Runtime, OpenVINO and Keras, alternately with ours, and print the ratios.
    ///
    /// Their Python environments are made in the cache folder; the variable FIREBRICK_PEERS may name ones to use
    /// instead, separated as in PATH
    #[arg(long, conflicts_with = "filter")]
    peers: bool,

    /// Only this row of the table of ratios; may be given several times
    #[arg(long = "row", value_name = "NAME", requires = "peers", value_parser = PossibleValuesParser::new(rows::NAMES))]
    rows: Vec<String>,

    /// Only the benches whose name contains FILTER
    filter: Option<String>,
}

impl Args {
    /// All benches with `--quick`.
    pub fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }
}

/// Runs the benches, or the peers.
pub fn run(args: &Args) -> Result<()> {
    if args.peers {
        return peers::run(args.quick, &args.rows);
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
    fn a_row_is_one_of_the_table_and_asks_for_the_peers() {
        let parsed = |line: &[&str]| Line::try_parse_from(["bench"].iter().chain(line));
        let args = parsed(&["--peers", "--quick", "--row", "train", "--row", "infer-1"]).ok().unwrap().args;
        assert!(args.peers && args.quick);
        assert_eq!(args.rows, ["train", "infer-1"]);
        for (wrong, word) in [
            (&["--row", "train"][..], "--peers"),
            (&["--peers", "--row", "trian"], "encoder"),
            (&["--peers", "resize"], "FILTER"),
        ] {
            let error = parsed(wrong).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
