//! A layer of your own, step by step: `rescale`, which multiplies each entry of its input by a weight, y = w * x.
//!
//! Run it with `cargo run --release --example custom_layer`. It holds every quantity of a network with the layer to
//! automatic differentiation, which only sees the layer's `forward`; do the same for yours. Then it trains one.

use backpack_run::Result;
use backpack_run::backpack::extraction::{self, Batch};
use backpack_run::backpack::init::Init;
use backpack_run::backpack::layers::{
    Curvature, EntrywiseSite, Layer, LayerType, Linear, LinearOptions, Mode, Parameter, ParameterSite, ParameterSource,
    Saved, Site, Specimen, Tangent, VjpTangent, register,
};
use backpack_run::backpack::losses::CrossEntropy;
use backpack_run::backpack::network::Operation;
use backpack_run::backpack::{BuiltIn::DiagHessian, Network, Pass, hessian_product, oracle};
use backpack_run::config::Source;
use backpack_run::optimizers::{Hyperparameters, build};
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::data::{DataFolders, Part, load};
use backpack_run::problems::definition::parse;
use backpack_run::study::run::{Trainer, TrainerOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// 1. The layer's type: its options, as problem files have them, with defaults and meanings.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct RescaleOptions {
    /// what every entry of the weight starts as
    #[serde(default = "one")]
    start: f64,
}

fn one() -> f64 {
    1.0
}

impl LayerType for RescaleOptions {
    const NAME: &'static str = "rescale";
    const SUMMARY: &'static str = "every entry times a weight of its own";
    const SPECIMENS: &'static [Specimen] = &[Specimen::new("start = 0.7", &[4])];

    fn build(&self, site: &Site) -> Result<Operation> {
        Ok(Operation::Layer(Box::new(Rescale::new(site.input()?, self.start, site.parameters)?)))
    }
}

/// y = w * x, with a weight of the input's shape.
///
/// Shapes, here and below: N samples; V vectors that go through a Jacobian together; `*` the shape of one input.
struct Rescale([Parameter; 1]);

impl Rescale {
    fn new(input: &[i64], start: f64, parameters: ParameterSource) -> Result<Self> {
        Ok(Rescale([parameters.plain(RescaleOptions::NAME, "weight", input, Init::Constant(start))?]))
    }
}

impl Layer for Rescale {
    fn kind(&self) -> &'static str {
        RescaleOptions::NAME
    }

    // 2. Shapes: networks are checked before anything is computed.
    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    // 3. The forward map, and what the products below need of it: input and output, and in `extra` whatever else.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input * &self.0[0].value))
    }

    // 4. The Jacobian with respect to the input: transposed for what travels back, [V, N, *out] to [V, N, *in], and not
    //    transposed for tangents that travel forward. Here it is diagonal, and both are the same.
    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v * &self.0[0].value)
    }

    fn jvp(&self, saved: &Saved, v: &Tensor) -> Result<Tensor> {
        self.vjp(saved, v)
    }

    // 5. The parameters, and how each meets the input.
    fn parameters(&self) -> &[Parameter] {
        &self.0
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.0
    }

    fn site(&self, _parameter: usize) -> ParameterSite<'_> {
        ParameterSite::Entrywise(self, "what multiplies each entry by itself has no Kronecker factors")
    }

    // 6. For the Hessian's diagonal: the output is linear in the input. (A function of each entry by itself says
    //    Elementwise with its second derivative; without either, the Hessian's diagonal is refused.)
    fn curvature(&self) -> Curvature<'_> {
        Curvature::Zero
    }

    fn tangent(&self) -> Option<&dyn Tangent> {
        Some(self)
    }
}

// What the parameter multiplies, and which entries share one of its own. The gradient, individual gradients, their
// norms, moments and variance, and the GGN's diagonal follow from it. A parameter that meets the input in another way
// says nothing of its site and gives its products instead, `parameter_vjp` and `parameter_jvp`.
impl EntrywiseSite for Rescale {
    fn factor(&self, saved: &Saved, _parameter: usize) -> Option<Tensor> {
        Some(saved.input.shallow_clone())
    }

    fn gather(&self, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(v.shallow_clone())
    }

    fn spread(&self, _saved: &Saved, _parameter: usize, directions: &Tensor) -> Result<Tensor> {
        Ok(directions.unsqueeze(1))
    }

    fn is_apart(&self, _parameter: usize) -> bool {
        true
    }
}

