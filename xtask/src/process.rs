//! Running other programs: each one printed as it could be typed, and timed.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Runs `command` in the workspace's root (unless it names a folder itself); prints it and its time.
///
/// # Errors
///
/// When it cannot be started or does not end with success.
pub fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let start = Instant::now();
    let status = command.status().with_context(|| cannot_start(command))?;
    conclude(&line, status, start.elapsed())
}

/// Like [`run`]; every line of standard output is passed on and shown to `look`.
pub fn run_watching(command: &mut Command, mut look: impl FnMut(&str)) -> Result<()> {
    let line = announce(command);
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| cannot_start(command))?;
    let output = child.stdout.take().expect("standard output is piped above");
    let mut ours = io::stdout().lock();
    for bytes in BufReader::new(output).split(b'\n') {
        let mut bytes = bytes.with_context(|| format!("reading the output of `{line}`"))?;
        look(&String::from_utf8_lossy(&bytes));
        bytes.push(b'\n');
        ours.write_all(&bytes).context("writing to standard output")?;
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    conclude(&line, status, start.elapsed())
}

/// Runs a quick question, quietly, and returns its standard output.
pub fn capture(command: &mut Command) -> Result<Vec<u8>> {
    prepare(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", typed(command), output.status);
    }
    Ok(output.stdout)
}

/// The command as one would type it: variables, program, arguments.
pub fn typed(command: &Command) -> String {
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn announce(command: &mut Command) -> String {
    prepare(command);
    let line = typed(command);
    eprintln!("$ {line}");
    line
}

/// Sets the folder, and hides the variables by which `cargo run` describes the xtask package itself:
/// some build scripts watch them, and would run again whenever a user types the same cargo command.
fn prepare(command: &mut Command) {
    if command.get_current_dir().is_none() {
        command.current_dir(workspace::root());
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

fn conclude(line: &str, status: ExitStatus, time: Duration) -> Result<()> {
    let seconds = time.as_secs_f64();
    if !status.success() {
        bail!("`{line}` failed ({status}) after {seconds:.1} s");
    }
    eprintln!("  done in {seconds:.1} s");
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`: is it installed and in PATH?", command.get_program().to_string_lossy())
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_command_as_it_can_be_typed() {
        let mut command = Command::new("cargo");
        command
            .args(["bench", "--bench", "*", "--", "it's"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .env_remove("CARGO_PKG_NAME");
        assert_eq!(typed(&command), r"RUSTDOCFLAGS='-D warnings' cargo bench --bench '*' -- 'it'\''s'");
    }

    #[test]
    fn says_which_program_is_not_there() {
        let error = run(&mut Command::new("no-such-program-as-this")).unwrap_err();
        assert!(error.to_string().contains("cannot start `no-such-program-as-this`"), "{error}");
    }

    #[test]
    fn fails_when_the_program_fails() {
        let mut git = Command::new("git");
        let error = run(git.arg("--no-such-option").stderr(Stdio::null())).unwrap_err();
        assert!(error.to_string().starts_with("`git --no-such-option` failed"), "{error}");
    }

    #[test]
    fn shows_every_line_of_the_output() {
        let mut lines = Vec::new();
        run_watching(Command::new("git").arg("--version"), |line| {
            lines.push(line.to_owned());
        })
        .unwrap();
        assert!(lines.iter().any(|line| line.starts_with("git version")), "{lines:?}");
    }
}
