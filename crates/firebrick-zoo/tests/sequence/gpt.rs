//! GPT against transformers' GPT2LMHeadModel.

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use firebrick_zoo::{Finish, GenerateOptions, Gpt, GptConfig, IGNORED_TOKEN, Sampling, ZooError};
use serde::Deserialize;

use crate::golden::{
    Array, device, devices, gradient, ids, load, saves_what_it_read, values, without_gradient,
};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    tensors: Vec<(String, Vec<usize>)>,
    ids: Vec<Vec<i64>>,
    labels: Vec<Vec<i64>>,
    logits: Array,
    loss: f64,
    wte: Array,
    wpe: Array,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    filters: Filters,
}

#[derive(Deserialize)]
struct Filters {
    logits: Vec<f32>,
    seen: Vec<u32>,
    cases: Vec<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    repetition_penalty: Option<f64>,
    logits: Vec<Option<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/gpt.json")).expect("valid JSON")
}

/// As in the generator.
fn config() -> GptConfig {
    GptConfig { vocabulary: 41, context: 24, feed_forward: 40, dropout: 0.0, ..GptConfig::gpt2(24, 2, 3) }
}

fn model(golden: &Golden, device: &burn::tensor::Device) -> Gpt {
    let model = config().init(0, device).expect("valid");
    load(&golden.tensors, |file| file.load_into_gpt(model, "gpt")).expect("transformers' names")
}

#[test]
fn logits_loss_and_gradients_are_transformers() {
    let golden = golden();
    for (backend, device) in devices() {
        let device = device.autodiff();
        let what = |part: &str| format!("{backend}, GPT: {part}");
        let model = model(&golden, &device);
        let (ids, labels) = (ids(&golden.ids, &device), ids(&golden.labels, &device));
        golden.logits.check(&values(model.forward(ids.clone())), &what("logits"), &golden.made_by);
        let loss = model.loss(ids, labels);
        let gradients = loss.backward();
        let loss = f64::from(loss.into_scalar::<f32>());
        assert!((loss - golden.loss).abs() < 1e-5, "{backend}: {loss}, not {}", golden.loss);
        let tables = [(&model.tokens, &golden.wte, "token"), (&model.positions, &golden.wpe, "position")];
        for (table, expected, name) in tables {
            let actual = gradient(&table.weight.val(), &gradients);
            expected.check(&actual, &what(&format!("gradient of the {name} embeddings")), &golden.made_by);
        }
    }
}

#[test]
fn what_is_saved_is_transformers_state_dict() {
    let golden = golden();
    let model = model(&golden, &device());
    saves_what_it_read(&golden.tensors, |path| model.save(path));
}

#[test]
fn twenty_greedy_tokens_are_transformers() {
    let golden = golden();
    let devices =
        devices().into_iter().flat_map(|(name, device)| [(name, device.clone()), (name, device.autodiff())]);
    for (backend, device) in devices {
        let options =
            GenerateOptions { sampling: Sampling::greedy(), max_tokens: Some(20), ..Default::default() };
        let mut text = model(&golden, &device).generate(&golden.prompt, options).expect("a valid prompt");
        assert_eq!(
            text.by_ref().collect::<Vec<_>>(),
            golden.greedy,
            "{backend} (goldens: {})",
            golden.made_by
        );
        assert_eq!(text.finish(), Some(Finish::MaxTokens));
        assert_eq!(text.tokens().len(), golden.prompt.len() + 20);
    }
}

#[test]
fn filters_are_transformers_logits_processors() {
    let Golden { filters, made_by, .. } = golden();
    for case in filters.cases {
        let sampling = Sampling {
            temperature: case.temperature.unwrap_or(1.0),
            top_k: case.top_k,
            top_p: case.top_p,
            repetition_penalty: case.repetition_penalty.unwrap_or(1.0),
            seed: 0,
        };
        let mut logits = filters.logits.clone();
        sampling.filter(&mut logits, &filters.seen);
        for (id, (&actual, expected)) in logits.iter().zip(&case.logits).enumerate() {
            let expected = expected.unwrap_or(f32::NEG_INFINITY);
            let same = actual == expected || (actual - expected).abs() < 1e-5;
            assert!(same, "{sampling:?}: token {id}: {actual}, not {expected} (goldens: {made_by})");
        }
    }
}

#[test]
fn the_cache_changes_nothing_however_the_tokens_come() {
    let golden = golden();
    let device = device();
    let model = model(&golden, &device);
    let all = ids(&golden.ids, &device);
    let expected = values(model.forward(all.clone()));
    for steps in [vec![7], vec![1; 7], vec![3, 4], vec![2, 1, 3, 1]] {
        let mut cache = model.cache();
        let parts: Vec<Tensor<3>> = steps
            .iter()
            .map(|&count| {
                let part = all.clone().narrow(1, cache.tokens(), count);
                model.forward_cached(part, &mut cache).expect("valid ids")
            })
            .collect();
        assert_eq!(cache.tokens(), 7);
        for (a, b) in values(Tensor::cat(parts, 1)).iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{steps:?}: {a}, not {b}");
        }
    }
}

