//! A transformer encoder compiled once for any batch of sequences.

mod attention;
mod builder;
mod embedding;
mod input;
mod layer;
mod linear;
mod norm;
mod packed_head;
mod params;
#[cfg(test)]
mod reference;
mod softmax;
#[cfg(test)]
mod tests;

pub use builder::EncoderPlanBuilder;
pub use input::{EncoderBatch, EncoderInput, KeyMask};
pub use params::{
    AttentionParams, EmbeddingParams, EncoderConfig, EncoderLayerParams, LayerNormParams, LinearParams,
    NormOrder,
};

use crate::buffer::{Buffer, Shared};
use crate::loan::Loan;
use crate::simd::Simd;
use crate::{KernelError, SimdLevel, team};
use attention::{Attention, Context, Sequence};
use embedding::{Embedding, Tables};
use input::{Checked, CheckedInput};
use layer::Layer;
use norm::TokenNorm;
use std::ops::Range;
use std::sync::Mutex;

/// A transformer encoder in evaluation mode, compiled by [`EncoderPlanBuilder`]: weights packed for the kernels of one
/// instruction set, memory reused from run to run.
///
/// [`run`](EncoderPlan::run) uses rayon's current pool, over heads and over blocks of tokens. The result does not depend on it: the
/// same sequence gives the same bytes for any number of threads, alone or in a batch.
#[derive(Debug)]
pub struct EncoderPlan {
    network: Box<dyn Run>,
    level: SimdLevel,
    config: EncoderConfig,
    layers: usize,
    multiply_adds_per_token: u64,
}

impl EncoderPlan {
    /// What all layers have in common.
    pub fn config(&self) -> EncoderConfig {
        self.config
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The instruction set that the plan was compiled for.
    pub fn level(&self) -> SimdLevel {
        self.level
    }

    /// Multiplications, each with an addition, for a sequence of so many tokens of which none is masked. Scores that a causal
    /// encoder does not need are counted.
    pub fn multiply_adds(&self, tokens: usize) -> u64 {
        let tokens = tokens as u64;
        let attention = 2 * tokens * self.config.width as u64 * self.layers as u64;
        tokens * (self.multiply_adds_per_token + attention)
    }

    /// Makes room for batches of so many sequences and tokens, so that no later [`run`](Self::run) of that size or less on the same
    /// number of threads allocates large blocks of memory.
    pub fn reserve(&self, batch: usize, tokens: usize) {
        self.network.reserve(batch, tokens);
    }

    /// Runs the encoder; the result is the hidden states of the last layer, `[batch, tokens, width]`.
    ///
    /// # Errors
    /// [`KernelError::InputKind`], [`KernelError::InputLength`], [`KernelError::TokenOutsideVocabulary`],
    /// [`KernelError::TokenTypeOutside`], [`KernelError::SequenceTooLong`], [`KernelError::MaskLength`].
    pub fn run(&self, batch: &EncoderBatch<'_>) -> Result<Vec<f32>, KernelError> {
        let checked = batch.check(self.config.width, self.network.tables())?;
        let mut output = vec![0.0; batch.batch * batch.tokens * self.config.width];
        if !output.is_empty() {
            self.network.run(&checked, &mut output);
        }
        Ok(output)
    }

    /// Runs the encoder into memory of the caller's: `[batch, tokens, width]`.
    ///
    /// # Errors
    /// Those of [`run`](Self::run); and [`KernelError::InputLength`] where the output has another length.
    pub fn run_into(&self, batch: &EncoderBatch<'_>, output: &mut [f32]) -> Result<(), KernelError> {
        let checked = batch.check(self.config.width, self.network.tables())?;
        input::check_length("output", output.len(), &[batch.batch, batch.tokens, self.config.width])?;
        if !output.is_empty() {
            self.network.run(&checked, output);
        }
        Ok(())
    }
}

/// A compiled encoder, whatever its instruction set.
trait Run: Send + Sync + std::fmt::Debug {
    fn tables(&self) -> Option<&Tables>;

