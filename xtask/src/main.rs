//! `cargo xtask`: everything the project does to itself, in one place and without a shell.
//!
//! One subcommand is one file. Each command that is run is printed first, with its time after it, so
//! that any step can be repeated by hand.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its user")]

mod assets;
mod bench;
mod ci;
mod fetch;
mod golden;
mod layers;
mod metadata;
mod process;
mod python;
mod test;
mod text;
mod vulkan;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Everything the project does to itself.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Xtask {
    /// Run all tests of the workspace, on every backend this machine can run
    Test(test::Args),
    /// Run the criterion benches, or measure against the same work in other frameworks
    Bench(bench::Args),
    /// Do everything CI does, cheapest step first, up to the first failure
    Ci(ci::Args),
    /// Regenerate golden files from the frameworks they are compared with
    Golden(golden::Args),
    /// Check the embedded weights and sample against their sha256, fetch them again, or fetch the tests' reference weights
    Assets(assets::Args),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse() {
        Xtask::Test(args) => test::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Ci(args) => ci::run(&args),
        Xtask::Golden(args) => golden::run(&args),
        Xtask::Assets(args) => assets::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
