//! A frozen backbone builds no tape, uses its running statistics, and stays as it was.
#![allow(clippy::print_stderr, reason = "a test says what it measured and what it skipped")]

mod backends;

use firebrick::burn::tensor::{Tensor, TensorData};
use firebrick::optim::OptimizerConfig;
use firebrick::train::{Batches, Extracted, FitOptions, InMemory, fit};
use firebrick::zoo::{CreateOptions, Layer, create, find};

#[test]
fn training_the_head_leaves_the_backbone_alone() {
    for (name, device) in backends::devices() {
        let options = CreateOptions { classes: 2, ..CreateOptions::default() };
        let model = create(find("mobilenet_v2_0.35").expect("in the zoo"), &options, &device);
        let frozen = model.backbone.compile([32, 32]).expect("compiled");
        let pixels: Vec<f32> = (0..4 * 3 * 32 * 32).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [4, 3, 32, 32]), &device);

        let Some(Layer::ConvNormAct(last)) = model.backbone.layer("features.18.0") else {
            panic!("the last convolution")
        };
        let statistics = || {
            let norm = &last.norm;
            [norm.running_mean.value().into_data(), norm.running_var.value().into_data()]
        };
        let (statistics_before, features_before) = (statistics(), frozen.pooled(images.clone()).into_data());

        let source = InMemory::new(images.clone(), vec![0, 1, 0, 1], 2).expect("four images");
        let mut batches = Extracted::new(source, |images| {
            assert!(!images.is_autodiff(), "{name}: the backbone was given a tape");
            let features = frozen.pooled(images);
            assert!(!features.is_autodiff(), "{name}: the backbone made a tape");
            features
        });
        let weights_before = model.head.output.weight.val().into_data();
        let outcome = fit(
            model.head,
            OptimizerConfig::adam_keras().init().expect("a preset"),
            &mut batches,
            None,
            &FitOptions { epochs: 2, learning_rate: 0.01, ..FitOptions::default() },
            &mut [],
        )
        .expect("trained");

        assert_ne!(
            outcome.network.output.weight.val().into_data(),
            weights_before,
            "{name}: nothing was trained"
        );
        assert_eq!(statistics(), statistics_before, "{name}");
        assert_eq!(frozen.pooled(images).into_data(), features_before, "{name}");
        // Running statistics: a row does not depend on the others of its batch.
        let first = batches.epoch(0).next().expect("a batch").expect("in memory").inputs;
        let row = |data: TensorData| data.try_to_vec::<f32>().expect("f32")[..1280].to_vec();
        let difference = row(first.into_data())
            .iter()
            .zip(row(features_before))
            .fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}
