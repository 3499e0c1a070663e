//! How a checkpoint's tensors differ from a model's.

use std::collections::BTreeSet;
use std::fmt;

use super::likeness::Likeness;
use crate::spec::nearest;

/// How a checkpoint's tensors differ from a model's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mismatch {
    /// Tensors that the model has and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors that the checkpoint has and the model lacks.
    pub extra: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
    /// The architecture that the checkpoint is of, by its names and shapes, if it is not the model's.
    pub looks_like: Option<Likeness>,
}

/// A tensor whose shape is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Name in the checkpoint.
    pub name: String,
    /// The model's shape.
    pub expected: Vec<usize>,
    /// The checkpoint's shape.
    pub found: Vec<usize>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }
}

/// How many names of a kind a message lists.
const LISTED: usize = 5;
/// How many letters of a name a message shows, and up to how many it looks for a like one.
const LONGEST: usize = 200;

/// A name from a file, which may be of any length.
fn short(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = |f: &mut fmt::Formatter<'_>, count: usize| match count.saturating_sub(LISTED) {
            0 => Ok(()),
            rest => writeln!(f, "    and {rest} more"),
        };
        let extra: BTreeSet<&str> =
            self.extra.iter().map(String::as_str).filter(|name| name.len() <= LONGEST).collect();
        if !self.missing.is_empty() {
            writeln!(f, "  {} missing:", self.missing.len())?;
            for name in self.missing.iter().take(LISTED) {
                match nearest(name, extra.iter().copied()).first() {
                    Some(near) => writeln!(f, "    {name} (the file has {near})")?,
                    None => writeln!(f, "    {name}")?,
                }
            }
            more(f, self.missing.len())?;
        }
        if !self.extra.is_empty() {
            writeln!(f, "  {} that the model does not have:", self.extra.len())?;
            for name in self.extra.iter().take(LISTED) {
                writeln!(f, "    {}", short(name))?;
            }
            more(f, self.extra.len())?;
        }
        if !self.misshapen.is_empty() {
            writeln!(f, "  {} of another shape:", self.misshapen.len())?;
            for tensor in self.misshapen.iter().take(LISTED) {
                writeln!(
                    f,
                    "    {}: {:?} in the file, {:?} in the model",
                    short(&tensor.name),
                    tensor.found,
                    tensor.expected
                )?;
            }
            more(f, self.misshapen.len())?;
        }
        if let Some(likeness) = &self.looks_like {
            writeln!(f, "  It looks like {likeness}.")?;
        }
        write!(
            f,
            "  Give the checkpoint of this architecture and width, with as many classes as it was trained for; `firebrick train` passes over the head of a model of images"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lists_what_differs_with_near_names_and_the_likeness() {
        let mismatch = Mismatch {
            missing: vec!["features.0.0.weight".to_owned()],
            extra: vec!["features.0.weight".to_owned(), "x".repeat(100_000)],
            misshapen: vec![Misshapen {
                name: "fc.weight".to_owned(),
                expected: vec![2, 3],
                found: vec![3, 2],
            }],
            looks_like: Some(Likeness { model: "resnet50".to_owned(), share: 0.987 }),
        };
        let message = mismatch.to_string();
        assert!(message.contains("features.0.0.weight (the file has features.0.weight)"), "{message}");
        assert!(message.contains("fc.weight: [3, 2] in the file, [2, 3] in the model"), "{message}");
        assert!(message.contains("It looks like resnet50 (98 % of its tensors)"), "{message}");
        assert!(message.len() < 2000, "{}", message.len());
    }
}
