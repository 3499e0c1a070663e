//! Backpropagation by hand beside automatic differentiation: the same gradients, the same network in the end.
//!
//! ```text
//! cargo run --release --example mlp_from_scratch -p firebrick-examples [STEPS]
//! ```
//!
//! A network of one hidden layer, `p = softmax(W₂ᵀ tanh(W₁ᵀ x + b₁) + b₂)`, learns Fisher's irises by full-batch gradient descent
//! twice: once with nothing but loops over numbers and the chain rule (Rumelhart, Hinton and Williams 1986), once with tensors whose
//! gradients the library finds.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::ensure;
use firebrick::burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use firebrick::data::{Table, TableEncoder, TableLimits, Task};
use firebrick::nn::{Initializer, seed_of};
use firebrick::train::DeviceChoice;

const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/iris.csv");
const HIDDEN: usize = 8;
const RATE: f64 = 0.5;

/// A matrix, row by row.
#[derive(Clone)]
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    fn at_mut(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.columns + column]
    }

    fn tensor(&self, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, [self.rows, self.columns]), device)
    }
}

/// The parameters, or their gradients: weights `[in, out]`, biases `[1, out]`.
#[derive(Clone)]
struct Mlp {
    w1: Matrix,
    b1: Matrix,
    w2: Matrix,
    b2: Matrix,
}

impl Mlp {
    /// The first weights of the library's own head, so that both begin alike.
    fn new(inputs: usize, classes: usize, device: &Device) -> anyhow::Result<Self> {
        let weights = |rows, columns, layer| -> anyhow::Result<Matrix> {
            let drawn: Tensor<2> = Initializer::GlorotUniform
                .init([rows, columns], rows, columns, seed_of(0, layer), device)
                .val();
            let values = drawn.into_data().try_to_vec::<f32>()?.into_iter().map(f64::from).collect();
            Ok(Matrix { rows, columns, values })
        };
        Ok(Self {
            w1: weights(inputs, HIDDEN, 0)?,
            b1: Matrix::zeros(1, HIDDEN),
            w2: weights(HIDDEN, classes, 1)?,
            b2: Matrix::zeros(1, classes),
        })
    }

    fn parameters(&mut self) -> [&mut Matrix; 4] {
        [&mut self.w1, &mut self.b1, &mut self.w2, &mut self.b2]
    }

    /// Hidden activations and class probabilities of one row.
    fn forward(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let layer = |input: &[f64], w: &Matrix, b: &Matrix, out: usize| {
            b.at(0, out) + input.iter().enumerate().map(|(i, x)| x * w.at(i, out)).sum::<f64>()
        };
        let hidden: Vec<f64> = (0..HIDDEN).map(|j| layer(x, &self.w1, &self.b1, j).tanh()).collect();
        let logits: Vec<f64> = (0..self.b2.columns).map(|k| layer(&hidden, &self.w2, &self.b2, k)).collect();
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        (hidden, exp.into_iter().map(|exp| exp / sum).collect())
    }

    /// Mean cross-entropy and its gradient.
    fn loss_and_gradient(&self, inputs: &Matrix, labels: &[usize]) -> (f64, Mlp) {
        let mut gradient = Mlp {
            w1: Matrix::zeros(self.w1.rows, self.w1.columns),
            b1: Matrix::zeros(1, self.b1.columns),
            w2: Matrix::zeros(self.w2.rows, self.w2.columns),
            b2: Matrix::zeros(1, self.b2.columns),
        };
        let count = labels.len() as f64;
        let mut loss = 0.0;
        for (row, &label) in labels.iter().enumerate() {
            let x = &inputs.values[row * inputs.columns..][..inputs.columns];
            let (hidden, p) = self.forward(x);
            loss -= p[label].ln() / count;
            // ∂L/∂logit = (p - y) / n: softmax and cross-entropy cancel to this.
            let at_logits: Vec<f64> =
                p.iter().enumerate().map(|(k, p)| (p - f64::from(u8::from(k == label))) / count).collect();
            for (k, d) in at_logits.iter().enumerate() {
                *gradient.b2.at_mut(0, k) += d;
                for (j, h) in hidden.iter().enumerate() {
                    *gradient.w2.at_mut(j, k) += h * d;
                }
            }
            for (j, h) in hidden.iter().enumerate() {
                // Back through W₂, and through tanh, whose derivative is 1 - tanh².
                let back: f64 = at_logits.iter().enumerate().map(|(k, d)| self.w2.at(j, k) * d).sum();
                let d = back * (1.0 - h * h);
                *gradient.b1.at_mut(0, j) += d;
                for (i, x) in x.iter().enumerate() {
                    *gradient.w1.at_mut(i, j) += x * d;
                }
            }
        }
        (loss, gradient)
    }

