//! Tensors of a checkpoint made for images of another size or of other channels than a model's.

use crate::Classifier;
use crate::checkpoint::{Dtype, Entry};
use crate::graph::{Graph, Op, Value};

/// How positions for one grid of patches become those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionResampling {
    /// The four nearest along each axis by the cubic filter with `a = -0.75`; corners stay where they are: torchvision's
    /// `interpolate_embeddings`.
    AlignedCorners,
    /// The cubic filter with `a = -0.5`, widened when shrinking; patches keep their area: timm's `resample_abs_pos_embed`.
    Antialiased,
}

/// The positions of a grid of patches for another grid.
///
/// `positions` is `[prefix + from[0] * from[1], width]`, grids are `[rows, columns]`; the first `prefix`, which belong to class tokens
/// and the like, stay as they are. The result is `[prefix + to[0] * to[1], width]`.
///
/// # Panics
///
/// If there are not as many values, or a grid is empty.
pub fn interpolate_positions(
    positions: &[f32],
    width: usize,
    prefix: usize,
    from: [usize; 2],
    to: [usize; 2],
    resampling: PositionResampling,
) -> Vec<f32> {
    let count = prefix + from[0] * from[1];
    assert_eq!(positions.len(), count * width, "{from:?} patches and {prefix} more of {width} values");
    assert!(!from.contains(&0) && !to.contains(&0), "a grid is empty: {from:?} to {to:?}");
    let [rows, columns] = [0, 1].map(|axis| filters(from[axis], to[axis], resampling));
    let (kept, grid) = positions.split_at(prefix * width);
    let mut result = kept.to_vec();
    // Columns first, then rows, in f64: positions are few.
    let mut wide = vec![0.0f64; from[0] * to[1] * width];
    for row in 0..from[0] {
        for (column, filter) in columns.iter().enumerate() {
            let out = &mut wide[(row * to[1] + column) * width..][..width];
            for &(place, weight) in filter {
                let values = &grid[(row * from[1] + place) * width..][..width];
                out.iter_mut().zip(values).for_each(|(out, value)| *out += weight * f64::from(*value));
            }
        }
    }
    for filter in &rows {
        for column in 0..to[1] {
            let at = |row: usize| &wide[(row * to[1] + column) * width..][..width];
            result.extend((0..width).map(|channel| {
                filter.iter().map(|&(row, weight)| weight * at(row)[channel]).sum::<f64>() as f32
            }));
        }
    }
    result
}

/// The places and weights that make each value along an axis.
fn filters(from: usize, to: usize, resampling: PositionResampling) -> Vec<Vec<(usize, f64)>> {
    (0..to)
        .map(|index| match resampling {
            PositionResampling::AlignedCorners => {
                let steps = to.saturating_sub(1).max(1) as f64;
                let centre = index as f64 * (from - 1) as f64 / steps;
                let first = centre.floor();
                let tap = |offset: i32| {
                    let place = first + f64::from(offset);
                    // Places beyond the edge are the edge.
                    (place.clamp(0.0, (from - 1) as f64) as usize, cubic(centre - place, -0.75))
                };
                (-1..=2).map(tap).collect()
            }
            PositionResampling::Antialiased => {
                let scale = from as f64 / to as f64;
                let widening = scale.max(1.0);
                let centre = scale * (index as f64 + 0.5);
                let first = (centre - 2.0 * widening + 0.5).max(0.0) as usize;
                let last = ((centre + 2.0 * widening + 0.5) as usize).min(from);
                let weight = |place: usize| cubic((place as f64 + 0.5 - centre) / widening, -0.5);
                let sum: f64 = (first..last).map(weight).sum();
                (first..last).map(|place| (place, weight(place) / sum)).collect()
            }
        })
        .collect()
}

/// The cubic convolution filter (Keys 1981).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// Weights of a first convolution on colour images, `[outputs, 3, area]`, for images of other channels: their sum for one channel,
/// repeated and times `3 / channels` for more, so that a grey image gives what it gave. timm's rule.
///
/// # Panics
///
/// If `area` or `channels` is 0, or the values are not so many triples of areas.
pub fn adapt_input_channels(weight: &[f32], area: usize, channels: usize) -> Vec<f32> {
    assert!(
        area > 0 && channels > 0 && weight.len().is_multiple_of(3 * area),
        "weights are [outputs, 3, {area}]"
    );
    let mut result = Vec::with_capacity(weight.len() / 3 * channels);
    for filter in weight.chunks_exact(3 * area) {
        if channels == 1 {
            result.extend((0..area).map(|at| filter[at] + filter[area + at] + filter[2 * area + at]));
        } else {
            let factor = 3.0 / channels as f32;
            for channel in 0..channels {
                result.extend(filter[channel % 3 * area..][..area].iter().map(|value| value * factor));
            }
        }
    }
    result
}

impl Graph {
    /// The values of the published tensor `name`, whose shape in a file is `found`, in the shape that this network has; none where that
    /// cannot be made of it.
    fn adapt(
        &self,
        name: &str,
        found: &[usize],
        wanted: &[usize],
        values: impl FnOnce() -> Option<Vec<f32>>,
    ) -> Option<Vec<f32>> {
        match (found, wanted) {
            (&[out, 3, height, width], &[outputs, channels, rows, columns])
                if [out, height, width] == [outputs, rows, columns] && height * width * channels > 0 =>
            {
                let first = |op: &Op| matches!(op, Op::Conv(conv) if name.strip_suffix(".weight") == Some(&conv.name));
                let node = self.nodes.iter().find(|node| node.inputs.first() == Some(&Value(0)))?;
                first(&node.op)
                    .then(values)?
                    .map(|values| adapt_input_channels(&values, height * width, channels))
            }
            (&[1, before, width], &[1, _, wide]) if width == wide && width > 0 => {
                let (prefix, to, resampling) = self.nodes.iter().find_map(|node| match &node.op {
                    Op::Positions { name: own, prefix, grid, resampling, .. } if own == name => {
                        Some((*prefix, *grid, *resampling))
                    }
                    _ => None,
                })?;
                // A file says how many there are, not for which grid; all that are published are square.
                let side = before.checked_sub(prefix)?.isqrt();
                if side == 0 || side * side + prefix != before || to.contains(&0) {
                    return None;
                }
                Some(interpolate_positions(&values()?, width, prefix, [side; 2], to, resampling))
            }
            _ => None,
        }
    }
}

impl Classifier {
    /// A checkpoint's tensor in another shape than this model's, made to fit it, where there is a way: positions of another image size,
    /// and a first convolution on colour images.
    pub(crate) fn adapt(&self, name: &str, found: &Entry, wanted: &[usize]) -> Option<Entry> {
        let values = self.backbone.graph().adapt(name, &found.shape, wanted, || found.read().ok())?;
        Some(Entry::new(wanted.to_vec(), Dtype::F32, move || Ok(values.clone())))
    }
}
