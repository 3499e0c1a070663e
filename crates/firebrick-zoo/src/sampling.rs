//! Which token follows, and a text token by token.

use std::cmp::Ordering;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick_nn::{LayerError, seed_of};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Gpt, GptCache, ZooError};

/// How the next token is taken from its logits. Settings act in the order of transformers: penalty, temperature, top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it before the draw: below 1 likely tokens get likelier. 1 by default; 0 takes the likeliest token, greedily.
    pub temperature: f64,
    /// Only the so many likeliest tokens are drawn from (Fan et al. 2018, arXiv:1805.04833), with all that are as likely as the last of them;
    /// all by default.
    pub top_k: Option<usize>,
    /// Only the fewest likeliest tokens that have this probability together are drawn from (nucleus sampling, Holtzman et al. 2019,
    /// arXiv:1904.09751), at least one; all by default.
    pub top_p: Option<f64>,
    /// Logits of tokens that were seen, in the prompt too, are divided by it if they are positive and multiplied if not (Keskar et al. 2019,
    /// arXiv:1909.05858); 1, no penalty, by default.
    pub repetition_penalty: f64,
    /// What the draws depend on; 0 by default.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Always the likeliest token, of equals the one with the least id.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ZooError::Setting`] names the one that is wrong.
    pub fn validate(&self) -> Result<(), ZooError> {
        let unless = |fits: bool, field, value: String, expected: &str| match fits {
            true => Ok(()),
            false => Err(LayerError { layer: "sampling", field, value, expected: expected.to_owned() }),
        };
        let finite = |value: f64| value.is_finite();
        let temperature = self.temperature;
        unless(
            temperature >= 0.0 && finite(temperature),
            "temperature",
            temperature.to_string(),
            "0 (greedy) or more",
        )?;
        if let Some(k) = self.top_k {
            unless(k > 0, "top_k", k.to_string(), "at least 1")?;
        }
        if let Some(p) = self.top_p {
            unless(p > 0.0 && p <= 1.0, "top_p", p.to_string(), "greater than 0 and at most 1")?;
        }
        let penalty = self.repetition_penalty;
        unless(
            penalty > 0.0 && finite(penalty),
            "repetition_penalty",
            penalty.to_string(),
            "greater than 0 (1 is none)",
        )?;
        Ok(())
    }

    /// Changes the logits of one token, `[vocabulary]`: by the penalty for the tokens of `seen`, by the temperature unless it is 0, and to minus
    /// infinity where top-k and top-p leave a token out. Ids of `seen` that are none of the logits are passed over.
    pub fn filter(&self, logits: &mut [f32], seen: &[u32]) {
        if self.repetition_penalty != 1.0 {
            self.penalize(logits, seen);
        }
        if self.temperature > 0.0 && self.temperature != 1.0 {
            logits.iter_mut().for_each(|logit| *logit = (f64::from(*logit) / self.temperature) as f32);
        }
        if let Some(k) = self.top_k.filter(|&k| k < logits.len()) {
            let mut sorted = logits.to_vec();
            let (_, &mut least, _) = sorted.select_nth_unstable_by(k.max(1) - 1, |a, b| b.total_cmp(a));
            leave_out(logits, |logit| logit < least);
        }
        if let Some(p) = self.top_p.filter(|&p| p < 1.0) {
            nucleus(logits, p);
        }
    }

    fn penalize(&self, logits: &mut [f32], seen: &[u32]) {
        // Each token once, however often it was seen.
        let mut seen: Vec<u32> = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(logit) = logits.get_mut(id as usize) {
                let value = f64::from(*logit);
                let penalty = self.repetition_penalty;
                *logit = (if value < 0.0 { value * penalty } else { value / penalty }) as f32;
            }
        }
    }

    /// The token that follows, from its logits `[vocabulary]`, of which there is at least one. `seen` are the tokens so far. The draw depends on the
    /// seed and `step` alone, whatever was drawn before.
    pub fn next(&self, mut logits: Vec<f32>, seen: &[u32], step: u64) -> u32 {
        self.filter(&mut logits, seen);
        if self.temperature == 0.0 {
            return likeliest(&logits);
        }
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut left = uniform(self.seed, step) * total;
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave nothing, and so do logits that are no numbers.
        drawn.map_or_else(|| likeliest(&logits), |id| id as u32)
    }
}

fn leave_out(logits: &mut [f32], out: impl Fn(f32) -> bool) {
    logits.iter_mut().filter(|logit| out(**logit)).for_each(|logit| *logit = f32::NEG_INFINITY);
}

/// Keeps a token while those before it, likeliest first, have less than `p` together.
fn nucleus(logits: &mut [f32], p: f64) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let Some(&first) = order.first() else { return };
    let most = f64::from(logits[first]);
    let weight = |logit: f32| (f64::from(logit) - most).exp();
    let total: f64 = order.iter().map(|&id| weight(logits[id])).sum();
    let mut before = 0.0;
    for (place, id) in order.into_iter().enumerate() {
        let share = weight(logits[id]) / total;
        if place > 0 && before >= p {
            logits[id] = f32::NEG_INFINITY;
        }
        before += share;
    }
}

/// Of equals the first.
fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan()).fold(
        (0, f32::NEG_INFINITY),
        |best, (id, &logit)| match logit.partial_cmp(&best.1) {
            Some(Ordering::Greater) => (id, logit),
            _ => best,
        },
    );
    best.0 as u32
}

