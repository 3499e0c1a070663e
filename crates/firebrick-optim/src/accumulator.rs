//! Gradients of several batches as one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::clip::Scale;
use crate::gradients::change_gradients;

/// The mean gradient over several batches, each weighted by its samples: that of one large batch, for a loss that is a mean over samples.
#[derive(Default)]
pub struct Accumulator {
    batches: usize,
    samples: usize,
    sum: GradientsParams,
}

impl Accumulator {
    /// Adds the gradients of the mean loss of `samples` samples.
    pub fn add<M: Module>(&mut self, module: &M, gradients: GradientsParams, samples: usize) {
        // The first is kept as it is: a single batch is not to be rounded by a factor and its inverse.
        if self.batches == 0 {
            self.sum = gradients;
        } else {
            if self.batches == 1 {
                change_gradients(module, &mut self.sum, &mut Scale(self.samples as f64));
            }
            let mut sum = Add {
                old: std::mem::take(&mut self.sum),
                new: gradients,
                samples,
                sum: GradientsParams::new(),
            };
            module.visit(&mut sum);
            self.sum = sum.sum;
        }
        self.batches += 1;
        self.samples += samples;
    }

    /// Batches since the last [`take`](Self::take).
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The mean gradient; the next sum starts from nothing. None if no batch was added.
    pub fn take<M: Module>(&mut self, module: &M) -> Option<GradientsParams> {
        let Self { batches, samples, mut sum } = std::mem::take(self);
        if batches > 1 {
            change_gradients(module, &mut sum, &mut Scale(1.0 / samples as f64));
        }
        (batches > 0).then_some(sum)
    }
}

/// Adds the gradients of `samples` samples to a sum; a parameter may be in one of the two alone.
struct Add {
    old: GradientsParams,
    new: GradientsParams,
    samples: usize,
    sum: GradientsParams,
}

impl ModuleVisitor for Add {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let id = parameter.id;
        let new = self.new.remove::<D>(id).map(|new| new * self.samples as f64);
        let sum = match (self.old.remove::<D>(id), new) {
            (Some(old), Some(new)) => old + new,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        self.sum.register(id, sum);
    }
}