#[test]
fn a_checkpoint_may_lack_the_prefix_and_hold_masks_and_a_copied_head() {
    let golden = golden();
    // GPT2Model has neither the prefix nor a head; the oldest files hold the causal masks.
    let mut tensors: Vec<(String, Vec<usize>)> = golden
        .tensors
        .iter()
        .map(|(name, shape)| (name.replacen("transformer.", "", 1), shape.clone()))
        .collect();
    tensors.push(("h.0.attn.bias".to_owned(), vec![1, 1, 24, 24]));
    tensors.push(("h.0.attn.masked_bias".to_owned(), vec![1]));
    let loaded = |tensors: &[(String, Vec<usize>)], config: GptConfig| {
        load(tensors, |file| file.load_into_gpt(config.init(0, &device()).expect("valid"), "gpt"))
    };
    loaded(&tensors, config()).expect("the bare names");
    let mut tied = golden.tensors.clone();
    tied.push(("lm_head.weight".to_owned(), vec![41, 24]));
    loaded(&tied, config()).expect("a copy of the tied head");
    let untied = loaded(&tied, GptConfig { tied: false, ..config() }).expect("a head of its own");
    assert_eq!(untied.head.expect("untied").weight.val().dims(), [24, 41]);

    tensors.retain(|(name, _)| name != "h.1.mlp.c_fc.weight");
    let message = loaded(&tensors, config()).expect_err("one is missing").to_string();
    assert!(message.contains("h.1.mlp.c_fc.weight") && !message.contains("transformer.h"), "{message}");
    // The layout is not PyTorch's Linear's: a transposed weight is refused.
    let mut turned = golden.tensors.clone();
    turned
        .iter_mut()
        .filter(|(name, _)| name.ends_with("c_fc.weight"))
        .for_each(|(_, shape)| shape.reverse());
    let message = loaded(&turned, config()).expect_err("transposed").to_string();
    assert!(message.contains("[40, 24] in the file, [24, 40] in the model"), "{message}");
}