    fn accuracy(&self, inputs: &Matrix, labels: &[usize]) -> f64 {
        let right = labels.iter().enumerate().filter(|&(row, &label)| {
            let (_, p) = self.forward(&inputs.values[row * inputs.columns..][..inputs.columns]);
            p.iter().all(|&other| other <= p[label])
        });
        right.count() as f64 / labels.len() as f64
    }
}

/// The same network of tensors: its loss, and its gradients in the order of [`Mlp::parameters`].
fn autodiff(
    parameters: &[Tensor<2>; 4],
    inputs: &Tensor<2>,
    onehot: &Tensor<2>,
) -> anyhow::Result<(f64, Vec<Tensor<2>>)> {
    let [w1, b1, w2, b2] = parameters.clone().map(Tensor::require_grad);
    let hidden = (inputs.clone().matmul(w1.clone()) + b1.clone()).tanh();
    let logits = hidden.matmul(w2.clone()) + b2.clone();
    let rows = inputs.dims()[0] as f64;
    let loss = (log_softmax(logits, 1) * onehot.clone()).sum() / -rows;
    let gradients = loss.backward();
    let of = |tensor: &Tensor<2>| tensor.grad(&gradients).ok_or_else(|| anyhow::anyhow!("no gradient"));
    let found = [&w1, &b1, &w2, &b2].map(of).into_iter().collect::<anyhow::Result<_>>()?;
    Ok((f64::from(loss.into_scalar::<f32>()), found))
}

fn main() -> anyhow::Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let table = Table::read(IRIS, &TableLimits::default())?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let encoder = TableEncoder::fit(&table, &rows, "species", Task::Classify, &[])?;
    let labels = encoder.labels(&table, &rows)?;
    let inputs = Matrix {
        rows: rows.len(),
        columns: encoder.width(),
        values: encoder.inputs(&table, &rows)?.into_iter().map(f64::from).collect(),
    };
    let plain = DeviceChoice::NdArray.open()?;
    let device = plain.clone().autodiff();
    let classes = encoder.target.width();
    let targets: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    let onehot: Tensor<2> = Tensor::<1, Int>::from_data(TensorData::new(targets, [labels.len()]), &device)
        .one_hot(classes)
        .float();

    let mut by_hand = Mlp::new(encoder.width(), classes, &plain)?;
    let mut tensors = by_hand.clone().parameters().map(|matrix| matrix.tensor(&device));
    let x = inputs.tensor(&device);
    let mut largest: f64 = 0.0;
    for step in 0..steps {
        let (loss, mut gradient) = by_hand.loss_and_gradient(&inputs, &labels);
        let (their_loss, their_gradient) = autodiff(&tensors, &x, &onehot)?;
        let mut difference = (loss - their_loss).abs();
        for (ours, theirs) in gradient.parameters().into_iter().zip(&their_gradient) {
            let theirs = theirs.clone().into_data().try_to_vec::<f32>()?;
            for (ours, theirs) in ours.values.iter().zip(theirs) {
                difference = difference.max((ours - f64::from(theirs)).abs());
            }
        }
        largest = largest.max(difference);
        if step % 50 == 0 {
            println!(
                "step {step:>4}  loss {loss:.6}  accuracy {:.4}  difference {difference:.1e}",
                by_hand.accuracy(&inputs, &labels)
            );
        }
        // θ ← θ - η ∂L/∂θ, on both sides.
        for (parameter, gradient) in by_hand.parameters().into_iter().zip(gradient.parameters()) {
            for (value, slope) in parameter.values.iter_mut().zip(&gradient.values) {
                *value -= RATE * slope;
            }
        }
        for (tensor, gradient) in tensors.iter_mut().zip(their_gradient) {
            *tensor = Tensor::from_inner(tensor.clone().inner() - gradient * RATE);
        }
    }
    let (loss, _) = by_hand.loss_and_gradient(&inputs, &labels);
    let accuracy = by_hand.accuracy(&inputs, &labels);
    println!(
        "after {steps} steps: loss {loss:.6}, accuracy {accuracy:.4}; largest difference of any loss or gradient {largest:.1e}"
    );
    ensure!(largest < 1e-4, "backpropagation by hand and autodiff differ by {largest}");
    Ok(())
}
