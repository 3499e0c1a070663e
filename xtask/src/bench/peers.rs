//! `cargo xtask bench --peers`: ours and theirs, alternately in one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ours::{Article, Firebrick, Report};
use super::rows::{Figure, Measure, ROWS, Row};
use super::table::{Figures, Line, markdown};
use super::worker::{Script, Worker};
use crate::process;

/// How often both sides take turns.
const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 2;

/// Of the article's program, a run of which takes minutes.
const ARTICLE_ROUNDS: usize = 3;
const QUICK_ARTICLE_ROUNDS: usize = 1;

/// Of the article's program; the last one is taken.
const EPOCHS: usize = 2;

/// Measures the rows of these names, or all, and prints the table.
pub fn run(quick: bool, names: &[String]) -> Result<()> {
    let firebrick = Firebrick::build()?;
    let folder = tempfile::tempdir().context("making a folder for what both sides read")?;
    let photo = folder.path().join("photo.jpg");
    let machine = firebrick.save_photo(&photo)?;
    let mut session = Session {
        quick,
        firebrick,
        photo,
        cache: folder.path().join("cache"),
        peak: machine.peak_gflops,
        versions: BTreeMap::new(),
        article: None,
    };

    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for row in ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)) {
        eprintln!("== {}", row.name);
        let mut line = Line {
            work: row.work,
            unit: "ms",
            ours: Figures { name: format!("Firebrick {}", machine.version), values: Vec::new() },
            theirs: Vec::new(),
            target: row.target,
            remark: String::new(),
        };
        session.measure(row, &mut line, &mut |what: anyhow::Error| {
            eprintln!("error: {what:#}");
            failures.push(format!("{}: {what:#}", row.name));
        });
        lines.push(line);
    }
    print!("{}", markdown(&lines, &session.machine(&machine)));
    if !failures.is_empty() {
        bail!("not everything was measured:\n{}", failures.join("\n"));
    }
    Ok(())
}

/// What lasts for the whole run.
struct Session {
    quick: bool,
    firebrick: Firebrick,
    photo: PathBuf,
    cache: PathBuf,
    /// The most that was measured, GFLOP/s.
    peak: f64,
    versions: BTreeMap<String, String>,
    /// Measured once for two rows: ours, and Keras' epoch seconds and memory.
    article: Option<ArticleFigures>,
}

/// Figures of the article's program, of both sides.
#[derive(Clone, Default)]
struct ArticleFigures {
    keras: String,
    ours: Vec<Article>,
    theirs: Vec<Article>,
}

impl Session {
    /// Fills the line with what can be measured; `failed` hears of what cannot.
    fn measure(&mut self, row: &Row, line: &mut Line, failed: &mut dyn FnMut(anyhow::Error)) {
        match row.measure {
            Measure::Batches { ours, peers, request, batch, runs } => {
                let request = request(&self.photo.display().to_string());
                self.batches(ours, peers, request, batch, runs, line, failed);
            }
            Measure::Article(figure) => match self.article() {
                Ok(article) => fill(line, figure, &article),
                Err(error) => failed(error),
            },
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a row's settings, and where its results go")]
    fn batches(
        &mut self,
        ours: &[&str],
        peers: &[Script],
        mut request: Value,
        batch: usize,
        runs: usize,
        line: &mut Line,
        failed: &mut dyn FnMut(anyhow::Error),
    ) {
        let (rounds, runs) = if self.quick { (QUICK_ROUNDS, runs.min(2)) } else { (ROUNDS, runs) };
        request["runs"] = json!(runs);
        let mut workers = Vec::new();
        for script in peers {
            match Worker::start(*script) {
                Ok(worker) => {
                    self.versions.extend(worker.greeting.versions.clone());
                    line.theirs.push(Figures { name: named(&worker), values: Vec::new() });
                    workers.push(Some(worker));
                }
                Err(error) => failed(error),
            }
        }
        let mut ours = Some(ours);
        let mut shares = Figures { name: String::new(), values: Vec::new() };
        for round in 1..=rounds {
            eprintln!("  round {round} of {rounds}");
            match ours.map(|arguments| self.firebrick.measure(arguments, runs)) {
                None => {}
                Some(Ok(report)) => {
                    self.peak = self.peak.max(report.peak_gflops);
                    shares.values.extend(report.share_of_peak);
                    line.ours.values.extend(report.ms_per_image_runs);
                }
                Some(Err(error)) => {
                    failed(error);
                    ours = None;
                }
            }
            for (worker, figures) in workers.iter_mut().zip(&mut line.theirs) {
                match worker.as_mut().map(|worker| worker.measure(&request)) {
                    None => {}
                    Some(Ok(answer)) => {
                        let per_image = answer.seconds.iter().map(|seconds| seconds * 1e3 / batch as f64);
                        figures.values.extend(per_image);
                    }
                    Some(Err(error)) => {
                        failed(error);
                        *worker = None;
                    }
                }
            }
        }
        if let Some(share) = shares.median() {
            line.remark = format!("; Firebrick at {:.0} % of the peak", share * 100.0);
        }
    }

    /// Runs the article's program on both sides, unless it was.
    fn article(&mut self) -> Result<ArticleFigures> {
        if let Some(article) = &self.article {
            return Ok(article.clone());
        }
        let rounds = if self.quick { QUICK_ARTICLE_ROUNDS } else { ARTICLE_ROUNDS };
        let mut article = ArticleFigures::default();
        for round in 1..=rounds {
            eprintln!("  round {round} of {rounds}");
            article.ours.push(self.firebrick.article(EPOCHS, &self.cache)?);
            // A process of its own for every run: its memory is that of the program.
            let mut keras = Worker::start(Script::Keras)?;
            self.versions.extend(keras.greeting.versions.clone());
            article.keras = named(&keras);
            // Ours has unpacked the images there.
            let data = unpacked(&self.cache)?;
            let answer = keras.measure(&json!({ "work": "article", "data": data, "epochs": EPOCHS }))?;
            let epoch_seconds = *answer.seconds.last().context("Keras measured no epoch")?;
            article.theirs.push(Article { epoch_seconds, peak_rss_mb: answer.peak_rss_mb });
        }
        self.article = Some(article.clone());
        Ok(article)
    }

    /// What the figures were taken on and with.
    fn machine(&self, report: &Report) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{} threads of {}, {}, {:.0} GFLOP/s of multiply-add chains; device ndarray, f32, 224x224; firebrick {} ({}){}{}",
            report.threads,
            processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            report.simd,
            self.peak,
            report.version,
            commit(),
            if versions.is_empty() { "" } else { "; " },
            versions.join(", ")
        )
    }
}

