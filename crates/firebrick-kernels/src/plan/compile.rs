//! From a graph of operations to the steps of a plan.

use super::block::{BlockLayers, BlockStep};
use super::concat::{ConcatStep, Part};
use super::conv::ConvStep;
use super::elementwise::ElementwiseStep;
use super::flatten::FlattenStep;
use super::layer_norm::LayerNormStep;
use super::linear::LinearStep;
use super::memory::{Life, Place, pack};
use super::node::{Block, Node, Operation};
use super::pool::{ExportStep, GlobalAverageStep, ImportStep, PoolStep};
use super::step::Step;
use super::vector::VectorStep;
use super::window::Source;
use super::winograd::WinogradStep;
use super::{Compiled, PlacedStep, Tail};
use crate::layout::Blocked;
use crate::params::FoldedConv;
use crate::simd::Simd;

/// Chooses a step for each operation, or for several that are better computed together, and a place for each value.
pub(super) fn compile<S: Simd>(simd: S, nodes: &[Node], outputs: &[usize]) -> Compiled<S> {
    let mut compiler = Compiler::<S>::new(nodes, outputs);
    for node in 0..nodes.len() {
        if compiler.needed[node] {
            compiler.node(node);
        }
    }
    compiler.outputs(outputs);
    compiler.finish(simd)
}

/// Where a node's value is found while compiling.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// Not yet, or by a step of its only reader.
    Nowhere,
    /// The plan's input.
    Input,
    Tensor(usize),
    /// A buffer for the whole batch, written by a linear layer at the end.
    Batch(usize),
}

/// What a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Input,
    Tensor(usize),
}

/// A value in the blocked layout.
#[derive(Debug)]
struct Tensor {
    layout: Blocked,
    /// Where it must lie, if that matters.
    fixed: Option<Place>,
    /// The larger value of which it is a part, and where it begins there.
    within: Option<(usize, usize)>,
}

/// A step whose values have no place yet; without a step, a concatenation.
struct Draft<S: Simd> {
    step: Option<Box<dyn Step<S>>>,
    inputs: Vec<Operand>,
    /// A tensor, or a result of the plan.
    output: Result<usize, Place>,
    multiply_adds: u64,
}

struct Compiler<'n, S: Simd> {
    nodes: &'n [Node],
    /// The nodes that read each node; outputs count as the node behind the last.
    users: Vec<Vec<usize>>,
    /// Whether an output depends on the node.
    needed: Vec<bool>,
    /// Whether the node is a linear layer that runs over the whole batch, because nothing but such layers and outputs reads it.
    tail: Vec<bool>,
    made: Vec<Made>,
    /// The input in the blocked layout, once a step has asked for it.
    imported: Option<usize>,
    tensors: Vec<Tensor>,
    drafts: Vec<Draft<S>>,
    linear: Vec<Tail>,
    /// Values of an image in each buffer for the whole batch.
    batch: Vec<usize>,
    /// Results that linear layers at the end make: output, buffer, channels.
    copies: Vec<(usize, usize, usize)>,
}

impl<'n, S: Simd> Compiler<'n, S> {
    fn new(nodes: &'n [Node], outputs: &[usize]) -> Self {
        let mut users = vec![Vec::new(); nodes.len()];
        let mut needed = vec![false; nodes.len()];
        let mut tail = vec![false; nodes.len()];
        for &output in outputs {
            users[output].push(nodes.len());
            needed[output] = true;
        }
        for (index, node) in nodes.iter().enumerate().rev() {
            if !needed[index] {
                continue;
            }
            for &input in &node.inputs {
                users[input].push(index);
                needed[input] = true;
            }
            let behind = |&user: &usize| user == nodes.len() || tail[user];
            tail[index] = matches!(node.operation, Operation::Linear(_)) && users[index].iter().all(behind);
        }
        Self {
            nodes,
            users,
            needed,
            tail,
            made: vec![Made::Nowhere; nodes.len()],
            imported: None,
            tensors: Vec::new(),
            drafts: Vec::new(),
            linear: Vec::new(),
            batch: Vec::new(),
            copies: Vec::new(),
        }
    }

    fn layout(&self, node: usize) -> Blocked {
        let [channels, height, width] = self.nodes[node].shape;
        Blocked { channels, height, width, lanes: S::LANES }
    }

    fn tensor(&mut self, layout: Blocked) -> usize {
        self.tensors.push(Tensor { layout, fixed: None, within: None });
        self.tensors.len() - 1
    }

    fn push(&mut self, step: Box<dyn Step<S>>, inputs: Vec<Operand>, multiply_adds: u64) -> usize {
        let output = self.tensor(step.output());
        self.drafts.push(Draft { step: Some(step), inputs, output: Ok(output), multiply_adds });
        output
    }

