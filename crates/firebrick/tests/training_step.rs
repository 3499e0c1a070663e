//! One training step of the published MobileNetV2: PyTorch's features, gradients and running statistics, on every backend.
#![allow(clippy::print_stderr, reason = "a test says what it measured and what it skipped")]

mod backends;

use std::collections::BTreeMap;
use std::path::Path;

use firebrick::burn::tensor::{Gradients, Tensor, TensorData};
use firebrick::nn::ConvNormAct;
use firebrick::zoo::graph::{Conv, Op};
use firebrick::zoo::{Checkpoint, CreateOptions, Layer, create, find};

/// The generator's direction: products with it change with any element.
fn direction(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(|i| ((i * 37) % 101) as f64 / 50.0 - 1.0)
}

/// Norm, and product with the direction.
fn figures<const D: usize>(tensor: Tensor<D>) -> [f64; 2] {
    let values: Vec<f64> = tensor.into_data().convert::<f64>().try_to_vec().expect("just converted");
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    [norm, values.iter().zip(direction(values.len())).map(|(value, d)| value * d).sum()]
}

/// Rounding moves values over the activations' kinks, and eighteen blocks with batch norm over few pixels amplify it: PyTorch's own f32
/// gradients are up to 8.4e-3 from its f64 ones here, 1.3e-3 in the mean. A wrong gradient is wrong by its own size.
const LARGEST: f64 = 2e-2;
const MEAN: f64 = 2.5e-3;

type Figures = BTreeMap<String, [f64; 2]>;

/// Both parameters' gradients and both running statistics of one block under torchvision's names.
fn record(found: &mut Figures, conv: &str, norm: &str, block: &ConvNormAct, gradients: &Gradients) {
    let weight = block.conv.weight.val().grad(gradients).expect("a gradient of the weight");
    let gamma = block.norm.gamma.val().grad(gradients).expect("a gradient of gamma");
    let beta = block.norm.beta.val().grad(gradients).expect("a gradient of beta");
    found.insert(format!("{conv}.weight"), figures(weight));
    found.insert(format!("{norm}.weight"), figures(gamma));
    found.insert(format!("{norm}.bias"), figures(beta));
    found.insert(format!("{norm}.running_mean"), figures(block.norm.running_mean.value_sync()));
    found.insert(format!("{norm}.running_var"), figures(block.norm.running_var.value_sync()));
}

fn golden() -> Figures {
    let lines =
        include_str!("goldens/mobilenet_v2_training.csv").lines().filter(|line| !line.starts_with('#'));
    let entries = lines.map(|line| {
        let mut parts = line.split(',');
        let name = parts.next().expect("a name").to_owned();
        (name, [(); 2].map(|()| parts.next().and_then(|number| number.parse().ok()).expect("two numbers")))
    });
    entries.collect()
}

#[test]
fn gradients_of_every_parameter_are_pytorchs() {
    let expected = golden();
    let spec = find("mobilenet_v2").expect("in the zoo");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mobilenet_v2-b0353104.pth");
    let mut pixels = Vec::new();
    for n in 0..4 {
        for (y, x) in (0..64).flat_map(|y| (0..64).map(move |x| (y, x))) {
            for c in 0..3 {
                pixels.push(((5 * x + 3 * y + 67 * c + 29 * n + x * y % 13) % 256) as f32 / 128.0 - 1.0);
            }
        }
    }
    for (name, device) in backends::devices() {
        let device = device.autodiff();
        let model = create(spec, &CreateOptions::default(), &device);
        let model = Checkpoint::read(&file).expect("readable").load_into(model, spec.name).expect("it fits");
        let images = TensorData::new(pixels.clone(), [4, 64, 64, 3]);
        let images = Tensor::<4>::from_data(images, &device).permute([0, 3, 1, 2]);
        let features = model.pooled(images);
        let along: Vec<f32> = direction(4 * 1280).map(|value| value as f32).collect();
        let along = Tensor::<2>::from_data(TensorData::new(along, [4, 1280]), &device);
        let gradients = (features.clone() * along).sum().backward();

        let mut found = Figures::from([("features".to_owned(), figures(features))]);
        for node in model.backbone.graph().nodes() {
            if let Op::Conv(Conv { name, norm: Some(norm), .. }) = &node.op {
                let Some(Layer::ConvNormAct(conv)) = model.backbone.layer(name) else { panic!("{name}") };
                record(&mut found, name, &norm.name, conv, &gradients);
            }
        }

        assert!(found.keys().eq(expected.keys()), "{name}: the names are torchvision's");
        let (mut worst, mut sum) = ((0.0, ""), 0.0);
        for (key, [norm, product]) in &expected {
            let [found_norm, found_product] = found[key];
            // A shift before a layer with batch norm has no effect, so its gradient is nothing but rounding.
            let error = (found_norm - norm).abs().max((found_product - product).abs()) / norm.max(1.0);
            sum += error;
            if error > worst.0 {
                worst = (error, key);
            }
        }
        let mean = sum / expected.len() as f64;
        eprintln!(
            "{name}: largest error {:.1e} of a tensor's norm, of {}; mean {mean:.1e}",
            worst.0, worst.1
        );
        assert!(worst.0 < LARGEST && mean < MEAN, "{name}: regenerate with cargo xtask golden training");
    }
}
