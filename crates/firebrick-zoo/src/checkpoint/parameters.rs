//! What a module's tensors are called and what shapes they have, without making any of them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, bridge, burn_pack};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Int, Shape, Tensor};

/// A tensor of a module.
pub(crate) struct Parameter {
    /// Where it is in the module, in burn's words: `norm.gamma`.
    pub own: String,
    /// The same in PyTorch's: `norm.weight`.
    pub path: String,
    /// Its shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Whether the module has it the other way round: burn's `Linear` is `[in, out]`.
    pub turned: bool,
}

/// The tensors of a module in its order. Those that have no values yet are not drawn for it.
pub(crate) fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    let mut visitor = Visitor::default();
    module.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct Visitor {
    path: Vec<String>,
    containers: Vec<String>,
    found: Vec<Parameter>,
}

impl Visitor {
    fn note(&mut self, path: &[String], shape: Shape) {
        let rank = shape.rank();
        let own = path.join(".");
        // The adapter that burn's writers use says what comes of a name and a shape; what it does to a shape whose sides differ, it
        // does to all.
        let adapted = |shape: Shape| {
            let empty = || Err(burn_pack::Error::ValidationError("a shape has no values".to_owned()));
            let tensor = bridge::deferred(own.clone(), DType::F32, shape, None, empty);
            BurnToPyTorchAdapter.adapt(tensor, ModuleContext::new(&self.containers))
        };
        let turned = rank == 2 && adapted(Shape::from([1, 2])).shape.to_vec() == [2, 1];
        let tensor = adapted(shape);
        let (path, shape) = (tensor.name.clone(), tensor.shape.to_vec());
        self.found.push(Parameter { own, path, shape, turned });
    }

    fn parameter<const D: usize, K: Basic + 'static>(&mut self, parameter: &Param<Tensor<D, K>>)
    where
        Tensor<D, K>: burn::module::Parameter,
    {
        let path = self.path.clone();
        self.note(&path, parameter.lazy_shape());
    }
}

impl ModuleVisitor for Visitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_owned());
        // A variant's name is no part of a path.
        if !container.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.containers.pop();
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.parameter(parameter);
    }

    fn visit_int<const D: usize>(&mut self, parameter: &Param<Tensor<D, Int>>) {
        self.parameter(parameter);
    }

    fn visit_bool<const D: usize>(&mut self, parameter: &Param<Tensor<D, Bool>>) {
        self.parameter(parameter);
    }

    fn visit_float_with_path<const D: usize>(
        &mut self,
        path: &[String],
        _: burn::module::ParamId,
        tensor: &Tensor<D>,
    ) {
        self.note(path, tensor.shape());
    }
}