    /// A node's value in the blocked layout.
    fn blocked(&mut self, node: usize) -> (usize, Blocked) {
        let tensor = match self.made[node] {
            Made::Tensor(tensor) => tensor,
            Made::Input => match self.imported {
                Some(tensor) => tensor,
                None => {
                    let layout = self.layout(node);
                    let tensor = self.push(Box::new(ImportStep { layout }), vec![Operand::Input], 0);
                    self.imported = Some(tensor);
                    tensor
                }
            },
            Made::Nowhere | Made::Batch(_) => unreachable!("a value is made before it is read"),
        };
        (tensor, self.tensors[tensor].layout)
    }

    /// A node's value in whatever layout it has.
    fn source(&mut self, node: usize) -> (Operand, Source) {
        if let (Made::Input, None) = (self.made[node], self.imported) {
            let [channels, height, width] = self.nodes[node].shape;
            return (Operand::Input, Source::Nhwc { channels, height, width });
        }
        let (tensor, layout) = self.blocked(node);
        (Operand::Tensor(tensor), Source::Blocked(layout))
    }

    fn node(&mut self, index: usize) {
        let node = &self.nodes[index];
        let layout = self.layout(index);
        let step: (Box<dyn Step<S>>, Vec<Operand>, u64) = match &node.operation {
            Operation::Input => {
                self.made[index] = Made::Input;
                return;
            }
            Operation::Conv(_) if self.deferred(index) => return,
            Operation::Conv(conv) => self.conv(conv, &node.inputs, layout, false),
            Operation::Block(block) => self.block(block, node.inputs[0], layout),
            Operation::GlobalAveragePool => {
                let input = node.inputs[0];
                match (&self.nodes[input].operation, self.made[input]) {
                    (Operation::Conv(conv), Made::Nowhere) => {
                        let before = &self.nodes[input];
                        self.conv(conv, &before.inputs, self.layout(input), true)
                    }
                    _ => {
                        let (tensor, input) = self.blocked(input);
                        (Box::new(GlobalAverageStep { input }), vec![Operand::Tensor(tensor)], 0)
                    }
                }
            }
            Operation::Linear(conv) if self.tail[index] => {
                self.linear(index, conv, node.inputs[0]);
                return;
            }
            Operation::Linear(conv) => {
                let (tensor, _) = self.blocked(node.inputs[0]);
                let work = conv.shape.multiply_adds_per_pixel();
                (Box::new(VectorStep::new(conv, S::LANES)), vec![Operand::Tensor(tensor)], work)
            }
            Operation::Concat => {
                let inputs =
                    node.inputs.iter().map(|&input| Operand::Tensor(self.blocked(input).0)).collect();
                let output = self.tensor(layout);
                self.drafts.push(Draft { step: None, inputs, output: Ok(output), multiply_adds: 0 });
                self.made[index] = Made::Tensor(output);
                return;
            }
            operation => {
                let inputs: Vec<_> = node.inputs.iter().map(|&input| self.blocked(input)).collect();
                let input = inputs[0].1;
                let step: Box<dyn Step<S>> = match operation {
                    Operation::Pool(window) => Box::new(PoolStep::new(window.clone(), input)),
                    Operation::Elementwise(elementwise) => Box::new(ElementwiseStep::new(elementwise, input)),
                    Operation::LayerNorm { gamma, beta, epsilon } => {
                        Box::new(LayerNormStep::new(gamma, beta, *epsilon, input))
                    }
                    Operation::Flatten => Box::new(FlattenStep { input }),
                    _ => unreachable!("the others are handled above"),
                };
                (step, inputs.iter().map(|&(tensor, _)| Operand::Tensor(tensor)).collect(), 0)
            }
        };
        let tensor = self.push(step.0, step.1, step.2);
        self.made[index] = Made::Tensor(tensor);
    }

    /// Whether a convolution is better computed by the step of the one operation that reads it.
    fn deferred(&self, index: usize) -> bool {
        let (Operation::Conv(conv), [user]) = (&self.nodes[index].operation, &self.users[index][..]) else {
            return false;
        };
        match self.nodes.get(*user).map(|user| &user.operation) {
            Some(Operation::Block(block)) => {
                block.expand.is_none()
                    && !block.residual
                    && conv.shape.groups == 1
                    && self.nodes[index].inputs.len() == 1
            }
            Some(Operation::GlobalAveragePool) => true,
            _ => false,
        }
    }

