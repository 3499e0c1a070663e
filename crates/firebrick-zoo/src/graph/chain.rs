//! Which convolutions are computed as one operation in training.

use firebrick_nn::Padding;

use super::{Conv, Graph, Op, Value};

/// What a backbone computes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One node.
    Node(usize),
    /// Blocks of convolutions and BatchNorms, each the only reader of the one before.
    Chain(Vec<Link>),
}

/// Convolutions and BatchNorms, each the only reader of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The nodes, first to last.
    pub(crate) convs: Vec<usize>,
    /// What is joined with the last one's result.
    pub(crate) residue: Residue,
}

/// What is added before the last activation of a link, or put before its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residue {
    None,
    /// The link's input.
    Input,
    /// The link's input through this node, a convolution with BatchNorm.
    Projection(usize),
    /// Another value.
    Value(Value),
    /// The link's input, whose channels come first: this node, which puts them together.
    Append(usize),
}

impl Step {
    /// The node whose result this step gives.
    pub(crate) fn result(&self) -> usize {
        match self {
            Self::Node(node) => *node,
            Self::Chain(links) => links.last().expect("a chain is not empty").result(),
        }
    }
}

impl Link {
    fn result(&self) -> usize {
        match self.residue {
            Residue::Append(concat) => concat,
            _ => *self.convs.last().expect("a link is not empty"),
        }
    }

    /// The value that it reads.
    pub(crate) fn input(&self, graph: &Graph) -> Value {
        graph.nodes[self.convs[0]].inputs[0]
    }

    /// The link that ends with this convolution, where `before` is what there is of it.
    fn ending_with(graph: &Graph, mut before: Vec<usize>, conv: usize) -> Self {
        before.push(conv);
        let mut link = Self { convs: before, residue: Residue::None };
        link.residue = match graph.nodes[conv].inputs.get(1) {
            None => Residue::None,
            Some(added) if *added == link.input(graph) => Residue::Input,
            Some(added) => Residue::Value(*added),
        };
        link
    }

    /// How often it reads its input.
    fn reads(&self) -> usize {
        match self.residue {
            Residue::None | Residue::Value(_) => 1,
            Residue::Input | Residue::Projection(_) | Residue::Append(_) => 2,
        }
    }
}

/// The steps of a network in order.
pub(crate) fn steps(graph: &Graph) -> Vec<Step> {
    let mut steps = Steps { graph, readers: graph.readers(), found: vec![None; graph.nodes.len()] };
    for index in 1..graph.nodes.len() {
        let step = match steps.link(index) {
            Some((link, before)) => steps.joined(link, before),
            None => Step::Node(index),
        };
        steps.found[index] = Some(step);
    }
    steps.found.into_iter().flatten().collect()
}

/// The steps of the nodes so far.
struct Steps<'a> {
    graph: &'a Graph,
    readers: Vec<usize>,
    /// By their results; a step that has become part of another leaves a gap.
    found: Vec<Option<Step>>,
}

