//! Which architecture a checkpoint is of, by the names and shapes of its tensors.

use std::collections::HashMap;
use std::fmt;

use super::prefix;

/// A model that a checkpoint is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Name of the model.
    pub model: String,
    /// Share of the tensors of both, counted once, that have the same name and shape in both; from 0.5 to 1.
    pub share: f64,
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded down, so that only all of them are 100 %.
        write!(f, "{} ({} % of its tensors)", self.model, (self.share * 100.0).floor())
    }
}

/// The model that shares most tensors with a checkpoint, by name and shape, if it is at least half of both. Prefixes that
/// training scripts add do not count, and a head of other classes costs only its own tensors.
///
/// `tensors` are the checkpoint's names and shapes without those that count steps; `models` are names of models with
/// theirs. Of two that are equally like, the first is returned.
pub fn likeness<'a>(
    tensors: &[(String, Vec<usize>)],
    models: impl IntoIterator<Item = (&'a str, &'a [(String, Vec<usize>)])>,
) -> Option<Likeness> {
    let shapes: HashMap<&str, &[usize]> =
        tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let mut best: Option<Likeness> = None;
    for (model, theirs) in models {
        let names = || theirs.iter().map(|(name, _)| name.as_str());
        let prefix = prefix::best(shapes.keys().copied(), names());
        let common = theirs
            .iter()
            .filter(|(name, shape)| shapes.get(format!("{prefix}{name}").as_str()) == Some(&shape.as_slice()))
            .count();
        let all = tensors.len() + theirs.len() - common;
        let share = common as f64 / all.max(1) as f64;
        if share >= 0.5 && best.as_ref().is_none_or(|best| share > best.share) {
            best = Some(Likeness { model: model.to_owned(), share });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(list: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        list.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    #[test]
    fn the_model_with_most_equal_tensors_is_found_whatever_its_head_and_prefix() {
        let small = tensors(&[
            ("a.weight", &[4, 3]),
            ("b.weight", &[4]),
            ("c.weight", &[4, 4]),
            ("fc.weight", &[1000, 4]),
        ]);
        let large = tensors(&[
            ("a.weight", &[8, 3]),
            ("b.weight", &[8]),
            ("c.weight", &[8, 8]),
            ("fc.weight", &[1000, 8]),
        ]);
        let models = || [("small", small.as_slice()), ("large", large.as_slice())];
        let file = tensors(&[
            ("module.a.weight", &[8, 3]),
            ("module.b.weight", &[8]),
            ("module.c.weight", &[8, 8]),
            ("module.fc.weight", &[7, 8]),
        ]);
        let found = likeness(&file, models()).expect("like one of them");
        assert_eq!(found.model, "large");
        assert!((found.share - 0.6).abs() < 1e-9, "{found:?}");
        assert_eq!(likeness(&small, models()), Some(Likeness { model: "small".to_owned(), share: 1.0 }));
    }

    #[test]
    fn what_is_like_nothing_is_said_to_be_like_nothing() {
        let model = tensors(&[("a.weight", &[4, 3]), ("b.weight", &[4])]);
        let models = || [("model", model.as_slice())];
        assert_eq!(likeness(&tensors(&[("x", &[1]), ("y", &[2])]), models()), None);
        assert_eq!(likeness(&[], models()), None);
        assert_eq!(likeness(&model, []), None);
    }
}
