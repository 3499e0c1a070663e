//! `firebrick embed`: sentences to vectors.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use firebrick::data::{Table, TableLimits};
use firebrick::text::WhenTooLong;
use firebrick::train::DeviceChoice;
use firebrick::zoo::{EmbedOptions, Embeddings, SentenceEncoder, ZooError, find_sentence_model};
use serde::Serialize;

use crate::Ended;
use crate::eval::{check_place, write_whole};
use crate::progress;

/// No file of sentences is longer, bytes.
const MOST_BYTES: u64 = 1 << 30;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The sentence encoder: minilm (all-MiniLM-L6-v2)
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Its weights, instead of the published file
    #[arg(long, value_name = "FILE", requires = "tokenizer")]
    weights: Option<PathBuf>,
    /// Its tokenizer, instead of the published file: a tokenizer.json, a vocab.txt, or the folder of one
    #[arg(long, value_name = "FILE|DIR", requires = "weights")]
    tokenizer: Option<PathBuf>,
    /// A text file with a sentence a line, or a CSV file
    #[arg(long, value_name = "FILE.txt|FILE.csv", conflicts_with = "sentences")]
    input: Option<PathBuf>,
    /// Column of the CSV file that has the sentences
    #[arg(long, value_name = "COLUMN", requires = "input")]
    column: Option<String>,
    /// Write the vectors there instead of printing them: a NumPy array, or the JSON that would be printed
    #[arg(long, value_name = "FILE.npy|FILE.json")]
    output: Option<PathBuf>,
    /// Most tokens of a sentence [default: 256 for minilm, at most 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    max_tokens: Option<u32>,
    /// What to do with a longer sentence: cut off its end with a warning, or stop
    #[arg(long, default_value = "truncate", value_name = "truncate|refuse", value_parser = when_too_long)]
    when_too_long: WhenTooLong,
    /// Leave the vectors as long as they are
    #[arg(long)]
    no_normalize: bool,
    /// Sentences that are computed together
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    /// Device: auto takes a GPU if there is one
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "auto|ndarray|flex|wgpu")]
    device: DeviceChoice,
    /// Sentences
    #[arg(value_name = "SENTENCE")]
    sentences: Vec<String>,
}

pub(crate) fn when_too_long(text: &str) -> Result<WhenTooLong, String> {
    match text {
        "truncate" => Ok(WhenTooLong::Truncate),
        "refuse" => Ok(WhenTooLong::Refuse),
        other => Err(format!("`{other}` is neither truncate nor refuse")),
    }
}

/// How the vectors are written.
#[derive(Clone, Copy)]
enum Format {
    Npy,
    Json,
}

#[derive(Serialize)]
struct Embedded<'a> {
    text: &'a str,
    embedding: &'a [f32],
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    // Whatever can be wrong is found before anything is computed.
    let spec = find_sentence_model(&args.model)?;
    if let Some(most) = args.max_tokens {
        let positions = spec.config.positions;
        ensure!(most as usize <= positions, "max-tokens is {most}, {} takes at most {positions}", spec.name);
    }
    let format = args.output.as_deref().map(check_output).transpose()?;
    let sentences = sentences(args)?;
    let device = args.device.open()?;
    let encoder = match (&args.weights, &args.tokenizer) {
        (Some(weights), Some(tokenizer)) => SentenceEncoder::open(spec, weights, tokenizer, &device)?,
        _ => {
            let mut bar = None;
            let encoder = SentenceEncoder::load_pretrained(spec, &device, &mut |done, total| {
                let bar = bar
                    .get_or_insert_with(|| progress::bar(total, "weights [{bar:28}] {bytes}/{total_bytes}"));
                bar.set_length(total);
                bar.set_position(done);
            });
            if let Some(bar) = bar {
                progress::finish(&bar);
            }
            encoder?
        }
    };

    let options = EmbedOptions {
        batch_size: args.batch_size as usize,
        max_tokens: args.max_tokens.map(|most| most as usize),
        when_too_long: args.when_too_long,
        normalize: !args.no_normalize,
    };
    let bar = progress::bar(sentences.len() as u64, "[{bar:28}] {pos}/{len} sentences  {eta} left");
    let embeddings = encoder.embed(&sentences, &options, &mut |done, _| bar.set_position(done));
    progress::finish(&bar);
    let embeddings = embeddings.map_err(|error| match error {
        ZooError::UnknownToken { sequence, id, vocabulary, .. } => anyhow!(
            "{}: this tokenizer gives sentence {} the id {id}, and the model knows those below {vocabulary}; give the tokenizer that was \
             published with the weights",
            encoder.tokenizer().origin().display(),
            sequence + 1
        ),
        error => error.into(),
    })?;
    warn(&embeddings, &sentences, args.max_tokens.map_or(spec.max_tokens, |most| most as usize));

    match (&args.output, format) {
        (Some(path), Some(Format::Npy)) => write_whole(path, &npy(&embeddings))?,
        (Some(path), _) => write_whole(path, json(&embeddings, &sentences)?.as_bytes())?,
        _ => std::io::stdout().lock().write_all(json(&embeddings, &sentences)?.as_bytes())?,
    }
    if let Some(path) = &args.output {
        progress::line(&format!(
            "{}: {} vectors of {} numbers",
            path.display(),
            sentences.len(),
            embeddings.width
        ));
    }
    Ok(Ended::Done)
}

