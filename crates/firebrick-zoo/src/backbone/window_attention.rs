//! Self-attention within the windows of a map (Liu et al. 2021, arXiv:2103.14030, section 3.2).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick_autodiff::softmax;
use firebrick_nn::{Activation, Initializer, dense, seed_of};

use super::layer::linear;
use crate::graph::WindowAttention;

/// The layers of attention within windows.
#[derive(Module, Debug)]
pub struct WindowAttentionLayer {
    /// To queries, keys and values, `[width, 3 width]`.
    pub qkv: Linear,
    /// From the heads, side by side.
    pub output: Linear,
    /// What is added to the scores for how far a key is from the query, down and across: `[(2 h - 1) (2 w - 1), heads]` for windows of
    /// `h x w` places.
    pub table: Param<Tensor<2>>,
}

/// Added to the score of a key in another part of the image than the query; torchvision's figure.
const HIDDEN: f32 = -100.0;

impl WindowAttentionLayer {
    pub(super) fn new(settings: &WindowAttention, seed: u64, device: &Device) -> Self {
        let WindowAttention { attention, window: [height, width], .. } = settings;
        let (channels, heads, initializer) = (attention.width, attention.heads, attention.initializer);
        let offsets = (2 * height - 1) * (2 * width - 1);
        Self {
            qkv: linear([channels, 3 * channels], true, initializer, seed_of(seed, 0), device),
            output: linear([channels; 2], true, initializer, seed_of(seed, 1), device),
            table: Initializer::Normal { std: 0.02 }.init(
                [offsets, heads],
                offsets,
                heads,
                seed_of(seed, 2),
                device,
            ),
        }
    }

    /// `[batch, channels, height, width]` to the same. The map is padded with zeros to whole windows, which take part.
    pub(super) fn forward(&self, x: Tensor<4>, settings: &WindowAttention) -> Tensor<4> {
        let window = settings.window;
        let heads = settings.attention.heads;
        let [batch, channels, height, width] = x.dims();
        let padded = settings.padded([height, width]);
        let shift = settings.shift_in(padded);
        let x = match [padded[0] - height, padded[1] - width] {
            [0, 0] => x,
            [below, right] => x.pad((0, right, 0, below), PadMode::Constant(0.0)),
        };
        let x = x.permute([0, 2, 3, 1]);
        let x = rotate(rotate(x, 1, shift[0]), 2, shift[1]);
        let [down, across] = [padded[0] / window[0], padded[1] / window[1]];
        let (windows, places) = (down * across, window[0] * window[1]);
        let x = x
            .reshape([batch, down, window[0], across, window[1], channels])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch * windows, places, channels]);

        let part = channels / heads;
        let qkv = dense(&self.qkv, x, Activation::None);
        let qkv = qkv.reshape([batch * windows, places, 3, heads, part]).permute([2, 0, 3, 1, 4]);
        let [query, key, value] =
            [0, 1, 2].map(|of| qkv.clone().narrow(0, of, 1).reshape([batch * windows, heads, places, part]));
        let scores = query.mul_scalar(1.0 / (part as f64).sqrt()).matmul(key.swap_dims(2, 3));
        let mut scores = scores + self.bias(window).reshape([1, heads, places, places]);
        if shift != [0, 0] {
            let mask = Tensor::<5>::from_data(
                TensorData::new(hidden(padded, window, shift), [1, windows, 1, places, places]),
                &scores.device(),
            );
            scores = (scores.reshape([batch, windows, heads, places, places]) + mask).reshape([
                batch * windows,
                heads,
                places,
                places,
            ]);
        }
        let context = softmax(scores, 3).matmul(value).swap_dims(1, 2);
        let x = dense(&self.output, context.reshape([batch * windows, places, channels]), Activation::None);

        let x = x
            .reshape([batch, down, across, window[0], window[1], channels])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([batch, padded[0], padded[1], channels]);
        let back = [0, 1].map(|axis| (padded[axis] - shift[axis]) % padded[axis]);
        let x = rotate(rotate(x, 1, back[0]), 2, back[1]);
        x.slice([0..batch, 0..height, 0..width, 0..channels]).permute([0, 3, 1, 2])
    }

    /// What is added to the scores, `[heads, places * places]`.
    fn bias(&self, [height, width]: [usize; 2]) -> Tensor<2> {
        let places = height * width;
        let row = |query: usize, key: usize| {
            let down = query / width + height - 1 - key / width;
            let across = query % width + width - 1 - key % width;
            (down * (2 * width - 1) + across) as i64
        };
        let rows: Vec<i64> = (0..places * places).map(|pair| row(pair / places, pair % places)).collect();
        let table = self.table.val();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [places * places]), &table.device());
        table.select(0, rows).transpose()
    }
}

/// The axis begun at place `by`, what is before it put to the end.
fn rotate(x: Tensor<4>, axis: usize, by: usize) -> Tensor<4> {
    if by == 0 {
        return x;
    }
    let length = x.dims()[axis];
    Tensor::cat(vec![x.clone().narrow(axis, by, length - by), x.narrow(axis, 0, by)], axis)
}

/// What is added to the scores of every window, `[windows, places, places]`: a rotated map's last windows hold parts that are not
/// neighbours in the image.
fn hidden(size: [usize; 2], window: [usize; 2], shift: [usize; 2]) -> Vec<f32> {
    // Of a place along an axis: before the last window, in it, or rotated into it.
    let part = |axis: usize, place: usize| match size[axis] - place {
        _ if shift[axis] == 0 => 0,
        left if left > window[axis] => 0,
        left if left > shift[axis] => 1,
        _ => 2,
    };
    let mut mask = Vec::with_capacity(size[0] * size[1] * window[0] * window[1]);
    for top in (0..size[0]).step_by(window[0]) {
        for left in (0..size[1]).step_by(window[1]) {
            let parts: Vec<usize> = (0..window[0] * window[1])
                .map(|place| 3 * part(0, top + place / window[1]) + part(1, left + place % window[1]))
                .collect();
            for query in &parts {
                mask.extend(parts.iter().map(|key| if key == query { 0.0 } else { HIDDEN }));
            }
        }
    }
    mask
}
