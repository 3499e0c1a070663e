//! Learnt and random policies over one set of operations.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};
use serde::{Deserialize, Serialize};

use super::Op;
use super::warp::Sampling;

/// An operation of a policy; its magnitude says how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

use Kind::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Invert, Posterize, Rotate, Sharpness,
    ShearX, ShearY, Solarize, TranslateX, TranslateY,
};

/// The ranges of magnitudes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    shear: f32,
    /// Share of the side, or pixels.
    translate: Translate,
    degrees: f32,
    enhance: f32,
    /// Bits at magnitude zero, and how many fewer at the greatest.
    posterize: [f32; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Translate {
    Share(f64),
    Pixels(f32),
}

/// Of RandAugment and AutoAugment.
pub(super) const RANDAUGMENT: Space = Space {
    shear: 0.3,
    translate: Translate::Share(150.0 / 331.0),
    degrees: 30.0,
    enhance: 0.9,
    posterize: [8.0, 4.0],
};

/// Of TrivialAugmentWide.
pub(super) const WIDE: Space = Space {
    shear: 0.99,
    translate: Translate::Pixels(32.0),
    degrees: 135.0,
    enhance: 0.99,
    posterize: [8.0, 6.0],
};

/// Of AugMix.
pub(super) const AUGMIX: Space = Space {
    shear: 0.3,
    translate: Translate::Share(1.0 / 3.0),
    degrees: 30.0,
    enhance: 0.9,
    posterize: [4.0, 4.0],
};

/// What RandAugment and TrivialAugmentWide choose from.
pub(super) const ALL: [Kind; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

/// What AugMix chooses from; without the last four if the corruptions it is tested on are not to be met in training.
const OF_AUGMIX: [Kind; 13] = [
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Brightness,
    Color,
    Contrast,
    Sharpness,
];

impl Space {
    /// The magnitude in `bin` of `bins` for an image of this size, in f32 as torchvision; 0 where an operation has none.
    pub(super) fn magnitude(&self, kind: Kind, bin: u32, bins: u32, [width, height]: [u32; 2]) -> f32 {
        let last = bins.saturating_sub(1).max(1);
        let line = |start: f32, end: f32| {
            let step = (end - start) / last as f32;
            if bin < bins / 2 { start + step * bin as f32 } else { end - step * (last - bin) as f32 }
        };
        let translate = |side: u32| match self.translate {
            Translate::Share(share) => (share * f64::from(side)) as f32,
            Translate::Pixels(pixels) => pixels,
        };
        match kind {
            ShearX | ShearY => line(0.0, self.shear),
            TranslateX => line(0.0, translate(width)),
            TranslateY => line(0.0, translate(height)),
            Rotate => line(0.0, self.degrees),
            Brightness | Color | Contrast | Sharpness => line(0.0, self.enhance),
            Posterize => {
                let [most, fewer] = self.posterize;
                (most - bin as f32 / (last as f32 / fewer)).round_ties_even()
            }
            Solarize => line(1.0, 0.0),
            Identity | AutoContrast | Equalize | Invert => 0.0,
        }
    }

    fn draw(
        &self,
        kind: Kind,
        bin: u32,
        bins: u32,
        size: [u32; 2],
        sampling: Sampling,
        rng: &mut ChaCha8Rng,
    ) -> Op {
        let magnitude = self.magnitude(kind, bin, bins, size);
        let signed = !matches!(kind, Identity | Posterize | Solarize | AutoContrast | Equalize | Invert);
        let negative: bool = rng.random();
        operation(kind, if signed && negative { -magnitude } else { magnitude }, sampling)
    }
}

/// The change that an operation of this magnitude is.
pub(super) fn operation(kind: Kind, magnitude: f32, sampling: Sampling) -> Op {
    let fill = [0; 3];
    let affine = |translate: [f64; 2], shear: [f64; 2], corner: bool| Op::Affine {
        degrees: 0.0,
        translate,
        scale: 1.0,
        shear,
        corner,
        sampling,
        fill,
    };
    let shear = f64::from(magnitude).atan().to_degrees();
    let pixels = f64::from(magnitude.trunc());
    let factor = 1.0 + magnitude;
    match kind {
        Identity => Op::Brightness { factor: 1.0 },
        ShearX => affine([0.0; 2], [shear, 0.0], true),
        ShearY => affine([0.0; 2], [0.0, shear], true),
        TranslateX => affine([pixels, 0.0], [0.0; 2], false),
        TranslateY => affine([0.0, pixels], [0.0; 2], false),
        Rotate => Op::Rotate { degrees: f64::from(magnitude), sampling, fill },
        Brightness => Op::Brightness { factor },
        Color => Op::Saturation { factor },
        Contrast => Op::Contrast { factor },
        Sharpness => Op::Sharpness { factor },
        Posterize => Op::Posterize { bits: magnitude as u8 },
        Solarize => Op::Solarize { threshold: 255.0 * magnitude },
        AutoContrast => Op::Autocontrast,
        Equalize => Op::Equalize,
        Invert => Op::Invert,
    }
}

fn one_of<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// `ops` operations of one magnitude, each drawn from all (Cubuk et al. 2019, arXiv:1909.13719).
pub(super) fn rand_augment(
    ops: u32,
    magnitude: u32,
    bins: u32,
    size: [u32; 2],
    sampling: Sampling,
    rng: &mut ChaCha8Rng,
) -> Vec<Op> {
    (0..ops)
        .map(|_| {
            let kind = *one_of(&ALL, rng);
            RANDAUGMENT.draw(kind, magnitude, bins, size, sampling, rng)
        })
        .collect()
}

/// One operation of any magnitude (Müller & Hutter 2021, arXiv:2103.10158).
pub(super) fn trivial_augment(
    bins: u32,
    size: [u32; 2],
    sampling: Sampling,
    rng: &mut ChaCha8Rng,
) -> Vec<Op> {
    let kind = *one_of(&ALL, rng);
    let bin = rng.random_range(0..bins);
    vec![WIDE.draw(kind, bin, bins, size, sampling, rng)]
}

/// Which images a policy was learnt on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearntPolicy {
    /// ImageNet.
    #[default]
    Imagenet,
    /// CIFAR-10.
    Cifar10,
    /// SVHN.
    Svhn,
}

/// Magnitudes of AutoAugment's tables are one of ten.
const LEARNT_BINS: u32 = 10;

/// One of twenty-five pairs, each half of which is applied with a probability of its own (Cubuk et al. 2018, arXiv:1805.09501).
pub(super) fn auto_augment(
    policy: LearntPolicy,
    size: [u32; 2],
    sampling: Sampling,
    rng: &mut ChaCha8Rng,
) -> Vec<Op> {
    let pairs = match policy {
        LearntPolicy::Imagenet => &IMAGENET,
        LearntPolicy::Cifar10 => &CIFAR10,
        LearntPolicy::Svhn => &SVHN,
    };
    let mut ops = Vec::new();
    for &(kind, tenths, bin) in one_of(pairs, rng) {
        let chance: f64 = rng.random();
        let op = RANDAUGMENT.draw(kind, bin, LEARNT_BINS, size, sampling, rng);
        if chance * 10.0 < f64::from(tenths) {
            ops.push(op);
        }
    }
    ops
}

/// Settings of AugMix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AugMix {
    pub(super) severity: u32,
    pub(super) mixture_width: u32,
    pub(super) chain_depth: u32,
    pub(super) alpha: f64,
    pub(super) all_ops: bool,
}