// 7. For products with the Hessian: how `vjp(g)` = g * w and the weight's gradient, the sum over samples of g * x, change
//    when input and weight move.
impl Tangent for Rescale {
    fn vjp_tangent(&self, _: &Saved, g: &Tensor, x: Option<&Tensor>, w: &[Option<Tensor>]) -> Result<VjpTangent> {
        let weight = x.map(|x| (g * x).sum_dim_intlist(0, false, g.kind()));
        Ok(VjpTangent { input: w[0].as_ref().map(|w| g * w), parameters: vec![weight] })
    }
}

const PROBLEM: &str = r#"
name = "rescaled"
dataset = { synthetic = { shape = [5], classes = 3, train = 512, test = 128, seed = 0 } }
loss = "cross_entropy"
layers = [
    { type = "linear", out_features = 4 }, { type = "rescale", start = 0.7 }, { type = "sigmoid" },
    { type = "linear", out_features = 3 },
]
"#;

/// The example, which is also a test.
pub fn main() -> Result<()> {
    tch::manual_seed(0);
    // Entered, the type can stand in problem files, here and in whatever else this program does with them.
    register::<RescaleOptions>()?;
    let problem = parse(&Source::built_in("rescaled.toml", PROBLEM))?;
    let (mut network, loss) = (build_network(&problem, &[5], 0)?, build_loss(&problem)?);
    let (x, y) = (Tensor::randn([6, 5], (Kind::Double, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 2, 1, 0]));

    // The judge, as `backpack-run check`: every quantity that there is, against automatic differentiation.
    let report = oracle::check(&mut network, loss.as_ref(), &[5], &oracle::CheckSettings::default())?;
    for row in report.rows.iter().filter(|row| row.layer == "1") {
        println!("{:>18} of 1.{}: off by {:.0e}", row.quantity, row.parameter, row.error);
    }
    assert!(report.failures() == 0 && report.rows.iter().filter(|row| row.layer == "1").count() >= 8);

    // As `backpack-run extract`: quantities, and products of the curvature matrices with a vector, by name.
    let vector: Vec<Tensor> = network.parameters().iter().map(|parameter| parameter.value.zeros_like()).collect();
    let ours = network.parameter_named("1.weight").expect("the second layer is ours");
    let _ = vector[ours].get(2).fill_(1.0);
    let settings = extraction::Settings { explicit: vec!["variance".to_owned()], ..extraction::Settings::default() };
    let batch = Batch { x: x.shallow_clone(), y: y.shallow_clone(), mc_labels: None };
    let found = extraction::extract(&network, loss.as_ref(), &batch, Some(&vector), &settings)?;
    assert!(found.tensors.iter().any(|(name, _)| name == "variance.1.weight"));

    // A product with the Hessian along one entry is a column of the Hessian; its own entry is the diagonal's.
    let column = hessian_product(&network, loss.as_ref(), &x, &y, Mode::Evaluation, &vector)?;
    let result = Pass::new(&network, loss.as_ref()).take([DiagHessian])?.run(&x, &y)?;
    let diagonal = result.get(DiagHessian, "1.weight")?;
    assert!((column[ours].double_value(&[2]) - diagonal.double_value(&[2])).abs() < 1e-12);

    // A network built in Rust, the layer in it, is trained without any file.
    let linear = |inputs: i64, outputs| Linear::new(&[inputs], &LinearOptions { out_features: outputs, bias: true });
    let own = Rescale::new(&[4], 0.7, ParameterSource::Drawn)?;
    let network = Network::sequential(vec![Box::new(linear(5, 4)?), Box::new(own), Box::new(linear(4, 3)?)]);
    let optimizer = build(&Hyperparameters::new("momentum".parse()?, 0.1), &network)?;
    let data = load(&problem.dataset, &DataFolders::from_choice(None))?;
    let options = TrainerOptions { batch_size: 32, ..TrainerOptions::default() };
    let mut trainer = Trainer::of(network, Box::new(CrossEntropy::default()), optimizer, &data, &options)?;
    let before = trainer.evaluate(Part::Test, 0)?;
    for epoch in 0..25 {
        trainer.train_epoch(epoch)?;
    }
    let after = trainer.evaluate(Part::Test, 25)?;
    println!("test loss {:.3}, after 25 epochs {:.3}", before.loss, after.loss);
    assert!(after.loss < 0.8 * before.loss && trainer.network().parameters()[ours].name == "1.weight");
    Ok(())
}
