//! Runs the program as a user does: in a folder of its own, by its arguments, streams and exit code.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub mod images;
pub mod weights;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The smallest model and inputs, on the backend that every build has: quick even without optimisation.
const SMALL: &str = "--model mobilenet_v2_0.35 --weights none --input-size 32 --device ndarray";

/// A temporary folder in which the program is run, with a cache of its own; relative paths start there.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A folder with images of two classes in `data/train` and `data/validation`, 8 and 4 of each.
    pub fn with_data() -> Self {
        let sandbox = Self::new();
        images::draw_classes(&sandbox.path("data/train"), 8);
        images::draw_classes(&sandbox.path("data/validation"), 4);
        sandbox
    }

    /// Where `name` lies in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A file as text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("text")
    }

    /// Names of what lies in a folder, sorted.
    pub fn listing(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    /// The program with `arguments`, which are separated by white space, ready to start.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebrick"));
        self.prepare(&mut command).args(arguments.split_whitespace());
        command
    }

    /// `command`, started from a shell that has run `setup` first.
    #[cfg(unix)]
    pub fn shell_command(&self, setup: &str, arguments: &str) -> Command {
        let mut command = Command::new("sh");
        self.prepare(&mut command)
            .args(["-c", &format!("{setup}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_firebrick")])
            .args(arguments.split_whitespace());
        command
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.folder.path())
            .env("FIREBRICK_CACHE", self.path("cache"))
            .env_remove("FIREBRICK_LOG")
            .env_remove("FIREBRICK_SIMD")
            // Without it, graphics drivers complain on standard error while adapters are looked for.
            .env("XDG_RUNTIME_DIR", self.folder.path())
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &str) -> Finished {
        finish(&mut self.command(arguments))
    }

    /// `firebrick train` of the smallest model; `arguments` win over its settings.
    pub fn train(&self, arguments: &str) -> Finished {
        self.run(&train_arguments(arguments))
    }
}

/// The arguments that train the smallest model, then `arguments` without what they give anew.
pub fn train_arguments(arguments: &str) -> String {
    let given: Vec<_> = arguments.split_whitespace().collect();
    let small: Vec<_> = SMALL.split_whitespace().collect();
    let mut all = vec!["train"];
    for setting in small.chunks(2) {
        if !given.contains(&setting[0]) {
            all.extend(setting);
        }
    }
    all.extend(given);
    all.join(" ")
}

/// Runs `command` to its end.
pub fn finish(command: &mut Command) -> Finished {
    command.output().expect("the program starts").into()
}

/// What a run of the program left behind.
pub struct Finished {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Finished {
    /// Asserts exit code 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr:\n{}", self.stderr);
        self
    }

    /// Asserts exit code 2, nothing on standard output, and one error message with all of `words` in it.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Self {
        let Self { code, stdout, stderr } = &self;
        assert_eq!(*code, Some(2), "stdout:\n{stdout}\nstderr:\n{stderr}");
        assert_eq!(stdout, "", "stderr:\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
        let message = stderr.split_once("error: ").expect("counted").1;
        for word in words {
            assert!(message.contains(word), "`{word}` is not in:\n{message}");
        }
        self
    }

    /// The figure of the one line that `train` prints.
    #[track_caller]
    pub fn test_accuracy(&self) -> &str {
        let line = self.stdout.strip_suffix('\n').expect("a line");
        line.strip_prefix("Test accuracy: ").unwrap_or_else(|| panic!("stdout is:\n{}", self.stdout))
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

/// The columns that every history has.
pub const COLUMNS: &str = "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds";

/// The rows of a history, as numbers, after a check of its columns.
#[track_caller]
pub fn history(text: &str) -> Vec<Vec<f64>> {
    let (columns, rows) = text.split_once('\n').unwrap_or_else(|| panic!("history: {text:?}"));
    assert_eq!(columns, COLUMNS);
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} in {rows}"));
    let rows: Vec<Vec<f64>> = rows.lines().map(|row| row.split(',').map(number).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 7), "{text}");
    rows
}
