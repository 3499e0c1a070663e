//! A block that is computed again in the backward pass.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::checkpoint;

/// Twenty layers and a norm: more parameters than an operation of burn's can have inputs.
#[derive(Module, Debug)]
struct Block {
    layers: Vec<Linear>,
    norm: BatchNorm,
}

const WIDTH: usize = 6;

/// Values between -1/2 and 1/2; burn's random ones depend on what other tests draw at the same time.
fn values<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i + 31 * seed) as f32 * 0.618_034).fract() - 0.5).collect();
    Tensor::<1>::from_floats(values.as_slice(), device).reshape(shape)
}

fn block(device: &Device) -> Block {
    let layer = |index| Linear {
        weight: Param::from_tensor(values([WIDTH, WIDTH], index, device)),
        bias: Some(Param::from_tensor(values([WIDTH], index + 1, device))),
    };
    Block { layers: (0..20).map(layer).collect(), norm: BatchNormConfig::new(WIDTH).init(device) }
}

impl Block {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.layers.iter().fold(x, |x, layer| gelu(layer.forward(x)) * 2.0);
        self.norm.forward(x)
    }
}

/// The result, the gradient of the input, those of all parameters, and the norm's running mean.
fn run(block: &Block, x: &Tensor<2>, again: bool) -> Vec<Vec<f32>> {
    let x = x.clone().detach().require_grad();
    let y = match again {
        true => checkpoint(block, x.clone(), |block: &Block, x| block.forward(x)),
        false => block.forward(x.clone()),
    };
    // The block twice, so that gradients of two uses are added.
    let y = match again {
        true => checkpoint(block, y, |block: &Block, x| block.forward(x)),
        false => block.forward(y),
    };
    let gradients = (y.clone().powi_scalar(3) + y.clone()).sum().backward();
    let mut values =
        vec![y.inner().into_data(), x.grad(&gradients).expect("the input is tracked").into_data()];
    for layer in &block.layers {
        values.extend(layer.weight.grad(&gradients).map(Tensor::into_data));
        values.extend(layer.bias.as_ref().unwrap().grad(&gradients).map(Tensor::into_data));
    }
    values.extend(block.norm.gamma.grad(&gradients).map(Tensor::into_data));
    values.push(block.norm.running_mean.value_sync().inner().into_data());
    values.into_iter().map(|data| data.try_into_vec().unwrap()).collect()
}

#[test]
fn gives_the_same_gradients_as_without() {
    for device in crate::devices() {
        for frozen in [false, true] {
            let device = device.clone().autodiff();
            let x = values([5, WIDTH], 99, &device);
            let make = || {
                let mut block = block(&device);
                if frozen {
                    block.layers[3] = block.layers[3].clone().no_grad();
                }
                block
            };
            let (kept, again) = (run(&make(), &x, false), run(&make(), &x, true));
            assert_eq!(kept.len(), if frozen { 42 } else { 44 });
            assert_eq!(kept, again);
        }
    }
}

#[test]
fn works_with_burns_own_checkpointing() {
    let device = Device::ndarray().autodiff().gradient_checkpointing();
    let x = values([5, WIDTH], 99, &device);
    assert_eq!(run(&block(&device), &x, false), run(&block(&device), &x, true));
}

#[test]
fn is_the_block_alone_without_a_tape() {
    let device = Device::ndarray();
    let block = block(&device);
    let x = Tensor::<2>::ones([2, WIDTH], &device);
    let y = checkpoint(&block, x.clone(), |block: &Block, x| block.forward(x));
    assert_eq!(y.into_data(), block.forward(x).into_data());
}
