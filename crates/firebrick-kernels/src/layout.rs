//! How activations lie in memory between the layers of a plan.
//!
//! Channels are cut into blocks as wide as a vector, and an image is `[blocks, height, width, LANES]`. So every vector that
//! a kernel reads or writes is aligned, neighbouring pixels of a block are neighbours in memory, and a kernel that works
//! through the channels block by block streams. The last block is filled up with channels that are always zero.

/// The size of an image in the blocked layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) lanes: usize,
}

impl Blocked {
    /// Blocks of channels.
    pub(crate) fn planes(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Pixels of a block.
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Values from one block to the next.
    pub(crate) fn plane(&self) -> usize {
        self.pixels() * self.lanes
    }

    /// Values from one row to the next.
    pub(crate) fn row(&self) -> usize {
        self.width * self.lanes
    }

    /// Values of the image.
    pub(crate) fn len(&self) -> usize {
        self.planes() * self.plane()
    }

    /// Reads an image `[height, width, channels]` into the blocked layout.
    pub(crate) fn import(&self, nhwc: &[f32], blocked: &mut [f32]) {
        for (plane, block) in blocked[..self.len()].chunks_exact_mut(self.plane()).enumerate() {
            self.import_plane(plane, nhwc, block);
        }
    }

    /// Reads one block of channels of an image `[height, width, channels]`.
    pub(crate) fn import_plane(&self, plane: usize, nhwc: &[f32], block: &mut [f32]) {
        let first = plane * self.lanes;
        let valid = self.lanes.min(self.channels - first);
        let pixels = nhwc.chunks_exact(self.channels).map(|pixel| &pixel[first..first + valid]);
        let places = pixels.zip(block.chunks_exact_mut(self.lanes));
        match (valid == self.lanes, valid) {
            (true, 16) => places.for_each(|(from, to)| copy::<16>(from, to)),
            (true, 8) => places.for_each(|(from, to)| copy::<8>(from, to)),
            (true, 4) => places.for_each(|(from, to)| copy::<4>(from, to)),
            _ => places.for_each(|(from, to)| {
                to[..valid].copy_from_slice(from);
                to[valid..].fill(0.0);
            }),
        }
    }

    /// Writes an image in the blocked layout as `[height, width, channels]`.
    pub(crate) fn export(&self, blocked: &[f32], nhwc: &mut [f32]) {
        for (plane, block) in blocked[..self.len()].chunks_exact(self.plane()).enumerate() {
            self.export_plane(plane, block, nhwc);
        }
    }

    /// Writes one block of channels of an image as part of `[height, width, channels]`.
    pub(crate) fn export_plane(&self, plane: usize, block: &[f32], nhwc: &mut [f32]) {
        let first = plane * self.lanes;
        let valid = self.lanes.min(self.channels - first);
        let pixels = nhwc.chunks_exact_mut(self.channels).map(|pixel| &mut pixel[first..first + valid]);
        let places = block.chunks_exact(self.lanes).zip(pixels);
        match valid {
            16 => places.for_each(|(from, to)| copy::<16>(from, to)),
            8 => places.for_each(|(from, to)| copy::<8>(from, to)),
            4 => places.for_each(|(from, to)| copy::<4>(from, to)),
            _ => places.for_each(|(from, to)| to.copy_from_slice(&from[..valid])),
        }
    }
}

/// Copies `N` values by instructions: a call would cost more than the copy.
#[inline(always)]
fn copy<const N: usize>(from: &[f32], to: &mut [f32]) {
    let from: &[f32; N] = from[..N].try_into().expect("as long as the range");
    let to: &mut [f32; N] = (&mut to[..N]).try_into().expect("as long as the range");
    *to = *from;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_what_was_imported() {
        for (channels, lanes) in [(1, 8), (3, 4), (8, 8), (17, 16)] {
            let layout = Blocked { channels, height: 2, width: 3, lanes };
            let nhwc: Vec<f32> = (0..channels * 6).map(|i| i as f32 + 1.0).collect();
            let mut blocked = vec![f32::NAN; layout.len()];
            layout.import(&nhwc, &mut blocked);
            let mut back = vec![0.0; nhwc.len()];
            layout.export(&blocked, &mut back);
            assert_eq!(nhwc, back);
            assert_eq!(blocked.iter().filter(|&&value| value == 0.0).count(), layout.len() - nhwc.len());
        }
    }
}
