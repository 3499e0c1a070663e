//! A peer: a process that stays loaded and measures on request, one line of JSON each way. See `benches/peers/worker.py`.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{process, python, workspace};

/// The variable that names Python environments to use instead of those that would be made.
const VARIABLE: &str = "FIREBRICK_PEERS";

/// Where the scripts lie, relative to the workspace.
const FOLDER: &str = "benches/peers";

/// A script that runs a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    OnnxRuntime,
    OpenVino,
    PyTorch,
    Keras,
}

impl Script {
    /// As its makers write it.
    pub fn peer(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "ONNX Runtime",
            Self::OpenVino => "OpenVINO",
            Self::PyTorch => "PyTorch",
            Self::Keras => "Keras",
        }
    }

    fn file(self) -> PathBuf {
        Path::new(FOLDER).join(match self {
            Self::OnnxRuntime => "peer_onnxruntime.py",
            Self::OpenVino => "peer_openvino.py",
            Self::PyTorch => "peer_pytorch.py",
            Self::Keras => "peer_keras.py",
        })
    }

    /// The frameworks that it needs: TensorFlow and the others do not always agree on the versions of what they share.
    fn requirements(self) -> PathBuf {
        Path::new(FOLDER).join(match self {
            Self::Keras => "requirements_keras.txt",
            _ => "requirements_torch.txt",
        })
    }
}

/// What a peer says of itself when it is ready.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Greeting {
    /// Its name.
    pub peer: String,
    /// Of what it runs on.
    pub versions: BTreeMap<String, String>,
    /// How many it uses.
    pub threads: usize,
}

/// An answer to a request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Answer {
    /// Of each run.
    pub seconds: Vec<f64>,
    /// Peak of the resident memory, MiB; none where the system does not tell.
    pub peak_rss_mb: Option<f64>,
}

/// A running peer; it ends when this is dropped.
pub struct Worker {
    /// What it said of itself.
    pub greeting: Greeting,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Frameworks talk a lot; it is shown when something went wrong.
    said: File,
}

impl Worker {
    /// Starts the script in the first environment that can run it.
    ///
    /// # Errors
    ///
    /// If none can, with what the last one said.
    pub fn start(script: Script) -> Result<Self> {
        let mut last = None;
        for python in interpreters(script)? {
            let mut command = Command::new(python);
            command.arg(workspace::root().join(script.file()));
            match Self::spawn(&mut command) {
                Ok(worker) => return Ok(worker),
                Err(error) => last = Some(error),
            }
        }
        Err(last.with_context(|| format!("{VARIABLE} names no environment"))?)
            .with_context(|| format!("{} does not run", script.peer()))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let said = tempfile::tempfile().context("making a file for what the peer says")?;
        eprintln!("$ {}", process::typed(command));
        let mut child = command
            .current_dir(workspace::root())
            // The checkout stays as it is.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("standard output is piped above")?);
        let greeting = Greeting { peer: String::new(), versions: BTreeMap::new(), threads: 0 };
        let mut worker = Self { greeting, child, requests, answers, said };
        worker.greeting = serde_json::from_str(&worker.read_line()?).context("the peer's greeting")?;
        Ok(worker)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// The peer's own, or that it ended.
    pub fn measure(&mut self, request: &Value) -> Result<Answer> {
        if let Some(requests) = &mut self.requests {
            // A peer that has ended takes nothing; what it said last comes from the answer that is missing.
            let _ = writeln!(requests, "{request}").and_then(|()| requests.flush());
        }
        let line = self.read_line()?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("the answer {line:?}"))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{}: {error}", self.greeting.peer);
        }
        serde_json::from_value(answer).with_context(|| format!("the answer {line:?}"))
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("reading from the peer")? > 0 {
            return Ok(line);
        }
        let mut text = String::new();
        self.said.rewind()?;
        self.said.read_to_string(&mut text).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        bail!("it ended without an answer; what it said last:\n{last}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its input ends, which ends it; one that hangs must not outlive us.
        self.requests = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreters to try, best first.
fn interpreters(script: Script) -> Result<Vec<PathBuf>> {
    match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(folders) => Ok(env::split_paths(&folders).map(|folder| python::interpreter(&folder)).collect()),
        None => Ok(vec![python::environment(&script.requirements(), "peers-venv")?]),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SCRIPTS: [Script; 4] = [Script::OnnxRuntime, Script::OpenVino, Script::PyTorch, Script::Keras];

    #[test]
    fn every_script_and_its_requirements_are_there() {
        for script in SCRIPTS {
            let text = fs::read_to_string(workspace::root().join(script.file())).unwrap();
            assert!(text.contains(&format!("\"{}\"", script.peer())), "{script:?}");
            assert!(workspace::root().join(script.requirements()).is_file(), "{script:?}");
        }
    }

    #[cfg(unix)]
    fn shell(script: &str) -> Result<Worker> {
        Worker::spawn(Command::new("sh").args(["-c", script]))
    }

    #[cfg(unix)]
    const GREETING: &str = r#"echo '{"peer": "Shell", "versions": {"sh": "1"}, "threads": 2}'; "#;

    #[cfg(unix)]
    #[test]
    fn asks_and_is_answered() {
        let answers = r#"read a; echo '{"seconds": [0.5, 0.25], "peak_rss_mb": null}'; read b; echo "{\"error\": \"no $b\"}"; read c"#;
        let mut worker = shell(&format!("{GREETING}{answers}")).unwrap();
        assert_eq!((worker.greeting.peer.as_str(), worker.greeting.threads), ("Shell", 2));
        let answer = worker.measure(&serde_json::json!({ "work": "infer" })).unwrap();
        assert_eq!(answer, Answer { seconds: vec![0.5, 0.25], peak_rss_mb: None });
        let error = worker.measure(&serde_json::json!(7)).unwrap_err().to_string();
        assert_eq!(error, "Shell: no 7");
    }

    #[cfg(unix)]
    #[test]
    fn a_peer_that_ends_is_quoted() {
        let error = shell("echo 'No module named torch' >&2; exit 1").err().unwrap().to_string();
        assert!(error.contains("No module named torch"), "{error}");
        let mut worker = shell(&format!("{GREETING}echo 'out of memory' >&2")).unwrap();
        let error = worker.measure(&serde_json::json!({})).unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
}
