//! Damaged and hostile archives: each is refused with the right exit code, and neither file is written.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::import::{Bench, archive};

const MODEL: &str = "lenet/models/model.json";
const WEIGHTS: &str = "lenet/data/weights/model_weights_config.json";

/// The members of an archive.
struct Members(Vec<(String, Vec<u8>)>);

impl Members {
    fn read() -> Self {
        let mut zip = ZipArchive::new(std::fs::File::open(archive("lenet")).unwrap()).unwrap();
        let members = (0..zip.len()).map(|place| {
            let mut member = zip.by_index(place).unwrap();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            (member.name().to_owned(), bytes)
        });
        let mut members: Vec<_> = members.collect();
        // The folder is called after the file.
        for (name, _) in &mut members {
            *name = format!("lenet/{}", name.split_once('/').unwrap().1);
        }
        Members(members)
    }

    fn without(mut self, name: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|(own, _)| own != name);
        assert_eq!(self.0.len() + 1, before, "{name}");
        self
    }

    fn with(mut self, name: &str, bytes: &[u8]) -> Self {
        self.0.retain(|(own, _)| own != name);
        self.0.push((name.to_owned(), bytes.to_vec()));
        self
    }

    fn edit(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let (_, bytes) = self.0.iter().find(|(own, _)| own == name).unwrap();
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        let before = value.clone();
        change(&mut value);
        assert_ne!(value, before, "the change changes something");
        let bytes = serde_json::to_vec(&value).unwrap();
        self.with(name, &bytes)
    }

    fn bytes(&self, method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in &self.0 {
            zip.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn stored(&self) -> Vec<u8> {
        self.bytes(CompressionMethod::Stored)
    }
}

/// Replaces bytes of the same length at every place.
fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..=bytes.len() - from.len()).filter(|&place| bytes[place..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}

/// The first `count` bytes behind each header of the central directory, changed.
fn in_directory(mut bytes: Vec<u8>, offset: usize, to: &[u8]) -> Vec<u8> {
    let place = (0..bytes.len() - 4).find(|&place| bytes[place..].starts_with(b"PK\x01\x02")).unwrap();
    bytes[place + offset..place + offset + to.len()].copy_from_slice(to);
    bytes
}

fn write(bench: &Bench, bytes: &[u8]) -> PathBuf {
    let path = bench.path("lenet.pt2");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Refuses it with 2 and these words.
fn refuse(what: &str, bytes: &[u8], word: &str) {
    let bench = Bench::new();
    let error = bench.import(&write(&bench, bytes), &[]).expect_err(what);
    assert_eq!(error.exit_code(), 2, "{what}: {error}");
    let text = error.to_string();
    assert!(text.contains(word) && text.contains("lenet.pt2"), "{what}: `{word}` is not in: {text}");
}

fn nodes(program: &mut Value) -> &mut Vec<Value> {
    program["graph_module"]["graph"]["nodes"].as_array_mut().unwrap()
}

fn meta(config: &mut Value) -> &mut Value {
    &mut config["config"]["0.weight"]["tensor_meta"]
}

#[test]
fn an_archive_packed_anew_is_read() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bench = Bench::new();
        bench.import(&write(&bench, &Members::read().bytes(method)), &[]).unwrap();
    }
}