/// The format that the name of the output means; refuses a place that nothing can be written to.
fn check_output(path: &Path) -> Result<Format> {
    let format = match path.extension().and_then(|end| end.to_str()) {
        Some("npy") => Format::Npy,
        Some("json") => Format::Json,
        _ => bail!("{}: --output must end in .npy or .json", path.display()),
    };
    check_place(path, "--output")?;
    Ok(format)
}

/// The sentences of the arguments or of the file, one at least.
fn sentences(args: &Args) -> Result<Vec<String>> {
    let Some(path) = &args.input else {
        ensure!(
            !args.sentences.is_empty(),
            "there is nothing to embed; give sentences, or a file with --input"
        );
        return Ok(args.sentences.clone());
    };
    if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
        let table = Table::read(path, &TableLimits::default())?;
        let Some(name) = &args.column else {
            bail!(
                "{}: which column has the sentences? Give --column; there are {}",
                path.display(),
                table.columns().join(", ")
            )
        };
        let column = table.column(name)?;
        return Ok((0..table.rows())
            .map(|row| table.text(row, column).unwrap_or_default().to_owned())
            .collect());
    }
    ensure!(args.column.is_none(), "{}: --column is of CSV files, whose names end in .csv", path.display());
    lines(path)
}

/// The lines of a text file.
fn lines(path: &Path) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MOST_BYTES,
        "{}: has more than {MOST_BYTES} bytes; split it",
        path.display()
    );
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow!("{}, line {line}: is not UTF-8 text; convert the file, e.g. with iconv", path.display())
    })?;
    let lines: Vec<String> =
        text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "{}: is empty; write a sentence a line", path.display());
    Ok(lines)
}

/// Tells of sentences that were cut off.
fn warn(embeddings: &Embeddings, sentences: &[String], most: usize) {
    const SHOWN: usize = 3;
    let truncated = &embeddings.truncated;
    if truncated.is_empty() {
        return;
    }
    let mut named: Vec<String> = truncated
        .iter()
        .take(SHOWN)
        .map(|&(index, dropped)| {
            let start: String = sentences[index].chars().take(24).collect();
            format!("number {} (\"{start}...\", {dropped} tokens left out)", index + 1)
        })
        .collect();
    if truncated.len() > SHOWN {
        named.push(format!("{} more", truncated.len() - SHOWN));
    }
    progress::line(&format!(
        "warning: {} of {} sentences were cut off at {most} tokens: {}",
        truncated.len(),
        sentences.len(),
        named.join(", ")
    ));
}

/// An object a sentence, a line each.
fn json(embeddings: &Embeddings, sentences: &[String]) -> Result<String> {
    let lines = sentences
        .iter()
        .zip(embeddings.rows())
        .map(|(text, embedding)| serde_json::to_string(&Embedded { text, embedding }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[{}]\n", lines.join(",\n")))
}

/// NumPy's file format, version 1.0: `float32`, `[sentences, width]`, row by row.
fn npy(embeddings: &Embeddings) -> Vec<u8> {
    let shape = format!("({}, {})", embeddings.rows().len(), embeddings.width);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The values begin at a multiple of 64 bytes; ten come before the header, a line end closes it.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', length - header.len() - 1));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(embeddings.values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_numpy_begins_at_a_multiple_of_64_bytes() {
        let embeddings = Embeddings { values: vec![1.5; 6], width: 3, truncated: Vec::new() };
        let file = npy(&embeddings);
        assert_eq!(file.len(), 128 + 6 * 4);
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let header = std::str::from_utf8(&file[10..128]).expect("text");
        assert!(
            header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"),
            "{header}"
        );
        assert!(header.ends_with(" \n"));
        assert_eq!(file[128..132], 1.5f32.to_le_bytes());
    }
}
