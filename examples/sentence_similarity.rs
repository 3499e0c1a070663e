//! Which sentences mean about the same: all-MiniLM-L6-v2's vectors and the angles between them.
//!
//! ```text
//! cargo xtask assets --fetch
//! cargo run --release --example sentence_similarity -p firebrick-examples -- ["A sentence" "Another one" ...]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::data::cache_dir;
use firebrick::train::DeviceChoice;
use firebrick::zoo::{EmbedOptions, SentenceEncoder, find_sentence_model};

const SENTENCES: [&str; 6] = [
    "The cat sleeps on the warm stove.",
    "A kitten is taking a nap near the oven.",
    "The train to the coast leaves at nine.",
    "When does the next railway connection to the sea depart?",
    "Gradient descent finds a minimum of the loss.",
    "The optimizer makes the error smaller, step by step.",
];

fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let sentences = if given.is_empty() { SENTENCES.map(str::to_owned).to_vec() } else { given };
    ensure!(sentences.len() > 1, "one sentence is like no other: give two or more");
    if !cache_dir()?.join("weights/all-MiniLM-L6-v2/model.safetensors").is_file() {
        println!(
            "skipped: all-MiniLM-L6-v2 is not in the cache folder; `cargo xtask assets --fetch` fetches it"
        );
        return Ok(());
    }

    let device = DeviceChoice::Auto.open()?;
    let encoder = SentenceEncoder::load_pretrained(find_sentence_model("minilm")?, &device, &mut |_, _| ())?;
    let embeddings = encoder.embed(&sentences, &EmbedOptions::default(), &mut |_, _| ())?;
    for (index, sentence) in sentences.iter().enumerate() {
        let (nearest, cosine) = (0..sentences.len())
            .filter(|&other| other != index)
            .map(|other| (other, embeddings.cosine(index, other)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there are two");
        println!("{sentence}\n  {cosine:.3}  {}", sentences[nearest]);
    }
    Ok(())
}
