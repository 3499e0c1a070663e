//! L-BFGS.

use std::str::FromStr;

use burn::optim::{LBFGS, LBFGSConfig, LineSearchFn};
use serde::{Deserialize, Serialize};

use crate::{OptimError, setting};

/// L-BFGS (Liu & Nocedal 1989) for the loss over the whole set, which it asks for several times a step: burn's, in PyTorch's form. As
/// text `steps=10,strong_wolfe=true`.
///
/// Every parameter of the module must be trained: burn's rule takes frozen ones and running statistics for part of its vector. So it
/// is for networks of dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LbfgsConfig {
    /// Iterations of a step, at least 1; 20 by default (PyTorch). Evaluations are 5/4 of it at most.
    pub steps: usize,
    /// Pairs of changes that are kept, at least 1; 100 by default (PyTorch).
    pub history: usize,
    /// It ends where no gradient is greater, at least 0; 1e-7 by default (PyTorch).
    pub tolerance_gradient: f64,
    /// It ends where loss or weights change less, at least 0; 1e-9 by default (PyTorch).
    pub tolerance_change: f64,
    /// A line search for the strong Wolfe conditions instead of the rate alone; false by default (PyTorch).
    pub strong_wolfe: bool,
}

impl Default for LbfgsConfig {
    fn default() -> Self {
        Self {
            steps: 20,
            history: 100,
            tolerance_gradient: 1e-7,
            tolerance_change: 1e-9,
            strong_wolfe: false,
        }
    }
}

impl LbfgsConfig {
    /// The optimizer, with no state yet; its `step` takes a closure from a module to its loss and gradients.
    ///
    /// # Errors
    ///
    /// [`OptimError::OutOfRange`] names the first setting that is outside its range.
    pub fn init(&self) -> Result<LBFGS, OptimError> {
        for (field, value) in [("lbfgs steps", self.steps), ("lbfgs history", self.history)] {
            if value == 0 {
                return Err(OptimError::OutOfRange { field, value: 0.0, range: "at least 1" });
            }
        }
        for (field, value) in [
            ("lbfgs tolerance_gradient", self.tolerance_gradient),
            ("lbfgs tolerance_change", self.tolerance_change),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(OptimError::OutOfRange { field, value, range: "a number of at least 0" });
            }
        }
        let search = if self.strong_wolfe { LineSearchFn::StrongWolfe } else { LineSearchFn::None };
        Ok(LBFGSConfig::new()
            .with_max_iter(self.steps)
            .with_history_size(self.history)
            .with_tolerance_grad(self.tolerance_gradient)
            .with_tolerance_change(self.tolerance_change)
            .with_max_eval(Some(self.steps * 5 / 4))
            .with_line_search_fn(search)
            .init())
    }
}

impl FromStr for LbfgsConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let config: Self = setting::parse_settings("lbfgs", text)?;
        config.init()?;
        Ok(config)
    }
}
