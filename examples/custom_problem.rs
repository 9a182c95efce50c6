//! A problem and a data set of your own in the whole program: two moons, told apart by a small network.
//!
//! `cargo run --release --example custom_problem -- train --problem moons --optimizer adam --lr 0.01` trains it.

use std::process::ExitCode;

use backpack_run::problems::data::{DataFolders, DataSet, NamedSet, Samples};
use backpack_run::random::{Purpose, normal, stream, uniform};
use backpack_run::{Registry, Result};
use tch::{Device, Kind, Tensor};

/// The problem file; `include_str!("moons.toml")` takes it from one.
const MOONS: &str = r#"
name = "moons"
dataset = "two_moons"
loss = "cross_entropy"
batch_size = 32
epochs = 5
layers = [
    { type = "linear", out_features = 16 }, { type = "tanh" },
    { type = "linear", out_features = 2 },
]
"#;

/// The data set: half circles that reach into each other.
struct TwoMoons;

impl NamedSet for TwoMoons {
    fn name(&self) -> &'static str {
        "two_moons"
    }

    fn load(&self, _: &DataFolders) -> Result<DataSet> {
        DataSet::new("two_moons", moons(640, 0), moons(160, 1))
    }
}

/// So many points, every second one on the other moon. What is drawn comes from a stream, the same in every process.
fn moons(count: i64, part: u64) -> Samples {
    let mut stream = stream(0, Purpose::Synthetic, part);
    let y = Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(2);
    let angle = uniform(&mut stream, &[count], Device::Cpu) * std::f64::consts::PI;
    let side: Tensor = 1.0 - y.to_kind(Kind::Float) * 2.0;
    let points = [angle.cos() * &side + (1.0 - &side) * 0.5, angle.sin() * &side + (1.0 - &side) * 0.25];
    let noise = normal(&mut stream, &[count, 2]).to_kind(Kind::Float) * 0.1;
    Samples { x: Tensor::stack(&points, 1) + noise, y }
}

/// The program with both in it.
pub fn main() -> ExitCode {
    backpack_run::program(Registry::new().data_set(TwoMoons).problem("moons", MOONS))
}
