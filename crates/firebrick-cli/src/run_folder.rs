//! The folder that a run writes to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::Config;
use crate::eval::write_whole;

/// Files of a run. Dropped without a model in it, it is taken back, so that the same command can be given again.
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Whether it was not there before.
    is_new: bool,
    /// Whether what is in it is worth keeping without a model.
    is_kept: bool,
}

impl RunFolder {
    /// Makes the folder `wanted`, or the first free `runs/NAME-N`.
    ///
    /// # Errors
    ///
    /// If it holds anything already, or cannot be made or written to.
    pub(crate) fn create(wanted: Option<&Path>, name: &str) -> Result<Self> {
        let path = match wanted {
            Some(path) => path.to_owned(),
            None => (1..)
                .map(|number| Path::new("runs").join(format!("{name}-{number}")))
                .find(|path| !path.exists())
                .expect("some number is free"),
        };
        let is_new = match std::fs::read_dir(&path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    bail!(
                        "{}: there is another run in this folder; choose a new --out, or remove it first",
                        path.display()
                    );
                }
                false
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&path).with_context(|| {
                    format!("{}: cannot make the run folder; choose another --out", path.display())
                })?;
                true
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("{}: cannot be used as the run folder; choose another --out", path.display())
                });
            }
        };
        Ok(Self { path, is_new, is_kept: false })
    }

    /// Writes the configuration, as a file that `--config` reads.
    pub(crate) fn write_config(&self, config: &Config) -> Result<()> {
        write_whole(&self.config(), config.to_toml()?.as_bytes())
    }

    /// Keeps the folder without a model of its own, e.g. for the runs in it.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// The range test of `firebrick lr-find`.
    pub(crate) fn rates(&self) -> PathBuf {
        self.path.join("lr.csv")
    }

    pub(crate) fn curves(&self) -> PathBuf {
        self.path.join("curves.svg")
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.is_kept || self.model().exists() || self.rates().exists() {
            return;
        }
        // What cannot be removed stays; the error that led here is the one to tell.
        for file in [self.config(), self.history(), self.curves()] {
            let _ = std::fs::remove_file(file);
        }
        if self.is_new {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
