//! MobileNetV2 1.0, f32, 224x224, on the ndarray backend: the frozen backbone, and a step of its head.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use firebrick::burn::tensor::{Tensor, TensorData};
use firebrick::nn::HeadConfig;
use firebrick::optim::OptimizerConfig;
use firebrick::train::{DeviceChoice, FitOptions, InMemory, fit};
use firebrick::zoo::{find, load_pretrained};

fn mobilenet_v2(c: &mut Criterion) {
    let device = DeviceChoice::NdArray.open().expect("built in");
    let spec = find("mobilenet_v2").expect("in the zoo");
    let model = load_pretrained(spec, &device, &mut |_, _| ()).expect("compiled in");
    let frozen = model.backbone.compile(spec.input_size).expect("compiled");

    let mut group = c.benchmark_group("mobilenet_v2");
    group.sample_size(10);
    for batch in [1, 32] {
        let pixels = TensorData::new(vec![0.5f32; batch * 224 * 224 * 3], [batch, 224, 224, 3]);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("frozen_forward/batch_{batch}"), |b| {
            b.iter_batched(
                // As the loader gives them: channels last in memory, and nobody else's.
                || Tensor::<4>::from_data(pixels.clone(), &device).permute([0, 3, 1, 2]),
                |images| frozen.pooled(black_box(images)).into_data(),
                BatchSize::PerIteration,
            );
        });
    }
    let features = Tensor::<2>::ones([32, 1280], &device);
    let mut batches = InMemory::new(features, vec![0; 32], 32).expect("32 rows");
    group.throughput(Throughput::Elements(32));
    group.bench_function("head_training_step/batch_32", |b| {
        b.iter(|| {
            let head = HeadConfig::new(1280, 10).with_hidden([128]).init(0, &device);
            let optimizer = OptimizerConfig::adam_keras().init().expect("a preset");
            fit(head, optimizer, &mut batches, None, &FitOptions::default(), &mut []).expect("trained")
        });
    });
    group.finish();
}

criterion_group!(benches, mobilenet_v2);
criterion_main!(benches);
