//! Our quantities against BackPACK 1.7.1's, stored for small versions of the paper's four networks.
//!
//! tests/golden/backpack.safetensors is made by scripts/make_backpack_golden.py, which says what is in it.

use std::collections::{BTreeMap, BTreeSet};

use backpack_run::backpack::extraction::{Batch, Settings, extract};
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::quantities::{Scale, TABLE_1};
use backpack_run::backpack::tensor_file;
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::definition;
use tch::{Device, Kind, Tensor};

const BOUND: f64 = 1e-9;

/// The tensors below a prefix.
fn below(all: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let entries = all.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    entries.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect()
}

/// max|ours - theirs| / max|theirs|; of the variance, a difference of second moments, relative to the largest of those.
fn error(name: &str, ours: &Tensor, golden: &BTreeMap<String, Tensor>, samples: f64) -> f64 {
    let theirs = &golden[name];
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let scale = match name.strip_prefix("variance.") {
        Some(parameter) => &golden[&format!("sum_grad_squared.{parameter}")] / samples,
        None => theirs.abs(),
    };
    let scale = f64::try_from(scale.max()).unwrap();
    let difference = f64::try_from((ours - theirs).abs().max()).unwrap();
    if scale == 0.0 { difference } else { difference / scale }
}

#[test]
fn quantities_are_those_of_backpack() {
    // The networks are tiny: more threads would only wait for each other.
    tch::set_num_threads(1);
    let golden = tensor_file::read(&crate::support::repository("tests/golden/backpack.safetensors")).unwrap();
    assert!(golden.metadata["made_with"].contains("backpack-for-pytorch 1.7.1"));
    for net in ["logreg", "2c2d", "3c3d", "allcnnc"] {
        let file = crate::support::repository(format!("tests/golden/{net}.toml"));
        let definition = definition::load(file.to_str().unwrap()).unwrap();
        let batch = Batch::from_tensors(below(&golden.tensors, &format!("{net}/"))).unwrap();
        let mut network = build_network(&definition, &batch.x.size()[1..], 0).unwrap();
        network.to(Kind::Double, Device::Cpu);
        network.load(below(&golden.tensors, &format!("{net}/w/"))).unwrap();
        let settings = Settings {
            explicit: TABLE_1.map(str::to_owned).to_vec(),
            table_1: false,
            scale: Scale::Backpack,
            mode: Mode::Evaluation,
            mc_samples: 1,
            mc_seed: 0,
            memory_budget: 1 << 30,
        };
        let loss = build_loss(&definition).unwrap();
        let ours: BTreeMap<String, Tensor> =
            extract(&network, loss.as_ref(), &batch, None, &settings).unwrap().named().into_iter().collect();
        let theirs = below(&golden.tensors, &format!("{net}/q/"));
        let samples = batch.x.size()[0] as f64;
        for name in theirs.keys() {
            let error = error(name, &ours[name], &theirs, samples);
            assert!(error < BOUND, "{net}, {name}: {error:e}");
        }
        // Everything is compared; the factors A, which the three share, once.
        let alike = |name: &str| name.ends_with(".A") && !name.starts_with("kfac.");
        for (name, tensor) in ours.iter().filter(|(name, _)| alike(name)) {
            assert_eq!(tensor, &ours[&name.replace("kflr.", "kfac.").replace("kfra.", "kfac.")], "{net}, {name}");
        }
        let names = |tensors: &BTreeMap<String, Tensor>| {
            tensors.keys().filter(|name| !alike(name) && *name != "mc_labels").cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&ours), names(&theirs), "{net}");
    }
}
