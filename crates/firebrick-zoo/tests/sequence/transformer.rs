//! The encoder-decoder against torch.nn.Transformer.

use burn::optim::GradientsParams;
use firebrick_zoo::{GreedyDecoding, IGNORED_TOKEN, NormPlaces, Transformer, TransformerConfig, ZooError};
use serde::Deserialize;

use crate::golden::{self, Array, device, devices, gradient, ids, values, without_gradient};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    source: Vec<Vec<i64>>,
    target: Vec<Vec<i64>>,
    following: Vec<Vec<i64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tensors: Vec<(String, Vec<usize>)>,
    logits: Array,
    loss: f64,
    source_gradient: Array,
    target_gradient: Array,
    greedy: Vec<Vec<u32>>,
    parameters: usize,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/transformer.json")).expect("valid JSON")
}

/// As in the generator.
fn config(case: &str) -> TransformerConfig {
    let norms = match case {
        "paper" => NormPlaces::After,
        "torch" => NormPlaces::AfterAndLast,
        "pre" => NormPlaces::First,
        other => panic!("no such case: {other}"),
    };
    let shared = case == "paper";
    TransformerConfig {
        source_vocabulary: 19,
        target_vocabulary: if shared { 19 } else { 23 },
        shared,
        context: 10,
        width: 12,
        heads: 3,
        feed_forward: 20,
        layers: 2,
        dropout: 0.0,
        norms,
    }
}

fn load(case: &Case, device: &burn::tensor::Device) -> Transformer {
    let model = config(&case.name).init(0, device).expect("valid");
    golden::load(&case.tensors, |file| file.load_into_transformer(model, "transformer"))
        .expect("PyTorch's names")
}

#[test]
fn logits_loss_and_gradients_are_pytorchs() {
    let golden = golden();
    let pairs =
        devices().into_iter().flat_map(|device| golden.cases.iter().map(move |case| (device.clone(), case)));
    for ((backend, device), case) in pairs {
        use burn::module::Module;
        let device = device.autodiff();
        let model = load(case, &device);
        assert_eq!(model.num_params(), case.parameters, "{}", case.name);
        let (source, target) = (ids(&golden.source, &device), ids(&golden.target, &device));
        let padding = Some(source.clone().equal_elem(0));
        let what = |part: &str| format!("{backend}, Transformer, {}: {part}", case.name);
        let logits = values(model.forward(source.clone(), target.clone(), padding.clone()));
        case.logits.check(&logits, &what("logits"), &golden.made_by);
        let loss = model.loss(source, target, ids(&golden.following, &device), padding);
        let gradients = loss.backward();
        let loss = f64::from(loss.into_scalar::<f32>());
        assert!((loss - case.loss).abs() < 1e-5, "{}: {loss}, not {}", case.name, case.loss);
        let source = gradient(&model.source.weight.val(), &gradients);
        case.source_gradient.check(&source, &what("gradient of the source's embeddings"), &golden.made_by);
        if let Some(target) = &model.target {
            let target = gradient(&target.weight.val(), &gradients);
            let what = what("gradient of the target's embeddings");
            case.target_gradient.check(&target, &what, &golden.made_by);
        }
    }
}

#[test]
fn what_is_saved_is_pytorchs_state_dict() {
    for case in golden().cases {
        let model = load(&case, &device());
        golden::saves_what_it_read(&case.tensors, |path| model.save(path));
    }
}

