//! From a JPEG of 500x320 to an augmented, normalised input of 224x224, step by step and whole.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use firebrick::augment::{DrawKey, ImageDataGenerator, Interpolation, Normalization, resize};
use firebrick::data::{DecodeLimits, decode_bytes};
use firebrick_benches::{jpeg, picture};

fn pipeline(c: &mut Criterion) {
    let file = jpeg(500, 320).expect("a picture is encoded");
    let name = Path::new("picture.jpg");
    let limits = DecodeLimits::default();
    let photo = picture(500, 320);
    let small = picture(224, 224);
    let generator = ImageDataGenerator::keras_article();
    let normalization = Normalization::imagenet();
    let key = |epoch| DrawKey { seed: 0, epoch, sample: 0 };

    let mut group = c.benchmark_group("input_pipeline");
    group.bench_function("decode_jpeg_500x320", |b| {
        b.iter(|| decode_bytes(black_box(&file), name, &limits).expect("decoded"));
    });
    group.bench_function("resize_500x320_to_224", |b| {
        b.iter(|| resize(black_box(&photo), 224, 224, Interpolation::Bilinear));
    });
    let mut epoch = 0;
    group.bench_function("keras_augmentation_224", |b| {
        b.iter(|| {
            epoch += 1;
            generator.apply(black_box(&small), &generator.draw(key(epoch), 224, 224))
        });
    });
    group.bench_function("whole", |b| {
        b.iter(|| {
            epoch += 1;
            let image = decode_bytes(black_box(&file), name, &limits).expect("decoded");
            let image = resize(&image, 224, 224, Interpolation::Bilinear);
            let mut input = generator.apply(&image, &generator.draw(key(epoch), 224, 224));
            normalization.apply(&mut input);
            input
        });
    });
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
