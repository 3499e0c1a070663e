//! Weights for classifiers of images: with the file's head, or without one where it will be replaced.

use std::collections::HashSet;

use super::{Checkpoint, Dtype, Entry, in_words_of_keras, keras_names, zoo};
use crate::{Classifier, ModelSpec, ZooError};

impl Checkpoint {
    /// Gives `model` these weights, all of them or none.
    ///
    /// Names are the published ones (torchvision's), those of one of the model's aliases, or Keras' in a Keras file; layouts are
    /// PyTorch's. Prefixes that training scripts add (`module.`, `model.`, `state_dict.`, `_orig_mod.`) are passed over if the names fit
    /// without them, and so are what is computed and not learned, such as BatchNorm's `num_batches_tracked`, and auxiliary heads that
    /// the network does without. Positions for images of another size and a first convolution on colour images are made to fit (see
    /// [`interpolate_positions`](crate::interpolate_positions) and [`adapt_input_channels`](crate::adapt_input_channels)).
    ///
    /// # Errors
    ///
    /// [`ZooError::Mismatch`] lists what is missing, extra and misshapen; [`ZooError::Unusable`] names a tensor whose numbers are not
    /// finite, are integers without a scale, or are variances below 0; [`ZooError::Unreadable`] if the
    /// file is shorter than its table says. The model is consumed, so that no half-loaded one is left.
    pub fn load_into(self, model: Classifier, name: &str) -> Result<Classifier, ZooError> {
        self.load_classifier(model, name, true)
    }

    /// As [`load_into`](Self::load_into), for a model whose head will be replaced: that of the file is passed over, of whatever classes and layers
    /// it is, and may be missing. All else must match. The model is given back with a head of zeros; see
    /// [`Classifier::reset_head`](crate::Classifier::reset_head).
    ///
    /// # Errors
    ///
    /// Those of [`load_into`](Self::load_into).
    pub fn load_backbone_into(self, model: Classifier, name: &str) -> Result<Classifier, ZooError> {
        self.load_classifier(model, name, false)
    }

    /// Gives `model` these weights, with the file's head or with one of zeros.
    fn load_classifier(self, model: Classifier, name: &str, with_head: bool) -> Result<Classifier, ZooError> {
        let spec = crate::models().find(|spec| spec.name == name);
        let of_keras = self.format.is_keras();
        if of_keras && spec.is_none_or(|spec| !spec.is_keras()) {
            let twin = spec.and_then(ModelSpec::keras_twin);
            let way_out =
                twin.map(|twin| format!("; {} is Keras' own network and gives its numbers", twin.name));
            tracing::warn!(
                "{}: Keras' padding of strided convolutions, epsilons and images are others than those of {name}: its results differ from \
                 Keras' until it is trained further{}",
                self.path.display(),
                way_out.unwrap_or_default()
            );
        }
        let mut checkpoint = match spec.and_then(keras_names::of) {
            Some(names) => self.with_names_of_keras(names)?,
            None => self,
        };
        let tensors = if with_head { model.tensors() } else { model.backbone.graph().tensors() };
        let published: Vec<String> = tensors.into_iter().map(|(name, _)| name).collect();
        checkpoint.strip_prefixes(&published);
        checkpoint.retain(|tensor| !model.backbone.graph().passes_over(tensor));
        for (factors, length) in model.backbone.graph().units() {
            let ones = || Entry::new(vec![length], Dtype::F32, move || Ok(vec![1.0; length]));
            checkpoint.tensors.entry(factors).or_insert_with(ones);
        }
        let alias = model.alias_of(name, |tensor| checkpoint.tensors.contains_key(tensor));
        let in_file =
            |published: String| alias.map_or_else(|| published.clone(), |alias| alias.of(&published));
        if !with_head {
            checkpoint.replace_head(&model, in_file);
        }
        let models = || {
            let mut models = zoo();
            if of_keras {
                models.extend(in_words_of_keras(&models));
            }
            models
        };
        let named = |model: &Classifier, path: &str| model.published_name(path).map(in_file);
        checkpoint.load_adapted(model, name, named, Classifier::adapt, models)
    }

