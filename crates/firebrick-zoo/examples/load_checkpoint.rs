//! How long weights take to load, beside how long their file takes to read.
//!
//! `cargo run --release -p firebrick-zoo --features ndarray --example load_checkpoint -- FILE` loads FILE, the weights of
//! transformers' `BertModel` with the settings below (100 MB), and prints the median times of loading it into a model that
//! exists and of reading its bytes twice.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use firebrick_zoo::{BertConfig, BertEncoder, Checkpoint};

/// Rounds; each reads and loads once, so that both sides see the same machine.
const ROUNDS: usize = 11;

fn model(device: &Device) -> BertEncoder {
    BertConfig {
        vocabulary: 30_522,
        positions: 512,
        types: 2,
        width: 384,
        layers: 7,
        heads: 12,
        feed_forward: 1536,
        epsilon: 1e-12,
        pooler: true,
        dropout: 0.0,
    }
    .init(0, device)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("give a FILE of weights of the encoder above")?;
    let path = Path::new(&file);
    #[allow(deprecated)]
    let device = Device::ndarray();
    let (mut reading, mut loading) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..2 {
            drop(std::hint::black_box(std::fs::read(path)?));
        }
        reading.push(start.elapsed().as_secs_f64());
        let model = model(&device);
        let start = Instant::now();
        let model = Checkpoint::read(path)?.load_into_bert(model, "the encoder")?;
        loading.push(start.elapsed().as_secs_f64());
        drop(model);
    }
    let bytes = path.metadata()?.len();
    let (reading, loading) = (median(reading) * 1e3, median(loading) * 1e3);
    println!(
        "{}: {:.1} MB; reading it twice {reading:.1} ms, loading {loading:.1} ms, ratio {:.2}",
        path.display(),
        bytes as f64 / 1e6,
        loading / reading
    );
    Ok(())
}