impl AugMix {
    /// Some chains of one to three operations, mixed with the image (Hendrycks et al. 2020, arXiv:1912.02781).
    pub(super) fn draw(&self, size: [u32; 2], sampling: Sampling, rng: &mut ChaCha8Rng) -> Op {
        let [original, changed] = self.dirichlet(2, rng)[..] else { unreachable!("two were drawn") };
        let weights = self.dirichlet(self.mixture_width, rng);
        let kinds = if self.all_ops { &OF_AUGMIX[..] } else { &OF_AUGMIX[..9] };
        let chains = weights.into_iter().map(|weight| {
            let depth = if self.chain_depth > 0 { self.chain_depth } else { rng.random_range(1..4) };
            let ops = (0..depth).map(|_| {
                let kind = *one_of(kinds, rng);
                let bin = rng.random_range(0..self.severity);
                AUGMIX.draw(kind, bin, 10, size, sampling, rng)
            });
            (weight * changed, ops.collect())
        });
        Op::Mix { original, chains: chains.collect() }
    }

    /// Shares of a whole: gamma draws over their sum.
    fn dirichlet(&self, count: u32, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let gamma = Gamma::new(self.alpha, 1.0).expect("validated");
        let draws: Vec<f64> = (0..count).map(|_| gamma.sample(rng)).collect();
        let sum: f64 = draws.iter().sum();
        draws.into_iter().map(|draw| (draw / sum.max(f64::MIN_POSITIVE)) as f32).collect()
    }
}

