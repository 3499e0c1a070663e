//! Muon.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::{blend, norm};
use crate::slots::Slots;

/// Muon (Jordan et al. 2024) for matrices and kernels, AdamW for vectors and scalars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Muon {
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
    pub(crate) weight_decay: f64,
    pub(crate) epsilon: f64,
    pub(crate) steps: usize,
}

/// β₁ and β₂ of vectors.
const VECTOR_BETAS: [f64; 2] = [0.9, 0.999];
/// ε of vectors.
const VECTOR_EPSILON: f64 = 1e-8;
/// Coefficients of the quintic Newton-Schulz iteration, from the authors.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];

impl Muon {
    /// About the nearest matrix with orthonormal rows or columns.
    fn orthogonalize(&self, matrix: Tensor<2>) -> Tensor<2> {
        let [rows, columns] = matrix.dims();
        let tall = rows > columns;
        let matrix = if tall { matrix.transpose() } else { matrix };
        let mut x = matrix.clone() / norm(matrix).clamp_min(self.epsilon);
        let [a, b, c] = QUINTIC;
        for _ in 0..self.steps {
            let gram = x.clone().matmul(x.clone().transpose());
            let inner = gram.clone() * b + gram.clone().matmul(gram) * c;
            x = x.clone() * a + inner.matmul(x);
        }
        if tall { x.transpose() } else { x }
    }
}

impl Optimizer for Muon {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let decayed = 1.0 - learning_rate * self.weight_decay;
        if D < 2 {
            let (time, _, [m, v]) = Slots::next(state, &grad);
            let t = time as f64;
            let m = blend(m, grad.clone(), VECTOR_BETAS[0]);
            let v = blend(v, grad.clone() * grad, VECTOR_BETAS[1]);
            let root = (v.clone() / (1.0 - VECTOR_BETAS[1].powf(t))).sqrt() + VECTOR_EPSILON;
            let step = m.clone() / root * (learning_rate / (1.0 - VECTOR_BETAS[0].powf(t)));
            return (tensor * decayed - step, Slots::of(time, [m, v]));
        }
        let (time, _, [m]) = Slots::next(state, &grad);
        let m = blend(m, grad.clone(), self.momentum);
        let step = if self.nesterov { blend(m.clone(), grad, self.momentum) } else { m.clone() };
        let dims = step.dims();
        let rest: usize = dims.iter().skip(1).product();
        // A dense weight is [in, out] here, a kernel [out, in, ..].
        let (outputs, inputs) = if D == 2 { (rest, dims[0]) } else { (dims[0], rest) };
        let scale = (outputs as f64 / inputs as f64).max(1.0).sqrt();
        let step = self.orthogonalize(step.reshape([dims[0], rest])).reshape(dims);
        (tensor * decayed - step * (learning_rate * scale), Slots::of(time, [m]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
