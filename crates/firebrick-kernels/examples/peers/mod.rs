//! Other runtimes, run by a Python script that answers line by line with the seconds a batch took.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The program that runs the peers.
pub struct Peers {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// `name=version` of each.
    pub names: Vec<String>,
}

impl Peers {
    /// Starts `script`, which lies beside this file, with the name of what it is to run.
    pub fn start(python: &str, script: &str, network: &str, threads: usize) -> Result<Self, Box<dyn Error>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/peers").join(script);
        let mut child = Command::new(python)
            .args([script.as_os_str(), network.as_ref()])
            .env("PEER_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = child.stdin.take().ok_or("the peers' program has no input")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("the peers' program has no output")?);
        let mut names = String::new();
        answers.read_line(&mut names)?;
        let names = names.split_whitespace().map(str::to_owned).collect();
        Ok(Self { child, requests, answers, names })
    }

    /// Seconds for one batch, whose size the script understands.
    pub fn run(&mut self, name: &str, size: &str) -> Result<f64, Box<dyn Error>> {
        let peer = name.split('=').next().unwrap_or(name);
        writeln!(self.requests, "{peer} {size}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // Its input ends with us, which ends it; if it hangs, it must not outlive the example.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
