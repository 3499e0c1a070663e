//! Prefixes that training scripts put before the names of tensors.
//!
//! `DataParallel` adds `module.`, Lightning the attribute that holds the network (`model.`, `net.`), a checkpoint of a whole
//! training run nests the weights under `state_dict`, `torch.compile` adds `_orig_mod.`; often several at once.

use std::collections::{HashMap, HashSet};

/// Prefixes of the weights themselves, before those of copies such as an average (`ema`, `teacher`).
const USUAL: &[&str] = &["", "state_dict.", "model_state_dict.", "model_state.", "model.", "net.", "module."];

/// The name without `_orig_mod`, wherever `torch.compile` put it: no module of a user is called so.
pub(super) fn without_orig_mod(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').filter(|part| *part != "_orig_mod").collect();
    let stripped = parts.join(".");
    (stripped.len() != name.len()).then_some(stripped)
}

/// The prefix under which most of the `expected` names are found among `names`: none where that is as good as any, with its
/// dot otherwise.
pub(super) fn best<'a>(
    names: impl IntoIterator<Item = &'a str>,
    expected: impl IntoIterator<Item = &'a str>,
) -> String {
    let expected: HashSet<&str> = expected.into_iter().collect();
    let mut found: HashMap<&str, usize> = HashMap::new();
    for name in names {
        // Every way to cut the name after a dot, and no cut at all.
        let cuts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        for cut in cuts.take(MAX_CUTS) {
            if expected.contains(&name[cut..]) {
                *found.entry(&name[..cut]).or_default() += 1;
            }
        }
    }
    let rank = |prefix: &str| {
        let place =
            USUAL.iter().position(|usual| prefix.starts_with(usual) && !usual.is_empty() || prefix == *usual);
        place.unwrap_or(USUAL.len())
    };
    found
        .into_iter()
        .min_by(|(a, hits_a), (b, hits_b)| {
            hits_b.cmp(hits_a).then(rank(a).cmp(&rank(b))).then(a.len().cmp(&b.len())).then(a.cmp(b))
        })
        .map(|(prefix, _)| prefix.to_owned())
        .unwrap_or_default()
}

/// No honest prefix has more parts.
const MAX_CUTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [&str; 3] = ["features.0.weight", "features.0.bias", "classifier.weight"];

    fn best_of(prefixes: &[&str]) -> String {
        let names: Vec<String> = prefixes
            .iter()
            .flat_map(|prefix| EXPECTED.iter().map(move |name| format!("{prefix}{name}")))
            .collect();
        best(names.iter().map(String::as_str), EXPECTED)
    }

    #[test]
    fn the_prefixes_of_training_scripts_are_found() {
        for prefix in
            ["", "module.", "model.", "net.", "state_dict.", "state_dict.model.module.", "encoder_q."]
        {
            assert_eq!(best_of(&[prefix]), prefix);
        }
    }

    #[test]
    fn the_weights_are_taken_before_copies_of_them() {
        assert_eq!(best_of(&["ema.", "state_dict."]), "state_dict.");
        assert_eq!(best_of(&["a_teacher.", "model."]), "model.");
        assert_eq!(best_of(&["model.", ""]), "");
    }

    #[test]
    fn a_prefix_that_fits_fewer_names_is_not_taken() {
        let names = ["features.0.weight", "features.0.bias", "other.classifier.weight"];
        assert_eq!(best(names, EXPECTED), "");
        assert_eq!(best(["nothing.like.it"], EXPECTED), "");
    }

    #[test]
    fn what_compiling_adds_is_removed_wherever_it_is() {
        assert_eq!(without_orig_mod("_orig_mod.a.b").as_deref(), Some("a.b"));
        assert_eq!(without_orig_mod("model._orig_mod.a").as_deref(), Some("model.a"));
        assert_eq!(without_orig_mod("a.b"), None);
    }
}
