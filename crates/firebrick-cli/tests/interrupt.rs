//! Ctrl-C: the step is finished, everything is saved, and the exit code is 130.
#![cfg(unix)]

mod process;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use process::{Finished, Sandbox, history, train_arguments};

/// Trains without an end and interrupts it when a line that starts so has come.
fn train_and_interrupt(sandbox: &Sandbox, settings: &str, line_start: &str) -> Finished {
    let arguments = format!("--data data --epochs 1000000 --early-stopping 0 --out runs/a {settings}");
    let mut command = sandbox.command(&train_arguments(&arguments));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut reader = BufReader::new(child.stderr.take().expect("piped"));
    let mut stderr = String::new();
    while !stderr.lines().last().is_some_and(|line| line.starts_with(line_start)) {
        assert!(reader.read_line(&mut stderr).expect("text") > 0, "ended early:\n{stderr}");
    }
    let killed =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(killed.success());
    reader.read_to_string(&mut stderr).expect("text");
    let mut stdout = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    Finished { code: child.wait().expect("it ends").code(), stdout, stderr }
}

fn assert_saved(sandbox: &Sandbox, interrupted: &Finished, epochs: usize) {
    assert_eq!(interrupted.code, Some(130), "{}", interrupted.stderr);
    assert_eq!(interrupted.stdout, "");
    assert!(interrupted.stderr.contains("runs/a/model.safetensors"), "{}", interrupted.stderr);
    assert_eq!(sandbox.listing("runs/a"), ["config.toml", "curves.svg", "history.csv", "model.safetensors"]);
    let rows = history(&sandbox.text("runs/a/history.csv"));
    assert!(rows.len() >= epochs, "{rows:?}");
    assert!(rows.iter().enumerate().all(|(index, row)| row[0] == (index + 1) as f64), "{rows:?}");
    let report = sandbox.run("eval --model runs/a/model.safetensors --data data --device ndarray --json");
    assert_eq!(report.succeeded().json()["samples"], 8);
}

#[test]
fn a_head_in_training_is_saved() {
    let sandbox = Sandbox::with_data();
    let interrupted = train_and_interrupt(&sandbox, "", "Epoch 3/");
    assert_saved(&sandbox, &interrupted, 3);
}

#[test]
fn a_whole_model_in_training_is_saved() {
    let sandbox = Sandbox::with_data();
    let interrupted =
        train_and_interrupt(&sandbox, "--freeze none --input-size 16 --batch-size 8", "Epoch 1/");
    assert_saved(&sandbox, &interrupted, 1);
}

#[test]
fn a_model_whose_first_epoch_is_not_done_is_saved_with_a_history_without_rows() {
    let sandbox = Sandbox::with_data();
    let interrupted =
        train_and_interrupt(&sandbox, "--freeze none --input-size 16 --batch-size 1", "2 classes");
    assert_saved(&sandbox, &interrupted, 0);
    assert!(interrupted.stderr.contains("stopped in epoch 1"), "{}", interrupted.stderr);
    assert_eq!(sandbox.text("runs/a/history.csv").trim_end(), process::COLUMNS);
}
