//! The encoder, the loss, the optimizer and distillation against golden files that independent
//! peers made; `tests/parity/README.md` says which and how.

use bam_crds::config::Precision;
use bam_trainer::distill::{self, Teacher};
use bam_trainer::model::{
    BertConfig, Dropout, Head, HeadOutput, MicroBatch, Model, Parameter, Pretrained, Row, TensorBundle, TensorFile,
};
use bam_trainer::optim::{AdamWeightDecay, CLIP_NORM, Depth, Gradients, LearningRates, Outcome, Settings};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    let folder = std::env::var_os("BAM_GOLDEN_DIR").map(PathBuf::from);
    folder.unwrap_or_else(|| "tests/golden".into()).join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn cases<'a>(file: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let cases = file[key].as_array().unwrap();
    assert!(!cases.is_empty(), "{key}");
    cases.iter()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| number(value) as f32).collect()
}

/// The largest absolute difference.
fn distance(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    (left - right).abs().max().double_value(&[])
}

fn root_mean_square(tensor: &Tensor) -> f64 {
    tensor.square().mean(Kind::Double).sqrt().double_value(&[])
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

// ----- encoder, loss and gradients

const ENCODERS: [&str; 3] = ["encoder_narrow.safetensors", "encoder_middle.safetensors", "encoder_long.safetensors"];

/// The two tasks of the encoder files: a classifies into three labels, b is a regression.
fn heads() -> Vec<Head> {
    vec![Head { task: "a".into(), outputs: 3 }, Head { task: "b".into(), outputs: 1 }]
}

/// The golden name of a parameter: heads are written with slashes there.
fn golden_name(parameter: &Parameter) -> String {
    match parameter.name.strip_prefix("heads.") {
        Some(rest) => format!("heads/{}", rest.replace('.', "/")),
        None => parameter.name.clone(),
    }
}

/// What a teacher says of rows, whatever else is in their batch: f32 [rows, outputs].
fn teacher(rows: &[i64], outputs: i64) -> Tensor {
    let said = |row: &i64| (0..outputs).map(|output| ((row * 7 + output * 3) as f32).sin()).collect::<Vec<_>>();
    Tensor::from_slice(&rows.iter().flat_map(said).collect::<Vec<_>>()).view([-1, outputs])
}

struct Encoder {
    model: Model,
    file: TensorFile,
    /// Does a teacher say something of every row?
    taught: bool,
}

impl Encoder {
    fn open(name: &str) -> Self {
        Self::with_dropout(name, 0.0)
    }

    /// The golden files have dropout rates of zero; those of the encoder become `rate`.
    fn with_dropout(name: &str, rate: f64) -> Self {
        let mut file = TensorFile::open(&golden(name)).unwrap();
        let mut config: BertConfig = serde_json::from_str(file.metadata("config").unwrap()).unwrap();
        config.hidden_dropout_prob = rate;
        config.attention_probs_dropout_prob = rate;
        assert_eq!(config.validate(), Vec::<String>::new());
        let mut model = Model::random(config, heads(), 1, Device::Cpu);
        for parameter in model.parameters_mut() {
            let value = file.read(&format!("weights/{}", golden_name(parameter))).unwrap();
            parameter.set(&value);
        }
        Self { model, file, taught: false }
    }

    fn read(&mut self, name: &str) -> Tensor {
        self.file.read(name).unwrap()
    }

    /// The given rows.
    fn batch(&mut self, rows: &[i64]) -> MicroBatch {
        let tables = ["input_ids", "attention_mask", "token_type_ids"].map(|name| self.read(&format!("inputs/{name}")));
        let read = rows.iter().map(|&number| {
            let [ids, mask, segments] = tables.each_ref().map(|table| Vec::<i64>::try_from(table.get(number)).unwrap());
            let length = mask.iter().sum::<i64>() as usize;
            let second = segments[..length].iter().position(|&segment| segment == 1).unwrap_or(length);
            (number as u64, ids[..length].iter().map(|&id| id as u32).collect::<Vec<_>>(), second)
        });
        let read: Vec<_> = read.collect();
        let rows = read.iter().map(|(number, input_ids, second)| Row { number: *number, input_ids, second: *second });
        MicroBatch::pack(&rows.collect::<Vec<_>>(), Device::Cpu)
    }

    fn rows(&mut self) -> i64 {
        self.read("inputs/input_ids").size2().unwrap().0
    }

    fn all(&mut self) -> MicroBatch {
        let rows = self.rows();
        self.batch(&(0..rows).collect::<Vec<_>>())
    }

    fn lesson(&mut self) -> Lesson {
        let tasks: Vec<i64> = self.read("inputs/task").try_into().unwrap();
        Lesson {
            tasks: tasks.into_iter().map(|task| task as usize).collect(),
            labels: self.read("inputs/label"),
            scores: self.read("inputs/score"),
            weights: self.read("inputs/weight").try_into().unwrap(),
            taught: self.taught,
        }
    }

    /// The loss of a micro-batch, and each of its rows' unweighted loss.
    fn loss(&mut self, batch: &MicroBatch, dropout: &Dropout) -> (Tensor, Tensor) {
        let lesson = self.lesson();
        let said = self.model.forward(batch, &lesson.heads(batch), dropout);
        lesson.loss(batch, said)
    }

    /// Gradients summed over micro-batches, dense; zero where there is none.
    fn gradients(&mut self, batches: &[MicroBatch], dropout: &Dropout) -> Vec<Tensor> {
        let mut gradients = Gradients::new(self.model.parameters().len());
        let lesson = self.lesson();
        for batch in batches {
            let (new, _) = self.model.gradients(batch, &lesson.heads(batch), dropout, |said| lesson.loss(batch, said));
            gradients.add(new);
        }
        let dense = |gradient: Tensor| {
            if gradient.is_sparse() { gradient.to_dense(None, false) } else { gradient }
        };
        let gradients = gradients.into_tensors().into_iter().zip(self.model.parameters());
        gradients.map(|(gradient, parameter)| gradient.map_or(parameter.value.detach().zeros_like(), dense)).collect()
    }
}

/// What the rows of an encoder's file are to teach.
struct Lesson {
    tasks: Vec<usize>,
    labels: Tensor,
    scores: Tensor,
    weights: Vec<f32>,
    taught: bool,
}

impl Lesson {
    fn heads(&self, batch: &MicroBatch) -> Vec<usize> {
        batch.rows.iter().map(|&row| self.tasks[row as usize]).collect()
    }

    /// The loss of a micro-batch, and each of its rows' unweighted loss.
    fn loss(&self, batch: &MicroBatch, said: Vec<HeadOutput>) -> (Tensor, Tensor) {
        let mut row_loss = Tensor::zeros([batch.rows.len() as i64], (Kind::Float, Device::Cpu));
        let mut total = Tensor::zeros([], (Kind::Float, Device::Cpu));
        for output in said {
            let rows: Vec<i64> = output.positions.iter().map(|&at| batch.rows[at] as i64).collect();
            let said = teacher(&rows, output.logits.size()[1]);
            let rows = Tensor::from_slice(&rows);
            let predictions = if output.head == 0 { &said } else { &said.squeeze_dim(1) };
            let teacher = self.taught.then_some(Teacher { predictions, lambda: 0.3, temperature: 2.0 });
            let losses = if output.head == 0 {
                distill::classification_losses(&output.logits, &self.labels.index_select(0, &rows), teacher)
            } else {
                let predictions = output.logits.squeeze_dim(1);
                distill::regression_losses(&predictions, &self.scores.index_select(0, &rows), teacher)
            };
            let at: Vec<i64> = output.positions.iter().map(|&at| at as i64).collect();
            row_loss = row_loss.index_copy(0, &Tensor::from_slice(&at), &losses.detach());
            total += distill::weighted_sum(&losses, self.weights[output.head].into());
        }
        (total, row_loss)
    }
}

#[test]
fn the_encoder_gives_the_peers_pooled_tokens_and_logits() {
    for name in ENCODERS {
        let mut encoder = Encoder::open(name);
        let batch = encoder.all();
        let pooled = encoder.model.pooled(&batch, &Dropout::off());
        let difference = distance(&pooled, &encoder.read("outputs/pooled"));
        assert!(difference < 1e-5, "{name}: pooled differs by {difference}");

        let logits = |head| encoder.model.logits(head, &pooled, &batch.rows, &Dropout::off());
        let (a, b) = (logits(0), logits(1).squeeze_dim(1));
        let difference = distance(&a, &encoder.read("outputs/logits_a"));
        assert!(difference < 1e-5, "{name}: logits of a differ by {difference}");
        let difference = distance(&b, &encoder.read("outputs/prediction_b"));
        assert!(difference < 1e-5, "{name}: predictions of b differ by {difference}");
    }
}

#[test]
fn in_bf16_pooled_tokens_and_gradients_are_as_far_off_as_the_peers_and_stay_f32() {
    let file = json("encoder_bf16.json");
    for peer in cases(&file, "encoders") {
        let mut encoder = Encoder::open(&format!("encoder_{}.safetensors", peer["name"].as_str().unwrap()));
        let batch = encoder.all();
        let exact = encoder.gradients(std::slice::from_ref(&batch), &Dropout::off());
        encoder.model = encoder.model.with_precision(Precision::Bf16);
        let pooled = encoder.model.pooled(&batch, &Dropout::off());
        assert_eq!(pooled.kind(), Kind::Float);
        let difference = root_mean_square(&(&pooled - encoder.read("outputs/pooled")));
        assert!((1e-5..2.0 * number(&peer["pooled"])).contains(&difference), "{peer}: pooled differs by {difference}");

        let rounded = encoder.gradients(&[batch], &Dropout::off());
        let [mut off, mut all] = [0.0; 2];
        for (exact, rounded) in exact.iter().zip(&rounded) {
            assert_eq!(rounded.kind(), Kind::Float);
            let squares = |tensor: &Tensor| tensor.square().sum(Kind::Double).double_value(&[]);
            off += squares(&(exact - rounded));
            all += squares(exact);
        }
        let off = (off / all).sqrt();
        assert!(off < 2.0 * number(&peer["gradient"]), "{peer}: the gradient is off by {off}");
    }
}

#[test]
fn the_loss_is_the_peers() {
    for name in ENCODERS {
        let mut encoder = Encoder::open(name);
        let batch = encoder.all();
        let (loss, row_loss) = encoder.loss(&batch, &Dropout::off());
        let difference = distance(&row_loss, &encoder.read("outputs/row_loss"));
        assert!(difference < 1e-5, "{name}: a row's loss differs by {difference}");
        let expected = encoder.read("outputs/loss").double_value(&[0]);
        let got = loss.double_value(&[]);
        assert!((got - expected).abs() < 1e-5 * expected, "{name}: {got} instead of {expected}");
    }
}

#[test]
fn all_gradients_are_the_peers() {
    for name in ENCODERS {
        let mut encoder = Encoder::open(name);
        let batch = encoder.all();
        let gradients = encoder.gradients(&[batch], &Dropout::off());
        let names: Vec<String> = encoder.model.parameters().iter().map(golden_name).collect();
        let expected: Vec<Tensor> = names.iter().map(|name| encoder.read(&format!("gradients/{name}"))).collect();
        // The gradient of a key's bias is zero in theory, so a floor is needed: rounding there
        // comes from the gradients around it.
        let floor = 1e-2 * expected.iter().map(largest).fold(0.0, f64::max);
        for ((parameter, got), expected) in names.iter().zip(&gradients).zip(&expected) {
            let difference = distance(got, expected) / largest(expected).max(floor);
            assert!(difference < 1e-5, "{name}: the gradient of {parameter} differs by {difference}");
        }
    }
}

#[test]
fn a_padded_batch_and_single_rows_give_the_same_logits() {
    for name in ENCODERS {
        let mut encoder = Encoder::open(name);
        let batch = encoder.all();
        let together = encoder.model.pooled(&batch, &Dropout::off());
        for row in 0..batch.lengths.len() {
            let alone = encoder.batch(&[row as i64]);
            let alone = encoder.model.pooled(&alone, &Dropout::off());
            for head in 0..encoder.model.heads().len() {
                let logits = |pooled: &Tensor, rows: &[u64]| encoder.model.logits(head, pooled, rows, &Dropout::off());
                let (alone, together) = (logits(&alone, &[row as u64]), logits(&together, &batch.rows));
                let difference = distance(&alone, &together.narrow(0, row as i64, 1));
                assert!(difference < 1e-5, "{name}, row {row}, head {head}: {difference}");
            }
        }
    }
}

#[test]
fn the_gradients_of_micro_batches_of_two_tasks_add_up_to_those_of_the_batch_with_dropout_and_teachers_too() {
    let mut encoder = Encoder::with_dropout("encoder_narrow.safetensors", 0.1);
    let rows = encoder.rows();
    let rates = || [Dropout::off(), Dropout::of_step(3, 5, Device::Cpu)].into_iter();
    let mut norms = Vec::new();
    for (taught, dropout) in rates().map(|dropout| (false, dropout)).chain(rates().map(|dropout| (true, dropout))) {
        encoder.taught = taught;
        let whole = [encoder.all()];
        let expected = encoder.gradients(&whole, &dropout);
        // Two rows together, the last ones alone.
        let mut parts = vec![encoder.batch(&[1, 0])];
        for row in 2..rows {
            parts.push(encoder.batch(&[row]));
        }
        let got = encoder.gradients(&parts, &dropout);
        let norm = |gradients: &[Tensor]| {
            gradients.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt()
        };
        let difference: Vec<Tensor> = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(norm(&difference) < 1e-5 * norm(&expected), "{}", norm(&difference) / norm(&expected));
        norms.push(norm(&expected));
    }
    // Each of the four is another gradient.
    assert!((0..4).all(|one| (0..one).all(|other| norms[one] != norms[other])), "{norms:?}");
}

#[test]
fn computing_activations_again_changes_no_bit_of_the_gradients_with_dropout_and_bf16_too() {
    // Of other devices than this one only their generator is used here: whoever has one draws from it in order.
    let devices = [Device::Cpu, Device::Cuda(0)];
    let formats = [Precision::Fp32, Precision::Bf16];
    let cases = ENCODERS.iter().flat_map(|name| formats.map(|format| (name, format)));
    for ((name, precision), device) in cases.flat_map(|case| devices.map(|device| (case, device))) {
        let mut encoder = Encoder::with_dropout(name, 0.1);
        encoder.taught = true;
        encoder.model = encoder.model.with_precision(precision);
        let mut batches = vec![encoder.all()];
        batches.extend((0..encoder.rows()).map(|row| encoder.batch(&[row])));
        let dropout = Dropout::of_step(3, 7, device);
        let kept = encoder.gradients(&batches, &dropout);
        encoder.model = encoder.model.with_activation_checkpointing(true);
        let again = encoder.gradients(&batches, &dropout);
        let names: Vec<String> = encoder.model.parameters().iter().map(golden_name).collect();
        for ((parameter, kept), again) in names.iter().zip(&kept).zip(&again) {
            assert!(kept == again, "{name}, {precision:?}, {device:?}: {parameter}");
        }
    }
}

#[test]
fn dropout_changes_the_loss_and_the_same_step_repeats_it() {
    for rate in [0.0, 0.1] {
        // Without dropout in the encoder there is still the heads' own.
        let mut encoder = Encoder::with_dropout("encoder_narrow.safetensors", rate);
        let batch = encoder.all();
        let mut loss = |dropout: Dropout| encoder.loss(&batch, &dropout).0.double_value(&[]);
        let evaluated = loss(Dropout::off());
        let trained = loss(Dropout::of_step(1, 7, Device::Cpu));
        assert_ne!(trained, evaluated);
        assert_eq!(trained, loss(Dropout::of_step(1, 7, Device::Cpu)));
        assert_ne!(trained, loss(Dropout::of_step(1, 8, Device::Cpu)));
    }
}

// ----- optimizer

#[test]
fn fifty_steps_of_the_optimizer_are_the_peers() {
    let mut file = TensorFile::open(&golden("optimizer.safetensors")).unwrap();
    let config: Value = serde_json::from_str(file.metadata("config").unwrap()).unwrap();
    let steps = config["train_steps"].as_u64().unwrap();
    let schedule = LearningRates::new(steps, number(&config["warmup_proportion"]), number(&config["learning_rate"]));
    let settings = Settings {
        weight_decay_rate: number(&config["weight_decay_rate"]),
        lr_decay: number(&config["lr_decay"]),
        layers: config["layers"].as_u64().unwrap() as usize,
        clip_norm: number(&config["clip_norm"]),
    };
    let names: Vec<&str> = cases(&config, "parameters").map(|case| case["name"].as_str().unwrap()).collect();
    let mut parameters: Vec<Parameter> = names
        .iter()
        .map(|name| {
            Parameter::new(
                name.replace("heads/", "heads.").replace('/', "."),
                file.read(&format!("initial/{name}")).unwrap(),
            )
        })
        .collect();
    for (case, parameter) in cases(&config, "parameters").zip(&parameters) {
        assert_eq!(case["decayed"].as_bool().unwrap(), parameter.decayed, "{}", parameter.name);
        let multiplier = parameter.depth.multiplier(settings.layers, settings.lr_decay);
        assert!((multiplier - number(&case["multiplier"])).abs() < 1e-12, "{}", parameter.name);
    }
    let gradients: Vec<Tensor> = names.iter().map(|name| file.read(&format!("gradients/{name}")).unwrap()).collect();
    let norms: Vec<f64> = file.read("norm").unwrap().try_into().unwrap();
    let rates: Vec<f64> = file.read("lr").unwrap().try_into().unwrap();

    let mut optimizer = AdamWeightDecay::new(&parameters, settings);
    for step in 0..steps {
        assert!((schedule.at(step) - rates[step as usize]).abs() < 1e-15);
        let own = gradients.iter().enumerate().map(|(at, gradient)| {
            let gradient = gradient.get(step as i64);
            // What a task without a row in the batch gives, and what the word embeddings give.
            match at {
                _ if largest(&gradient) == 0.0 => None,
                0 => Some(gradient.to_sparse(None, None::<i64>, 1)),
                _ => Some(gradient),
            }
        });
        let own = Gradients::from_tensors(own.collect());
        let Outcome::Stepped { norm } = optimizer.step(&mut parameters, own, schedule.at(step)) else {
            panic!("step {step} is not finite");
        };
        let expected = norms[step as usize];
        assert!((norm - expected).abs() < 1e-6 * expected, "step {step}: norm {norm} instead of {expected}");
        if [1, 2, 10, 50].contains(&(step + 1)) {
            for (name, parameter) in names.iter().zip(&parameters) {
                let expected = file.read(&format!("after_{}/{name}", step + 1)).unwrap();
                let difference = distance(&parameter.value, &expected);
                assert!(difference < 1e-6, "{name} differs by {difference} after step {step}");
            }
        }
    }
    let (first, second) = optimizer.moments();
    for (kind, moments) in [("m", first), ("v", second)] {
        let expected: Vec<Tensor> = names.iter().map(|name| file.read(&format!("{kind}_50/{name}")).unwrap()).collect();
        // Fifty roundings to f32 that the peer does not make; and as the terms of a moment can cancel, the smallest
        // are held to the size of the others.
        let floor = 1e-1 * expected.iter().map(largest).fold(0.0, f64::max);
        for ((name, moment), expected) in names.iter().zip(moments).zip(&expected) {
            let difference = distance(moment, expected) / largest(expected).max(floor);
            assert!(difference < 5e-6, "{kind} of {name} differs by {difference}");
        }
    }
}

#[test]
fn schedules_are_the_peers() {
    for case in cases(&json("schedule.json"), "schedules") {
        let steps = case["train_steps"].as_u64().unwrap();
        let base = number(&case["learning_rate"]);
        let schedule = LearningRates::new(steps, number(&case["warmup_proportion"]), base);
        assert_eq!(schedule.warmup_steps(), case["warmup_steps"].as_u64().unwrap(), "{case}");
        for point in cases(case, "points") {
            let (step, expected) = (point[0].as_u64().unwrap(), number(&point[1]));
            assert!((schedule.at(step) - expected).abs() < 1e-12 * base, "{case}, step {step}");
        }
    }
}

#[test]
fn layer_wise_multipliers_are_the_peers() {
    for case in cases(&json("schedule.json"), "multipliers") {
        let name = case["name"].as_str().unwrap().replace('/', ".");
        let layers = case["layers"].as_u64().unwrap() as usize;
        let got = Depth::of(&name).unwrap().multiplier(layers, number(&case["lr_decay"]));
        assert!((got - number(&case["multiplier"])).abs() < 1e-12, "{case}: {got}");
    }
}

#[test]
fn one_number_under_the_optimizer_goes_where_the_peers_goes() {
    for case in cases(&json("schedule.json"), "scalar_runs") {
        let settings = Settings {
            weight_decay_rate: number(&case["weight_decay_rate"]),
            lr_decay: 1.0,
            layers: 12,
            clip_norm: f64::INFINITY,
        };
        let initial = Tensor::from_slice(&[number(&case["initial"]) as f32]);
        let mut parameters = [Parameter::new("heads.a.weight", initial)];
        let mut optimizer = AdamWeightDecay::new(&parameters, settings);
        for (gradient, expected) in numbers(&case["gradients"]).into_iter().zip(cases(case, "after")) {
            let gradient = Gradients::from_tensors(vec![Some(Tensor::from_slice(&[gradient]))]);
            optimizer.step(&mut parameters, gradient, number(&case["group_lr"]));
            let (got, expected) = (parameters[0].value.double_value(&[0]), number(expected));
            assert!((got - expected).abs() < 1e-6 * expected.abs().max(1.0), "{case}: {got} instead of {expected}");
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY] {
        let value = Tensor::from_slice(&[1.0f32, 2.0]);
        let mut parameters = [Parameter::new("heads.a.weight", value.copy())];
        let settings = Settings { weight_decay_rate: 0.01, lr_decay: 0.9, layers: 12, clip_norm: CLIP_NORM };
        let mut optimizer = AdamWeightDecay::new(&parameters, settings);
        let gradient = Gradients::from_tensors(vec![Some(Tensor::from_slice(&[0.0, bad]))]);
        assert_eq!(optimizer.step(&mut parameters, gradient, 1e-4), Outcome::NonFinite);
        assert_eq!(parameters[0].value.detach(), value);
        assert_eq!(optimizer.moments().0[0], value.zeros_like());
        assert_eq!(optimizer.moments().1[0], value.zeros_like());
    }
}

// ----- checkpoints

/// The values of a checkpoint as TensorFlow reads them.
fn values() -> TensorFile {
    TensorFile::open(&golden("checkpoint/values.safetensors")).unwrap()
}

#[test]
fn every_variable_of_a_checkpoint_is_what_tensorflow_reads() {
    let file = |name: &str| golden(&format!("checkpoint/bert_model.ckpt.{name}"));
    let mut bundle = TensorBundle::open(&file("index"), &file("data-00000-of-00001")).unwrap();
    let (names, mut values) = (bundle.names(), values());
    assert_eq!(names, values.names().into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    let mut kinds = BTreeSet::new();
    for name in names {
        let (got, expected) = (bundle.read(&name).unwrap(), values.read(&name).unwrap());
        assert_eq!(bundle.shape(&name), Some(expected.size()), "{name}");
        assert_eq!(got.to_kind(Kind::Double), expected.to_kind(Kind::Double), "{name}");
        kinds.insert(format!("{:?}", got.kind()));
    }
    let all = ["BFloat16", "Double", "Float", "Half", "Int", "Int64"].map(str::to_owned);
    assert_eq!(kinds, all.into());
}

/// What Google's archives call an encoder's parameter, and whether its axes are the other way round there.
fn googles_name(name: &str) -> (String, bool) {
    let path = format!("bert/{}", name.replace("layer.", "layer_").replace('.', "/"));
    let (place, kind) = path.rsplit_once('/').unwrap();
    match (place, kind) {
        _ if place.ends_with("_embeddings") => (place.to_owned(), false),
        (_, "weight") if place.ends_with("LayerNorm") => (format!("{place}/gamma"), false),
        (_, "bias") if place.ends_with("LayerNorm") => (format!("{place}/beta"), false),
        (_, "weight") => (format!("{place}/kernel"), true),
        _ => (path.clone(), false),
    }
}

#[test]
fn a_folder_of_googles_becomes_an_encoder_with_every_value_in_its_place() {
    let found = Pretrained::find(&golden("checkpoint"), true).unwrap();
    found.check_weights().unwrap();
    let (model, report) = Model::pretrained(&found, heads(), (1, 20), Device::Cpu).unwrap();
    assert_eq!((&report.missing, &report.warnings), (&vec![], &vec![]));
    for passed_over in ["bert/pooler/dense/kernel/adam_m", "cls/predictions/output_bias", "global_step"] {
        assert!(report.ignored.iter().any(|name| name == passed_over), "{passed_over}: {:?}", report.ignored);
    }
    let encoder = model.parameters().iter().filter(|parameter| !parameter.name.starts_with("heads."));
    let mut values = values();
    let mut compared = 0;
    for parameter in encoder {
        let (name, transposed) = googles_name(&parameter.name);
        let expected = values.read(&name).unwrap().to_kind(Kind::Float);
        let expected = if transposed { expected.tr() } else { expected };
        assert_eq!(parameter.value.detach(), expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 5 + 2 * 16 + 2);
}

// ----- distillation

#[test]
fn the_weight_of_gold_is_the_peers() {
    for case in cases(&json("distill.json"), "lambdas") {
        let whole = |key: &str| case[key].as_u64().unwrap();
        let annealing = case["annealing"].as_bool().unwrap();
        let got = distill::lambda(whole("step"), whole("total_steps"), annealing, number(&case["distill_weight"]));
        assert!((got - number(&case["lambda"])).abs() < 1e-15, "{case}: {got}");
    }
}

/// Compares a loss of one row, and its gradient, with a case of `distill.json`.
#[track_caller]
fn assert_loss(case: &Value, student: &Tensor, losses: Tensor, gradient: &[f32]) {
    let (got, expected) = (losses.double_value(&[0]), number(&case["loss"]));
    let tolerance = 1e-5 * expected.abs().max(largest(student)).max(1e-2);
    assert!((got - expected).abs() < tolerance, "{case}: {got}");
    losses.sum(Kind::Float).backward();
    let gradient = Tensor::from_slice(gradient).view_as(student);
    assert!(distance(&student.grad(), &gradient) < 1e-5 * largest(&gradient).max(1.0), "{case}");
}

#[test]
fn classification_losses_and_their_gradients_are_the_peers() {
    for case in cases(&json("distill.json"), "classification") {
        let row = |key: &str| Tensor::from_slice(&numbers(&case[key])).unsqueeze(0);
        let (student, teacher) = (row("student").set_requires_grad(true), row("teacher"));
        let gold = Tensor::from_slice(&[case["label"].as_i64().unwrap()]);
        let lambda = number(&case["lambda"]);
        let teacher = Some(Teacher { predictions: &teacher, lambda, temperature: 1.0 });
        let losses = distill::classification_losses(&student, &gold, teacher);
        assert_loss(case, &student, losses, &numbers(&case["gradient"]));
        if lambda == 1.0 {
            let alone = distill::classification_losses(&student, &gold, None);
            let _ = student.grad().zero_();
            assert_loss(case, &student, alone, &numbers(&case["gradient"]));
        }
    }
}

#[test]
fn regression_losses_and_their_gradients_are_the_peers() {
    for case in cases(&json("distill.json"), "regression") {
        let one = |value: f64| Tensor::from_slice(&[value as f32]);
        let student = one(number(&case["student"])).set_requires_grad(true);
        let gold = one(number(&case["label"]) / number(&case["label_max"]));
        let (teacher, lambda) = (one(number(&case["teacher"])), number(&case["lambda"]));
        let teacher = Some(Teacher { predictions: &teacher, lambda, temperature: 1.0 });
        let losses = distill::regression_losses(&student, &gold, teacher);
        assert_loss(case, &student, losses, &[number(&case["gradient"]) as f32]);
    }
}

#[test]
fn a_softened_loss_and_its_gradient_are_torch_s() {
    for case in cases(&json("distill.json"), "softened") {
        let row = |key: &str| Tensor::from_slice(&numbers(&case[key])).view([1, -1]);
        let (student, teacher) = (row("student").set_requires_grad(true), row("teacher"));
        let gold = Tensor::from_slice(&[case["label"].as_i64().unwrap()]);
        let (lambda, temperature) = (number(&case["lambda"]), number(&case["temperature"]));
        let teacher = Some(Teacher { predictions: &teacher, lambda, temperature });
        let losses = distill::classification_losses(&student, &gold, teacher);
        assert_loss(case, &student, losses, &numbers(&case["gradient"]));
    }
}