    /// Puts zeros in the place of the head: of what is called as the model's, or is another layer beside it. `in_file` is what the file calls a
    /// tensor.
    fn replace_head(&mut self, model: &Classifier, in_file: impl Fn(String) -> String) {
        let backbone: HashSet<String> =
            model.backbone.graph().tensors().into_iter().map(|(name, _)| in_file(name)).collect();
        let tensors = model.tensors().into_iter();
        let head: Vec<_> = tensors.filter(|(name, _)| !backbone.contains(&in_file(name.clone()))).collect();
        // `classifier.1.weight` becomes `classifier.weight`, `classifier.3.bias`, ...
        let part = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let parts: HashSet<String> =
            head.iter().flat_map(|(name, _)| [part(name), part(&in_file(name.clone()))]).collect();
        // What a user of Keras puts on a network is called by its class.
        let is_dense =
            |part: &str| self.format.is_keras() && keras_names::counted_layer(part, "dense").is_some();
        let is_of_head = |name: &str| parts.contains(&part(name)) || is_dense(&part(name));
        self.tensors.retain(|name, _| backbone.contains(name) || !is_of_head(name));
        for (name, shape) in head {
            let count = shape.iter().product();
            self.tensors.insert(in_file(name), Entry::new(shape, Dtype::F32, move || Ok(vec![0.0; count])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Format, Table};
    use crate::{CreateOptions, create, models};

    /// Names and shapes of a file, whose values nobody asks for.
    fn file(tensors: impl IntoIterator<Item = (String, Vec<usize>)>) -> Checkpoint {
        let entry = |(name, shape)| (name, Entry::new(shape, Dtype::F32, || Err("not asked for".to_owned())));
        let tensors: Table = tensors.into_iter().map(entry).collect();
        Checkpoint { path: "file".into(), format: Format::Safetensors, tensors }
    }

    #[test]
    fn every_models_head_is_replaced_and_nothing_else() {
        #[allow(deprecated)]
        let device = burn::tensor::Device::ndarray();
        let model = |spec, classes, hidden: &[usize]| {
            create(
                spec,
                &CreateOptions { classes, hidden: hidden.to_vec(), ..CreateOptions::default() },
                &device,
            )
        };
        for spec in models() {
            let own = model(spec, 1000, &[]);
            let words = std::iter::once(None).chain(spec.aliases.iter().map(Some));
            for alias in words {
                let in_file = |name: String| alias.map_or_else(|| name.clone(), |alias| alias.of(&name));
                let named = |tensors: Vec<(String, Vec<usize>)>| -> Vec<(String, Vec<usize>)> {
                    tensors.into_iter().map(|(name, shape)| (in_file(name), shape)).collect()
                };
                let mut right = named(own.tensors());
                right.sort();
                let backbone = named(own.backbone.graph().tensors());
                let (ten, deep) = (model(spec, 10, &[]).tensors(), model(spec, 2, &[128]).tensors());
                for (kind, tensors) in
                    [("another", named(ten)), ("hidden layers", named(deep)), ("none", backbone)]
                {
                    let what = format!("{}, {:?}, {kind}", spec.name, alias.map(|alias| alias.framework));
                    let mut checkpoint =
                        file(tensors.into_iter().chain([("stray.weight".to_owned(), vec![1])]));
                    checkpoint.replace_head(&own, in_file);
                    assert!(checkpoint.tensors.remove("stray.weight").is_some(), "{what}");
                    let got: Vec<_> =
                        checkpoint.tensors.into_iter().map(|(name, entry)| (name, entry.shape)).collect();
                    assert!(got == right, "{what}");
                }
            }
        }
    }
}