impl Steps<'_> {
    /// The link that ends with a node, and the links before it, if it does not begin with this node.
    fn link(&mut self, index: usize) -> Option<(Link, Vec<Link>)> {
        let node = &self.graph.nodes[index];
        let input = node.inputs[0];
        match &node.op {
            Op::Conv(conv) => {
                let (convs, before) = match self.open_link(index, input.0) {
                    Some((link, before)) => (link.convs, before),
                    // Alone it may be a convolution of a vector.
                    None if conv.norm.is_none() => return None,
                    None => Default::default(),
                };
                Some((Link::ending_with(self.graph, convs, index), before))
            }
            Op::BatchNorm { .. } => Some((Link::ending_with(self.graph, Vec::new(), index), Vec::new())),
            Op::Concat => match node.inputs[..] {
                [first, behind] => {
                    let reads_first =
                        |links: &[Link]| matches!(links, [link] if link.input(self.graph) == first);
                    if !matches!(&self.found[behind.0], Some(Step::Chain(links)) if reads_first(links)) {
                        return None;
                    }
                    let (link, before) = self.open_link(index, behind.0)?;
                    Some((Link { residue: Residue::Append(index), ..link }, before))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes the link that `input` ends, and those before it, if nothing is joined with it and nobody reads it but this node.
    fn open_link(&mut self, index: usize, input: usize) -> Option<(Link, Vec<Link>)> {
        let fits = self.readers[input] == 1 && self.fits(index) && self.fits(input);
        let Some(Step::Chain(links)) = &mut self.found[input] else { return None };
        let open = links.pop_if(|link| fits && link.residue == Residue::None)?;
        let before = std::mem::take(links);
        self.found[input] = None;
        Some((open, before))
    }

    /// The step of a link and those before it, which takes in what nobody else reads.
    fn joined(&mut self, mut link: Link, mut before: Vec<Link>) -> Step {
        if !self.fits(link.result()) {
            return Step::Chain(vec![link]);
        }
        if let Residue::Value(added) = link.residue
            && self.readers[added.0] == 1
            && self.fits(added.0)
            && let Some(Step::Chain(projection)) = &self.found[added.0]
            && let [Link { convs, residue: Residue::None }] = &projection[..]
            && convs.len() == 1
            && projection[0].input(self.graph) == link.input(self.graph)
        {
            link.residue = Residue::Projection(added.0);
            self.found[added.0] = None;
        }
        let start = link.input(self.graph).0;
        if before.is_empty() && self.fits(start) && self.readers[start] == link.reads() {
            match self.found[start].take() {
                Some(Step::Chain(links)) => before = links,
                other => self.found[start] = other,
            }
        }
        before.push(link);
        Step::Chain(before)
    }

    /// Whether the kernels have it, so that it may stand with others.
    fn fits(&self, node: usize) -> bool {
        match &self.graph.nodes[node].op {
            Op::Conv(conv) => chains(conv),
            Op::BatchNorm { activation, .. } => activation.fused().is_some(),
            // What a link appends.
            Op::Concat => true,
            _ => false,
        }
    }
}

/// Whether the kernels have the convolution; see `ChainUnit::is_supported`.
fn chains(conv: &Conv) -> bool {
    let within = match conv.padding {
        Padding::Explicit(sides) => {
            (0..2).all(|axis| sides[axis].iter().all(|&side| side < conv.kernel[axis]))
        }
        Padding::Same => true,
    };
    (conv.groups == 1 || conv.is_depthwise() || within) && conv.activation.fused().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;
    use firebrick_nn::Activation;

    fn conv(name: &str) -> Conv {
        Conv::new(name, 4, 4, 3).norm(format!("{name}.norm")).activation(Activation::Relu)
    }

    fn link(convs: &[usize], residue: Residue) -> Link {
        Link { convs: convs.to_vec(), residue }
    }

    #[test]
    fn convolutions_that_nobody_else_reads_are_one_link() {
        let mut b = GraphBuilder::new(4);
        let mut x = b.input();
        for index in 0..27 {
            x = b.conv(x, conv(&format!("conv{index}")));
        }
        let pooled = b.global_average_pool(x);
        let graph = b.finish(x, pooled, 4, "fc");
        let convs: Vec<usize> = (1..=27).collect();
        assert_eq!(steps(&graph), [Step::Chain(vec![link(&convs, Residue::None)]), Step::Node(28)]);
    }

    #[test]
    fn residual_blocks_are_one_chain_up_to_a_stage() {
        let mut b = GraphBuilder::new(4);
        let x = b.input();
        let x = b.conv(x, conv("stem"));
        // As a residual network's stage begins: the projection comes first.
        let projected = b.conv(x, Conv::new("projection", 4, 4, 1).norm("projection.norm"));
        let y = b.conv(x, conv("a"));
        let x = b.conv_add(y, projected, conv("b"));
        let y = b.conv(x, conv("c"));
        let x = b.conv_add(y, x, conv("d"));
        b.stage("first", x);
        let y = b.conv(x, conv("e"));
        let y = b.conv(y, conv("f"));
        let x = b.conv_add(y, x, conv("g"));
        let pooled = b.global_average_pool(x);
        let graph = b.finish(x, pooled, 4, "fc");
        let first = vec![
            link(&[1], Residue::None),
            link(&[3, 4], Residue::Projection(2)),
            link(&[5, 6], Residue::Input),
        ];
        let second = vec![link(&[7, 8, 9], Residue::Input)];
        assert_eq!(steps(&graph), [Step::Chain(first), Step::Chain(second), Step::Node(10)]);
    }

    #[test]
    fn a_dense_block_is_one_chain_with_the_transition_behind_it() {
        let mut b = GraphBuilder::new(4);
        let x = b.input();
        let mut x = b.conv(x, conv("stem"));
        for (layer, channels) in [(1, 4), (2, 8)] {
            let y = b.batch_norm(x, format!("norm{layer}"), channels, (1e-5, 0.1), Activation::Relu);
            let y = b.conv(y, Conv::new(format!("narrow{layer}"), channels, 4, 1).norm("norm"));
            let y = b.conv(y, Conv::new(format!("conv{layer}"), 4, 4, 3));
            x = b.concat(&[x, y]);
        }
        let y = b.batch_norm(x, "transition", 12, (1e-5, 0.1), Activation::Relu);
        let y = b.conv(y, Conv::new("out", 12, 4, 1));
        // What is not put behind what it was made of stays a concatenation.
        let z = b.concat(&[y, y]);
        let pooled = b.global_average_pool(z);
        let graph = b.finish(z, pooled, 8, "fc");
        let links = vec![
            link(&[1], Residue::None),
            link(&[2, 3, 4], Residue::Append(5)),
            link(&[6, 7, 8], Residue::Append(9)),
            link(&[10, 11], Residue::None),
        ];
        assert_eq!(steps(&graph), [Step::Chain(links), Step::Node(12), Step::Node(13)]);
    }

    #[test]
    fn what_is_read_elsewhere_or_has_no_kernel_stands_alone() {
        let mut b = GraphBuilder::new(4);
        let x = b.input();
        let x = b.conv(x, conv("a"));
        // Wider padding than the kernel, in groups.
        let y = b.conv(x, conv("b").groups(2).padding(Padding::all(3)));
        let z = b.conv(y, conv("c"));
        let w = b.conv(z, conv("d"));
        // `z` is read twice, by two chains; `w` is added by a link that does not read what it was made of.
        let v = b.conv_add(x, w, conv("e"));
        let v = b.conv_add(v, z, conv("f"));
        let pooled = b.global_average_pool(v);
        let graph = b.finish(v, pooled, 4, "fc");
        let alone = |node| Step::Chain(vec![link(&[node], Residue::None)]);
        let steps = steps(&graph);
        assert_eq!(steps[..4], [alone(1), alone(2), alone(3), alone(4)]);
        let both = vec![link(&[5], Residue::Value(Value(4))), link(&[6], Residue::Value(Value(3)))];
        assert_eq!(steps[4..], [Step::Chain(both), Step::Node(7)]);
    }
}