#[test]
fn greedy_tokens_are_pytorchs_and_stop_at_the_end() {
    let golden = golden();
    let devices =
        devices().into_iter().flat_map(|(name, device)| [(name, device.clone()), (name, device.autodiff())]);
    for (backend, device) in devices {
        for case in &golden.cases {
            let model = load(case, &device);
            let source = ids(&golden.source, &device);
            let padding = Some(source.clone().equal_elem(0));
            let decode = |end, max_tokens| {
                let options = GreedyDecoding { begin: 1, end, max_tokens };
                model.greedy(source.clone(), padding.clone(), options).expect("valid")
            };
            assert_eq!(
                decode(None, 8),
                case.greedy,
                "{backend}, {} (goldens: {})",
                case.name,
                golden.made_by
            );
            // Where it would go on with a token, it ends there if that token is the end.
            let end = case.greedy[0][2];
            let until =
                |text: &Vec<u32>| text.iter().copied().take_while(|&id| id != end).collect::<Vec<_>>();
            assert_eq!(decode(Some(end), 8), case.greedy.iter().map(until).collect::<Vec<_>>());
            assert_eq!(decode(None, 0), vec![Vec::<u32>::new(); 2]);
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient_with_dropout_too() {
    let golden = golden();
    let device = device().autodiff();
    for case in &golden.cases {
        let model = TransformerConfig { dropout: 0.2, ..config(&case.name) }.init(2, &device).expect("valid");
        let (source, target) = (ids(&golden.source, &device), ids(&golden.target, &device));
        let following = ids(&golden.following, &device);
        let loss = model.loss(source, target, following, None);
        let gradients = loss.backward();
        let (count, without) = without_gradient(&model, &gradients);
        // A bias of keys moves all scores of a query alike, so that its gradient is rounding at most.
        let without: Vec<_> = without.iter().filter(|name| !name.ends_with("key.bias")).collect();
        assert!(without.is_empty(), "{}: {without:?}", case.name);
        let last = if case.name == "paper" { 0 } else { 4 + 3 };
        assert_eq!(count, 1 + last + 2 * (8 + 4 + 4) + 2 * (16 + 4 + 6), "{}", case.name);
    }
}

#[test]
fn learns_to_reverse() {
    let device = device().autodiff();
    // 0 fills up, 1 begins, 2 ends, 3 to 8 are the words.
    let config = TransformerConfig {
        source_vocabulary: 9,
        target_vocabulary: 9,
        width: 24,
        feed_forward: 48,
        layers: 1,
        ..config("paper")
    };
    let mut model = config.init(4, &device).expect("valid");
    let texts: Vec<Vec<i64>> = vec![vec![3, 4, 5, 6], vec![8, 3, 7], vec![5, 5, 4, 8], vec![6, 7]];
    let filled = |row: Vec<i64>, length: usize, with: i64| {
        row.iter().copied().chain(std::iter::repeat(with)).take(length).collect::<Vec<_>>()
    };
    let rows =
        |make: &dyn Fn(&Vec<i64>) -> Vec<i64>| ids(&texts.iter().map(make).collect::<Vec<_>>(), &device);
    let turned = |text: &Vec<i64>| text.iter().rev().copied().collect::<Vec<_>>();
    let source = rows(&|text| filled(text.clone(), 4, 0));
    let target = rows(&|text| filled([vec![1], turned(text)].concat(), 5, 0));
    let following = rows(&|text| filled([turned(text), vec![2]].concat(), 5, IGNORED_TOKEN));
    let padding = Some(source.clone().equal_elem(0));
    let mut optimizer = burn::optim::AdamConfig::new().with_epsilon(1e-8).init();
    let mut last = f32::INFINITY;
    for _ in 0..120 {
        let loss = model.loss(source.clone(), target.clone(), following.clone(), padding.clone());
        last = loss.clone().into_scalar();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(5e-3, model, gradients);
    }
    assert!(last < 0.1, "{last}");
    let options = GreedyDecoding { begin: 1, end: Some(2), max_tokens: 8 };
    let decoded = model.greedy(source, padding, options).expect("valid");
    let expected: Vec<Vec<u32>> =
        texts.iter().map(|text| turned(text).iter().map(|&id| id as u32).collect()).collect();
    assert_eq!(decoded, expected);
}

#[test]
fn what_the_model_cannot_take_is_an_error_that_says_so() {
    let device = device();
    let model = config("torch").init(0, &device).expect("valid");
    let row = |row: &[i64]| ids(&[row.to_vec()], &device);
    let options = GreedyDecoding { begin: 1, end: None, max_tokens: 5 };
    let greedy = |source: &[i64], options| model.greedy(row(source), None, options).expect_err("wrong");
    let long = greedy(&[1; 11], options).to_string();
    assert!(long.contains("Transformer's source: 11 tokens are more than its context of 10"), "{long}");
    let unknown = greedy(&[19], options);
    assert!(matches!(unknown, ZooError::UnknownToken { id: 19, vocabulary: 19, .. }), "{unknown}");
    let begin = greedy(&[1], GreedyDecoding { begin: 23, ..options }).to_string();
    assert!(begin.contains("Transformer's target") && begin.contains("id 23"), "{begin}");
    let most = greedy(&[1], GreedyDecoding { max_tokens: 11, ..options }).to_string();
    assert!(most.contains("11 tokens"), "{most}");
    let padding = Some(row(&[1, 1]).equal_elem(1));
    assert!(model.greedy(row(&[1]), padding, options).is_err());
    model.check(&row(&[18]), &row(&[22])).expect("the last of each vocabulary");
    assert!(model.check(&row(&[18]), &row(&[-1])).is_err());
    let different = TransformerConfig { target_vocabulary: 20, ..config("paper") };
    let message = different.init(0, &device).expect_err("two sizes of one table").to_string();
    assert!(message.contains("`target_vocabulary` is 20"), "{message}");
    assert!(TransformerConfig { heads: 5, ..config("pre") }.init(0, &device).is_err());
}
