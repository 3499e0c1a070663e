//! A learning rate a stage: `--stage-rates`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use firebrick::zoo::graph::Graph;

use crate::choices::{Freeze, as_text};
use crate::config::did_you_mean;

/// What the parameters behind the last stage are called.
const HEAD: &str = "head";

/// Factors of the learning rate by stage, in the order in which they were given; stages that are not named have 1.
///
/// As text `stage1=0.1,head=2`, or `none`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StageRates(Vec<(String, f64)>);
as_text!(StageRates);

impl FromStr for StageRates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rates: Vec<(String, f64)> = Vec::new();
        if text == "none" {
            return Ok(Self(rates));
        }
        for pair in text.split(',') {
            let pair = pair.trim();
            let parts = pair.split_once('=').map(|(stage, factor)| (stage.trim(), factor.trim()));
            let Some((stage, factor)) = parts.filter(|(stage, _)| !stage.is_empty()) else {
                return Err(format!(
                    "stage-rates has `{pair}`, which is not STAGE=FACTOR; give stage1=0.1,head=1 or none"
                ));
            };
            let Some(factor) = factor.parse().ok().filter(|factor: &f64| *factor > 0.0 && factor.is_finite())
            else {
                return Err(format!(
                    "stage-rates has `{stage}={factor}`, the factor must be a number greater than 0; what is not to be trained is said by \
                     --freeze"
                ));
            };
            if rates.iter().any(|(name, _)| name == stage) {
                return Err(format!("stage-rates has `{stage}` twice; give each stage one factor"));
            }
            rates.push((stage.to_owned(), factor));
        }
        Ok(Self(rates))
    }
}

impl fmt::Display for StageRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        let pairs: Vec<String> = self.0.iter().map(|(stage, factor)| format!("{stage}={factor}")).collect();
        f.write_str(&pairs.join(","))
    }
}

impl StageRates {
    /// Whether every stage has the same rate because none is named.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that every stage is one of `model`'s, whose graph this is, and that none of them is frozen.
    pub(crate) fn check(&self, model: &str, graph: &Graph, freeze: &Freeze) -> Result<()> {
        let stages: Vec<&str> = graph.stages().iter().map(|stage| stage.name.as_str()).collect();
        let place_of = |name: &str| stages.iter().position(|stage| *stage == name);
        let trained_from = match freeze {
            Freeze::None => 0,
            Freeze::Until(stage) => place_of(stage).map_or(0, |place| place + 1),
            Freeze::Backbone => stages.len(),
        };
        for (name, _) in self.0.iter().filter(|(name, _)| name != HEAD) {
            let Some(place) = place_of(name) else {
                bail!(
                    "stage-rates has `{name}`, which is no stage of {model}{}; there are {}, and {HEAD} for what is behind them",
                    did_you_mean(name, stages.iter().copied().chain([HEAD])),
                    stages.join(", ")
                );
            };
            ensure!(
                place >= trained_from,
                "stage-rates has `{name}`, but freeze is {freeze}, so that it is not trained; leave it out, or let it train with --freeze {}",
                match place {
                    0 => "none",
                    _ => stages[place - 1],
                }
            );
        }
        Ok(())
    }

    /// What the learning rate of a parameter is multiplied by: its path in a classifier, or in the part of one that is trained.
    pub(crate) fn factor(&self, graph: &Graph, path: &str) -> f64 {
        let stage = graph.stage_of(path).unwrap_or(HEAD);
        self.0.iter().find(|(name, _)| name == stage).map_or(1.0, |(_, factor)| *factor)
    }
}

#[cfg(test)]
mod tests {
    use firebrick::burn::module::{Module, ModuleVisitor, Param};
    use firebrick::burn::optim::GradientsParams;
    use firebrick::burn::tensor::{Device, Distribution, Tensor};
    use firebrick::nn::Network;
    use firebrick::train::DeviceChoice;
    use firebrick::zoo::{Classifier, CreateOptions, create, find};

    use super::*;
    use crate::choices::DataSource;
    use crate::config::{Config, Settings};