fn fill(line: &mut Line, figure: Figure, article: &ArticleFigures) {
    line.unit = match figure {
        Figure::Epoch => "s",
        Figure::Memory => "MiB",
    };
    let values = |runs: &[Article]| -> Vec<f64> {
        let figures = runs.iter().map(|run| match figure {
            Figure::Epoch => Some(run.epoch_seconds),
            Figure::Memory => run.peak_rss_mb,
        });
        figures.flatten().collect()
    };
    line.ours.values = values(&article.ours);
    line.theirs = vec![Figures { name: article.keras.clone(), values: values(&article.theirs) }];
    if figure == Figure::Epoch {
        line.remark =
            "; the second epoch; Firebrick computes the features of the validation images once, before the first".to_owned();
    }
}

/// `PyTorch 2.15.0`: the version of the library that the peer is named after.
fn named(worker: &Worker) -> String {
    let greeting = &worker.greeting;
    let plain = |name: &str| name.to_lowercase().replace(' ', "");
    let peer = plain(&greeting.peer);
    let of_its_name = greeting.versions.iter().find(|(library, _)| peer.ends_with(&plain(library)));
    match of_its_name {
        Some((_, version)) => format!("{} {version}", greeting.peer),
        None => greeting.peer.clone(),
    }
}

/// The folder of images below the cache.
fn unpacked(cache: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(cache).with_context(|| format!("listing {}", cache.display()))?;
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .into_iter()
        .find(|path| path.join("train").is_dir() && path.join("validation").is_dir())
        .with_context(|| format!("no images were unpacked in {}", cache.display()))
}

/// The processor's name in Linux' list of them.
fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("an unnamed processor".to_owned(), |(_, name)| name.trim().to_owned())
}

/// Short; says so where something is not committed.
fn commit() -> String {
    let mut git = Command::new("git");
    let text = process::capture(git.args(["describe", "--always", "--dirty", "--exclude", "*"]));
    text.map_or_else(|_| "no commit".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_processor() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: B\n"), "AMD EPYC");
        assert_eq!(processor(""), "an unnamed processor");
    }

    #[test]
    fn finds_the_images_among_other_folders() {
        let cache = tempfile::tempdir().unwrap();
        assert!(unpacked(cache.path()).is_err());
        fs::create_dir_all(cache.path().join("weights")).unwrap();
        for part in ["train", "validation"] {
            fs::create_dir_all(cache.path().join("fashion-12345678").join(part)).unwrap();
        }
        assert_eq!(unpacked(cache.path()).unwrap(), cache.path().join("fashion-12345678"));
    }

    #[test]
    fn a_row_shows_the_figure_that_it_is_about() {
        let run = |epoch_seconds, peak_rss_mb| Article { epoch_seconds, peak_rss_mb };
        let article = ArticleFigures {
            keras: "Keras 3.15.1".to_owned(),
            ours: vec![run(10.0, Some(200.0)), run(12.0, None)],
            theirs: vec![run(50.0, Some(1200.0))],
        };
        let line = |figure| {
            let ours = Figures { name: "Firebrick".to_owned(), values: Vec::new() };
            let mut line =
                Line { work: "w", unit: "ms", ours, theirs: Vec::new(), target: 0.3, remark: String::new() };
            fill(&mut line, figure, &article);
            (line.unit, line.ours.values, line.theirs[0].values.clone())
        };
        assert_eq!(line(Figure::Epoch), ("s", vec![10.0, 12.0], vec![50.0]));
        assert_eq!(line(Figure::Memory), ("MiB", vec![200.0], vec![1200.0]));
    }
}
