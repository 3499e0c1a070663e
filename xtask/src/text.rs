//! Checks on the tracked files themselves: no words that belong to one machine, no oversized files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Words that say where somebody works instead of what the project does, and why they are unwanted.
///
/// Each stands here in pieces, so that the check does not find its own table.
const UNWANTED: &[(&[&str], &str)] = &[
    (&["/wo", "rk/"], MACHINE_PATH),
    (&["/ro", "ot/"], MACHINE_PATH),
    (&["/opt/", "peers"], MACHINE_PATH),
    (&["pypi.", "org"], REGISTRY),
    (&["pythonhosted.", "org"], REGISTRY),
    (&["index.", "crates.io"], REGISTRY),
    (&["static.", "crates.io"], REGISTRY),
    (&["deb.", "debian.org"], REGISTRY),
    (&["security.", "debian.org"], REGISTRY),
];

const MACHINE_PATH: &str = "a path of one machine: name it relative to the workspace or by variable";
const REGISTRY: &str = "a registry's host: name package and version, clients know the host";

/// Largest file in the repository, in bytes: the embedded weights are 14 MB.
const LARGEST_FILE: u64 = 20 * 1024 * 1024;

/// Largest file in a `goldens` folder, in bytes.
const LARGEST_GOLDEN: u64 = 50 * 1024;

/// Something to mend in a file.
#[derive(Debug, PartialEq)]
struct Finding {
    file: PathBuf,
    /// Counted from one; `None` where the whole file is meant.
    line: Option<usize>,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.what)
    }
}

/// Checks all tracked files.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let files = workspace::tracked_files()?;
    let mut findings = Vec::new();
    for file in &files {
        let path = root.join(file);
        let length =
            fs::symlink_metadata(&path).with_context(|| format!("looking at {}", file.display()))?.len();
        if let Some(finding) = oversized(file, length) {
            findings.push(finding);
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {}", file.display()))?;
        findings.extend(unwanted_words(file, &bytes));
    }
    for finding in &findings {
        eprintln!("  {finding}");
    }
    match findings.len() {
        0 => {
            eprintln!("  {} tracked files: nothing to mend", files.len());
            Ok(())
        }
        count => bail!("the text check has {count} findings"),
    }
}

fn oversized(file: &Path, length: u64) -> Option<Finding> {
    let is_golden = file.iter().any(|folder| folder == "goldens");
    let (limit, kind) = if is_golden { (LARGEST_GOLDEN, "a golden file") } else { (LARGEST_FILE, "a file") };
    (length > limit).then(|| Finding {
        file: file.to_owned(),
        line: None,
        what: format!("{length} bytes, where {kind} may have {limit}"),
    })
}

fn unwanted_words(file: &Path, bytes: &[u8]) -> Vec<Finding> {
    // Pictures and weights hold no words.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Vec::new();
    };
    let unwanted: Vec<(String, &str)> =
        UNWANTED.iter().map(|(pieces, why)| (pieces.concat(), *why)).collect();
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, why) in &unwanted {
            if line.contains(word) {
                findings.push(Finding {
                    file: file.to_owned(),
                    line: Some(index + 1),
                    what: format!("\"{word}\" is {why}"),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_unwanted_word_by_line() {
        for (pieces, why) in UNWANTED {
            let text = format!("first line\nsee {}elsewhere\n", pieces.concat());
            let found = unwanted_words(Path::new("README.md"), text.as_bytes());
            assert_eq!(found.len(), 1, "{found:?}");
            let message = found[0].to_string();
            assert!(message.starts_with("README.md:2: "), "{message}");
            assert!(message.ends_with(why), "{message}");
        }
    }

    #[test]
    fn accepts_ordinary_text_and_binary_files() {
        let text = "The network/backbone at work; roots of a forest; crates.io.\n";
        assert_eq!(unwanted_words(Path::new("README.md"), text.as_bytes()), []);
        let mut bytes = UNWANTED[0].0.concat().into_bytes();
        bytes.push(0xff);
        assert_eq!(unwanted_words(Path::new("weights.pth"), &bytes), []);
    }

    #[test]
    fn refuses_files_over_their_limit() {
        let golden = Path::new("crates/firebrick-augment/tests/goldens/affine.json");
        assert_eq!(oversized(golden, LARGEST_GOLDEN), None);
        let message = oversized(golden, LARGEST_GOLDEN + 1).unwrap().to_string();
        assert!(message.contains("a golden file may have 51200"), "{message}");

        let weights = Path::new("assets/weights.pth");
        assert_eq!(oversized(weights, LARGEST_FILE), None);
        assert!(oversized(weights, LARGEST_FILE + 1).is_some());
    }

    #[test]
    fn does_not_find_its_own_table() {
        let own = workspace::root().join("xtask/src/text.rs");
        assert_eq!(unwanted_words(&own, &fs::read(&own).unwrap()), []);
    }
}
