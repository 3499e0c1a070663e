//! Recurrent layers.

use burn::module::{Module, Param};
use burn::nn::Dropout;
use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

use crate::activation::sigmoid;
use crate::dropout::dropout;
use crate::{Initializer, LayerError, seed_of};

/// What happens from step to step; gates are in PyTorch's order and GRU's reset comes after the product, as in PyTorch and Keras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// `h' = tanh(W x + U h + b)` (Elman 1990).
    Rnn,
    /// Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000): `i, f, o = σ(W x + U h + b)`,
    /// `g = tanh(W x + U h + b)`, each with weights of its own, `c' = f c + i g`, `h' = o tanh(c')`.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078): `r, z = σ(W x + U h + b)`, `n = tanh(W x + b + r (U h + b))`,
    /// `h' = (1 - z) n + z h`.
    Gru,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// Settings of [`Recurrent`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// The cell.
    pub cell: Cell,
    /// Width of the inputs.
    pub inputs: usize,
    /// Width of the state.
    pub hidden: usize,
    /// Share of the inputs that is dropped in training, the same ones in every step of a sequence; 0 by default.
    pub input_dropout: f64,
    /// Share of the state that is dropped on its way to the next step, the same in every step; 0 by default. Gal & Ghahramani 2016
    /// (arXiv:1512.05287); Keras' `recurrent_dropout`.
    pub recurrent_dropout: f64,
}

impl RecurrentConfig {
    /// Without dropout.
    pub fn new(cell: Cell, inputs: usize, hidden: usize) -> Self {
        Self { cell, inputs, hidden, input_dropout: 0.0, recurrent_dropout: 0.0 }
    }

    /// Weights `U(-1/sqrt(hidden), 1/sqrt(hidden))` from `seed`, as PyTorch's.
    ///
    /// # Errors
    /// [`LayerError`] names the setting that is wrong.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Recurrent, LayerError> {
        LayerError::unless(self.inputs > 0, "Recurrent", "inputs", self.inputs, "at least 1")?;
        LayerError::unless(self.hidden > 0, "Recurrent", "hidden", self.hidden, "at least 1")?;
        let limit = 1.0 / (self.hidden as f32).sqrt();
        let uniform = Initializer::Uniform { low: -limit, high: limit };
        let wide = self.cell.gates() * self.hidden;
        let bias = |index| uniform.init([wide], self.hidden, wide, seed_of(seed, index), device);
        Ok(Recurrent {
            input_weight: uniform.init([self.inputs, wide], self.inputs, wide, seed_of(seed, 0), device),
            hidden_weight: uniform.init([self.hidden, wide], self.hidden, wide, seed_of(seed, 1), device),
            input_bias: bias(2),
            hidden_bias: bias(3),
            input_dropout: dropout("Recurrent", self.input_dropout)?,
            recurrent_dropout: dropout("Recurrent", self.recurrent_dropout)?,
            cell: self.cell,
        })
    }
}

/// A recurrent layer over sequences.
#[derive(Module, Debug)]
pub struct Recurrent {
    /// `[inputs, gates hidden]`.
    pub input_weight: Param<Tensor<2>>,
    /// `[hidden, gates hidden]`.
    pub hidden_weight: Param<Tensor<2>>,
    /// `[gates hidden]`.
    pub input_bias: Param<Tensor<1>>,
    /// `[gates hidden]`.
    pub hidden_bias: Param<Tensor<1>>,
    input_dropout: Dropout,
    recurrent_dropout: Dropout,
    #[module(skip)]
    cell: Cell,
}

/// What goes from step to step, `[batch, hidden]` each.
#[derive(Clone, Debug)]
pub struct RecurrentState {
    /// The output of the last step.
    pub hidden: Tensor<2>,
    /// The cell of an LSTM; zeros in the others.
    pub cell: Tensor<2>,
}

impl Recurrent {
    /// `[batch, steps, inputs]` to the outputs of all steps `[batch, steps, hidden]`, and the last state. It starts from `state`, or from zeros.
    ///
    /// # Panics
    /// If there is no step.
    pub fn forward(&self, x: Tensor<3>, state: Option<RecurrentState>) -> (Tensor<3>, RecurrentState) {
        let [batch, _, inputs] = x.dims();
        // One mask for all steps.
        let mask = |dropout: &Dropout, width: usize| {
            let acts = dropout.prob > 0.0 && dropout.training.is_enabled() && x.device().is_autodiff();
            let keeps = 1.0 - dropout.prob;
            let options = (&x.device(), x.dtype());
            acts.then(|| {
                Tensor::<2>::random([batch, width], Distribution::Bernoulli(keeps), options) * (1.0 / keeps)
            })
        };
        let input_mask = mask(&self.input_dropout, inputs);
        let hidden_mask = mask(&self.recurrent_dropout, self.hidden_weight.val().dims()[0]);
        self.apply(x, state, input_mask, hidden_mask)
    }

