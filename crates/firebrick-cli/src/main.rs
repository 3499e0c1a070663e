//! The binary `firebrick`: train, lr-find, eval, predict, summary, models, augment, embed, generate, bench.

mod augment;
mod bench;
mod choices;
mod config;
#[cfg(feature = "text")]
mod embed;
mod eval;
mod folds;
#[cfg(feature = "text")]
mod generate;
mod interrupt;
mod lr_find;
mod memory;
mod models;
mod open;
mod predict;
mod progress;
mod reading;
mod run_folder;
mod stage_rates;
mod summary;
mod table;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Train, evaluate and use classifiers of images and plain networks of tables.
///
/// Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 2 something in the
/// input or the surroundings was wrong and the message says what, 130 stopped by Ctrl-C with everything saved.
#[derive(Parser)]
#[command(name = "firebrick", version, arg_required_else_help = true, infer_long_args = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a classifier on a folder of images, or a plain network on a CSV file.
    Train(Box<train::Args>),
    /// Look for a learning rate: a short run with growing rates, its curve and a suggestion.
    LrFind(Box<lr_find::Args>),
    /// Measure a trained model on a folder of images or a CSV file.
    #[command(visible_alias = "evaluate")]
    Eval(eval::Args),
    /// Tell what is on images, or the target of the rows of a CSV file.
    Predict(predict::Args),
    /// Show the layers of a model and what they cost.
    Summary(summary::Args),
    /// List the models that there are.
    Models,
    /// Show what an augmentation does to images.
    Augment(augment::Args),
    /// Make vectors of sentences, near each other where the meaning is.
    #[cfg(feature = "text")]
    Embed(embed::Args),
    /// Continue a text with a language model.
    #[cfg(feature = "text")]
    Generate(generate::Args),
    /// Measure how fast a model runs here, and how much memory it takes.
    Bench(bench::Args),
}

/// How a command ended, if nothing was wrong.
pub(crate) enum Ended {
    /// It is done.
    Done,
    /// Ctrl-C; what there was is saved.
    Interrupted,
}

fn main() -> ExitCode {
    memory::keep_freed();
    let filter = tracing_subscriber::EnvFilter::try_from_env("FIREBRICK_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(
            "off,firebrick=info,firebrick_data=info,firebrick_train=info,firebrick_zoo=info",
        )
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::LogWriter)
        .with_target(false)
        .without_time()
        .init();

    let ended = match Cli::parse().command {
        Command::Train(args) => train::run(*args),
        Command::LrFind(args) => lr_find::run(*args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Models => models::run(),
        Command::Augment(args) => augment::run(&args),
        #[cfg(feature = "text")]
        Command::Embed(args) => embed::run(&args),
        #[cfg(feature = "text")]
        Command::Generate(args) => generate::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match ended {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(130),
        // Whoever reads our output has stopped reading, e.g. `head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            progress::line(&format!("error: {}", message(&error)));
            ExitCode::from(2)
        }
    }
}

/// The error and its causes; a cause that the text before it has already told is left out.
fn message(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
