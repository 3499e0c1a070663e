//! What cargo knows about the workspace's own packages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The part of `cargo metadata --no-deps` that the checks read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The members of the workspace.
    pub packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub target_directory: PathBuf,
}

/// One member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name in `Cargo.toml`.
    pub name: String,
    /// All its dependencies, of every kind and for every target.
    pub dependencies: Vec<Dependency>,
    /// Feature name to what that feature enables.
    pub features: BTreeMap<String, Vec<String>>,
    /// Libraries, binaries, examples, benches.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// An arrow from one package to another.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package it points to.
    pub name: String,
    /// The name it goes by in this manifest, where that differs.
    #[serde(default)]
    pub rename: Option<String>,
    /// The version requirement.
    pub req: String,
    /// What it is needed for.
    #[serde(default, deserialize_with = "null_is_normal")]
    pub kind: Kind,
    /// Whether the default features of the other package are asked for.
    pub uses_default_features: bool,
    /// Further features asked for.
    pub features: Vec<String>,
}

impl Dependency {
    /// The name by which the manifest's features refer to it.
    pub fn key(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }
}

/// What a dependency is needed for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The package itself.
    #[default]
    Normal,
    /// Its build script.
    Build,
    /// Its tests, examples and benches.
    Dev,
}

/// Something that cargo builds from a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its name on cargo's command line.
    pub name: String,
    /// `lib`, `bin`, `example`, `test`, `bench`, ...
    pub kind: Vec<String>,
}

impl Metadata {
    /// Asks cargo.
    pub fn read() -> Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
        serde_json::from_slice(&process::capture(&mut cargo)?)
            .context("cargo metadata printed something else than its format version 1")
    }

    /// The member of that name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

/// In cargo's JSON, `null` stands for a normal dependency.
fn null_is_normal<'de, D: serde::Deserializer<'de>>(json: D) -> Result<Kind, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}