    /// As [`forward`](Self::forward), with factors for the inputs `[batch, inputs]` and the states `[batch, hidden]` that all steps are multiplied
    /// with before their weights: 0 where dropped and `1 / (1 - p)` elsewhere.
    ///
    /// # Panics
    /// If there is no step.
    pub fn apply(
        &self,
        x: Tensor<3>,
        state: Option<RecurrentState>,
        input_mask: Option<Tensor<2>>,
        hidden_mask: Option<Tensor<2>>,
    ) -> (Tensor<3>, RecurrentState) {
        let [batch, steps, _] = x.dims();
        let hidden_width = self.hidden_weight.val().dims()[0];
        let zeros = || Tensor::<2>::zeros([batch, hidden_width], (&x.device(), x.dtype()));
        let mut state = state.unwrap_or_else(|| RecurrentState { hidden: zeros(), cell: zeros() });
        let none = firebrick_autodiff::Activation::None;
        let (input_bias, hidden_bias) = (Some(self.input_bias.val()), Some(self.hidden_bias.val()));
        let x = match input_mask {
            Some(mask) => x * mask.unsqueeze_dim(1),
            None => x,
        };
        let from_inputs = firebrick_autodiff::linear(x, self.input_weight.val(), input_bias, none);
        let mut outputs = Vec::with_capacity(steps);
        for step in 0..steps {
            let from_input = from_inputs.clone().narrow(1, step, 1).squeeze_dim::<2>(1);
            let masked = match &hidden_mask {
                Some(mask) => state.hidden.clone() * mask.clone(),
                None => state.hidden.clone(),
            };
            let from_hidden =
                firebrick_autodiff::linear(masked, self.hidden_weight.val(), hidden_bias.clone(), none);
            state = self.step(from_input, from_hidden, state);
            outputs.push(state.hidden.clone());
        }
        (Tensor::stack::<3>(outputs, 1), state)
    }

    fn step(&self, from_input: Tensor<2>, from_hidden: Tensor<2>, state: RecurrentState) -> RecurrentState {
        let width = state.hidden.dims()[1];
        let gate = |x: &Tensor<2>, index: usize| x.clone().narrow(1, index * width, width);
        let sum = |index| gate(&from_input, index) + gate(&from_hidden, index);
        match self.cell {
            Cell::Rnn => RecurrentState { hidden: sum(0).tanh(), ..state },
            Cell::Lstm => {
                let [input, forget, output] = [0, 1, 3].map(|index| sigmoid(sum(index)));
                let cell = forget * state.cell + input * sum(2).tanh();
                RecurrentState { hidden: output * cell.clone().tanh(), cell }
            }
            Cell::Gru => {
                let [reset, update] = [0, 1].map(|index| sigmoid(sum(index)));
                let new = (gate(&from_input, 2) + reset * gate(&from_hidden, 2)).tanh();
                RecurrentState { hidden: (state.hidden - new.clone()) * update + new, ..state }
            }
        }
    }
}

/// Two layers, of which one reads the sequence from its end.
#[derive(Module, Debug)]
pub struct Bidirectional {
    /// From the first step.
    pub forwards: Recurrent,
    /// From the last step.
    pub backwards: Recurrent,
}

impl Bidirectional {
    /// Two layers of the same settings.
    ///
    /// # Errors
    /// As of [`RecurrentConfig::init`].
    pub fn new(config: &RecurrentConfig, seed: u64, device: &Device) -> Result<Self, LayerError> {
        Ok(Self {
            forwards: config.init(seed_of(seed, 0), device)?,
            backwards: config.init(seed_of(seed, 1), device)?,
        })
    }

    /// `[batch, steps, inputs]` to `[batch, steps, 2 hidden]`, each step's two outputs side by side.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (there, _) = self.forwards.forward(x.clone(), None);
        let (back, _) = self.backwards.forward(x.flip([1]), None);
        Tensor::cat(vec![there, back.flip([1])], 2)
    }
}