    fn reserve(&self, batch: usize, tokens: usize);

    fn run(&self, input: &Checked<'_>, output: &mut [f32]);
}

/// An encoder for one instruction set.
#[derive(Debug)]
struct Compiled<S: Simd> {
    simd: S,
    embedding: Option<Embedding>,
    layers: Vec<Layer>,
    attention: Attention,
    heads: usize,
    final_norm: Option<TokenNorm>,
    width: usize,
    /// The most tokens of a block.
    block: usize,
    /// Memory that no run uses at the moment.
    activations: Mutex<Vec<Activations>>,
    scratch: Mutex<Vec<Buffer>>,
}

/// What lies between the phases of a run.
#[derive(Debug, Default)]
struct Activations {
    /// `[batch, tokens, width]`, rows filled up.
    hidden: Buffer,
    /// Queries, keys and values.
    attended: Buffer,
    /// The heads' results.
    context: Buffer,
}

/// A phase of a run, in the order in which the threads go through them.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Blocks of tokens: the input.
    Start,
    /// Heads of sequences.
    Attend,
    /// Blocks of tokens: the rest of a layer, and queries, keys and values for the next.
    Finish(usize),
}

impl<S: Simd> Compiled<S> {
    /// Values of a token's hidden state, filled up.
    fn row(&self) -> usize {
        self.width.next_multiple_of(S::LANES)
    }

    fn attend_row(&self) -> usize {
        self.layers[0].attend_len()
    }

    /// Values of scratch memory that a thread needs.
    fn scratch_len(&self, tokens: usize) -> usize {
        self.layers[0].scratch_len(self.block).max(self.attention.scratch_len(tokens))
    }

    /// Blocks of at most `self.block` tokens; as many for each thread, where there are enough.
    fn blocks(&self, rows: usize, threads: usize) -> usize {
        rows.div_ceil(self.block).next_multiple_of(threads).min(rows)
    }

    /// The input of a block, and the first layer's queries, keys and values.
    fn start(&self, input: &CheckedInput<'_>, rows: Range<usize>, hidden: &mut [f32], scratch: &mut [f32]) {
        match input {
            CheckedInput::Tokens(ids) => {
                let embedding =
                    self.embedding.as_ref().expect("token ids are checked against the embeddings");
                let sums = &mut scratch[..hidden.len()];
                embedding.run(self.simd, *ids, rows.start, sums, hidden);
            }
            CheckedInput::Hidden(values) => {
                let values = values[rows.start * self.width..rows.end * self.width].chunks_exact(self.width);
                for (to, from) in hidden.chunks_exact_mut(self.row()).zip(values) {
                    to[..self.width].copy_from_slice(from);
                    to[self.width..].fill(0.0);
                }
            }
        }
    }

    /// Hidden states as they leave the plan.
    fn export(&self, hidden: &[f32], output: &mut [f32], scratch: &mut [f32]) {
        let hidden = match &self.final_norm {
            None => hidden,
            Some(norm) => {
                let normal = &mut scratch[..hidden.len()];
                norm.run(self.simd, hidden, normal);
                normal
            }
        };
        for (from, to) in hidden.chunks_exact(self.row()).zip(output.chunks_exact_mut(self.width)) {
            to.copy_from_slice(&from[..self.width]);
        }
    }
}

impl<S: Simd> Run for Compiled<S> {
    fn tables(&self) -> Option<&Tables> {
        self.embedding.as_ref().map(|embedding| &embedding.tables)
    }

    fn reserve(&self, batch: usize, tokens: usize) {
        let rows = batch * tokens;
        let mut activations = Loan::new(&self.activations);
        activations.get().reserve(rows, self.row(), self.attend_row());
        let mut scratch: Vec<_> =
            (0..rayon::current_num_threads()).map(|_| Loan::new(&self.scratch)).collect();
        for scratch in &mut scratch {
            scratch.get().reserve(self.scratch_len(tokens));
        }
    }

