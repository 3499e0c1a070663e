//! BERT's heads against transformers'.

use burn::tensor::Tensor;
use firebrick_nn::loss::{cross_entropy, token_cross_entropy};
use firebrick_zoo::{BertConfig, BertEncoder, IGNORED_TOKEN};
use serde::Deserialize;

use crate::golden::{
    Array, device, devices, flags, gradient, ids, load, saves_what_it_read, values, without_gradient,
};

#[derive(Deserialize)]
struct Golden {
    made_by: String,
    classes: usize,
    ids: Vec<Vec<i64>>,
    mask: Vec<Vec<i64>>,
    types: Vec<Vec<i64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tensors: Vec<(String, Vec<usize>)>,
    labels: Vec<i64>,
    logits: Array,
    loss: f64,
    words: Array,
    positions: Array,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/bert.json")).expect("valid JSON")
}

/// As in the generator.
const CONFIG: BertConfig = BertConfig {
    vocabulary: 29,
    positions: 12,
    types: 2,
    width: 24,
    layers: 2,
    heads: 3,
    feed_forward: 40,
    epsilon: 1e-12,
    pooler: true,
    dropout: 0.0,
};

#[test]
fn logits_losses_gradients_and_what_is_saved_are_transformers() {
    let golden = golden();
    let pairs =
        devices().into_iter().flat_map(|device| golden.cases.iter().map(move |case| (device.clone(), case)));
    for ((backend, device), case) in pairs {
        let device = device.autodiff();
        let (tokens, mask, types) =
            (ids(&golden.ids, &device), flags(&golden.mask, &device), ids(&golden.types, &device));
        let labels = |width: usize| {
            let rows: Vec<Vec<i64>> = case.labels.chunks(width).map(<[i64]>::to_vec).collect();
            ids(&rows, &device)
        };
        let run = |encoder: &BertEncoder, logits: Vec<f64>, loss: Tensor<1>| {
            case.logits.check(&logits, &format!("{backend}, BERT, {}: logits", case.name), &golden.made_by);
            let gradients = loss.backward();
            let loss = f64::from(loss.into_scalar::<f32>());
            assert!((loss - case.loss).abs() < 1e-5, "{}: {loss}, not {}", case.name, case.loss);
            for (table, expected, what) in
                [(&encoder.words, &case.words, "word"), (&encoder.positions, &case.positions, "position")]
            {
                let what = format!("{backend}, BERT, {}: gradient of the {what} embeddings", case.name);
                expected.check(&gradient(&table.weight.val(), &gradients), &what, &golden.made_by);
            }
        };
        let (mask, types) = (Some(mask), Some(types));
        match case.name.as_str() {
            "masked" => {
                let model = CONFIG.init_masked_lm(0, &device).expect("valid");
                let model = load(&case.tensors, |file| file.load_into_bert_masked_lm(model, "bert"));
                let model = model.expect("transformers' names");
                saves_what_it_read(&case.tensors, |path| model.save(path));
                let logits = values(model.forward(tokens.clone(), mask.clone(), types.clone()));
                run(&model.encoder, logits, model.loss(tokens, mask, types, labels(7)));
            }
            "sequences" => {
                let model = CONFIG.init_classifier(golden.classes, 0, &device).expect("valid");
                let model = load(&case.tensors, |file| file.load_into_bert_classifier(model, "bert"));
                let model = model.expect("transformers' names");
                saves_what_it_read(&case.tensors, |path| model.save(path));
                let logits = model.forward(tokens, mask, types);
                run(&model.encoder, values(logits.clone()), cross_entropy(logits, labels(2).flatten(0, 1)));
            }
            "tokens" => {
                let model = CONFIG.init_token_classifier(golden.classes, 0, &device).expect("valid");
                let model = load(&case.tensors, |file| file.load_into_bert_token_classifier(model, "bert"));
                let model = model.expect("transformers' names");
                saves_what_it_read(&case.tensors, |path| model.save(path));
                let logits = model.forward(tokens, mask, types);
                let loss = token_cross_entropy(logits.clone(), labels(7), IGNORED_TOKEN);
                run(&model.encoder, values(logits), loss);
            }
            other => panic!("no such case: {other}"),
        }
    }
}

