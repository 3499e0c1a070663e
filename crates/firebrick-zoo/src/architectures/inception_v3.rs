//! Inception v3: factorised convolutions. Szegedy et al. 2016, arXiv:1512.00567, table 1.
//!
//! Layer for layer torchvision's `inception_v3`, whose checkpoint it reads, or Keras' `InceptionV3`, whose layers have the same names here. The auxiliary head, which only training from scratch wants, is
//! left out.

use firebrick_autodiff::CountPadding;
use firebrick_nn::{Activation, Padding};

use super::NORM_OF_KERAS;
use crate::graph::{Conv, Graph, GraphBuilder, Value};
use crate::{Build, BuildOptions, Framework, KerasInput, ModelSpec};

/// What tells torchvision's network from Keras'.
struct Flavour {
    /// Epsilon and momentum of the norms.
    norm: (f64, f64),
    /// Whether the norms scale what they have normalised.
    scale: bool,
    /// What means are taken over at an edge.
    count: CountPadding,
}

const TORCHVISION: Flavour = Flavour { norm: (1e-3, 0.1), scale: true, count: CountPadding::Yes };
const KERAS: Flavour = Flavour { norm: NORM_OF_KERAS, scale: false, count: CountPadding::No };

impl Flavour {
    /// A convolution, its norm and a ReLU; half the kernel as padding.
    fn conv(&self, name: &str, inputs: usize, outputs: usize, kernel: [usize; 2]) -> Conv {
        let (epsilon, momentum) = self.norm;
        let conv = Conv::new(format!("{name}.conv"), inputs, outputs, 1)
            .kernel(kernel)
            .norm_with(format!("{name}.bn"), epsilon, momentum)
            .activation(Activation::Relu);
        if self.scale { conv } else { conv.unscaled() }
    }
}

/// A module of the network: what its branches read, and under which name.
struct Module<'a> {
    b: &'a mut GraphBuilder,
    flavour: &'a Flavour,
    name: &'a str,
    x: Value,
    channels: usize,
}

impl Module<'_> {
    /// Convolutions one after another: name, channels and kernel of each.
    fn branch(&mut self, layers: &[(&str, usize, [usize; 2])]) -> Value {
        self.branch_from(self.x, self.channels, layers)
    }

    fn branch_from(&mut self, from: Value, channels: usize, layers: &[(&str, usize, [usize; 2])]) -> Value {
        let start = (from, channels);
        layers
            .iter()
            .fold(start, |(x, inputs), &(part, outputs, kernel)| {
                let conv = self.flavour.conv(&format!("{}.{part}", self.name), inputs, outputs, kernel);
                (self.b.conv(x, conv), outputs)
            })
            .0
    }

    /// Convolutions whose last one halves the map.
    fn halving(&mut self, layers: &[(&str, usize, [usize; 2])]) -> Value {
        let (&(part, outputs, kernel), before) = layers.split_last().expect("a branch has convolutions");
        let inputs = before.last().map_or(self.channels, |&(_, channels, _)| channels);
        let x = self.branch(before);
        let last = self.flavour.conv(&format!("{}.{part}", self.name), inputs, outputs, kernel);
        self.b.conv(x, last.stride(2).padding(Padding::all(0)))
    }

    /// The mean over 3x3 pixels and a 1x1 convolution.
    fn pool(&mut self, outputs: usize) -> Value {
        let means = self.b.average_pool(self.x, 3, 1, 1, self.flavour.count);
        self.branch_from(means, self.channels, &[("branch_pool", outputs, [1, 1])])
    }

    /// Two convolutions of 3 pixels, across and down, side by side.
    fn fan(&mut self, from: Value, channels: usize, parts: [&str; 2]) -> Value {
        let across = self.branch_from(from, channels, &[(parts[0], 384, [1, 3])]);
        let down = self.branch_from(from, channels, &[(parts[1], 384, [3, 1])]);
        self.b.concat(&[across, down])
    }

    /// Figure 5 of the paper, with 5x5 left as it is in one branch.
    fn a(&mut self, pool: usize) -> Value {
        let one = self.branch(&[("branch1x1", 64, [1, 1])]);
        let five = self.branch(&[("branch5x5_1", 48, [1, 1]), ("branch5x5_2", 64, [5, 5])]);
        let double = self.branch(&[
            ("branch3x3dbl_1", 64, [1, 1]),
            ("branch3x3dbl_2", 96, [3, 3]),
            ("branch3x3dbl_3", 96, [3, 3]),
        ]);
        let pool = self.pool(pool);
        self.b.concat(&[one, five, double, pool])
    }

    /// Figure 10: from 35x35 to 17x17.
    fn b(&mut self) -> Value {
        let three = self.halving(&[("branch3x3", 384, [3, 3])]);
        let double = self.halving(&[
            ("branch3x3dbl_1", 64, [1, 1]),
            ("branch3x3dbl_2", 96, [3, 3]),
            ("branch3x3dbl_3", 96, [3, 3]),
        ]);
        let pool = self.b.max_pool(self.x, 3, 2, 0, false);
        self.b.concat(&[three, double, pool])
    }

    /// Figure 6: 7x7 as 1x7 and 7x1.
    fn c(&mut self, narrow: usize) -> Value {
        let (across, down) = ([1, 7], [7, 1]);
        let one = self.branch(&[("branch1x1", 192, [1, 1])]);
        let seven = self.branch(&[
            ("branch7x7_1", narrow, [1, 1]),
            ("branch7x7_2", narrow, across),
            ("branch7x7_3", 192, down),
        ]);
        let double = self.branch(&[
            ("branch7x7dbl_1", narrow, [1, 1]),
            ("branch7x7dbl_2", narrow, down),
            ("branch7x7dbl_3", narrow, across),
            ("branch7x7dbl_4", narrow, down),
            ("branch7x7dbl_5", 192, across),
        ]);
        let pool = self.pool(192);
        self.b.concat(&[one, seven, double, pool])
    }

    /// From 17x17 to 8x8.
    fn d(&mut self) -> Value {
        let three = self.halving(&[("branch3x3_1", 192, [1, 1]), ("branch3x3_2", 320, [3, 3])]);
        let seven = self.halving(&[
            ("branch7x7x3_1", 192, [1, 1]),
            ("branch7x7x3_2", 192, [1, 7]),
            ("branch7x7x3_3", 192, [7, 1]),
            ("branch7x7x3_4", 192, [3, 3]),
        ]);
        let pool = self.b.max_pool(self.x, 3, 2, 0, false);
        self.b.concat(&[three, seven, pool])
    }

    /// Figure 7: wide rather than deep.
    fn e(&mut self) -> Value {
        let one = self.branch(&[("branch1x1", 320, [1, 1])]);
        let three = self.branch(&[("branch3x3_1", 384, [1, 1])]);
        let three = self.fan(three, 384, ["branch3x3_2a", "branch3x3_2b"]);
        let double = self.branch(&[("branch3x3dbl_1", 448, [1, 1]), ("branch3x3dbl_2", 384, [3, 3])]);
        let double = self.fan(double, 384, ["branch3x3dbl_3a", "branch3x3dbl_3b"]);
        let pool = self.pool(192);
        self.b.concat(&[one, three, double, pool])
    }
}