#[test]
fn files_that_are_no_archive_are_refused() {
    let whole = std::fs::read(archive("lenet")).unwrap();
    refuse("an empty file", b"", "no zip file");
    refuse("text", b"name = \"net\"\n", "no zip file");
    refuse("a pickle", b"\x80\x02}q\x00.", "a pickle");
    refuse("half an archive", &whole[..whole.len() / 2], "damaged zip");
    refuse("the end alone", &whole[whole.len() - 100..], "no zip file");
    refuse("the head of a zip alone", b"PK\x03\x04", "damaged zip");
    let bench = Bench::new();
    for path in [bench.path("none.pt2"), bench.path("")] {
        let error = bench.import(Path::new(&path), &["--name", "net"]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

/// What is there and cannot be read lies in the machine, not in the command.
#[cfg(unix)]
#[test]
fn an_archive_that_cannot_be_read_is_told_of_with_3() {
    let bench = Bench::new();
    let path = bench.path("lenet.pt2");
    // Denied permission would stop only who is not root.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = bench.import(&path, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("lenet.pt2: reading failed"), "{error}");
    assert!(!bench.path("net.toml").exists() && !bench.path("w.safetensors").exists());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["lenet/../../evil", "/etc/evil", "lenet/..", "lenet\\evil", "C:/evil", "lenet/./evil"] {
        let mut members = Members::read();
        members.0.push(("lenet/placeholder-name!".into(), b"x".to_vec()));
        let padded = format!("{name:/<23}");
        let bytes = patch(members.stored(), b"lenet/placeholder-name!", &padded.as_bytes()[..23]);
        refuse(name, &bytes, "leads out");
    }
    let beside = Members::read().with("other/file", b"x");
    refuse("a second folder", &beside.stored(), "beside the archive's folder");
    refuse("a bare member", &Members::read().with("bare", b"x").stored(), "lies bare");
}

#[test]
fn sizes_that_lie_are_refused() {
    let stored = Members::read().stored();
    let packed = Members::read().bytes(CompressionMethod::Deflated);
    // Compressed and uncompressed size stand at 20 and 24 of an entry of the directory.
    refuse("a longer member", &in_directory(stored.clone(), 24, &[255, 255, 255, 0]), "tells of");
    refuse("a shorter member", &in_directory(packed.clone(), 24, &[1, 0, 0, 0]), "lenet.pt2");
    refuse("a huge member", &in_directory(packed.clone(), 24, &[255, 255, 255, 127]), "tells of");
    refuse("an encrypted member", &in_directory(packed, 8, &[1, 0]), "encrypted");
    refuse("a method that is not read", &in_directory(stored.clone(), 10, &[12, 0]), "lenet.pt2");
    let damaged = patch(stored, b"\"graph_module\"", b"\"graph_nodule\"");
    refuse("a checksum that does not fit", &damaged, "damaged");
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let zeros = vec![b' '; 80 << 20];
    let bomb = Members::read().with(MODEL, &zeros).bytes(CompressionMethod::Deflated);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    refuse("JSON of 80 MiB", &bomb, "expected at most");
    let bomb = Members::read().with("lenet/data/weights/weight_0", &zeros).bytes(CompressionMethod::Deflated);
    refuse("a tensor's storage of 80 MiB", &bomb, "0.weight");
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    refuse("deep JSON", &Members::read().with(MODEL, &deep).stored(), "models/model.json");
}

#[test]
fn what_is_missing_or_pickled_is_refused() {
    for (name, word) in [
        (MODEL, "models/NAME.json"),
        (WEIGHTS, "model_weights_config.json"),
        ("lenet/data/weights/weight_3", "weight_3"),
        ("lenet/archive_format", "archive_format"),
        ("lenet/archive_version", "archive_version"),
    ] {
        refuse(name, &Members::read().without(name).stored(), word);
    }
    let pickle = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
    refuse("a pickle as program", &Members::read().with(MODEL, pickle).stored(), "a pickle");
    refuse("a pickle as list of weights", &Members::read().with(WEIGHTS, pickle).stored(), "a pickle");
    let flagged = Members::read().edit(WEIGHTS, |config| config["config"]["0.weight"]["use_pickle"] = json!(true));
    refuse("a pickled tensor", &flagged.stored(), "pickled");
    let other = Members::read().with("lenet/models/other.json", b"{}");
    refuse("two models", &other.stored(), "several models");
    refuse("another format", &Members::read().with("lenet/archive_format", b"pt3").stored(), "pt2");
    refuse("another byte order", &Members::read().with("lenet/byteorder", b"big").stored(), "little");
    let torch_save = Members(vec![("net/data.pkl".into(), pickle.to_vec()), ("net/version".into(), b"3".to_vec())]);
    refuse("torch.save", &torch_save.stored(), "torch.save");
}

#[test]
fn other_schemas_are_refused() {
    for (key, version) in [("major", 9), ("major", 7), ("minor", 21), ("minor", -1)] {
        let other = Members::read().edit(MODEL, |program| program["schema_version"][key] = json!(version));
        refuse("a schema", &other.stored(), "schema version");
    }
    let none = Members::read().edit(MODEL, |program| {
        program.as_object_mut().unwrap().remove("schema_version");
    });
    refuse("no schema", &none.stored(), "schema_version");
    refuse("a list as program", &Members::read().with(MODEL, b"[]").stored(), "models/model.json");
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let sizes = |sizes: Value| move |config: &mut Value| meta(config)["sizes"] = sizes;
    let huge = json!([{"as_int": 1i64 << 62}, {"as_int": 1}, {"as_int": 5}, {"as_int": 5}]);
    let more = json!([{"as_int": 300}, {"as_int": 1}, {"as_int": 5}, {"as_int": 5}]);
    let negative = json!([{"as_int": -3}, {"as_int": 1}, {"as_int": 5}, {"as_int": 5}]);
    for (what, sizes) in [("huge sizes", sizes(huge)), ("more sizes", sizes(more)), ("negative sizes", sizes(negative))]
    {
        refuse(what, &Members::read().edit(WEIGHTS, sizes).stored(), "0.weight");
    }
    let spread = Members::read().edit(WEIGHTS, |config| meta(config)["strides"][0] = json!({"as_int": 1000}));
    refuse("strides beyond the storage", &spread.stored(), "0.weight");
    let expanded = Members::read().edit(WEIGHTS, |config| {
        meta(config)["sizes"][0] = json!({"as_int": 1i64 << 40});
        meta(config)["strides"][0] = json!({"as_int": 0});
    });
    refuse("a tensor that repeats itself", &expanded.stored(), "0.weight");
    let offset = Members::read().edit(WEIGHTS, |config| meta(config)["storage_offset"] = json!({"as_int": 7}));
    refuse("an offset beyond the storage", &offset.stored(), "0.weight");
    let complex = Members::read().edit(WEIGHTS, |config| meta(config)["dtype"] = json!(10));
    refuse("complex numbers", &complex.stored(), "type 10");
    refuse("a short storage", &Members::read().with("lenet/data/weights/weight_0", &[0; 8]).stored(), "weight_0");
    let outside = Members::read()
        .edit(WEIGHTS, |config| config["config"]["0.weight"]["path_name"] = json!("../../models/model.json"));
    refuse("a storage elsewhere", &outside.stored(), "no member");
}

#[test]
fn graphs_that_are_none_are_refused() {
    let edit = |change: fn(&mut Value)| Members::read().edit(MODEL, change).stored();
    let cycle = edit(|program| nodes(program).reverse());
    refuse("a cycle", &cycle, "which nothing before it makes");
    let unknown = edit(|program| nodes(program)[1]["inputs"][0]["arg"]["as_tensor"]["name"] = json!("nobody"));
    refuse("an unknown name", &unknown, "nobody");
    let twice = edit(|program| {
        let node = nodes(program)[0].clone();
        nodes(program).insert(1, node);
    });
    refuse("a value made twice", &twice, "two values");
    let call = edit(|program| nodes(program)[1]["target"] = json!("torch.ops.evil.run.default"));
    refuse("an unknown call", &call, "torch.ops.evil.run.default");
    let output = edit(|program| program["graph_module"]["signature"]["output_specs"] = json!([]));
    refuse("no output", &output, "returns 0 tensors");
    let wrong = edit(|program| nodes(program)[0]["inputs"][3]["arg"] = json!({"as_ints": [0, 0]}));
    refuse("strides of 0", &wrong, "conv2d");
    let kernel = edit(|program| nodes(program)[2]["inputs"][1]["arg"] = json!({"as_ints": [1i64 << 40, 2]}));
    refuse("a huge window", &kernel, "max_pool2d");
    let batch = edit(|program| {
        program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = json!({"as_int": 0});
    });
    refuse("a batch of nothing", &batch, "the input");
    let constant = edit(|program| {
        let sizes = json!([1i64 << 40, 1i64 << 20]);
        let node = &mut nodes(program)[1];
        node["target"] = json!("torch.ops.aten.zeros.default");
        node["inputs"] = json!([{"name": "size", "arg": {"as_ints": sizes}, "kind": 1}]);
    });
    refuse("a huge constant", &constant, "a constant of sizes");
    let late = edit(|program| {
        let output = program["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"].clone();
        let inputs =
            json!([{"name": "self", "arg": output, "kind": 1}, {"name": "other", "arg": {"as_float": 2.0}, "kind": 1}]);
        let outputs = json!([{"as_tensor": {"name": "late"}}]);
        let target = "torch.ops.aten.mul_.Tensor";
        nodes(program).push(json!({"target": target, "inputs": inputs, "outputs": outputs, "metadata": {}}));
    });
    refuse("an output that is changed afterwards", &late, "in place");
    let flood = edit(|program| {
        let parameter = program["graph_module"]["signature"]["input_specs"][0].clone();
        program["graph_module"]["signature"]["input_specs"].as_array_mut().unwrap().push(parameter);
    });
    refuse("an input named twice", &flood, "two inputs");
}

/// The refusal names the node, the call, the module, the line of the user's own source, and what would do instead.
#[test]
fn what_no_layer_says_is_refused_by_its_line() {
    let bench = Bench::new();
    let members =
        Members::read().edit(MODEL, |program| nodes(program)[8]["target"] = json!("torch.ops.aten.erfinv.default"));
    let error = bench.import(&write(&bench, &members.stored()), &[]).unwrap_err().to_string();
    for part in [
        "`tanh`",
        "torch.ops.aten.erfinv.default",
        "in module 8 (torch.nn.modules.activation.Tanh)",
        "  at ",
        "instead: ",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

/// Where there is something that a user could write instead, the refusal says it.
#[test]
fn what_would_do_instead_fits_the_operation() {
    for (operation, instead) in [
        ("softplus", "-F.logsigmoid(-x)"),
        ("prelu", "nn.LeakyReLU"),
        ("gt", "torch.clamp"),
        ("rsqrt", "nn.RMSNorm"),
        ("_weight_norm", "remove_parametrizations"),
        ("upsample_bilinear2d", "mode=\"nearest\""),
        ("log_softmax", "cross_entropy includes it"),
    ] {
        let target = format!("torch.ops.aten.{operation}.default");
        let members = Members::read().edit(MODEL, |program| nodes(program)[8]["target"] = json!(target));
        refuse(operation, &members.stored(), instead);
    }
}