/// An operation, the tenths of its probability, and the bin of its magnitude.
type Step = (Kind, u8, u32);

/// What was learnt on ImageNet.
const IMAGENET: [[Step; 2]; 25] = [
    [(Posterize, 4, 8), (Rotate, 6, 9)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
    [(Posterize, 6, 7), (Posterize, 6, 6)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Equalize, 4, 0), (Rotate, 8, 8)],
    [(Solarize, 6, 3), (Equalize, 6, 0)],
    [(Posterize, 8, 5), (Equalize, 10, 0)],
    [(Rotate, 2, 3), (Solarize, 6, 8)],
    [(Equalize, 6, 0), (Posterize, 4, 6)],
    [(Rotate, 8, 8), (Color, 4, 0)],
    [(Rotate, 4, 9), (Equalize, 6, 0)],
    [(Equalize, 0, 0), (Equalize, 8, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Color, 6, 4), (Contrast, 10, 8)],
    [(Rotate, 8, 8), (Color, 10, 2)],
    [(Color, 8, 8), (Solarize, 8, 7)],
    [(Sharpness, 4, 7), (Invert, 6, 0)],
    [(ShearX, 6, 5), (Equalize, 10, 0)],
    [(Color, 4, 0), (Equalize, 6, 0)],
    [(Equalize, 4, 0), (Solarize, 2, 4)],
    [(Solarize, 6, 5), (AutoContrast, 6, 0)],
    [(Invert, 6, 0), (Equalize, 10, 0)],
    [(Color, 6, 4), (Contrast, 10, 8)],
    [(Equalize, 8, 0), (Equalize, 6, 0)],
];

/// What was learnt on CIFAR-10.
const CIFAR10: [[Step; 2]; 25] = [
    [(Invert, 1, 0), (Contrast, 2, 6)],
    [(Rotate, 7, 2), (TranslateX, 3, 9)],
    [(Sharpness, 8, 1), (Sharpness, 9, 3)],
    [(ShearY, 5, 8), (TranslateY, 7, 9)],
    [(AutoContrast, 5, 0), (Equalize, 9, 0)],
    [(ShearY, 2, 7), (Posterize, 3, 7)],
    [(Color, 4, 3), (Brightness, 6, 7)],
    [(Sharpness, 3, 9), (Brightness, 7, 9)],
    [(Equalize, 6, 0), (Equalize, 5, 0)],
    [(Contrast, 6, 7), (Sharpness, 6, 5)],
    [(Color, 7, 7), (TranslateX, 5, 8)],
    [(Equalize, 3, 0), (AutoContrast, 4, 0)],
    [(TranslateY, 4, 3), (Sharpness, 2, 6)],
    [(Brightness, 9, 6), (Color, 2, 8)],
    [(Solarize, 5, 2), (Invert, 0, 0)],
    [(Equalize, 2, 0), (AutoContrast, 6, 0)],
    [(Equalize, 2, 0), (Equalize, 6, 0)],
    [(Color, 9, 9), (Equalize, 6, 0)],
    [(AutoContrast, 8, 0), (Solarize, 2, 8)],
    [(Brightness, 1, 3), (Color, 7, 0)],
    [(Solarize, 4, 5), (AutoContrast, 9, 0)],
    [(TranslateY, 9, 9), (TranslateY, 7, 9)],
    [(AutoContrast, 9, 0), (Solarize, 8, 3)],
    [(Equalize, 8, 0), (Invert, 1, 0)],
    [(TranslateY, 7, 9), (AutoContrast, 9, 0)],
];