fn inception_v3(options: &BuildOptions, flavour: &Flavour) -> Graph {
    let mut b = GraphBuilder::new(options.channels);
    let conv = |name: &str, inputs, outputs, kernel| flavour.conv(name, inputs, outputs, kernel);
    let none = Padding::all(0);
    let stem = conv("Conv2d_1a_3x3", options.channels, 32, [3, 3]);
    let mut x = b.conv(b.input(), stem.stride(2).padding(none));
    x = b.conv(x, conv("Conv2d_2a_3x3", 32, 32, [3, 3]).padding(none));
    x = b.conv(x, conv("Conv2d_2b_3x3", 32, 64, [3, 3]));
    b.stage("stem", x);
    x = b.max_pool(x, 3, 2, 0, false);
    x = b.conv(x, conv("Conv2d_3b_1x1", 64, 80, [1, 1]));
    x = b.conv(x, conv("Conv2d_4a_3x3", 80, 192, [3, 3]).padding(none));
    b.stage("stage1", x);
    x = b.max_pool(x, 3, 2, 0, false);
    let mut channels = 192;
    // A module: its name, what it is, and its output channels.
    let mut module = |b: &mut GraphBuilder, name: &str, outputs, build: fn(&mut Module) -> Value| {
        b.block();
        x = build(&mut Module { b, flavour, name, x, channels });
        channels = outputs;
        x
    };
    module(&mut b, "Mixed_5b", 256, |m| m.a(32));
    module(&mut b, "Mixed_5c", 288, |m| m.a(64));
    let end = module(&mut b, "Mixed_5d", 288, |m| m.a(64));
    b.stage("stage2", end);
    module(&mut b, "Mixed_6a", 768, |m| m.b());
    module(&mut b, "Mixed_6b", 768, |m| m.c(128));
    module(&mut b, "Mixed_6c", 768, |m| m.c(160));
    module(&mut b, "Mixed_6d", 768, |m| m.c(160));
    let end = module(&mut b, "Mixed_6e", 768, |m| m.c(192));
    b.stage("stage3", end);
    module(&mut b, "Mixed_7a", 1280, |m| m.d());
    module(&mut b, "Mixed_7b", 2048, |m| m.e());
    let map = module(&mut b, "Mixed_7c", 2048, |m| m.e());
    b.stage("stage4", map);
    b.pass_over("AuxLogits.");
    let pooled = b.global_average_pool(map);
    b.finish(map, pooled, 2048, "fc")
}

const fn spec(name: &'static str, build: Build, parameters: u64) -> ModelSpec {
    ModelSpec {
        name,
        family: "Inception v3",
        framework: Framework::PyTorch,
        paper: "Szegedy et al. 2016, arXiv:1512.00567",
        build,
        input_size: [299, 299],
        parameters,
        multiply_adds: Some(5.713),
        weights: &[],
        aliases: &[],
    }
}

pub(crate) static MODELS: &[ModelSpec] = &[
    ModelSpec {
        // Trained on pixels of [-1, 1], which torchvision's model makes of its usual inputs itself.
        weights: &[torchvision!(
            "inception_v3_google", "0cc3c7bd", 108_950_717, 77.294,
            crop: 299, resize: 342, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]
        )],
        // torchvision counts its auxiliary head too, 27,161,264.
        ..spec("inception_v3", |o| inception_v3(o, &TORCHVISION), 23_834_568)
    },
    ModelSpec {
        framework: Framework::Keras(KerasInput::MinusOneToOne),
        ..spec("keras_inception_v3", |o| inception_v3(o, &KERAS), 23_817_352)
    },
];