#[test]
fn what_the_model_cannot_take_is_an_error_that_says_so() {
    let model = config().init(0, &device()).expect("valid");
    let error = |prompt: &[u32]| {
        model.generate(prompt, GenerateOptions::default()).expect_err("a wrong prompt").to_string()
    };
    let long = error(&[0; 25]);
    assert!(long.contains("25 tokens are more than its context of 24"), "{long}");
    let unknown = error(&[3, 41]);
    assert!(unknown.contains("token 1: id 41 is not in the vocabulary of 41 (0 to 40)"), "{unknown}");
    assert!(error(&[]).contains("there are no tokens"));

    let ids = |values: &[i64]| {
        Tensor::<2, Int>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &device())
    };
    assert!(matches!(model.check(&ids(&[-1])), Err(ZooError::UnknownToken { id: -1, .. })));
    let mut cache = model.cache();
    model.forward_cached(ids(&[1; 20]), &mut cache).expect("20 of 24");
    let full = model.forward_cached(ids(&[1; 5]), &mut cache).expect_err("25 of 24").to_string();
    assert!(full.contains("25 tokens are more"), "{full}");
    let two = model.forward_cached(Tensor::zeros([2, 1], &device()), &mut cache).expect_err("a batch of 2");
    assert!(two.to_string().contains("`batch` is 2, it must be 1"), "{two}");
    assert_eq!(cache.tokens(), 20, "an error leaves the cache as it was");
    let other = GptConfig { layers: 3, ..config() }.init(0, &device()).expect("valid");
    assert!(other.forward_cached(ids(&[1]), &mut cache).is_err());

    let sampling = Sampling { top_p: Some(0.0), ..Sampling::default() };
    let options = GenerateOptions { sampling, ..Default::default() };
    assert!(model.generate(&[1], options).expect_err("top_p").to_string().contains("`top_p` is 0"));
    for (config, field) in [
        (GptConfig { heads: 5, ..config() }, "`width` is 24, it must be a multiple of the 5 heads"),
        (GptConfig { layers: 0, ..config() }, "`layers` is 0"),
        (GptConfig { dropout: 1.0, ..config() }, "`dropout` is 1"),
    ] {
        let message = config.init(0, &device()).expect_err(field).to_string();
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn a_text_ends_at_a_stop_token_or_where_the_context_is_full() {
    let golden = golden();
    let model = model(&golden, &device());
    let greedy = GenerateOptions { sampling: Sampling::greedy(), ..Default::default() };
    // 34 is the third of the golden's tokens.
    let options = GenerateOptions { stop: vec![40, 34], ..greedy.clone() };
    let mut text = model.generate(&golden.prompt, options).expect("a valid prompt");
    assert_eq!(text.by_ref().collect::<Vec<_>>(), golden.greedy[..2]);
    assert_eq!((text.finish(), text.next()), (Some(Finish::Stop(34)), None));

    let mut text = model.generate(&golden.prompt, greedy).expect("a valid prompt");
    // The last token's successor is known, though there is no place to go on from it.
    assert_eq!(text.by_ref().count(), 24 - 3 + 1);
    assert_eq!(text.finish(), Some(Finish::Context));
}

#[test]
fn a_seed_is_a_text_and_another_seed_another() {
    let model = config().init(7, &device()).expect("valid");
    let text = |seed| {
        let sampling = Sampling { seed, top_k: Some(30), ..Sampling::default() };
        let options = GenerateOptions { sampling, max_tokens: Some(16), ..Default::default() };
        model.generate(&[5], options).expect("valid").collect::<Vec<_>>()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn every_parameter_gets_a_gradient_with_dropout_too() {
    let device = device().autodiff();
    for tied in [true, false] {
        let config = GptConfig { dropout: 0.2, tied, context: 7, ..config() };
        let model = config.init(3, &device).expect("valid");
        // 41 tokens, 8 places of which the last is only a label.
        let rows: Vec<Vec<i64>> =
            (0..6).map(|row| (0..8).map(|place| (row * 8 + place) % 41).collect()).collect();
        let ids = ids(&rows, &device);
        let loss = model.loss(ids.clone(), ids.clone());
        let again = model.loss(ids.clone(), ids).into_scalar::<f32>();
        let gradients = loss.backward();
        assert_ne!(loss.into_scalar::<f32>(), again, "dropout draws anew");
        let (count, without) = without_gradient(&model, &gradients);
        assert_eq!(without, Vec::<String>::new());
        assert_eq!(count, 2 + 2 * 12 + 2 + usize::from(!tied));
    }
}

#[test]
fn learns_a_short_text_by_heart() {
    let device = device().autodiff();
    device.seed(1);
    let config = GptConfig { dropout: 0.1, context: 16, ..config() };
    let mut model = config.init(5, &device).expect("valid");
    let text: Vec<i64> = vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 32];
    let x = ids(std::slice::from_ref(&text), &device);
    // The first two tokens are a prompt that does not count.
    let mut labels = text.clone();
    labels[..2].fill(IGNORED_TOKEN);
    let labels = ids(&[labels], &device);
    let mut optimizer = burn::optim::AdamConfig::new().with_epsilon(1e-8).init();
    let mut losses = Vec::new();
    for _ in 0..120 {
        let loss = model.loss(x.clone(), labels.clone());
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(5e-3, model, gradients);
    }
    assert!(losses[0] > 3.0 && losses[119] < 0.1, "from {} to {}", losses[0], losses[119]);
    let greedy = GenerateOptions { sampling: Sampling::greedy(), max_tokens: Some(14), ..Default::default() };
    let learnt: Vec<i64> = model.generate(&[3, 1], greedy).expect("valid").map(i64::from).collect();
    assert_eq!(learnt, text[2..]);
}

#[test]
fn reads_transformers_configuration_and_refuses_what_it_does_not_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    let base = r#""model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12"#;
    let read = |more: &str| {
        std::fs::write(&path, format!("{{{base}{more}}}")).expect("written");
        GptConfig::read(&path)
    };
    assert_eq!(read("").expect("GPT-2's"), GptConfig::GPT2);
    for (more, expected) in [
        (r#", "activation_function": "relu""#, "`activation_function` is relu"),
        (r#", "scale_attn_by_inverse_layer_idx": true"#, "`scale_attn_by_inverse_layer_idx`"),
        (r#", "n_inner": 99999999999"#, "`n_inner` is 99999999999, this model has at most 16777216"),
        (r#", "resid_pdrop": 2"#, "`dropout` is 2"),
        (r#", "#, "config.json"),
    ] {
        let message = read(more).expect_err(expected).to_string();
        assert!(message.contains(expected) && message.contains("config.json"), "{message}");
    }
    let deep = base.replace(r#""n_layer": 12"#, r#""n_layer": 9000000"#);
    std::fs::write(&path, format!("{{{deep}}}")).expect("written");
    let message = GptConfig::read(&path).expect_err("too deep").to_string();
    assert!(message.contains("`n_layer` is 9000000, this model has at most 4096"), "{message}");
}