    fn conv(
        &mut self,
        conv: &FoldedConv,
        inputs: &[usize],
        result: Blocked,
        average: bool,
    ) -> (Box<dyn Step<S>>, Vec<Operand>, u64) {
        let residual = inputs.get(1).map(|&residual| self.blocked(residual).0);
        if conv.shape.groups != 1 {
            self.blocked(inputs[0]);
        }
        let (operand, source) = self.source(inputs[0]);
        let mut operands = vec![operand];
        operands.extend(residual.map(Operand::Tensor));
        let step: Box<dyn Step<S>> = match source {
            Source::Blocked(input) if !average && WinogradStep::suits(conv, result) => {
                Box::new(WinogradStep::new(conv, input, result, residual.is_some()))
            }
            _ => {
                let size = [result.height, result.width];
                Box::new(ConvStep::new(conv, source, size, residual.is_some(), average, S::LANES))
            }
        };
        (step, operands, multiply_adds(conv, result))
    }

    fn block(
        &mut self,
        block: &Block,
        input: usize,
        result: Blocked,
    ) -> (Box<dyn Step<S>>, Vec<Operand>, u64) {
        // A convolution that was left to this step is its expansion.
        let (expand, input) = match (&self.nodes[input].operation, self.made[input]) {
            (Operation::Conv(conv), Made::Nowhere) => (Some(&**conv), self.nodes[input].inputs[0]),
            _ => (block.expand.as_ref(), input),
        };
        if expand.is_none() || block.residual {
            self.blocked(input);
        }
        let (operand, source) = self.source(input);
        let [height, width] = source.size();
        let mut expanded = Blocked { channels: source.channels(), height, width, lanes: S::LANES };
        let mut work = 0;
        if let Some(expand) = expand {
            expanded = after(expand, expanded);
            work += multiply_adds(expand, expanded);
        }
        let filtered = after(&block.depthwise, expanded);
        work += multiply_adds(&block.depthwise, filtered);
        work += block.project.as_ref().map_or(0, |project| multiply_adds(project, result));
        let layers = BlockLayers {
            expand: expand.map(|expand| (expand, source)),
            depthwise: &block.depthwise,
            project: block.project.as_ref(),
            residual: block.residual,
        };
        (Box::new(BlockStep::new(&layers, expanded, filtered)), vec![operand], work)
    }

    /// A linear layer over the whole batch.
    fn linear(&mut self, index: usize, conv: &FoldedConv, input: usize) {
        let linear = LinearStep::new(conv, S::LANES);
        let from = match self.made[input] {
            Made::Batch(buffer) => buffer,
            _ => {
                let (tensor, layout) = self.blocked(input);
                match self.tensors[tensor].fixed {
                    Some(Place::Batch { buffer, .. }) => buffer,
                    _ => {
                        let buffer = self.batch_buffer(layout.len());
                        self.tensors[tensor].fixed = Some(Place::Batch { buffer, len: layout.len() });
                        buffer
                    }
                }
            }
        };
        let to = self.batch_buffer(linear.output_len());
        let multiply_adds = conv.shape.multiply_adds_per_pixel();
        self.linear.push(Tail { linear, input: from, output: to, multiply_adds });
        self.made[index] = Made::Batch(to);
    }

    fn batch_buffer(&mut self, len: usize) -> usize {
        self.batch.push(len);
        self.batch.len() - 1
    }

    fn outputs(&mut self, outputs: &[usize]) {
        for (index, &output) in outputs.iter().enumerate() {
            if let Made::Batch(buffer) = self.made[output] {
                self.copies.push((index, buffer, self.nodes[output].shape[0]));
                continue;
            }
            let (tensor, layout) = self.blocked(output);
            let place = Place::Output { index, len: layout.channels * layout.pixels() };
            let (step, inputs) = (Box::new(ExportStep { layout }), vec![Operand::Tensor(tensor)]);
            self.drafts.push(Draft { step: Some(step), inputs, output: Err(place), multiply_adds: 0 });
        }
    }

