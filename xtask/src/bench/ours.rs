//! Our side of the comparison: the release build of the binary `firebrick`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::metadata::Metadata;
use crate::{process, workspace};

/// The article's program.
const RECIPE: &str = "recipes/article.toml";

/// What `firebrick bench --json` prints, as far as it is used here.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Of each run, in order.
    pub ms_per_image_runs: Vec<f64>,
    /// None where operations are not counted.
    pub share_of_peak: Option<f64>,
    /// GFLOP/s of multiply-add chains on all threads.
    pub peak_gflops: f64,
    /// Of the machine.
    pub threads: usize,
    /// Instruction set.
    pub simd: String,
    /// Firebrick's.
    pub version: String,
}

/// A run of the article's program.
#[derive(Clone, Copy, Debug)]
pub struct Article {
    /// Of the last epoch, its validation included.
    pub epoch_seconds: f64,
    /// Peak of the resident memory; none where the system does not tell.
    pub peak_rss_mb: Option<f64>,
}

/// The binary.
pub struct Firebrick {
    program: PathBuf,
}

impl Firebrick {
    /// Builds it.
    pub fn build() -> Result<Self> {
        process::run(&mut cargo_build())?;
        let name = format!("firebrick{}", std::env::consts::EXE_SUFFIX);
        Ok(Self { program: Metadata::read()?.target_directory.join("release").join(name) })
    }

    /// Writes the JPEG that the pipeline decodes; what it says of the machine comes with it.
    pub fn save_photo(&self, photo: &Path) -> Result<Report> {
        let mut command = self.bench(&["--mode", "pipeline", "--batch-size", "1"], 1);
        command.arg("--save-photo").arg(photo);
        report(&mut command)
    }

    /// Measures `runs` batches in a process of their own.
    pub fn measure(&self, arguments: &[&str], runs: usize) -> Result<Report> {
        report(&mut self.bench(arguments, runs))
    }

    fn bench(&self, arguments: &[&str], runs: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["bench", "--device", "ndarray", "--json", "--runs", &runs.to_string()]).args(arguments);
        command
    }

    /// Runs the article's program for some epochs; its built-in data is unpacked in `cache`.
    pub fn article(&self, epochs: usize, cache: &Path) -> Result<Article> {
        let out = tempfile::tempdir().context("making a folder for the run")?;
        let run = out.path().join("run");
        let mut command = self.train(epochs, &run);
        eprintln!("$ {}", process::typed(&command));
        command.current_dir(workspace::root()).env("FIREBRICK_CACHE", cache);
        // Its peak of memory is asked for while it runs: what the system keeps of it afterwards is out of reach.
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let status_file = PathBuf::from(format!("/proc/{}/status", child.id()));
        let mut peak_rss_mb = None;
        let status = loop {
            let now = fs::read_to_string(&status_file).ok().and_then(|status| peak_resident_mb(&status));
            peak_rss_mb = now.or(peak_rss_mb);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(Duration::from_millis(20));
        };
        if !status.success() {
            bail!("`{}` failed ({status})", process::typed(&command));
        }
        let history = run.join("history.csv");
        let text = fs::read_to_string(&history).with_context(|| format!("reading {}", history.display()))?;
        Ok(Article { epoch_seconds: last_seconds(&text)?, peak_rss_mb })
    }

    fn train(&self, epochs: usize, out: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["train", "--config", RECIPE, "--data", "builtin:fashion", "--device", "ndarray"])
            .args(["--epochs", &epochs.to_string(), "--out"])
            .arg(out);
        command
    }
}

fn cargo_build() -> Command {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "-p", "firebrick-cli"]);
    command
}

fn report(command: &mut Command) -> Result<Report> {
    let output = process::capture(command)?;
    serde_json::from_slice(&output).with_context(|| format!("what `{}` printed", process::typed(command)))
}

/// The column `seconds` of the last epoch of a history.
fn last_seconds(history: &str) -> Result<f64> {
    let mut lines = history.lines();
    let columns = lines.next().unwrap_or_default().split(',');
    let column = columns.into_iter().position(|name| name == "seconds");
    let last = lines.rfind(|line| !line.is_empty());
    column
        .zip(last)
        .and_then(|(column, row)| row.split(',').nth(column)?.parse().ok())
        .with_context(|| format!("the history has no epoch with its seconds:\n{history}"))
}

/// `VmHWM` of Linux' status file, MiB.
fn peak_resident_mb(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_its_commands() {
        let firebrick = Firebrick { program: "target/release/firebrick".into() };
        assert_eq!(process::typed(&cargo_build()), "cargo build --release -p firebrick-cli");
        assert_eq!(
            process::typed(&firebrick.bench(&["--mode", "train", "--batch-size", "32"], 2)),
            "target/release/firebrick bench --device ndarray --json --runs 2 --mode train --batch-size 32"
        );
        assert_eq!(
            process::typed(&firebrick.train(2, Path::new("out"))),
            "target/release/firebrick train --config recipes/article.toml --data builtin:fashion \
             --device ndarray --epochs 2 --out out"
        );
        assert!(workspace::root().join(RECIPE).is_file());
    }

    #[test]
    fn reads_what_the_bench_prints() {
        let text = r#"{"model":"mobilenet_v2","mode":"pipeline","device":"cpu","batch_size":1,"image_size":224,
            "ms_per_image":1.5,"ms_per_image_runs":[1.5],"share_of_peak":null,"peak_gflops":226.0,
            "gflop_per_image":null,"peak_rss_mb":20.5,"shapes":{},"threads":2,"simd":"avx512","version":"0.1.0"}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!((report.ms_per_image_runs, report.share_of_peak, report.threads), (vec![1.5], None, 2));
    }

    #[test]
    fn takes_the_seconds_of_the_last_epoch() {
        let columns = "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds";
        let history = format!("{columns}\n1,2,0.1,2,0.1,0.0001,12.5\n2,1,0.2,1,0.2,0.0001,9.25\n");
        assert_eq!(last_seconds(&history).unwrap(), 9.25);
        assert!(last_seconds(columns).is_err());
        assert!(last_seconds("epoch,loss\n1,2\n").is_err());
    }

    #[test]
    fn finds_the_peak_of_memory() {
        assert_eq!(peak_resident_mb("VmHWM:\t  2048 kB\nVmRSS:\t 10 kB\n"), Some(2.0));
        // A process that has just ended has no memory any more.
        assert_eq!(peak_resident_mb("State:\tZ (zombie)\n"), None);
    }
}
