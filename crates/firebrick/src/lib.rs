//! Deep learning on Burn: pretrained backbones, exact augmentation, a training loop you can trust.
