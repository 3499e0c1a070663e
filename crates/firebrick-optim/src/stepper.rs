//! From gradients to new weights, with everything that may come between.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};

use crate::average::Average;
use crate::lookahead::Lookahead;
use crate::{Accumulator, AverageConfig, Clip, LookaheadConfig, OptimError, Rate, RegularizeConfig};

/// What happens to gradients before the optimizer's rule and to weights after it. By default nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct StepConfig {
    /// Batches whose mean gradient is one step; 1 by default. What is left of an epoch is a step, so a number as large as an
    /// epoch's batches is gradient descent over the whole set.
    pub accumulate: usize,
    /// Gradient clipping; none by default.
    pub clip: Option<Clip>,
    /// Penalties, constraints and noise; none by default.
    pub regularize: RegularizeConfig,
    /// Slow weights; none by default.
    pub lookahead: Option<LookaheadConfig>,
    /// Radius ρ of sharpness-aware minimisation, see [`sam_ascent`](crate::sam_ascent); 0, i.e. none, by default. It takes two passes a batch.
    pub sam: f64,
    /// Averaged weights; none by default.
    pub average: Option<AverageConfig>,
    /// What the gradient noise depends on.
    pub seed: u64,
}

impl Default for StepConfig {
    fn default() -> Self {
        Self {
            accumulate: 1,
            clip: None,
            regularize: RegularizeConfig::default(),
            lookahead: None,
            sam: 0.0,
            average: None,
            seed: 0,
        }
    }
}

impl StepConfig {
    /// Checks every setting for a run of `epochs` epochs.
    ///
    /// # Errors
    ///
    /// [`OptimError`] names the first one that is outside its range.
    pub fn validate(&self, epochs: usize) -> Result<(), OptimError> {
        let wrong = |field, value, range| Err(OptimError::OutOfRange { field, value, range });
        if self.accumulate == 0 {
            return wrong("accumulate", 0.0, "at least 1");
        }
        if !self.sam.is_finite() || self.sam < 0.0 {
            return wrong("sam", self.sam, "a number of at least 0");
        }
        self.clip.map_or(Ok(()), |clip| clip.validate())?;
        self.regularize.validate()?;
        self.lookahead.map_or(Ok(()), |lookahead| lookahead.validate())?;
        self.average.map_or(Ok(()), |average| average.validate(epochs))
    }

    /// Steps of a run.
    pub fn steps(&self, epochs: usize, batches: usize) -> usize {
        epochs * batches.div_ceil(self.accumulate.max(1))
    }
}

/// Takes the steps of a run: mean gradient, penalty, clipping, noise, the optimizer's rule, constraints, slow weights, average, in
/// this order.
pub struct Stepper {
    optimizer: ModuleOptimizer,
    rate: Rate,
    last_rate: f64,
    config: StepConfig,
    accumulator: Accumulator,
    lookahead: Option<Lookahead>,
    average: Option<Average>,
    steps: u64,
}

impl Stepper {
    /// Before the first step of a run of `epochs` epochs.
    ///
    /// # Errors
    ///
    /// As [`StepConfig::validate`].
    pub fn new(
        optimizer: ModuleOptimizer,
        rate: Rate,
        config: &StepConfig,
        epochs: usize,
    ) -> Result<Self, OptimError> {
        config.validate(epochs)?;
        Ok(Self {
            optimizer,
            last_rate: rate.now(),
            rate,
            config: config.clone(),
            accumulator: Accumulator::default(),
            lookahead: None,
            average: config.average.map(Average::new),
            steps: 0,
        })
    }

    /// Takes in the gradients of the mean loss of a batch of `samples`, and steps if it was the last one to accumulate.
    pub fn add<M: Module>(&mut self, module: M, gradients: GradientsParams, samples: usize) -> M {
        self.accumulator.add(&module, gradients, samples);
        match self.accumulator.batches() >= self.config.accumulate {
            true => self.step(module),
            false => module,
        }
    }

    /// Steps with what is accumulated, if anything is.
    pub fn step<M: Module>(&mut self, module: M) -> M {
        let Some(mut gradients) = self.accumulator.take(&module) else { return module };
        let StepConfig { clip, regularize, lookahead, seed, .. } = &self.config;
        if self.lookahead.is_none() {
            self.lookahead = lookahead.map(|config| Lookahead::new(config, &module));
        }
        regularize.add_gradients(&module, &mut gradients);
        if let Some(clip) = clip {
            clip.apply(&module, &mut gradients);
        }
        regularize.add_noise(&module, &mut gradients, *seed, self.steps);
        self.last_rate = self.rate.now();
        let mut module = self.optimizer.step(self.last_rate, module, gradients);
        self.rate.stepped();
        self.steps += 1;
        module = regularize.constrain(module);
        if let Some(lookahead) = &mut self.lookahead {
            module = lookahead.stepped(module);
        }
        if let Some(average) = &mut self.average {
            average.stepped(&module);
        }
        module
    }

    /// Ends an epoch, counted from 1: steps with what is left of it.
    pub fn end_epoch<M: Module>(&mut self, module: M, epoch: usize) -> M {
        let module = self.step(module);
        if let Some(average) = &mut self.average {
            average.epoch_ended(&module, epoch);
        }
        module
    }

    /// Tells a plateau what an epoch was worth, see [`Rate::epoch_ended`].
    pub fn observe(&mut self, loss: f64, accuracy: f64) {
        self.rate.epoch_ended(loss, accuracy);
    }

    /// Learning rate of the last step, before the first one that of the first.
    pub fn last_rate(&self) -> f64 {
        self.last_rate
    }

    /// What is validated and kept: `module` in evaluation mode, with averaged weights if they are.
    pub fn averaged<M: Module>(&self, module: &M) -> M {
        self.average.as_ref().map_or_else(|| module.valid(), |average| average.of(module))
    }

    /// The penalty of the weights as they are; none without one.
    pub fn penalty<M: Module>(&self, module: &M) -> Option<f64> {
        self.config.regularize.penalty(module)
    }

    /// ρ of sharpness-aware minimisation, if it is used.
    pub fn sam(&self) -> Option<f64> {
        (self.config.sam > 0.0).then_some(self.config.sam)
    }
}
