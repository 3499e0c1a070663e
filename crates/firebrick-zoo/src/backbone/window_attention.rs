//! Self-attention within the windows of a map (Liu et al. 2021, arXiv:2103.14030, section 3.2).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebrick_autodiff::{Arrangement, AttentionOptions, arrange, self_attention};
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
        let windows = padded[0] / window[0] * (padded[1] / window[1]);
        let places = window[0] * window[1];
        let order = in_windows([height, width], padded, window, shift);
        let pixels = x.permute([0, 2, 3, 1]).reshape([batch, height * width, channels]);
        let x = arrange(pixels, &order).reshape([batch * windows, places, channels]);

        let qkv = dense(&self.qkv, x, Activation::None);
        // The windows of an image are one after another, and images are alike.
        let mask = (shift != [0, 0]).then(|| {
            let hidden = TensorData::new(hidden(padded, window, shift), [windows, 1, places, places]);
            Tensor::<4, Bool>::from_data(hidden, &qkv.device())
        });
        let bias = Some(self.bias(window).reshape([1, heads, places, places]));
        let context = self_attention(qkv, heads, AttentionOptions { mask, bias, ..Default::default() });
        let x = dense(&self.output, context, Activation::None);

        let pixels = arrange(x.reshape([batch, windows * places, channels]), &order.inverse());
        pixels.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
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

/// The pixels of a map of `size` one window after another, each row by row: the map is `padded` below and to the right, and begun at place
/// `shift` of both axes, what is before it put to the end.
fn in_windows(size: [usize; 2], padded: [usize; 2], window: [usize; 2], shift: [usize; 2]) -> Arrangement {
    let [rows, columns] = [padded[0] / window[0], padded[1] / window[1]];
    let places = (0..rows * columns).flat_map(|index| {
        let first = [index / columns * window[0], index % columns * window[1]];
        (0..window[0] * window[1]).map(move |place| {
            let [y, x] = [first[0] + place / window[1], first[1] + place % window[1]];
            let [y, x] = [(y + shift[0]) % padded[0], (x + shift[1]) % padded[1]];
            (y < size[0] && x < size[1]).then_some(y * size[1] + x)
        })
    });
    Arrangement::new(size[0] * size[1], places)
}

/// Which keys of every window a query does not see, `[windows, places, places]`: a rotated map's last windows hold parts that are not
/// neighbours in the image.
fn hidden(size: [usize; 2], window: [usize; 2], shift: [usize; 2]) -> Vec<bool> {
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
                mask.extend(parts.iter().map(|key| key != query));
            }
        }
    }
    mask
}
