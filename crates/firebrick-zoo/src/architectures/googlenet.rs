//! GoogLeNet, the first Inception. Szegedy et al. 2015, arXiv:1409.4842, table 1.
//!
//! Layer for layer torchvision's `googlenet`, whose checkpoint it reads: with BatchNorm, and with 3x3 filters where the paper has 5x5. The
//! auxiliary heads, which only training from scratch wants, are left out.

use firebrick_nn::Activation;

use crate::graph::{Conv, Graph, GraphBuilder, Value};
use crate::{BuildOptions, Framework, ModelSpec};

/// Name, and widths: 1x1; 3x3 reduced and full; 5x5 reduced and full; behind the pool.
type Mix = (&'static str, [usize; 6]);

/// Runs of modules between pools, with the kernel of the pool before each.
const RUNS: [(usize, &[Mix]); 3] = [
    (3, &[("inception3a", [64, 96, 128, 16, 32, 32]), ("inception3b", [128, 128, 192, 32, 96, 64])]),
    (
        3,
        &[
            ("inception4a", [192, 96, 208, 16, 48, 64]),
            ("inception4b", [160, 112, 224, 24, 64, 64]),
            ("inception4c", [128, 128, 256, 24, 64, 64]),
            ("inception4d", [112, 144, 288, 32, 64, 64]),
            ("inception4e", [256, 160, 320, 32, 128, 128]),
        ],
    ),
    (2, &[("inception5a", [256, 160, 320, 32, 128, 128]), ("inception5b", [384, 192, 384, 48, 128, 128])]),
];

fn conv(name: &str, inputs: usize, outputs: usize, kernel: usize) -> Conv {
    Conv::new(format!("{name}.conv"), inputs, outputs, kernel)
        .norm_with(format!("{name}.bn"), 1e-3, 0.1)
        .activation(Activation::Relu)
}

fn googlenet(options: &BuildOptions) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let mut x = b.conv(b.input(), conv("conv1", options.channels, 64, 7).stride(2));
    b.stage("stem", x);
    x = b.max_pool(x, 3, 2, 0, true);
    x = b.conv(x, conv("conv2", 64, 64, 1));
    x = b.conv(x, conv("conv3", 64, 192, 3));
    b.stage("stage1", x);
    let mut channels = 192;
    for (stage, (pool, run)) in RUNS.into_iter().enumerate() {
        x = b.max_pool(x, pool, 2, 0, true);
        for &(name, widths) in run {
            b.block();
            x = inception(&mut b, x, name, channels, widths);
            channels = widths[0] + widths[2] + widths[4] + widths[5];
        }
        b.stage(format!("stage{}", stage + 2), x);
    }
    b.pass_over("aux1.");
    b.pass_over("aux2.");
    let pooled = b.global_average_pool(x);
    b.finish(x, pooled, channels, "fc")
}

/// Four branches side by side (figure 2b of the paper).
fn inception(b: &mut GraphBuilder, x: Value, name: &str, inputs: usize, widths: [usize; 6]) -> Value {
    let [one, reduced, three, squeezed, five, pool] = widths;
    let part =
        |branch: &str, inputs, outputs, kernel| conv(&format!("{name}.{branch}"), inputs, outputs, kernel);
    let first = b.conv(x, part("branch1", inputs, one, 1));
    let second = b.conv(x, part("branch2.0", inputs, reduced, 1));
    let second = b.conv(second, part("branch2.1", reduced, three, 3));
    let third = b.conv(x, part("branch3.0", inputs, squeezed, 1));
    let third = b.conv(third, part("branch3.1", squeezed, five, 3));
    let fourth = b.max_pool(x, 3, 1, 1, true);
    let fourth = b.conv(fourth, part("branch4.1", inputs, pool, 1));
    b.concat(&[first, second, third, fourth])
}

pub(crate) static MODELS: &[ModelSpec] = &[ModelSpec {
    name: "googlenet",
    family: "GoogLeNet",
    framework: Framework::PyTorch,
    paper: "Szegedy et al. 2015, arXiv:1409.4842",
    build: googlenet,
    input_size: [224, 224],
    parameters: 6_624_904,
    multiply_adds: Some(1.498),
    // Trained on pixels of [-1, 1], which torchvision's model makes of its usual inputs itself.
    weights: &[torchvision!(
        "googlenet", "1378be20", 52_147_258, 69.778,
        mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]
    )],
    aliases: &[],
}];