    /// Lets the values that are concatenated be made in their places where they fill whole planes; a concatenation of values that
    /// are neighbours in a larger one already is a part of that. The last come first, because they are the largest.
    fn join(&mut self) {
        let Self { drafts, tensors, .. } = self;
        for draft in drafts.iter().rev() {
            let (None, Ok(output)) = (&draft.step, draft.output) else { continue };
            if tensors[output].fixed.is_some() {
                continue;
            }
            let parts: Vec<_> = draft.inputs.iter().filter_map(Operand::tensor).collect();
            let neighbours = |(root, expected): (usize, usize), &part: &usize| {
                let Tensor { layout, within, .. } = &tensors[part];
                let fits = *within == Some((root, expected)) && layout.channels % layout.lanes == 0;
                fits.then_some((root, expected + layout.len()))
            };
            let start = tensors[parts[0]].within;
            if tensors[output].within.is_none()
                && let Some(start) = start
                && parts.iter().try_fold(start, neighbours).is_some()
            {
                tensors[output].within = Some(start);
                continue;
            }
            let (root, mut first) = tensors[output].within.unwrap_or((output, 0));
            for (index, &part) in parts.iter().enumerate() {
                let Tensor { layout, fixed, within } = &mut tensors[part];
                let aligned = layout.channels % layout.lanes == 0;
                if (aligned || index + 1 == parts.len()) && within.is_none() && fixed.is_none() {
                    *within = Some((root, first));
                }
                if !aligned {
                    break;
                }
                first += layout.len();
            }
        }
    }

    /// Gives each value its place.
    fn finish(mut self, simd: S) -> Compiled<S> {
        self.join();
        let root = |tensor: usize| self.tensors[tensor].within.map_or(tensor, |(root, _)| root);
        let mut lives: Vec<Life> = self
            .tensors
            .iter()
            .map(|tensor| Life { len: tensor.layout.len(), first: usize::MAX, last: 0 })
            .collect();
        for (step, draft) in self.drafts.iter().enumerate() {
            let tensors = draft.inputs.iter().filter_map(Operand::tensor).chain(draft.output.ok());
            for tensor in tensors {
                let life = &mut lives[root(tensor)];
                (life.first, life.last) = (life.first.min(step), life.last.max(step));
            }
        }
        let in_arena =
            |tensor: &usize| self.tensors[*tensor].within.is_none() && self.tensors[*tensor].fixed.is_none();
        let roots: Vec<usize> = (0..self.tensors.len()).filter(in_arena).collect();
        let (firsts, arena) = pack(&roots.iter().map(|&root| lives[root]).collect::<Vec<_>>());
        let place = |tensor: usize| {
            let Tensor { layout, fixed, within } = &self.tensors[tensor];
            let (root, offset) = within.unwrap_or((tensor, 0));
            fixed.unwrap_or_else(|| {
                let index = roots.binary_search(&root).expect("what has no fixed place has one in the arena");
                Place::Arena { first: firsts[index] + offset, len: layout.len() }
            })
        };
        let mut steps = Vec::new();
        for draft in self.drafts {
            let step = match draft.step {
                Some(step) => step,
                None => {
                    let output = draft.output.expect("a concatenation makes a tensor");
                    match concat(&self.tensors, &draft.inputs, output) {
                        Some(step) => Box::new(step),
                        None => continue,
                    }
                }
            };
            let inputs =
                draft.inputs.iter().map(|operand| operand.tensor().map_or(Place::Input, place)).collect();
            let output = draft.output.map_or_else(|place| place, place);
            steps.push(PlacedStep { step, inputs, output, multiply_adds: draft.multiply_adds });
        }
        Compiled::new(simd, steps, arena, self.linear, self.batch, self.copies)
    }
}

impl Operand {
    fn tensor(&self) -> Option<usize> {
        match *self {
            Operand::Input => None,
            Operand::Tensor(tensor) => Some(tensor),
        }
    }
}

/// What a concatenation has to copy; `None` if all lies in its place already.
fn concat(tensors: &[Tensor], inputs: &[Operand], output: usize) -> Option<ConcatStep> {
    let root = |tensor: usize| tensors[tensor].within.unwrap_or((tensor, 0));
    let (whole, start) = root(output);
    let mut first_channel = 0;
    let mut parts = Vec::new();
    for (input, operand) in inputs.iter().enumerate() {
        let tensor = operand.tensor().expect("a concatenation reads tensors");
        let layout = tensors[tensor].layout;
        let there = start + first_channel / layout.lanes * layout.plane();
        let in_place = first_channel % layout.lanes == 0 && root(tensor) == (whole, there);
        if !in_place {
            parts.push(Part { input, layout, first_channel });
        }
        first_channel += layout.channels;
    }
    (!parts.is_empty()).then(|| ConcatStep { output: tensors[output].layout, parts })
}

/// The size of a convolution's result.
fn after(conv: &FoldedConv, input: Blocked) -> Blocked {
    let size = [input.height, input.width];
    let [height, width] = conv.shape.output_size(0, size).expect("the builder has checked the kernel's size");
    Blocked { channels: conv.shape.out_channels, height, width, ..input }
}

fn multiply_adds(conv: &FoldedConv, result: Blocked) -> u64 {
    conv.shape.multiply_adds_per_pixel() * result.pixels() as u64
}
