//! Pairs and triplets of a batch, for losses that compare inputs: which belong together is told by the labels.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Rows of a batch by their places, list by list of equal lengths.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows<const N: usize>([Vec<i32>; N]);

impl<const N: usize> Rows<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Vec::new()))
    }

    fn push(&mut self, places: [usize; N]) {
        self.0.iter_mut().zip(places).for_each(|(list, place)| list.push(place as i32));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0[0].len()
    }

    /// The rows of `embeddings` `[batch, width]` of each list.
    pub(crate) fn of(&self, embeddings: &Tensor<2>, device: &Device) -> [Tensor<2>; N] {
        std::array::from_fn(|list| {
            let places = TensorData::new(self.0[list].clone(), [self.len()]);
            embeddings.clone().select(0, Tensor::<1, Int>::from_data(places, device))
        })
    }
}

/// Each input with the next one of its class and the next one of another class, around the end of the batch; without those that lack
/// either.
pub(crate) fn triplets(labels: &[usize]) -> Rows<3> {
    let mut rows = Rows::new();
    for (anchor, class) in labels.iter().enumerate() {
        let next = |same: bool| {
            let mut others = (anchor + 1..labels.len()).chain(0..anchor);
            others.find(|&place| (labels[place] == *class) == same)
        };
        if let (Some(positive), Some(negative)) = (next(true), next(false)) {
            rows.push([anchor, positive, negative]);
        }
    }
    rows
}

/// Rounds of pairs: in the first one the first two inputs of each class, in the second one the next two, and so on, so that
/// what is no pair is of two classes (Sohn 2016). A round of a single pair has nothing to compare and is left out.
pub(crate) fn pairs(labels: &[usize]) -> Vec<Rows<2>> {
    let mut waiting = std::collections::BTreeMap::<usize, (usize, Option<usize>)>::new();
    let mut rounds: Vec<Rows<2>> = Vec::new();
    for (place, &class) in labels.iter().enumerate() {
        let (round, first) = waiting.entry(class).or_default();
        match first.take() {
            None => *first = Some(place),
            Some(first) => {
                if *round == rounds.len() {
                    rounds.push(Rows::new());
                }
                rounds[*round].push([first, place]);
                *round += 1;
            }
        }
    }
    rounds.retain(|round| round.len() > 1);
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triplet_is_two_of_a_class_and_one_of_another() {
        assert_eq!(triplets(&[0, 1, 0, 2]), Rows([vec![0, 2], vec![2, 0], vec![1, 3]]));
        assert_eq!(triplets(&[1, 1, 1]).len(), 0, "no other class");
        assert_eq!(triplets(&[0, 1, 2]).len(), 0, "no two of a class");
        assert_eq!(triplets(&[]).len(), 0);
    }

    #[test]
    fn a_class_has_one_pair_a_round() {
        let labels = [0, 1, 0, 0, 1, 2, 0, 1, 1];
        assert_eq!(pairs(&labels), [Rows([vec![0, 1], vec![2, 4]]), Rows([vec![3, 7], vec![6, 8]])]);
        assert_eq!(pairs(&[0, 0, 0, 0, 1]), [], "a pair alone tells nothing");
        assert_eq!(pairs(&[]), []);
    }
}
