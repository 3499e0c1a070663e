//! What a user sees while a command works.

use std::fmt;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex};

use firebrick::train::{BatchEnd, Callback, EpochRecord, Flow, TrainBegin, TrainError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The bar on the screen, so that lines can be written above it.
static CURRENT: LazyLock<Mutex<Option<ProgressBar>>> = LazyLock::new(Mutex::default);

/// Writes a line to standard error, above the bar if there is one.
///
/// Whoever read it may have gone, e.g. `2>&1 | head`; that must not end a training, so a failure is passed over.
pub(crate) fn line(text: &str) {
    let write = || {
        let _ = writeln!(io::stderr(), "{text}");
    };
    let current = CURRENT.lock().ok().and_then(|current| current.clone());
    match current {
        Some(bar) if !bar.is_hidden() => bar.suspend(write),
        _ => write(),
    }
}

/// A bar of `length` images; nothing where standard error is no terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8))
        .with_style(style.progress_chars("=> ").with_key("rate", rate));
    if let Ok(mut current) = CURRENT.lock() {
        *current = Some(bar.clone());
    }
    bar
}

/// `87 images/s`.
fn rate(state: &ProgressState, text: &mut dyn fmt::Write) {
    // The trait's writer cannot fail; if it could, a bar without a rate is what there would be.
    let _ = write!(text, "{:.0} images/s", state.per_sec());
}

/// Images, with their rate and the time left.
pub(crate) const IMAGES: &str = "{prefix} [{bar:28}] {pos}/{len}  {rate}  {eta} left {msg}";

/// Takes the bar away.
pub(crate) fn finish(bar: &ProgressBar) {
    bar.finish_and_clear();
    if let Ok(mut current) = CURRENT.lock() {
        *current = None;
    }
}

/// Log lines go above the bar.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        line(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// A bar an epoch and a line after it.
pub(crate) struct EpochProgress {
    begin: Option<TrainBegin>,
    bar: Option<ProgressBar>,
}

impl EpochProgress {
    pub(crate) fn new() -> Self {
        Self { begin: None, bar: None }
    }
}

impl<N> Callback<N> for EpochProgress {
    fn on_train_begin(&mut self, begin: &TrainBegin) {
        self.begin = Some(*begin);
    }

    fn on_batch_end(&mut self, end: &BatchEnd) {
        let (samples, epochs) = self.begin.map_or((0, 0), |begin| (begin.samples as u64, begin.epochs));
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bar(samples, IMAGES);
            bar.set_prefix(format!("Epoch {}/{epochs}", end.epoch));
            bar
        });
        bar.set_message(format!(" loss {:.4}  accuracy {:.4}", end.loss, end.accuracy));
        bar.set_position(end.samples as u64);
    }

    fn on_epoch_end(&mut self, record: &EpochRecord, _: &N) -> Result<Flow, TrainError> {
        if let Some(bar) = self.bar.take() {
            finish(&bar);
        }
        let mut text = format!(
            "Epoch {}/{}  {:.1} s  loss {:.4}  accuracy {:.4}",
            record.epoch,
            self.begin.map_or(0, |begin| begin.epochs),
            record.seconds,
            record.loss,
            record.accuracy
        );
        if let (Some(loss), Some(accuracy)) = (record.val_loss, record.val_accuracy) {
            text.push_str(&format!("  val_loss {loss:.4}  val_accuracy {accuracy:.4}"));
        }
        line(&text);
        Ok(Flow::Continue)
    }

    fn on_train_end(&mut self, network: N) -> N {
        if let Some(bar) = self.bar.take() {
            finish(&bar);
        }
        network
    }
}
