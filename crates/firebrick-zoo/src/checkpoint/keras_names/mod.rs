//! Names of keras.applications' models in torchvision's words.

/// The map of a family of the zoo; none where Keras has no such models, or their names have no map yet.
pub(crate) fn of(family: &str) -> Option<fn(&str) -> Option<String>> {
    match family {
        "MobileNetV2" => Some(mobilenet_v2),
        _ => None,
    }
}

/// torchvision's name of a tensor of `keras.applications.MobileNetV2`, e.g. `block_3_project_BN.running_var` is
/// `features.4.conv.3.running_var`; `None` for a name that the model does not have.
///
/// Keras' norms have an epsilon of 1e-3, torchvision's of 1e-5, and Keras pads strided convolutions at the far side only.
pub fn mobilenet_v2(name: &str) -> Option<String> {
    let (layer, leaf) = name.split_once('.')?;
    let place = match layer {
        "Conv1" => "features.0.0".to_owned(),
        "bn_Conv1" => "features.0.1".to_owned(),
        "Conv_1" => "features.18.0".to_owned(),
        "Conv_1_bn" => "features.18.1".to_owned(),
        "predictions" => "classifier.1".to_owned(),
        _ => {
            let (block, part) = match layer.strip_prefix("expanded_conv_") {
                Some(part) => (0, part),
                None => {
                    let (block, part) = layer.strip_prefix("block_")?.split_once('_')?;
                    (block.parse::<usize>().ok().filter(|block| (1..=16).contains(block))?, part)
                }
            };
            // The first block does not expand, so that its parts come one earlier.
            let first = usize::from(block > 0);
            let place = match part {
                "expand" if block > 0 => "0.0".to_owned(),
                "expand_BN" if block > 0 => "0.1".to_owned(),
                "depthwise" => format!("{first}.0"),
                "depthwise_BN" => format!("{first}.1"),
                "project" => format!("{}", first + 1),
                "project_BN" => format!("{}", first + 2),
                _ => return None,
            };
            format!("features.{}.conv.{place}", block + 1)
        }
    };
    Some(format!("{place}.{leaf}"))
}