    fn run(&self, input: &Checked<'_>, output: &mut [f32]) {
        let (batch, tokens) = (input.batch, input.tokens);
        let rows = batch * tokens;
        if rows == 0 {
            return;
        }
        let threads = rayon::current_num_threads();
        let blocks = self.blocks(rows, threads);
        // Heads, and parts of their queries where there are too few heads to go round.
        let tiles = Attention::tiles(tokens);
        let parts = if threads == 1 { 1 } else { (4 * threads).div_ceil(batch * self.heads).min(tiles) };
        let mut phases = vec![(Phase::Start, blocks)];
        for layer in 0..self.layers.len() {
            phases.extend([(Phase::Attend, batch * self.heads * parts), (Phase::Finish(layer), blocks)]);
        }
        let tasks: Vec<usize> = phases.iter().map(|&(_, tasks)| tasks).collect();

        let (row, attend_row) = (self.row(), self.attend_row());
        let mut activations = Loan::new(&self.activations);
        let activations = activations.get();
        activations.reserve(rows, row, attend_row);
        let [hidden, attended, context] =
            [&mut activations.hidden, &mut activations.attended, &mut activations.context]
                .map(|buffer| Shared::new(buffer));
        let output = Shared::new(output);

        let share =
            |index: usize, count: usize, total: usize| index * total / count..(index + 1) * total / count;
        let work = |scratch: &mut Loan<'_, Buffer>, phase: usize, index: usize| {
            let scratch = scratch.get();
            scratch.reserve(self.scratch_len(tokens));
            let block = share(index, blocks, rows);
            let count = block.len();
            // SAFETY: blocks are disjoint, and so are the heads' parts of the context; what other tasks have written was written
            // in an earlier phase, and phases follow one another.
            unsafe {
                let next = match phases[phase].0 {
                    Phase::Start => {
                        let hidden = hidden.write(block.start * row, count * row);
                        self.start(&input.input, block.clone(), hidden, scratch);
                        self.layers.first()
                    }
                    Phase::Attend => {
                        let (head, part) = (index / parts, index % parts);
                        let (sequence, head) = (head / self.heads, head % self.heads);
                        let first = sequence * tokens;
                        let keep = input.keep.as_ref().map(|keep| &keep[first..first + tokens]);
                        let length = input.lengths[sequence];
                        let rows = attended.read_part(first * attend_row, tokens * attend_row);
                        let sequence = Sequence { rows, stride: attend_row, tokens, length, keep };
                        let context = Context { rows: context.from(first * row), stride: row };
                        let tiles = share(part, parts, tiles);
                        self.attention.run(self.simd, sequence, head, tiles, context, scratch);
                        return;
                    }
                    Phase::Finish(layer) => {
                        let hidden = hidden.write(block.start * row, count * row);
                        let context = context.read_part(block.start * row, count * row);
                        self.layers[layer].finish(self.simd, count, context, hidden, scratch);
                        self.layers.get(layer + 1)
                    }
                };
                let hidden = hidden.read_part(block.start * row, count * row);
                match next {
                    Some(layer) => {
                        let attended = attended.write(block.start * attend_row, count * attend_row);
                        layer.attend(self.simd, count, hidden, attended, scratch);
                    }
                    None => {
                        let output = output.write(block.start * self.width, count * self.width);
                        self.export(hidden, output, scratch);
                    }
                }
            }
        };
        team::run(threads, &tasks, || Loan::new(&self.scratch), work);
    }
}

impl Activations {
    fn reserve(&mut self, rows: usize, row: usize, attend_row: usize) {
        self.hidden.reserve(rows * row);
        self.attended.reserve(rows * attend_row);
        // Heads write their features and nobody the rest of a row, which stays zero as it is made; a plan's rows have one length.
        self.context.reserve(rows * row);
    }
}
