//! How activations lie in memory between the layers of a plan.
//!
//! Channels are cut into blocks as wide as a vector, and an image is `[blocks, height, width, LANES]`. So every vector that
//! a kernel reads or writes is aligned, neighbouring pixels of a block are neighbours in memory, and a kernel that works
//! through the channels block by block streams. The last block is filled up with channels that are zero where an
//! image is read in, and on which no result depends.

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

    /// Copies all channels of an image of this layout to those of another of its size, from channel `first` on.
    pub(crate) fn append_to(&self, blocked: &[f32], first: usize, to: &mut [f32]) {
        let (lanes, plane) = (self.lanes, self.plane());
        if first.is_multiple_of(lanes) {
            to[first / lanes * plane..][..self.len()].copy_from_slice(&blocked[..self.len()]);
            return;
        }
        for channel in 0..self.channels {
            let from = blocked[channel / lanes * plane + channel % lanes..].iter().step_by(lanes);
            let to = &mut to[(first + channel) / lanes * plane + (first + channel) % lanes..];
            to.iter_mut().step_by(lanes).zip(from).take(self.pixels()).for_each(|(to, from)| *to = *from);
        }
    }

    /// Copies the channels of another image of the same size from channel `first` on, as many as this layout has, and fills the last
    /// block up with zeros.
    pub(crate) fn take_from(&self, from: &[f32], first: usize, blocked: &mut [f32]) {
        let (lanes, plane) = (self.lanes, self.plane());
        if first.is_multiple_of(lanes) && self.channels.is_multiple_of(lanes) {
            blocked[..self.len()].copy_from_slice(&from[first / lanes * plane..][..self.len()]);
            return;
        }
        blocked[..self.len()].fill(0.0);
        for channel in 0..self.channels {
            let from = from[(first + channel) / lanes * plane + (first + channel) % lanes..].iter();
            let to = &mut blocked[channel / lanes * plane + channel % lanes..];
            let pairs = to.iter_mut().step_by(lanes).zip(from.step_by(lanes));
            pairs.take(self.pixels()).for_each(|(to, from)| *to = *from);
        }
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
    fn appends_channels_and_takes_them_back() {
        for (first, channels, lanes) in [(4, 8, 4), (3, 5, 4), (16, 7, 8), (1, 1, 2), (8, 4, 8)] {
            let image = |channels| Blocked { channels, height: 2, width: 3, lanes };
            let imported = |layout: &Blocked, from: f32| {
                let nhwc: Vec<f32> = (0..layout.channels * 6).map(|i| i as f32 + from).collect();
                let mut blocked = vec![f32::NAN; layout.len()];
                layout.import(&nhwc, &mut blocked);
                blocked
            };
            let (before, after, both) = (image(first), image(channels), image(first + channels));
            let (a, b) = (imported(&before, 1.0), imported(&after, 100.0));
            let mut joined = vec![0.0; both.len()];
            before.append_to(&a, 0, &mut joined);
            after.append_to(&b, first, &mut joined);
            let mut nhwc = vec![0.0; 6 * both.channels];
            both.export(&joined, &mut nhwc);
            let pixel: Vec<f32> =
                (0..first).map(|c| c as f32 + 1.0).chain((0..channels).map(|c| c as f32 + 100.0)).collect();
            assert_eq!(nhwc[..both.channels], pixel);
            let (mut c, mut d) = (vec![f32::NAN; a.len()], vec![f32::NAN; b.len()]);
            before.take_from(&joined, 0, &mut c);
            after.take_from(&joined, first, &mut d);
            assert_eq!((a, b), (c, d));
        }
    }

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
