//! A data set's mean and standard deviation of each channel.

use image::RgbImage;

use crate::normalization::mean_and_variance;

/// Mean and standard deviation of each channel over a data set, as Keras' `ImageDataGenerator.fit` computes them,
/// gathered image by image.
///
/// The sums are whole numbers, so the result is the same to the last bit for any order of the images and any number of
/// workers that each gather a part ([`merge`](Self::merge)).
///
/// ```
/// use firebrick_augment::FeaturewiseStatistics;
/// use image::{Rgb, RgbImage};
///
/// let mut statistics = FeaturewiseStatistics::default();
/// statistics.add(&RgbImage::from_pixel(4, 4, Rgb([0, 10, 255])));
/// statistics.add(&RgbImage::from_pixel(4, 4, Rgb([255, 20, 255])));
/// let (mean, std) = statistics.mean_std(Some(1.0 / 255.0)).unwrap();
/// assert_eq!(mean[0], 0.5);
/// assert_eq!(std[2], 0.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturewiseStatistics {
    pixels: u64,
    sums: [u64; 3],
    squares: [u64; 3],
}

impl FeaturewiseStatistics {
    /// Adds all pixels of an image: one that has the network's input size and no augmentation, as in Keras.
    pub fn add(&mut self, image: &RgbImage) {
        let (sums, squares) = (&mut self.sums, &mut self.squares);
        for pixel in image.as_raw().as_chunks::<3>().0 {
            for channel in 0..3 {
                let level = u64::from(pixel[channel]);
                sums[channel] += level;
                squares[channel] += level * level;
            }
        }
        self.pixels += u64::from(image.width()) * u64::from(image.height());
    }

    /// Adds what another gathered.
    pub fn merge(&mut self, other: &Self) {
        self.pixels += other.pixels;
        for channel in 0..3 {
            self.sums[channel] += other.sums[channel];
            self.squares[channel] += other.squares[channel];
        }
    }

    /// Mean and (biased) standard deviation of each channel after multiplication by `rescale`; `None` before the first
    /// pixel.
    pub fn mean_std(&self, rescale: Option<f32>) -> Option<([f32; 3], [f32; 3])> {
        if self.pixels == 0 {
            return None;
        }
        let rescale = f64::from(rescale.unwrap_or(1.0));
        let moments = [0, 1, 2]
            .map(|channel| mean_and_variance(self.pixels, self.sums[channel], self.squares[channel]));
        let mean = moments.map(|(mean, _)| (mean * rescale) as f32);
        let std = moments.map(|(_, variance)| (variance.sqrt() * rescale.abs()) as f32);
        Some((mean, std))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn picture(seed: u32) -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| Rgb([seed, x, y].map(|part| (part * 37 + seed * 11) as u8)))
    }

    #[test]
    fn has_no_mean_before_the_first_image() {
        assert_eq!(FeaturewiseStatistics::default().mean_std(None), None);
    }

    #[test]
    fn is_the_same_for_any_split_among_workers() {
        let mut one = FeaturewiseStatistics::default();
        let mut workers = [FeaturewiseStatistics::default(), FeaturewiseStatistics::default()];
        for seed in 0..5 {
            one.add(&picture(seed));
            workers[seed as usize % 2].add(&picture(seed));
        }
        let [mut first, second] = workers;
        first.merge(&second);
        assert_eq!(first, one);
    }

    #[test]
    fn keeps_a_small_spread_on_a_large_mean() {
        let mut statistics = FeaturewiseStatistics::default();
        statistics.add(&RgbImage::from_fn(100, 100, |x, _| Rgb([254 + (x % 2) as u8; 3])));
        assert_eq!(statistics.mean_std(None), Some(([254.5; 3], [0.5; 3])));
    }
}
