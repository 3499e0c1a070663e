//! `firebrick generate`: a text, continued by a language model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use firebrick::burn::tensor::Device;
use firebrick::nn::seed_of;
use firebrick::text::{EncodeOptions, TextStream, Tokenizer, WhenTooLong};
use firebrick::train::DeviceChoice;
use firebrick::zoo::{Checkpoint, Finish, GenerateOptions, Gpt, GptConfig, GptPackage, Sampling, ZooError};
use serde::Serialize;

use crate::Ended;
use crate::embed::when_too_long;
use crate::progress;

/// The token that ends a text in GPT-2's vocabulary.
const END: &str = "<|endoftext|>";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A language model: a package of Firebrick, or GPT-2's weights with their config.json beside them, or the folder of both
    #[arg(long, value_name = "FILE|DIR")]
    model: PathBuf,
    /// Its tokenizer, where it is neither in the package nor in the folder: a tokenizer.json, or a vocab.json with merges.txt
    #[arg(long, value_name = "FILE|DIR")]
    tokenizer: Option<PathBuf>,
    /// The text that is continued
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Most tokens that are written
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: u32,
    /// Below 1 likely tokens get likelier; 0 always takes the likeliest
    #[arg(long, default_value_t = 1.0, value_name = "T", allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the so many likeliest tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the fewest tokens only that have this probability together
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Above 1, tokens that were seen get less likely
    #[arg(long, default_value_t = 1.0, value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// What the draws depend on
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// What to do with a prompt that is too long for the model: leave out its beginning with a warning, or stop
    #[arg(long, default_value = "truncate", value_name = "truncate|refuse", value_parser = when_too_long)]
    when_too_long: WhenTooLong,
    /// Print one JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
    /// Device: auto takes a GPU if there is one
    #[arg(long, default_value_t = DeviceChoice::Auto, value_name = "auto|ndarray|flex|wgpu")]
    device: DeviceChoice,
}

#[derive(Serialize)]
struct Generated<'a> {
    prompt: &'a str,
    /// What follows the prompt.
    text: String,
    /// Tokens of it.
    tokens: usize,
    /// `stop` at the token that ends a text, else `max_tokens`.
    finish: &'static str,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
    };
    sampling.validate()?;
    let device = args.device.open()?;
    let (model, tokenizer) = open(&args.model, args.tokenizer.as_deref(), &device)?;
    let end = tokenizer.id(END);
    let most = args.max_tokens as usize;
    let mut window = prompt(args, &tokenizer, end, &model.config())?;

    let mut out = std::io::stdout().lock();
    let mut text = String::new();
    let mut tell = |new: String| -> Result<()> {
        if args.json {
            text.push_str(&new);
        } else {
            out.write_all(new.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    };
    if !args.json {
        tell(args.prompt.clone())?;
    }
    let start = Instant::now();
    let mut stream = TextStream::new(&tokenizer);
    let mut made = 0;
    let finish = loop {
        // A part that begins again draws anew.
        let part = made as u64;
        let seed = if part == 0 { args.seed } else { seed_of(args.seed, part) };
        let options = GenerateOptions {
            sampling: Sampling { seed, ..sampling },
            max_tokens: Some(most - made),
            stop: end.into_iter().collect(),
        };
        let mut generation = model.generate(&window, options)?;
        for id in generation.by_ref() {
            made += 1;
            tell(stream.push(id)?)?;
        }
        match generation.finish() {
            Some(Finish::Stop(_)) => break "stop",
            // The context is full: go on from its second half.
            Some(Finish::Context) if made < most => {
                let tokens = generation.tokens();
                let kept = (model.config().context / 2).max(1);
                window = tokens[tokens.len() - kept..].to_vec();
            }
            _ => break "max_tokens",
        }
    };
    tell(stream.finish()?)?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let generated = Generated { prompt: &args.prompt, text, tokens: made, finish };
        writeln!(out, "{}", serde_json::to_string(&generated)?)?;
    } else {
        writeln!(out)?;
    }
    let why = if finish == "stop" { "the text ended" } else { "as many as asked for" };
    progress::line(&format!(
        "{made} tokens in {seconds:.2} s, {:.0} a second; {why}",
        made as f64 / seconds.max(1e-9)
    ));
    Ok(Ended::Done)
}

/// The model and its tokenizer.
fn open(path: &Path, tokenizer: Option<&Path>, device: &Device) -> Result<(Gpt, Tokenizer)> {
    if GptPackage::is_at(path) {
        let GptPackage { model, tokenizer: own, .. } = GptPackage::open(path, device)?;
        let chosen = tokenizer.map(Tokenizer::open).transpose()?.unwrap_or(own);
        check(&chosen, &model.config())?;
        return Ok((model, chosen));
    }
    let (folder, weights) = match path.is_dir() {
        true => {
            let names = ["model.safetensors", "pytorch_model.bin"];
            let found = names.iter().map(|name| path.join(name)).find(|file| file.is_file());
            let weights = found.with_context(|| {
                format!("{}: there is neither {} nor {} in this folder", path.display(), names[0], names[1])
            })?;
            (path, weights)
        }
        false => {
            std::fs::metadata(path).with_context(|| format!("{}: cannot be read", path.display()))?;
            let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), path.to_owned())
        }
    };
    let settings = folder.join("config.json");
    ensure!(
        settings.is_file(),
        "{}: it is no package of a language model, and there is no config.json beside it; give a package, or GPT-2's weights with their config.json",
        weights.display()
    );
    let config = GptConfig::read(&settings)?;
    let tokenizer = Tokenizer::open(tokenizer.unwrap_or(folder))?;
    check(&tokenizer, &config)?;
    let model = Checkpoint::read(&weights)?.load_into_gpt(config.init(0, device)?, "GPT-2")?;
    Ok((model, tokenizer))
}

fn check(tokenizer: &Tokenizer, config: &GptConfig) -> Result<(), ZooError> {
    let (tokens, vocabulary) = (tokenizer.vocabulary_size(), config.vocabulary);
    match tokens <= vocabulary {
        true => Ok(()),
        false => Err(ZooError::TokenizerTooLarge { path: tokenizer.origin().to_owned(), tokens, vocabulary }),
    }
}

/// The ids of the prompt, of which the context has room for one more at least.
fn prompt(args: &Args, tokenizer: &Tokenizer, end: Option<u32>, config: &GptConfig) -> Result<Vec<u32>> {
    let GptConfig { context, vocabulary, .. } = *config;
    let mut ids = tokenizer.encode(&args.prompt, &EncodeOptions::default())?.ids;
    if ids.is_empty() {
        // A text begins where the one before ended.
        ids.extend(end);
    }
    ensure!(
        !ids.is_empty(),
        "the prompt is empty, and this model's tokenizer has no {END} to begin with; give --prompt TEXT"
    );
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
        bail!(
            "{}: this tokenizer gives the prompt the id {id}, and the model knows those below {vocabulary}; give the tokenizer that was published \
             with the weights",
            tokenizer.origin().display()
        );
    }
    // Half of the context at least is the prompt's, and what is not needed for new tokens.
    let room = context.saturating_sub(args.max_tokens as usize).max(context / 2).max(1);
    if ids.len() > context {
        ensure!(
            args.when_too_long == WhenTooLong::Truncate,
            "the prompt has {} tokens, the model's context is {context}; shorten it, or allow --when-too-long truncate",
            ids.len()
        );
        progress::line(&format!(
            "warning: the prompt has {} tokens, the model's context is {context}: only the last {room} are used",
            ids.len()
        ));
        ids.drain(..ids.len() - room);
    }
    Ok(ids)
}
