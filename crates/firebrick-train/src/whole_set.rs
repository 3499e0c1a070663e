//! Steps over the whole training set.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, LBFGS};
use burn::tensor::Tensor;
use firebrick_nn::Network;
use firebrick_optim::Accumulator;

use crate::evaluate::scalar;
use crate::{Batch, TrainError};

/// Refuses a network with a parameter or a running statistic that is not trained: burn's rule takes it for part of its vector.
pub(crate) fn check<M: Module>(network: &M) -> Result<(), TrainError> {
    struct Untrained(usize);
    impl ModuleVisitor for Untrained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += usize::from(!param.is_require_grad());
        }
    }
    let mut untrained = Untrained(0);
    network.visit(&mut untrained);
    match untrained.0 {
        0 => Ok(()),
        count => Err(TrainError::OutOfRange {
            field: "lbfgs",
            value: format!("given a network with {count} tensors that are not trained"),
            range: "a network of dense layers, all of them trained",
        }),
    }
}

/// One step of L-BFGS, which evaluates the mean loss over all batches as often as it wants.
pub(crate) fn step<const D: usize, N: Network<D>>(
    rule: &mut LBFGS,
    rate: f64,
    network: N,
    batches: &[Batch<D>],
    loss: impl Fn(Tensor<2>, &Batch<D>) -> Tensor<1>,
) -> N {
    let evaluate = |network: N| {
        let (mut sum, mut samples) = (0.0, 0);
        let mut mean = Accumulator::default();
        for batch in batches {
            let outputs = network.forward(Tensor::from_inner(batch.inputs.clone()));
            let loss = loss(outputs, batch);
            sum += scalar(loss.clone()) * batch.labels.len() as f64;
            samples += batch.labels.len();
            mean.add(&network, GradientsParams::from_grads(loss.backward(), &network), batch.labels.len());
        }
        (sum / samples.max(1) as f64, mean.take(&network).unwrap_or_default())
    };
    rule.step(rate, network, evaluate).0
}
