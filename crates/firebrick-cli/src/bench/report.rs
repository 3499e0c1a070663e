//! What a measurement says: as text, or as one JSON object.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Args, Measured, encoder, memory};

/// What the figures are a share of.
pub(super) struct Machine {
    /// Threads of the machine.
    pub(super) threads: usize,
    /// Instruction set of our kernels.
    pub(super) simd: String,
    /// GFLOP/s of multiply-add chains on all threads.
    pub(super) peak: f64,
}

/// What `--json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) mode: String,
    pub(super) device: String,
    pub(super) batch_size: u32,
    /// Null for sequences.
    image_size: Option<u32>,
    /// Null for images.
    tokens: Option<u32>,
    /// Median of the runs; of a sequence, where there are no images.
    pub(super) ms_per_image: f64,
    /// Of each run, in order.
    ms_per_image_runs: Vec<f64>,
    /// Null where the operations are not counted or run on no CPU.
    pub(super) share_of_peak: Option<f64>,
    peak_gflops: f64,
    gflop_per_image: Option<f64>,
    /// MiB; null where the system does not tell.
    pub(super) peak_rss_mb: Option<f64>,
    shapes: BTreeMap<String, Vec<usize>>,
    threads: usize,
    simd: String,
    version: String,
}

impl Report {
    pub(super) fn new(args: &Args, device: String, measured: &Measured, machine: Machine) -> Self {
        let per_image = |time: &Duration| time.as_secs_f64() * 1e3 / f64::from(args.batch_size);
        let times: Vec<f64> = measured.times.iter().map(per_image).collect();
        let ms_per_image = median(&times);
        let flop = measured.flop;
        let on_cpu = device != "wgpu";
        Self {
            model: args.model.clone(),
            mode: args.mode.to_string(),
            device,
            batch_size: args.batch_size,
            image_size: (args.model != encoder::NAME).then_some(args.image_size),
            tokens: (args.model == encoder::NAME).then_some(args.tokens),
            ms_per_image,
            ms_per_image_runs: times,
            share_of_peak: flop
                .filter(|_| on_cpu && machine.peak > 0.0)
                .map(|flop| flop / (ms_per_image * 1e-3) / 1e9 / machine.peak),
            peak_gflops: machine.peak,
            gflop_per_image: flop.map(|flop| flop / 1e9),
            peak_rss_mb: memory::peak_resident_mb(),
            shapes: measured.shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone())).collect(),
            threads: machine.threads,
            simd: machine.simd,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Report {
    fn each(&self) -> &'static str {
        if self.tokens.is_some() { "a sequence" } else { "an image" }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        writeln!(f, "{}, {}, {}, batch {}, f32", self.model, self.mode, self.device, self.batch_size)?;
        for (name, axes) in &self.shapes {
            writeln!(f, "{name:<14} {}", shape(axes))?;
        }
        let fastest = self.ms_per_image_runs.iter().copied().fold(f64::INFINITY, f64::min);
        let runs = self.ms_per_image_runs.len();
        writeln!(
            f,
            "ms {:<11} {:.3}  (median of {runs} batches; the fastest {fastest:.3})",
            self.each(),
            self.ms_per_image
        )?;
        if let (Some(share), Some(gflop)) = (self.share_of_peak, self.gflop_per_image) {
            writeln!(
                f,
                "share of peak  {:.1} %  (of {:.0} GFLOP/s, multiply-add chains on {} threads; {gflop:.3} GFLOP {}; kernels {})",
                share * 100.0,
                self.peak_gflops,
                self.threads,
                self.each(),
                self.simd
            )?;
        }
        match self.peak_rss_mb {
            Some(memory) => writeln!(f, "peak memory    {memory:.0} MiB"),
            None => writeln!(f, "peak memory    unknown on this system"),
        }
    }
}

/// The middle value, or the mean of the two middle ones; no number if there is none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_of_any_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 30.0]), 3.0);
        assert!(median(&[]).is_nan());
    }
}
