//! Walks over gradients, and over the values of a module.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::measure::blend;

/// Where a parameter is.
pub(crate) struct Place<'a> {
    /// `hidden.0.weight`.
    pub(crate) path: &'a str,
    /// Its number among all parameters, in the order of the module.
    pub(crate) index: u64,
}

/// Something that is done to gradients.
pub(crate) trait ChangeGradient {
    /// The new gradient of a parameter.
    fn change<const D: usize>(
        &mut self,
        place: &Place<'_>,
        parameter: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D>;
}

/// Does `change` to every gradient, in the order of the module.
pub(crate) fn change_gradients<M: Module>(
    module: &M,
    gradients: &mut GradientsParams,
    change: &mut impl ChangeGradient,
) {
    struct Walk<'a, C> {
        path: Vec<String>,
        index: u64,
        gradients: &'a mut GradientsParams,
        change: &'a mut C,
    }
    impl<C: ChangeGradient> ModuleVisitor for Walk<'_, C> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
                let place = Place { path: &self.path.join("."), index: self.index };
                let gradient = self.change.change(&place, parameter, gradient);
                self.gradients.register(parameter.id, gradient);
            }
            self.index += 1;
        }
    }
    module.visit(&mut Walk { path: Vec::new(), index: 0, gradients, change });
}

/// Something that is done to the values of trained parameters, without recording it.
pub(crate) trait ChangeValue {
    /// The new value.
    fn change<const D: usize>(&mut self, path: &str, id: ParamId, value: Tensor<D>) -> Tensor<D>;
}

/// Does `change` to every parameter that requires a gradient.
pub(crate) fn change_trained<M: Module>(module: M, change: &mut impl ChangeValue) -> M {
    struct Walk<'a, C> {
        path: Vec<String>,
        change: &'a mut C,
    }
    impl<C: ChangeValue> ModuleMapper for Walk<'_, C> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let id = parameter.id;
            let path = self.path.join(".");
            parameter.map(|value| match value.is_require_grad() {
                true => Tensor::from_inner(self.change.change(&path, id, value.inner())).require_grad(),
                false => value,
            })
        }
    }
    module.map(&mut Walk { path: Vec::new(), change })
}

/// The values of a module in evaluation mode, running statistics included, by parameter.
pub(crate) struct Values(GradientsParams);

impl Values {
    /// A copy of the references, not of the memory.
    pub(crate) fn of<M: Module>(module: &M) -> Self {
        struct Collect(GradientsParams);
        impl ModuleVisitor for Collect {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                self.0.register(parameter.id, parameter.val());
            }
        }
        let mut collect = Collect(GradientsParams::new());
        module.valid().visit(&mut collect);
        Self(collect.0)
    }

    /// Replaces the value of a parameter by `with(old)`; `fresh` where there is none.
    pub(crate) fn update<const D: usize>(
        &mut self,
        id: ParamId,
        fresh: Tensor<D>,
        with: impl FnOnce(Tensor<D>, Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        let value = match self.0.remove::<D>(id) {
            Some(old) => with(old, fresh),
            None => fresh,
        };
        self.0.register(id, value.clone());
        value
    }

    /// Replaces every value by `keep · old + (1 - keep) · new`, where `new` is `module`'s.
    pub(crate) fn blend<M: Module>(&mut self, module: &M, keep: f64) {
        struct Walk<'a> {
            values: &'a mut Values,
            keep: f64,
        }
        impl ModuleVisitor for Walk<'_> {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
                let keep = self.keep;
                self.values.update(parameter.id, parameter.val(), |old, new| blend(old, new, keep));
            }
        }
        module.valid().visit(&mut Walk { values: self, keep });
    }

    /// `module` in evaluation mode with these values.
    pub(crate) fn put_into<M: Module>(&self, module: &M) -> M {
        struct Put<'a>(&'a GradientsParams);
        impl ModuleMapper for Put<'_> {
            fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
                match self.0.get::<D>(parameter.id) {
                    Some(value) => parameter.map(|_| value),
                    None => parameter,
                }
            }
        }
        module.valid().map(&mut Put(&self.0))
    }
}