/// What was learnt on SVHN.
const SVHN: [[Step; 2]; 25] = [
    [(ShearX, 9, 4), (Invert, 2, 0)],
    [(ShearY, 9, 8), (Invert, 7, 0)],
    [(Equalize, 6, 0), (Solarize, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (AutoContrast, 8, 0)],
    [(ShearY, 9, 8), (Invert, 4, 0)],
    [(ShearY, 9, 5), (Solarize, 2, 6)],
    [(Invert, 9, 0), (AutoContrast, 8, 0)],
    [(Equalize, 6, 0), (Rotate, 9, 3)],
    [(ShearX, 9, 4), (Solarize, 3, 3)],
    [(ShearY, 8, 8), (Invert, 7, 0)],
    [(Equalize, 9, 0), (TranslateY, 6, 6)],
    [(Invert, 9, 0), (Equalize, 6, 0)],
    [(Contrast, 3, 3), (Rotate, 8, 4)],
    [(Invert, 8, 0), (TranslateY, 0, 2)],
    [(ShearY, 7, 6), (Solarize, 4, 8)],
    [(Invert, 6, 0), (Rotate, 8, 4)],
    [(ShearY, 3, 7), (TranslateX, 9, 3)],
    [(ShearX, 1, 6), (Invert, 6, 0)],
    [(Solarize, 7, 2), (TranslateY, 6, 7)],
    [(ShearY, 8, 4), (Invert, 8, 0)],
    [(ShearX, 7, 9), (TranslateY, 8, 3)],
    [(ShearY, 8, 5), (AutoContrast, 7, 0)],
    [(ShearX, 7, 2), (Invert, 1, 0)],
];

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        made_by: String,
        size: [u32; 2],
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        space: String,
        kind: String,
        magnitudes: Vec<f32>,
    }

    #[test]
    fn magnitudes_are_torchvisions() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/goldens/policy_magnitudes.json"))
            .expect("valid JSON");
        assert!(golden.cases.len() > 40);
        for case in &golden.cases {
            let space = match case.space.as_str() {
                "wide" => WIDE,
                "augmix" => AUGMIX,
                _ => RANDAUGMENT,
            };
            let kind = *ALL.iter().find(|kind| format!("{kind:?}") == case.kind).expect("a kind");
            let bins = case.magnitudes.len() as u32;
            for (bin, &expected) in (0..).zip(&case.magnitudes) {
                let actual = space.magnitude(kind, bin, bins, golden.size);
                let message = format!(
                    "{} {} bin {bin}: {actual}, not {expected}; {}",
                    case.space, case.kind, golden.made_by
                );
                assert!((actual - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{message}");
            }
        }
    }

    #[test]
    fn every_operation_is_drawn_about_as_often() {
        let mut rng = crate::DrawKey { seed: 3, epoch: 0, sample: 0 }.rng(1);
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..2800 {
            for op in rand_augment(2, 9, 31, [32, 32], Sampling::Nearest, &mut rng) {
                let name = format!("{op:?}");
                let name = name.split(' ').next().expect("a name").to_owned();
                *counts.entry(name).or_default() += 1;
            }
        }
        // Two shears and two translations are affine; identity counts as brightness.
        for (name, share) in
            [("Affine", 4.0), ("Brightness", 2.0), ("Rotate", 1.0), ("Equalize", 1.0), ("Posterize", 1.0)]
        {
            let expected = 5600.0 * share / 14.0;
            let count = f64::from(counts[name]);
            assert!(
                (count - expected).abs() < 5.0 * expected.sqrt(),
                "{name}: {count}, not about {expected}"
            );
        }
    }

    #[test]
    fn a_learnt_policy_applies_its_halves_as_often_as_it_says() {
        let mut rng = crate::DrawKey { seed: 3, epoch: 0, sample: 0 }.rng(1);
        for (policy, pairs) in [
            (LearntPolicy::Imagenet, &IMAGENET),
            (LearntPolicy::Cifar10, &CIFAR10),
            (LearntPolicy::Svhn, &SVHN),
        ] {
            let expected = pairs.iter().flatten().map(|step| f64::from(step.1) / 10.0).sum::<f64>() / 25.0;
            let count: usize =
                (0..4000).map(|_| auto_augment(policy, [32, 32], Sampling::Nearest, &mut rng).len()).sum();
            let mean = count as f64 / 4000.0;
            assert!((mean - expected).abs() < 0.05, "{policy:?}: {mean}, not {expected}");
        }
    }

    #[test]
    fn the_weights_of_a_mixture_are_a_whole() {
        let mut rng = crate::DrawKey { seed: 3, epoch: 0, sample: 0 }.rng(1);
        let settings = AugMix { severity: 3, mixture_width: 3, chain_depth: 0, alpha: 1.0, all_ops: true };
        for _ in 0..50 {
            let Op::Mix { original, chains } = settings.draw([20, 20], Sampling::Bilinear, &mut rng) else {
                panic!("a mixture")
            };
            let sum: f32 = original + chains.iter().map(|chain| chain.0).sum::<f32>();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            assert!(chains.len() == 3 && chains.iter().all(|chain| (1..4).contains(&chain.1.len())));
        }
    }
}
