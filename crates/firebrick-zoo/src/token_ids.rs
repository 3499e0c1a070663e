//! Token ids from outside, checked before a table is asked for them.

use burn::tensor::{Int, Tensor};

use crate::ZooError;

/// What a model can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenLimits {
    /// How messages call the model.
    pub model: &'static str,
    /// Ids are below this.
    pub vocabulary: usize,
    /// The most tokens of a sequence.
    pub context: usize,
}

impl TokenLimits {
    /// Checks ids `[batch, tokens]`, which are read back from their device; `before` tokens came before them.
    pub(crate) fn check(self, ids: &Tensor<2, Int>, before: usize) -> Result<(), ZooError> {
        let [batch, tokens] = ids.dims();
        self.length(batch * tokens, before + tokens)?;
        self.ids(ids.clone().into_data().iter::<i64>(), tokens)
    }

    /// Checks one sequence.
    pub(crate) fn check_prompt(self, prompt: &[u32]) -> Result<(), ZooError> {
        self.length(prompt.len(), prompt.len())?;
        self.ids(prompt.iter().map(|&id| i64::from(id)), prompt.len())
    }

    fn length(self, given: usize, tokens: usize) -> Result<(), ZooError> {
        let Self { model, context, .. } = self;
        match given {
            0 => Err(ZooError::NoTokens { model }),
            _ if tokens > context => Err(ZooError::TooManyTokens { model, tokens, context }),
            _ => Ok(()),
        }
    }

    fn ids(self, ids: impl Iterator<Item = i64>, tokens: usize) -> Result<(), ZooError> {
        let Self { model, vocabulary, .. } = self;
        let known = |id: i64| usize::try_from(id).is_ok_and(|id| id < vocabulary);
        match ids.enumerate().find(|&(_, id)| !known(id)) {
            Some((index, id)) => {
                let (sequence, token) = (index / tokens, index % tokens);
                Err(ZooError::UnknownToken { model, sequence, token, id, vocabulary })
            }
            None => Ok(()),
        }
    }
}
