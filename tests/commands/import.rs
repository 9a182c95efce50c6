//! `import` from real exports of torch to problem files: what they say, and that output and gradient are PyTorch's.
//!
//! scripts/make_import_archives.py writes the archives, and beside each what PyTorch computes with it, into one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use backpack_run::Error;
use backpack_run::backpack::losses::{MeanSquaredError, Reduction};
use backpack_run::backpack::{Pass, tensor_file};
use backpack_run::cli::import::{ImportArgs, run};
use backpack_run::problems::{builder, definition};
use clap::Parser;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: ImportArgs,
}

/// A folder that a network is imported into.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Bench { folder: crate::support::temporary_folder() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Imports an archive to net.toml and w.safetensors; where it fails, neither is there.
    pub fn import(&self, archive: &Path, flags: &[&str]) -> Result<toml::Table, Error> {
        let (out, weights) = (self.path("net.toml"), self.path("w.safetensors"));
        let _ = (std::fs::remove_file(&out), std::fs::remove_file(&weights));
        let text = |path: &Path| path.display().to_string();
        let fixed =
            ["import".to_owned(), text(archive), "--out".into(), text(&out), "--weights".into(), text(&weights)];
        let command = Command::try_parse_from(fixed.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned())));
        let outcome = run(command.unwrap().arguments);
        assert_eq!(out.exists(), outcome.is_ok(), "the problem file");
        assert_eq!(weights.exists(), outcome.is_ok(), "the weights file");
        let left = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".backpack-run-")).collect();
        assert!(left.is_empty(), "unfinished files: {left:?}");
        outcome.map(|()| std::fs::read_to_string(&out).unwrap().parse().unwrap())
    }
}

/// The exported networks, unpacked once into a folder of the build that bears the digest of what was unpacked: tests may run
/// in a process each, and a folder for temporary files would be left behind by every one of them.
static EXPORTED: LazyLock<PathBuf> = LazyLock::new(|| {
    let packed = std::fs::read(crate::support::repository("tests/golden/import.tar.gz")).unwrap();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = place.join(format!("exported-{}", hex::encode(Sha256::digest(&packed))));
    if !folder.exists() {
        let beside = TempDir::new_in(place).unwrap();
        tar::Archive::new(GzDecoder::new(packed.as_slice())).unpack(beside.path()).unwrap();
        let moved = std::fs::rename(beside.path(), &folder);
        assert!(moved.is_ok() || folder.exists(), "{moved:?}, and no other process was first");
    }
    folder
});

/// An exported network; beside it, as NAME.safetensors, is what PyTorch computes with it.
pub fn archive(name: &str) -> PathBuf {
    EXPORTED.join(format!("{name}.pt2"))
}

/// The layers of a problem file: name and type, and the names of parameters and inputs where they are given.
fn layers(problem: &toml::Table) -> Vec<String> {
    let layers = problem["layers"].as_array().unwrap();
    let text = |(index, layer): (usize, &toml::Value)| {
        let name = layer.get("name").map_or(index.to_string(), |name| name.as_str().unwrap().to_owned());
        let mut text = format!("{name}: {}", layer["type"].as_str().unwrap());
        for key in ["inputs", "names", "tied", "causal"] {
            if let Some(value) = layer.get(key) {
                text += &format!(" {key} {value}");
            }
        }
        text
    };
    layers.iter().enumerate().map(text).collect()
}

/// Imports a network and holds its output and its gradient to PyTorch's.
fn hold(name: &str) -> toml::Table {
    let bench = Bench::new();
    let golden = tensor_file::read(&archive(name).with_extension("safetensors")).unwrap().tensors;
    let shape = golden["x"].size()[1..].to_vec();
    let problem = bench.import(&archive(name), &[]).unwrap();
    let definition = definition::load(bench.path("net.toml").to_str().unwrap()).unwrap();
    let mut network = builder::build_network(&definition, &shape, 0).unwrap();
    network.to(Kind::Double, Device::Cpu);
    network.load(tensor_file::read(&bench.path("w.safetensors")).unwrap().tensors).unwrap();
    let x = &golden["x"];
    let output = network.evaluate(x).unwrap();
    let error = |ours: &Tensor, theirs: &Tensor| {
        assert_eq!(ours.size(), theirs.size(), "{name}");
        f64::try_from((ours - theirs).abs().max()).unwrap()
    };
    let off = error(&output, &golden["output"]);
    assert!(off < 1e-12, "{name}: output {off:e}");
    let loss = MeanSquaredError::new(Reduction::Mean);
    let result = Pass::new(&network, &loss).take(["grad"]).unwrap().run(x, &golden["y"]).unwrap();
    let mut left: BTreeMap<_, _> = golden.iter().filter(|(name, _)| name.starts_with("grad.")).collect();
    for (place, parameter) in network.parameters().iter().enumerate() {
        let theirs = left.remove(&format!("grad.{}", parameter.name)).expect(parameter.name.as_str());
        let off = error(result.get("grad", place).unwrap(), theirs);
        assert!(off < 1e-12, "{name}, {}: gradient {off:e}", parameter.name);
    }
    assert!(left.is_empty(), "{name}: without a layer: {:?}", left.keys());
    problem
}

