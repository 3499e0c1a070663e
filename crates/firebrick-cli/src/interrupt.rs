//! Ctrl-C: once to finish the step and save, twice to leave at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::progress;

/// Exit code of a program that was interrupted: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// A flag that the first Ctrl-C sets; the second one ends the process.
pub(crate) fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        progress::line("\nfinishing this step, then saving; Ctrl-C again leaves at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(flag)
}
