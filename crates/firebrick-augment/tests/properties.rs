//! What holds for any image and any draw.

use firebrick_augment::{DrawKey, FillMode, ImageDataGenerator, Interpolation, KerasDraw, ZoomRange, resize};
use image::{Rgb, RgbImage};
use proptest::prelude::*;

fn images() -> impl Strategy<Value = RgbImage> {
    (1u32..14, 1u32..14).prop_flat_map(|(width, height)| {
        prop::collection::vec(any::<u8>(), (width * height * 3) as usize)
            .prop_map(move |levels| RgbImage::from_raw(width, height, levels).unwrap())
    })
}

fn fill_modes() -> impl Strategy<Value = FillMode> {
    prop::sample::select(vec![FillMode::Nearest, FillMode::Constant, FillMode::Reflect, FillMode::Wrap])
}

fn generators() -> impl Strategy<Value = ImageDataGenerator> {
    let ranges = (0f32..180.0, 0f32..3.0, 0f32..3.0, 0f32..90.0, 0f32..0.99, 0f32..100.0);
    let brightness = prop::option::of((0f32..1.0, 1f32..3.0).prop_map(|(low, high)| [low, high]));
    (ranges, brightness, fill_modes(), 0f32..255.0, any::<(bool, bool)>()).prop_map(
        |((rotation, width, height, shear, zoom, channel), brightness_range, fill_mode, cval, flips)| {
            ImageDataGenerator {
                rotation_range: rotation,
                width_shift_range: width,
                height_shift_range: height,
                shear_range: shear,
                zoom_range: ZoomRange::Around(zoom),
                channel_shift_range: channel,
                brightness_range,
                fill_mode,
                cval,
                horizontal_flip: flips.0,
                vertical_flip: flips.1,
                ..ImageDataGenerator::default()
            }
        },
    )
}

fn keys() -> impl Strategy<Value = DrawKey> {
    any::<(u64, u64, u64)>().prop_map(|(seed, epoch, sample)| DrawKey { seed, epoch, sample })
}

/// Any `f32`, NaN and the infinities among them.
fn wild_draws() -> impl Strategy<Value = KerasDraw> {
    let wild = any::<[f32; 6]>();
    (wild, any::<(bool, bool)>(), any::<Option<f32>>(), any::<Option<f32>>()).prop_map(
        |([theta, tx, ty, shear, zx, zy], flips, channel_shift, brightness)| KerasDraw {
            theta,
            tx,
            ty,
            shear,
            zx,
            zy,
            flip_horizontal: flips.0,
            flip_vertical: flips.1,
            channel_shift,
            brightness,
        },
    )
}

proptest! {
    #[test]
    fn returns_the_image_when_nothing_is_drawn(image in images(), fill_mode in fill_modes(), key in keys()) {
        let generator = ImageDataGenerator { fill_mode, ..ImageDataGenerator::default() };
        let draw = generator.draw(key, image.width(), image.height());
        let applied = generator.apply(&image, &draw);
        prop_assert_eq!(applied.dimensions(), image.dimensions());
        prop_assert!(applied.iter().zip(image.iter()).all(|(value, level)| *value == f32::from(*level)));
    }

    #[test]
    fn keeps_shape_and_range(image in images(), generator in generators(), key in keys()) {
        prop_assert_eq!(generator.validate(), Ok(()));
        let draw = generator.draw(key, image.width(), image.height());
        let applied = generator.apply(&image, &draw);
        prop_assert_eq!(applied.dimensions(), image.dimensions());
        prop_assert!(applied.iter().all(|value| (0.0..=255.0).contains(value)), "{:?} from {:?}", applied, draw);
    }

    #[test]
    fn replays_a_serialised_draw_to_the_same_bytes(image in images(), generator in generators(), key in keys()) {
        let draw = generator.draw(key, image.width(), image.height());
        let json: KerasDraw = serde_json::from_str(&serde_json::to_string(&draw).unwrap()).unwrap();
        let text: KerasDraw = toml::from_str(&toml::to_string(&draw).unwrap()).unwrap();
        prop_assert_eq!((json, text), (draw, draw));
        prop_assert_eq!(generator.apply(&image, &json), generator.apply(&image, &draw));
    }

    #[test]
    fn takes_any_draw_whatever(image in images(), fill_mode in fill_modes(), cval in any::<f32>(), draw in wild_draws()) {
        let generator = ImageDataGenerator { fill_mode, cval, ..ImageDataGenerator::default() };
        prop_assert_eq!(generator.apply(&image, &draw).dimensions(), image.dimensions());
    }

    #[test]
    fn flips_back_and_forth(image in images(), horizontal in any::<bool>(), vertical in any::<bool>()) {
        let generator = ImageDataGenerator::default();
        let draw = KerasDraw { flip_horizontal: horizontal, flip_vertical: vertical, ..KerasDraw::default() };
        let flipped = generator.apply(&image, &draw);
        for (x, y, pixel) in image.enumerate_pixels() {
            let x = if horizontal { image.width() - 1 - x } else { x };
            let y = if vertical { image.height() - 1 - y } else { y };
            prop_assert_eq!(flipped.get_pixel(x, y).0, pixel.0.map(f32::from));
        }
    }

    #[test]
    fn flips_after_the_transform(image in images(), generator in generators(), key in keys()) {
        let draw = generator.draw(key, image.width(), image.height());
        let straight = generator.apply(&image, &KerasDraw { flip_horizontal: false, flip_vertical: false, ..draw });
        let flipped = generator.apply(&image, &KerasDraw { flip_horizontal: true, flip_vertical: true, ..draw });
        prop_assert!(straight.pixels().rev().eq(flipped.pixels()));
    }

    #[test]
    fn resizes_to_any_size(image in images(), width in 1u32..40, height in 1u32..40) {
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            prop_assert_eq!(resize(&image, width, height, interpolation).dimensions(), (width, height));
        }
    }
}

#[test]
fn takes_images_of_one_pixel_and_of_none() {
    let grey = RgbImage::from_pixel(1, 1, Rgb([9; 3]));
    let draw = KerasDraw { theta: 30.0, tx: 0.4, zx: 3.0, ..KerasDraw::default() };
    for fill_mode in [FillMode::Nearest, FillMode::Reflect, FillMode::Wrap] {
        let generator = ImageDataGenerator { fill_mode, ..ImageDataGenerator::default() };
        assert_eq!(generator.apply(&grey, &draw).into_raw(), [9.0; 3]);
        assert_eq!(generator.apply(&RgbImage::new(0, 3), &draw).dimensions(), (0, 3));
        assert_eq!(generator.apply(&RgbImage::new(3, 0), &draw).dimensions(), (3, 0));
    }
}

#[test]
fn survives_extreme_zooms() {
    let image = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8, y as u8, 200]));
    for fill_mode in [FillMode::Nearest, FillMode::Constant, FillMode::Reflect, FillMode::Wrap] {
        let generator = ImageDataGenerator { fill_mode, ..ImageDataGenerator::default() };
        for zoom in [1e-30, 1e-6, 1e6, 1e30, f32::MAX] {
            let draw = KerasDraw { zx: zoom, zy: zoom, ..KerasDraw::default() };
            let applied = generator.apply(&image, &draw);
            assert!(applied.iter().all(|value| (0.0..=255.0).contains(value)), "{fill_mode} at {zoom}");
        }
    }
}