#[test]
fn lenet() {
    let problem = hold("lenet");
    let kinds = "conv2d relu max_pool2d conv2d relu avg_pool2d flatten linear tanh dropout linear";
    let expected: Vec<String> = kinds.split(' ').enumerate().map(|(index, kind)| format!("{index}: {kind}")).collect();
    assert_eq!(layers(&problem), expected, "no layer needs a name of its own");
}

#[test]
fn vgg() {
    hold("vgg");
}

#[test]
fn resnet18() {
    let problem = hold("resnet18");
    let layers = layers(&problem);
    assert_eq!(layers[..4], ["conv1: conv2d", "bn1: batch_norm2d", "relu: relu", "maxpool: max_pool2d"]);
    assert!(layers.contains(&"layer1.0.add: add inputs [\"previous\", \"maxpool\"]".to_owned()), "{layers:#?}");
    assert!(layers.contains(&"layer2.0.downsample.0: conv2d inputs [\"layer1.1.relu_1\"]".to_owned()), "{layers:#?}");
}

#[test]
fn mobilenet_v2() {
    hold("mobilenet_v2");
}

#[test]
fn vit() {
    let layers = layers(&hold("vit"));
    let token = "class_token: class_token names { weight = \"class_token\" }";
    let places = "encoder.pos_embedding: position_embedding names { weight = \"encoder.pos_embedding\" }";
    for expected in [token, places, "encoder.layers.encoder_layer_0.self_attention.self_attention: self_attention"] {
        assert!(layers.contains(&expected.to_owned()), "{expected} in {layers:#?}");
    }
    let attention = "encoder.layers.encoder_layer_0.self_attention";
    let projection = layers.iter().find(|layer| layer.starts_with(&format!("{attention}.in_proj: linear"))).unwrap();
    assert!(projection.contains(&format!("weight = \"{attention}.in_proj_weight\"")), "{projection}");
    assert!(projection.contains(&format!("bias = \"{attention}.in_proj_bias\"")), "{projection}");
    assert!(!layers.iter().any(|layer| layer.contains(": slice") && layer.contains("attention")), "{layers:#?}");
}

#[test]
fn convnext() {
    let layers = layers(&hold("convnext"));
    let scale = "features.1.0.layer_scale: gain names { weight = \"features.1.0.layer_scale\" }";
    assert!(layers.contains(&scale.to_owned()), "{layers:#?}");
}

#[test]
fn transformer_encoder() {
    hold("transformer_encoder");
}

#[test]
fn nanogpt() {
    let layers = layers(&hold("nanogpt"));
    assert_eq!(layers[0], "transformer.wte: embedding");
    assert_eq!(layers[1], "transformer.wpe: position_embedding");
    assert_eq!(layers.last().unwrap(), "lm_head: linear tied \"transformer.wte\"");
    assert!(
        layers.contains(&"transformer.h.1.attn.self_attention: self_attention causal true".to_owned()),
        "{layers:#?}"
    );
}

#[test]
fn lstm_tagger() {
    hold("lstm_tagger");
}

#[test]
fn unet() {
    let layers = layers(&hold("unet"));
    assert!(layers.contains(&"concat: concat inputs [\"down2.4\", \"previous\"]".to_owned()), "{layers:#?}");
}

/// nn.MultiheadAttention with the sequence first, its weights returned, and a mask that is added.
#[test]
fn attention() {
    let layers = layers(&hold("attention"));
    let attention = layers.iter().find(|layer| layer.contains("self_attention causal true"));
    assert!(attention.is_some(), "{layers:#?}");
}

#[test]
fn sound() {
    hold("sound");
}

#[test]
fn volume() {
    hold("volume");
}

/// What takes several layers: gates, hard activations, numbers that are added, entries that are repeated.
#[test]
fn gates() {
    hold("gates");
}

