//! Parameters with a decay and a rate of their own.

use std::str::FromStr;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::Build;
use crate::{OptimError, OptimizerConfig, setting};

/// Groups of parameters. As text `no_decay=true,layer_decay=0.75`; by default there are none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupConfig {
    /// No weight decay on vectors and scalars, i.e. on biases and the scales and shifts of norms, as is usual in the field (timm,
    /// nanoGPT); false by default (PyTorch, Keras decay everything).
    pub no_decay: bool,
    /// A layer's rate is this times that of the layer after it, the last layer has the whole rate: Clark et al. 2020
    /// (arXiv:2003.10555), BEiT (arXiv:2106.08254); greater than 0 and at most 1, 1 by default.
    ///
    /// Layers are in the order of the module. A parameter's layer is its path up to the first number (`encoder.layer.3`), or the
    /// module that it is in where there is no number.
    pub layer_decay: f64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { no_decay: false, layer_decay: 1.0 }
    }
}

impl FromStr for GroupConfig {
    type Err = OptimError;

    fn from_str(text: &str) -> Result<Self, OptimError> {
        let config: Self = setting::parse_settings("groups", text)?;
        config.validate()?;
        Ok(config)
    }
}

impl GroupConfig {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// [`OptimError::OutOfRange`] names the first one that is outside its range.
    pub fn validate(&self) -> Result<(), OptimError> {
        match self.layer_decay > 0.0 && self.layer_decay <= 1.0 {
            true => Ok(()),
            false => Err(OptimError::OutOfRange {
                field: "layer_decay",
                value: self.layer_decay,
                range: "greater than 0 and at most 1",
            }),
        }
    }

    /// Checks every setting, and that they go with `optimizer`.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init).
    pub fn check(&self, optimizer: &OptimizerConfig) -> Result<(), OptimError> {
        self.validate()?;
        optimizer.validate()?;
        match self.no_decay && optimizer.without_decay().is_none() {
            true => Err(OptimError::NoDecay(optimizer.name())),
            false => Ok(()),
        }
    }

    /// The optimizer of `module`, with no state yet. It is for this module and its clones only.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate) and [`OptimizerConfig::validate`]; [`OptimError::NoDecay`] if there is no decay to leave out.
    pub fn init<M: Module>(
        &self,
        optimizer: &OptimizerConfig,
        module: &M,
    ) -> Result<ModuleOptimizer, OptimError> {
        self.init_with_factors(optimizer, module, |_| 1.0)
    }

    /// As [`init`](Self::init), with a factor of each parameter's rate beside `layer_decay`'s, by its path in the module
    /// (`backbone.blocks.3.layers.0.conv.weight`): a rate a stage, for instance, by `firebrick_zoo`'s `Backbone::stage_of`. One of 0 lets a
    /// parameter rest.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init); [`OptimError::OutOfRange`] for a factor that is negative or no number.
    pub fn init_with_factors<M: Module>(
        &self,
        optimizer: &OptimizerConfig,
        module: &M,
        factor: impl Fn(&str) -> f64,
    ) -> Result<ModuleOptimizer, OptimError> {
        self.check(optimizer)?;
        let plain = optimizer.without_decay().filter(|_| self.no_decay);
        let mut whole = optimizer.init()?;
        for group in self.groups(module, factor) {
            let Group { ids, vectors, factor } = group;
            if !(factor >= 0.0 && factor.is_finite()) {
                let range = "at least 0 and finite";
                return Err(OptimError::OutOfRange { field: "factor", value: factor, range });
            }
            let rule = plain.as_ref().filter(|_| vectors).unwrap_or(optimizer);
            if rule == optimizer && factor == 1.0 {
                continue;
            }
            whole = rule.build(AddGroup { to: whole, group: ParamGroup::from_ids(ids), factor });
        }
        Ok(whole)
    }

    /// Parameters of one factor, vectors and others apart, in the order of the layers.
    fn groups<M: Module>(&self, module: &M, factor: impl Fn(&str) -> f64) -> Vec<Group> {
        let mut walk = Walk::default();
        module.visit(&mut walk);
        let last = walk.layers.len().saturating_sub(1);
        let mut groups: Vec<Group> = Vec::new();
        for (layer, parameters) in walk.layers.iter().enumerate() {
            let of_layer = self.layer_decay.powf((last - layer) as f64);
            let first = groups.len();
            for Parameter { id, path, vector } in &parameters.parameters {
                let factor = of_layer * factor(path);
                let same =
                    |group: &&mut Group| group.vectors == *vector && group.factor.total_cmp(&factor).is_eq();
                match groups[first..].iter_mut().find(same) {
                    Some(group) => group.ids.push(*id),
                    None => groups.push(Group { ids: vec![*id], vectors: *vector, factor }),
                }
            }
        }
        groups
    }
}

/// Parameters that are treated alike.
struct Group {
    ids: Vec<ParamId>,
    vectors: bool,
    /// Of the learning rate.
    factor: f64,
}

/// Layers in their order, and what belongs to them.
#[derive(Default)]
struct Walk {
    path: Vec<String>,
    layers: Vec<LayerParameters>,
}

struct LayerParameters {
    name: String,
    parameters: Vec<Parameter>,
}

struct Parameter {
    id: ParamId,
    path: String,
    vector: bool,
}

impl ModuleVisitor for Walk {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let number = self.path.iter().position(|part| part.parse::<usize>().is_ok());
        let end = number.map_or(self.path.len().saturating_sub(1), |place| place + 1);
        let name = self.path[..end].join(".");
        let parameter = Parameter { id: parameter.id, path: self.path.join("."), vector: D < 2 };
        match self.layers.iter_mut().find(|layer| layer.name == name) {
            Some(layer) => layer.parameters.push(parameter),
            None => self.layers.push(LayerParameters { name, parameters: vec![parameter] }),
        }
    }
}

struct AddGroup {
    to: ModuleOptimizer,
    group: ParamGroup,
    factor: f64,
}

impl Build for AddGroup {
    fn build<O: Optimizer>(self, rule: O) -> ModuleOptimizer {
        self.to.with_group(self.group, Scaled { rule, factor: self.factor }, None)
    }
}

/// A rule whose rate is multiplied.
#[derive(Clone)]
struct Scaled<O> {
    rule: O,
    factor: f64,
}

impl<O: Optimizer> Optimizer for Scaled<O> {
    type State<const D: usize> = O::State<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<O::State<D>>,
    ) -> (Tensor<D>, Option<O::State<D>>) {
        self.rule.step(learning_rate * self.factor, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: O::State<D>, device: &Device) -> O::State<D> {
        O::to_device(state, device)
    }
}