#[test]
fn an_encoder_is_read_from_a_file_with_a_head() {
    let golden = golden();
    let device = device();
    let tokens = || ids(&golden.ids, &device);
    let case = |name: &str| golden.cases.iter().find(|case| case.name == name).expect("a case");
    let classifier = case("sequences");
    let model = CONFIG.init_classifier(5, 0, &device).expect("valid");
    let whole = load(&classifier.tensors, |file| file.load_into_bert_classifier(model, "bert"));
    let whole = whole.expect("the classifier");
    let encoder = load(&classifier.tensors, |file| file.load_into_bert(CONFIG.init(0, &device), "bert"));
    let encoder = encoder.expect("its encoder and pooler");
    assert_eq!(
        values(whole.encoder.forward(tokens(), None, None)),
        values(encoder.forward(tokens(), None, None))
    );

    // As the published bert-base-uncased: TensorFlow's names of norms, and heads and a decoder that the model does not have.
    let mut published: Vec<(String, Vec<usize>)> = case("masked")
        .tensors
        .iter()
        .map(|(name, shape)| {
            let name = match name.split_once("LayerNorm.") {
                Some((before, "weight")) => format!("{before}LayerNorm.gamma"),
                Some((before, _)) => format!("{before}LayerNorm.beta"),
                None => name.clone(),
            };
            (name, shape.clone())
        })
        .collect();
    published.push(("cls.seq_relationship.weight".to_owned(), vec![2, 24]));
    published.push(("cls.predictions.decoder.weight".to_owned(), vec![29, 24]));
    published.push(("bert.pooler.dense.weight".to_owned(), vec![24, 24]));
    let model = CONFIG.init_masked_lm(0, &device).expect("valid");
    load(&published, |file| file.load_into_bert_masked_lm(model, "bert")).expect("a masked language model");
    published.push(("bert.pooler.dense.bias".to_owned(), vec![24]));
    load(&published, |file| file.load_into_bert(CONFIG.init(0, &device), "bert")).expect("an encoder");
}

#[test]
fn every_parameter_gets_a_gradient_with_dropout_too() {
    let golden = golden();
    let device = device().autodiff();
    // Every word, position and type occurs, so that every row is reached.
    let config = BertConfig { dropout: 0.2, positions: 7, ..CONFIG };
    let (tokens, types) = (ids(&golden.ids, &device), ids(&golden.types, &device));
    let masked = config.init_masked_lm(1, &device).expect("valid");
    let gradients = masked.loss(tokens.clone(), None, Some(types.clone()), tokens.clone()).backward();
    let (count, without) = without_gradient(&masked, &gradients);
    assert_eq!((count, without), (5 + 2 * 16 + 5, vec![]));
    let classifier = config.init_classifier(5, 1, &device).expect("valid");
    let logits = classifier.forward(tokens, None, Some(types));
    let gradients = (logits.clone() * logits).sum().backward();
    let (count, without) = without_gradient(&classifier, &gradients);
    assert_eq!((count, without), (5 + 2 * 16 + 2 + 2, vec![]));
}

#[test]
fn what_an_encoder_cannot_take_is_an_error_that_says_so() {
    let device = device();
    let encoder = CONFIG.init(0, &device);
    let tokens = |row: &[i64]| ids(&[row.to_vec()], &device);
    let error = |row: &[i64]| encoder.check(&tokens(row), None, None).expect_err("wrong").to_string();
    let long = error(&[0; 13]);
    assert!(long.contains("13 tokens is longer than the encoder's 12"), "{long}");
    let unknown = error(&[4, 29]);
    assert!(unknown.contains("token 1: id 29"), "{unknown}");
    let types = encoder.check(&tokens(&[1]), None, Some(&tokens(&[2]))).expect_err("wrong").to_string();
    assert!(types.contains("type 2"), "{types}");
    let mask = flags(&[vec![1, 1]], &device);
    assert!(encoder.check(&tokens(&[1]), Some(&mask), None).is_err());
    assert!(encoder.check(&Tensor::zeros([1, 0], &device), None, None).is_err());
    encoder.check(&tokens(&[0, 28]), Some(&mask), Some(&tokens(&[0, 1]))).expect("right");

    let message = CONFIG.init_classifier(0, 0, &device).expect_err("no classes").to_string();
    assert!(message.contains("`classes` is 0"), "{message}");
    let wrong = BertConfig { heads: 7, ..CONFIG };
    assert!(wrong.init_masked_lm(0, &device).expect_err("7 heads").to_string().contains("`width` is 24"));
}

#[test]
fn reads_transformers_configuration_and_refuses_what_it_does_not_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    let base = r#""vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu""#;
    let read = |more: &str| {
        std::fs::write(&path, format!("{{{base}, {more}}}")).expect("written");
        BertConfig::read(&path)
    };
    assert_eq!(read(r#""model_type": "bert""#).expect("MiniLM's"), BertConfig::MINI_LM_L6);
    let message = read(r#""model_type": "roberta""#).expect_err("another model").to_string();
    assert!(message.contains("`model_type` is roberta, this model has bert"), "{message}");
    let deep = base.replace(r#""num_hidden_layers": 6"#, r#""num_hidden_layers": 9000000"#);
    std::fs::write(&path, format!(r#"{{{deep}, "model_type": "bert"}}"#)).expect("written");
    let message = BertConfig::read(&path).expect_err("too deep").to_string();
    assert!(message.contains("`num_hidden_layers` is 9000000, at most 4096 are read"), "{message}");
}
