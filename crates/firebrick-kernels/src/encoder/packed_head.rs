//! The keys and values of one head, packed as right operands of products.

use super::attention::{KEY_TILE, Sequence};
use crate::pack::panels_of;
use std::ops::Range;

/// Vectors that a panel is wide, as for weights: pairs make tiles of many rows.
const PANEL: usize = 2;

/// How wide a head is, and where it begins in a row of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    /// Features of the head.
    pub(crate) width: usize,
    /// Where its keys and values begin in a row.
    pub(crate) keys_at: usize,
    pub(crate) values_at: usize,
    pub(crate) lanes: usize,
}

/// The keys and values of one head of one sequence, filled up with zeros to whole vectors.
#[derive(Debug)]
pub(crate) struct PackedHead<'a> {
    /// Tile after tile of [`KEY_TILE`] keys, in panels `[head width, vectors of keys, LANES]`.
    keys: &'a [f32],
    /// In panels `[keys, vectors of features, LANES]`.
    values: &'a [f32],
    shape: HeadShape,
    /// Vectors of keys.
    planes: usize,
}

impl HeadShape {
    /// The head's width, filled up.
    pub(crate) fn filled(&self) -> usize {
        self.width.next_multiple_of(self.lanes)
    }

    /// Values of memory for packing keys and values of a sequence.
    pub(crate) fn packed_len(&self, tokens: usize) -> [usize; 2] {
        let keys = tokens.next_multiple_of(self.lanes);
        [keys * self.width, keys * self.filled()]
    }
}

impl<'a> PackedHead<'a> {
    /// Packs the first `count` keys of a sequence into memory of the lengths that [`HeadShape::packed_len`] tells.
    pub(crate) fn new(
        shape: HeadShape,
        sequence: Sequence<'_>,
        count: usize,
        keys: &'a mut [f32],
        values: &'a mut [f32],
    ) -> Self {
        let planes = count.div_ceil(shape.lanes);
        let row = |token: usize, at: usize| &sequence.rows[token * sequence.stride + at..][..shape.width];
        let mut rest = &mut *keys;
        for tile in 0..count.div_ceil(KEY_TILE) {
            for (first, vectors) in panels_of(tile_planes(tile, planes, shape.lanes), PANEL) {
                let (panel, behind) = rest.split_at_mut(shape.width * vectors * shape.lanes);
                rest = behind;
                let columns = vectors * shape.lanes;
                let token = tile * KEY_TILE + first * shape.lanes;
                let valid = columns.min(count - token);
                let keys = &sequence.rows[token * sequence.stride + shape.keys_at..];
                for (feature, to) in panel.chunks_exact_mut(columns).enumerate() {
                    let (to, rest) = to.split_at_mut(valid);
                    for (column, to) in to.iter_mut().enumerate() {
                        *to = keys[column * sequence.stride + feature];
                    }
                    rest.fill(0.0);
                }
            }
        }
        let filled = planes * shape.lanes;
        for (first, vectors) in panels_of(shape.filled() / shape.lanes, PANEL) {
            let width = vectors * shape.lanes;
            let features = first * shape.lanes..(first * shape.lanes + width).min(shape.width);
            let panel = &mut values[first * shape.lanes * filled..][..width * filled];
            for (token, to) in panel.chunks_exact_mut(width).enumerate() {
                let (to, rest) = to.split_at_mut(features.len());
                if token < count {
                    to.copy_from_slice(&row(token, shape.values_at)[features.clone()]);
                } else {
                    to.fill(0.0);
                }
                rest.fill(0.0);
            }
        }
        Self { keys, values, shape, planes }
    }

    /// The panels of keys of a tile: first vector within the tile, vectors, weights.
    pub(crate) fn key_panels(&self, tile: usize) -> impl Iterator<Item = (usize, usize, &'a [f32])> {
        let HeadShape { width, lanes, .. } = self.shape;
        let tile_keys = &self.keys[tile * KEY_TILE * width..];
        panels_of(tile_planes(tile, self.planes, lanes), PANEL).map(move |(first, vectors)| {
            (first, vectors, &tile_keys[first * lanes * width..][..vectors * lanes * width])
        })
    }

    /// The panels of values of some keys: first vector of features, vectors, weights.
    pub(crate) fn value_panels(&self, keys: Range<usize>) -> impl Iterator<Item = (usize, usize, &'a [f32])> {
        let lanes = self.shape.lanes;
        let (values, filled) = (self.values, self.planes * lanes);
        panels_of(self.shape.filled() / lanes, PANEL).map(move |(first, vectors)| {
            let width = vectors * lanes;
            let panel = &values[first * lanes * filled..][..width * filled];
            (first, vectors, &panel[keys.start * width..keys.end * width])
        })
    }
}

/// Vectors of keys of a tile, of `planes` in all.
fn tile_planes(tile: usize, planes: usize, lanes: usize) -> usize {
    let whole = KEY_TILE / lanes;
    whole.min(planes - tile * whole)
}
