//! A layer of your own in the whole program: `rescale`, which multiplies each entry of its input by a weight, y = w * x.
//!
//! `cargo run --release --example custom_layer -- check --problem rescaled` holds every quantity of a network with it to
//! automatic differentiation, which only sees the layer's `forward`; do the same for yours. `train --problem rescaled`
//! trains it, and `list layers` tells of it.

use std::process::ExitCode;

use backpack_run::backpack::init::Init;
use backpack_run::backpack::layers::{
    Curvature, EntrywiseSite, Layer, LayerType, Mode, Parameter, ParameterSite, ParameterSource, Saved, Site, Specimen,
    Tangent, VjpTangent,
};
use backpack_run::backpack::network::Operation;
use backpack_run::{Registry, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

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

/// A problem with the layer; `--problem net.toml` may name it as well.
const RESCALED: &str = r#"
name = "rescaled"
dataset = { synthetic = { shape = [5], classes = 3, train = 512, test = 128, seed = 0 } }
loss = "cross_entropy"
batch_size = 32
drop_last = false
layers = [
    { type = "linear", out_features = 4 }, { type = "rescale", start = 0.7 }, { type = "sigmoid" },
    { type = "linear", out_features = 3 },
]
"#;

/// The program with the layer in it.
pub fn main() -> ExitCode {
    backpack_run::program(Registry::new().layer::<RescaleOptions>().problem("rescaled", RESCALED))
}
