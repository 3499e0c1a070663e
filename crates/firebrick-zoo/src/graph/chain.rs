//! Which convolutions are computed as one operation in training.

use super::{Conv, Graph, Op, Value};

/// What a backbone computes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// One node.
    Node(usize),
    /// Convolutions with BatchNorm, each the only reader of the one before.
    Chain {
        /// The nodes, first to last.
        convs: Vec<usize>,
        /// What is added before the last activation.
        residue: Residue,
    },
}

/// What is added at the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residue {
    None,
    /// The chain's input.
    Input,
    /// Another value.
    Value(Value),
}

impl Step {
    /// The node whose result this step gives.
    pub(crate) fn result(&self) -> usize {
        match self {
            Self::Node(node) => *node,
            Self::Chain { convs, .. } => *convs.last().expect("a chain is not empty"),
        }
    }
}

/// Convolutions of a chain: an operation records 16 inputs, and each has a weight, a scale and a shift.
const LONGEST: usize = 5;

/// The steps of a network in order.
pub(crate) fn steps(graph: &Graph) -> Vec<Step> {
    let readers = graph.readers();
    let mut steps: Vec<Step> = Vec::new();
    // Where the chain that ends with a node is in `steps`.
    let mut open: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().skip(1) {
        let conv = match &node.op {
            Op::Conv(conv) if conv.norm.is_some() => conv,
            _ => {
                steps.push(Step::Node(index));
                continue;
            }
        };
        let input = node.inputs[0];
        let fits = |step: &usize| match &steps[*step] {
            Step::Chain { convs, .. } => {
                // A block of two that begins within a chain stays whole.
                let same =
                    graph.nodes[convs[0]].layer.map(|[block, _]| block) == node.layer.map(|[block, _]| block);
                convs.len() < if same { LONGEST } else { LONGEST - 1 }
            }
            Step::Node(_) => false,
        };
        let before = open[input.0].filter(|_| readers[input.0] == 1 && chains(conv)).filter(fits);
        let mut convs = match before {
            Some(step) => match std::mem::replace(&mut steps[step], Step::Node(usize::MAX)) {
                Step::Chain { convs, .. } => convs,
                Step::Node(_) => unreachable!("only chains are open"),
            },
            None => Vec::new(),
        };
        convs.push(index);
        let start = graph.nodes[convs[0]].inputs[0];
        let residue = match node.inputs.get(1) {
            None => Residue::None,
            Some(added) if *added == start => Residue::Input,
            Some(added) => Residue::Value(*added),
        };
        if residue == Residue::None && chains(conv) {
            open[index] = Some(steps.len());
        }
        steps.push(Step::Chain { convs, residue });
    }
    steps.retain(|step| *step != Step::Node(usize::MAX));
    steps
}

/// Whether the kernels have it, so that it may stand with others.
fn chains(conv: &Conv) -> bool {
    (conv.groups == 1 || conv.is_depthwise()) && conv.activation.fused().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;

    #[test]
    fn a_long_chain_is_cut_and_loses_nothing() {
        let mut b = GraphBuilder::new(4);
        let mut x = b.input();
        for index in 0..27 {
            if index % 2 == 0 {
                b.block();
            }
            x = b.conv(x, Conv::new(format!("conv{index}"), 4, 4, 3).norm(format!("norm{index}")));
        }
        let pooled = b.global_average_pool(x);
        let graph = b.finish(x, pooled, 4, "fc");
        let chains: Vec<Vec<usize>> = steps(&graph)
            .into_iter()
            .filter_map(|step| match step {
                Step::Chain { convs, .. } => Some(convs),
                Step::Node(_) => None,
            })
            .collect();
        assert!(chains.iter().all(|convs| convs.len() <= LONGEST), "{chains:?}");
        // Blocks of two stay whole.
        assert!(chains.iter().all(|convs| convs[0] % 2 == 1), "{chains:?}");
        assert_eq!(chains.concat(), (1..=27).collect::<Vec<_>>());
    }
}
