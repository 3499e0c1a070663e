//! Which convolutions are computed as one operation in training.

use super::{Conv, Graph, Op, Value};

/// What a backbone computes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One node.
    Node(usize),
    /// Blocks of convolutions with BatchNorm, each the only reader of the one before.
    Chain(Vec<Link>),
}

/// Convolutions with BatchNorm, each the only reader of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The nodes, first to last.
    pub(crate) convs: Vec<usize>,
    /// What is added before the last activation.
    pub(crate) residue: Residue,
}

/// What is added at the end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residue {
    None,
    /// The link's input.
    Input,
    /// The link's input through this node, a convolution with BatchNorm.
    Projection(usize),
    /// Another value.
    Value(Value),
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
        *self.convs.last().expect("a link is not empty")
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
            Residue::Input | Residue::Projection(_) => 2,
        }
    }
}

/// The steps of a network in order.
pub(crate) fn steps(graph: &Graph) -> Vec<Step> {
    let readers = graph.readers();
    let fits =
        |node: usize| matches!(&graph.nodes[node].op, Op::Conv(conv) if conv.norm.is_some() && chains(conv));
    // By their results; a step that has become part of another leaves a gap.
    let mut steps: Vec<Option<Step>> = vec![None; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().skip(1) {
        if !matches!(&node.op, Op::Conv(conv) if conv.norm.is_some()) {
            steps[index] = Some(Step::Node(index));
            continue;
        }
        let input = node.inputs[0].0;
        let before = match &mut steps[input] {
            Some(Step::Chain(links)) if readers[input] == 1 && fits(index) && fits(input) => {
                let open = links.pop_if(|link| link.residue == Residue::None);
                open.map(|link| (link.convs, std::mem::take(links)))
            }
            _ => None,
        };
        let (convs, mut links) = match before {
            Some(before) => {
                steps[input] = None;
                before
            }
            None => Default::default(),
        };
        let mut link = Link::ending_with(graph, convs, index);
        if !fits(index) {
            steps[index] = Some(Step::Chain(vec![link]));
            continue;
        }
        if let Residue::Value(added) = link.residue
            && readers[added.0] == 1
            && fits(added.0)
            && let Some(Step::Chain(projection)) = &steps[added.0]
            && let [Link { convs, residue: Residue::None }] = &projection[..]
            && convs.len() == 1
            && projection[0].input(graph) == link.input(graph)
        {
            link.residue = Residue::Projection(added.0);
            steps[added.0] = None;
        }
        // What nobody else reads stays within one operation.
        let start = link.input(graph).0;
        if links.is_empty() && fits(start) && readers[start] == link.reads() {
            match steps[start].take() {
                Some(Step::Chain(before)) => links = before,
                other => steps[start] = other,
            }
        }
        links.push(link);
        steps[index] = Some(Step::Chain(links));
    }
    steps.into_iter().flatten().collect()
}

/// Whether the kernels have it, so that it may stand with others.
fn chains(conv: &Conv) -> bool {
    (conv.groups == 1 || conv.is_depthwise()) && conv.activation.fused().is_some()
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
    fn what_is_read_elsewhere_or_has_no_kernel_stands_alone() {
        let mut b = GraphBuilder::new(4);
        let x = b.input();
        let x = b.conv(x, conv("a"));
        let y = b.conv(x, conv("b").groups(2));
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
