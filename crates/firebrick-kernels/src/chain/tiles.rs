//! How the work on a batch is cut: by its size alone, never by the number of threads, so that sums are the same for any.

use std::ops::Range;

/// Most parts that are summed up apart: enough to keep many threads busy, few enough that summing them costs little.
const MOST_CHUNKS: usize = 16;

/// The pixels of every image of a batch in nearly equal pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    images: usize,
    pixels: usize,
    per_image: usize,
}

impl Tiles {
    /// Pieces of at most `most` pixels.
    pub(crate) fn new(images: usize, pixels: usize, most: usize) -> Self {
        Self { images, pixels, per_image: pixels.div_ceil(most.max(1)).max(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.images * self.per_image
    }

    pub(crate) fn per_image(&self) -> usize {
        self.per_image
    }

    /// Pixels of the largest piece.
    pub(crate) fn largest(&self) -> usize {
        self.pixels.div_ceil(self.per_image)
    }

    /// A piece's image and pixels.
    pub(crate) fn get(&self, tile: usize) -> (usize, Range<usize>) {
        let (image, piece) = (tile / self.per_image, tile % self.per_image);
        (image, share(self.pixels, piece, self.per_image))
    }

    /// Pixels of every piece.
    pub(crate) fn counts(&self) -> Vec<usize> {
        (0..self.count()).map(|tile| self.get(tile).1.len()).collect()
    }
}

/// Part `index` of `0..len` cut into `count` nearly equal parts.
fn share(len: usize, index: usize, count: usize) -> Range<usize> {
    len * index / count..len * (index + 1) / count
}

/// Cuts `0..len` into few parts, each with a sum of its own.
pub(crate) fn chunks(len: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = len.clamp(1, MOST_CHUNKS);
    (0..count).map(move |index| share(len, index, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_every_pixel_once() {
        for (images, pixels, most) in [(1, 1, 1), (2, 49, 48), (3, 100, 7), (1, 5, 1000), (2, 10, 0)] {
            let tiles = Tiles::new(images, pixels, most);
            let mut seen = vec![0; images * pixels];
            for tile in 0..tiles.count() {
                let (image, range) = tiles.get(tile);
                assert!(!range.is_empty() && range.len() <= tiles.largest() && range.len() <= most.max(1));
                range.for_each(|pixel| seen[image * pixels + pixel] += 1);
            }
            assert!(seen.iter().all(|&count| count == 1));
            assert_eq!(tiles.counts().iter().sum::<usize>(), images * pixels);
        }
    }

    #[test]
    fn makes_few_chunks() {
        for len in [1, 2, 16, 17, 1000] {
            let chunks: Vec<_> = chunks(len).collect();
            assert!(chunks.len() <= MOST_CHUNKS);
            assert_eq!(chunks.into_iter().flatten().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
    }
}