/// Without a data set the file says what its input is; names, losses and weights are those of the flags.
#[test]
fn flags_say_what_the_archive_does_not() {
    let bench = Bench::new();
    let problem = bench.import(&archive("nanogpt"), &[]).unwrap();
    assert_eq!(problem["name"].as_str(), Some("nanogpt"));
    assert_eq!(problem["input"].to_string(), "{ shape = [6], integers = 11 }");
    assert!(!problem.contains_key("loss") && !problem.contains_key("dataset") && !problem.contains_key("weights"));
    let flags = ["--name", "gpt", "--loss", "cross_entropy", "--start-from-weights", "--dataset", "data.safetensors"];
    let problem = bench.import(&archive("nanogpt"), &flags).unwrap();
    assert_eq!(problem["name"].as_str(), Some("gpt"));
    assert_eq!(problem["loss"].as_str(), Some("cross_entropy"));
    assert_eq!(problem["weights"].as_str(), Some("w.safetensors"), "beside the file");
    assert_eq!(problem["dataset"].to_string(), "{ safetensors = \"data.safetensors\" }");
    assert!(!problem.contains_key("input"));
    for (flags, word) in
        [(["--loss", "hinge"], "cross_entropy"), (["--name", "a/b"], "letters"), (["--dataset", "{ x"], "--dataset")]
    {
        let error = bench.import(&archive("nanogpt"), &flags).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(word), "{error}");
    }
    let own = bench.path("net.pt2");
    std::fs::copy(archive("lenet"), &own).unwrap();
    let text = own.display().to_string();
    let same = Command::try_parse_from(["import", &text, "--out", &text, "--weights", "w"]).unwrap();
    assert_eq!(run(same.arguments).unwrap_err().exit_code(), 2);
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(archive("lenet")).unwrap());
}

/// What is imported checks, and extracts with a loss that is named then.
#[test]
fn what_is_imported_checks_and_extracts() {
    let bench = Bench::new();
    bench.import(&archive("attention"), &[]).unwrap();
    let golden = tensor_file::read(&archive("attention").with_extension("safetensors")).unwrap().tensors;
    let batch = ["x", "y"].map(|name| (name.to_owned(), golden[name].shallow_clone()));
    tensor_file::write(&bench.path("b.safetensors"), &batch, &BTreeMap::new()).unwrap();
    let run = |flags: &str| {
        let mut program = crate::support::program();
        program.current_dir(bench.path("")).args(flags.split(' ')).assert()
    };
    run("check --problem net.toml --set loss=mse").success();
    run("extract --problem net.toml --weights w.safetensors --batch b.safetensors --out q --quantities grad").code(2);
    let extract = "extract --problem net.toml --weights w.safetensors --batch b.safetensors --out q --quantities grad";
    run(&format!("{extract} --dtype f64 --set loss=mse")).success();
    let ours = tensor_file::read(&bench.path("q")).unwrap().tensors;
    for (name, theirs) in golden.iter().filter(|(name, _)| name.starts_with("grad.")) {
        let off = f64::try_from((&ours[name] - theirs).abs().max()).unwrap();
        assert!(off < 1e-12, "{name}: {off:e}");
    }
}

/// The same archive gives the same files, byte by byte.
#[test]
fn imports_are_alike() {
    let files = || {
        let bench = Bench::new();
        bench.import(&archive("vit"), &[]).unwrap();
        [std::fs::read(bench.path("net.toml")).unwrap(), std::fs::read(bench.path("w.safetensors")).unwrap()]
    };
    assert_eq!(files(), files());
}

/// A state_dict under other names, onto a problem that is there: matched by shape where that is asked for.
#[test]
fn weights_alone_are_written_by_the_names_of_a_problem() {
    let bench = Bench::new();
    bench.import(&archive("resnet18"), &[]).unwrap();
    let whole = tensor_file::read(&bench.path("w.safetensors")).unwrap().tensors;
    let problem = bench.path("net.toml").display().to_string();
    let import = |from: &Path, flags: &[&str]| {
        let (from, out) = (from.display().to_string(), bench.path("only.safetensors"));
        let _ = std::fs::remove_file(&out);
        let text = out.display().to_string();
        let fixed = ["import", &from, "--weights-only", "--problem", &problem, "--weights", &text];
        let outcome = run(Command::try_parse_from(fixed.iter().chain(flags)).unwrap().arguments);
        assert_eq!(out.exists(), outcome.is_ok());
        outcome.map(|()| tensor_file::read(&out).unwrap().tensors)
    };
    assert_eq!(import(&archive("resnet18"), &[]).unwrap(), whole, "the archive's own names");
    let other = bench.path("other.safetensors");
    let renamed = |name: &str| name.replace("layer", "stage").replace("downsample.", "shortcut.").replace("fc", "head");
    let tensors: Vec<_> = whole.iter().map(|(name, tensor)| (renamed(name), tensor.shallow_clone())).collect();
    tensor_file::write(&other, &tensors, &BTreeMap::new()).unwrap();
    let error = import(&other, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    for part in ["`fc.weight` of shape [5, 16] is missing", "`head.weight` is not", "--match-by-shape"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(import(&other, &["--match-by-shape"]).unwrap(), whole, "another name for every block");
    tensor_file::write(&other, &tensors[1..], &BTreeMap::new()).unwrap();
    let error = import(&other, &["--match-by-shape"]).unwrap_err().to_string();
    assert!(error.contains("one to one"), "{error}");
    let flags = ["import", "a", "--weights-only", "--weights", "w"];
    assert!(Command::try_parse_from(flags).is_err(), "it has to say for which problem");
}