    fn parsed(text: &str) -> StageRates {
        text.parse().expect(text)
    }

    fn model(device: &Device) -> Classifier {
        let options = CreateOptions { classes: 3, hidden: vec![4], ..CreateOptions::default() };
        create(find("mobilenet_v2_0.35").expect("in the zoo"), &options, device)
    }

    fn device() -> Device {
        DeviceChoice::NdArray.open().or_else(|_| DeviceChoice::Flex.open()).expect("a backend of the CPU")
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["none", "stage1=0.1", "stage1=0.1,layer3=2.5,head=1", "head=0.00001"] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed(" stage1 = 1e-1 , head=2"), parsed("stage1=0.1,head=2.0"));
    }

    #[test]
    fn what_is_wrong_in_the_text_is_named() {
        for (text, words) in [
            ("", &["``", "STAGE=FACTOR"][..]),
            ("stage1", &["`stage1`", "STAGE=FACTOR"]),
            ("=0.1", &["`=0.1`", "STAGE=FACTOR"]),
            ("stage1=0.1,", &["``", "STAGE=FACTOR"]),
            ("stage1=little", &["`stage1=little`", "a number"]),
            ("stage1=0", &["`stage1=0`", "greater than 0", "--freeze"]),
            ("stage1=-0.1", &["`stage1=-0.1`", "greater than 0"]),
            ("stage1=1e-999", &["`stage1=1e-999`", "greater than 0"]),
            ("stage1=nan", &["`stage1=nan`", "a number"]),
            ("stage1=inf", &["`stage1=inf`", "a number"]),
            ("stage1=1e999", &["`stage1=1e999`", "a number"]),
            ("stage1=1,head=1,stage1=2", &["`stage1` twice"]),
        ] {
            let message = text.parse::<StageRates>().expect_err(text);
            assert!(message.contains("stage-rates"), "{text}: {message}");
            words.iter().for_each(|word| assert!(message.contains(word), "{text}: {message}"));
        }
    }

    #[test]
    fn stages_that_there_are_not_and_frozen_ones_are_refused() {
        let model = model(&device());
        let check = |text: &str, freeze: Freeze| {
            let checked = parsed(text).check("mobilenet_v2_0.35", model.backbone.graph(), &freeze);
            checked.map_err(|error| error.to_string())
        };
        let until = |stage: &str| Freeze::Until(stage.to_owned());
        assert_eq!(check("stage1=0.1,stage7=2,head=1", Freeze::None), Ok(()));
        assert_eq!(check("stage4=0.1,head=1", until("stage3")), Ok(()));
        assert_eq!(check("head=0.5", Freeze::Backbone), Ok(()));
        for (text, freeze, words) in [
            ("stge1=1", Freeze::None, &["`stge1`", "did you mean `stage1`?", "stage7, and head"][..]),
            ("haed=1", Freeze::None, &["`haed`", "did you mean `head`?"]),
            ("zzz=1", until("stage3"), &["`zzz`", "mobilenet_v2_0.35; there are stage1"]),
            ("stage3=1", until("stage3"), &["`stage3`", "freeze is stage3", "--freeze stage2"]),
            ("head=1,stage1=1", Freeze::Backbone, &["`stage1`", "freeze is backbone", "--freeze none"]),
        ] {
            let message = check(text, freeze).expect_err(text);
            words.iter().for_each(|word| assert!(message.contains(word), "{text}: {message}"));
        }
    }

    /// Values and the stage of every parameter.
    struct Parameters<'a> {
        graph: &'a Graph,
        path: Vec<String>,
        all: Vec<(String, Vec<f32>)>,
    }

    impl ModuleVisitor for Parameters<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let stage = self.graph.stage_of(&self.path.join(".")).unwrap_or(HEAD).to_owned();
            self.all.push((stage, parameter.val().into_data().try_to_vec().expect("f32")));
        }
    }

    fn parameters<M: Module>(module: &M, graph: &Graph) -> Vec<(String, Vec<f32>)> {
        let mut parameters = Parameters { graph, path: Vec::new(), all: Vec::new() };
        module.visit(&mut parameters);
        parameters.all
    }

    /// How far one step of gradient descent, at a rate of 1, moves every parameter, with its stage.
    fn moves<N: Network<4>>(
        net: &N,
        inputs: Tensor<4>,
        graph: &Graph,
        rates: &str,
    ) -> Vec<(String, Vec<f64>)> {
        let flags = Settings {
            data: Some(DataSource::BuiltinFashion),
            optimizer: Some("sgd".to_owned()),
            stage_rates: Some(parsed(rates)),
            ..Settings::default()
        };
        let config = Config::resolve(flags, None).expect("valid");
        let gradients = GradientsParams::from_grads(net.forward(inputs).powi_scalar(2).sum().backward(), net);
        let mut optimizer =
            config.optimizer_of(net, |path| config.stage_rates.factor(graph, path)).expect("an optimizer");
        let before = parameters(net, graph);
        let after = parameters(&optimizer.step(1.0, net.clone(), gradients), graph);
        let by = |((stage, before), (_, after)): ((String, Vec<f32>), (String, Vec<f32>))| {
            let moved =
                after.iter().zip(&before).map(|(after, before)| f64::from(*after) - f64::from(*before));
            (stage, moved.collect())
        };
        before.into_iter().zip(after).map(by).collect()
    }

    /// Asserts that a step with `rates` is one without them, times the factor of each parameter's stage; gives the stages whose factor was
    /// seen in a parameter that moves.
    fn assert_factors(
        plain: &[(String, Vec<f64>)],
        rated: &[(String, Vec<f64>)],
        rates: &StageRates,
    ) -> Vec<String> {
        let mut seen = Vec::new();
        assert_eq!(plain.len(), rated.len());
        for ((stage, plain), (_, rated)) in plain.iter().zip(rated) {
            let factor = rates.0.iter().find(|(name, _)| name == stage).map_or(1.0, |(_, factor)| *factor);
            // Weights of about 1 are rounded to 6e-8 in both steps.
            for (plain, rated) in plain.iter().zip(rated) {
                let error = (rated - factor * plain).abs();
                assert!(
                    error <= 1e-6 * factor.max(1.0) * plain.abs().max(1.0),
                    "{stage}: {rated}, not {factor} times {plain}"
                );
                if plain.abs() > 1e-3 && !seen.contains(stage) {
                    seen.push(stage.clone());
                }
            }
        }
        seen
    }

    #[test]
    fn every_parameter_moves_by_its_stages_factor_and_unnamed_stages_as_they_would() {
        let device = device().autodiff();
        let model = model(&device);
        let graph = model.backbone.graph().clone();
        device.seed(1);
        // Large enough that the last norms have more than a value or two of each channel.
        let images = Tensor::<4>::random([4, 3, 64, 64], Distribution::Default, &device);
        let text = "stage1=0.25,stage3=0.5,stage7=0.125,head=0.0625";
        let plain = moves(&model, images.clone(), &graph, "none");
        let rated = moves(&model, images.clone(), &graph, text);
        let seen = assert_factors(&plain, &rated, &parsed(text));
        for stage in ["stage1", "stage2", "stage3", "stage7", HEAD] {
            assert!(seen.iter().any(|name| name == stage), "nothing of {stage} moved: {seen:?}");
        }

        // The part behind a frozen stage.
        let map = model.backbone.stages(images, &["stage3"]).expect("known").remove(0).detach();
        let rest = Classifier { backbone: model.backbone.after("stage3").expect("known"), head: model.head };
        let text = "stage5=0.25,head=0.5";
        let plain = moves(&rest, map.clone(), &graph, "none");
        let rated = moves(&rest, map, &graph, text);
        let seen = assert_factors(&plain, &rated, &parsed(text));
        assert!(
            ["stage4", "stage5", HEAD].iter().all(|stage| seen.iter().any(|name| name == stage)),
            "{seen:?}"
        );
        assert!(!seen.iter().any(|name| name == "stage3"), "{seen:?}");
    }
}