/// In `[0, 1)`, from a generator of its own for each step.
fn uniform(seed: u64, step: u64) -> f64 {
    let bits = ChaCha8Rng::seed_from_u64(seed_of(seed, step)).next_u64();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// How a text is continued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateOptions {
    /// How each token is taken.
    pub sampling: Sampling,
    /// The most tokens that are made; as many as the context has room for by default.
    pub max_tokens: Option<usize>,
    /// Tokens that end the text; they are not given. None by default.
    pub stop: Vec<u32>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// At a stop token.
    Stop(u32),
    /// At the most tokens that were asked for.
    MaxTokens,
    /// Where the model's context was full.
    Context,
}

/// A text as it is made: an iterator of tokens, each computed when it is asked for.
#[derive(Debug)]
pub struct Generation {
    model: Gpt,
    cache: GptCache,
    options: GenerateOptions,
    /// Prompt and what was made.
    tokens: Vec<u32>,
    prompt: usize,
    finish: Option<Finish>,
    device: Device,
}

impl Gpt {
    /// Continues `prompt` by tokens, one at a time.
    ///
    /// The first token costs the prompt, each other only itself. No gradient is recorded and nothing is dropped, whatever device the model is on. The
    /// same seed gives the same text.
    ///
    /// # Errors
    /// [`ZooError::NoTokens`], [`ZooError::TooManyTokens`] or [`ZooError::UnknownToken`] for the prompt; [`ZooError::Setting`] for the sampling.
    pub fn generate(&self, prompt: &[u32], options: GenerateOptions) -> Result<Generation, ZooError> {
        options.sampling.validate()?;
        self.limits().check_prompt(prompt)?;
        let model = self.valid();
        let device = model.tokens.weight.val().device();
        Ok(Generation {
            cache: model.cache(),
            model,
            options,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            finish: None,
            device,
        })
    }
}

impl Generation {
    /// Prompt and tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Why it ended; none before its end.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// The logits behind the last token.
    fn logits(&mut self) -> Vec<f32> {
        let new: Vec<i64> = self.tokens[self.cache.tokens()..].iter().map(|&id| i64::from(id)).collect();
        let count = new.len();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(new, [1, count]), &self.device);
        let hidden = self.model.hidden_cached(ids, &mut self.cache).narrow(1, count - 1, 1);
        self.model.logits(hidden).into_data().iter::<f32>().collect()
    }
}

impl Iterator for Generation {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.finish.is_some() {
            return None;
        }
        let made = self.tokens.len() - self.prompt;
        if self.options.max_tokens.is_some_and(|most| made >= most) {
            self.finish = Some(Finish::MaxTokens);
            return None;
        }
        if self.tokens.len() > self.model.config().context {
            self.finish = Some(Finish::Context);
            return None;
        }
        let logits = self.logits();
        let token = self.options.sampling.next(logits, &self.tokens, made as u64);
        if self.options.stop.contains(&token) {
            self.finish = Some(Finish::Stop(token));
            return None;
        }
        self.tokens.push(token);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Vec<f32> {
        vec![0.0, 2.0, -1.0, 2.0, 1.0]
    }

    #[test]
    fn greed_takes_the_likeliest_and_of_equals_the_first() {
        assert_eq!(Sampling::greedy().next(logits(), &[], 0), 1);
        assert_eq!(Sampling::greedy().next(vec![f32::NAN, -3.0], &[], 0), 1);
        // What was seen is punished, once.
        let sampling = Sampling { repetition_penalty: 3.0, ..Sampling::greedy() };
        assert_eq!(sampling.next(logits(), &[1, 3, 3, 700], 0), 4);
    }

    #[test]
    fn a_draw_depends_on_seed_and_step_alone() {
        let sampling = Sampling { seed: 5, ..Sampling::default() };
        let draws: Vec<u32> = (0..40).map(|step| sampling.next(logits(), &[], step)).collect();
        let backwards: Vec<u32> = (0..40).rev().map(|step| sampling.next(logits(), &[], step)).collect();
        assert!(draws.iter().eq(backwards.iter().rev()));
        let other = Sampling { seed: 6, ..sampling };
        assert!((0..40).any(|step| other.next(logits(), &[], step) != draws[step as usize]));
    }

    /// The share of each token among 20,000 draws is its probability, within four deviations.
    #[test]
    fn draws_follow_the_probabilities() {
        let sampling = Sampling { temperature: 0.7, top_k: Some(4), ..Sampling::default() };
        let mut expected = logits();
        sampling.filter(&mut expected, &[]);
        let weights: Vec<f64> = expected.iter().map(|&logit| f64::from(logit).exp()).collect();
        let total: f64 = weights.iter().sum();
        let draws = 20_000;
        let mut counts = [0u32; 5];
        (0..draws).for_each(|step| counts[sampling.next(logits(), &[], step) as usize] += 1);
        assert_eq!(counts[2], 0, "the least likely of five is not among the top four");
        for (&count, weight) in counts.iter().zip(&weights) {
            let p = weight / total;
            let deviation = (p * (1.0 - p) / draws as f64).sqrt();
            assert!(
                (f64::from(count) / draws as f64 - p).abs() <= 4.0 * deviation,
                "{count} of {draws}, not {p}"
            );
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let sampling = Sampling::default();
        for (wrong, field) in [
            (Sampling { temperature: -1.0, ..sampling }, "`temperature` is -1"),
            (Sampling { temperature: f64::NAN, ..sampling }, "`temperature`"),
            (Sampling { top_k: Some(0), ..sampling }, "`top_k` is 0"),
            (Sampling { top_p: Some(1.5), ..sampling }, "`top_p` is 1.5"),
            (Sampling { repetition_penalty: 0.0, ..sampling }, "`repetition_penalty` is 0"),
        ] {
            let message = wrong.validate().expect_err(field).to_string();
            assert!(message.contains(field), "{message}");
        }
        sampling.validate().expect("the defaults are right");
    }
}
