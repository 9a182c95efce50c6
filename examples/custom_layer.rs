//! A layer of your own, step by step: `scale`, which multiplies each entry of its input by a weight, y = w * x.
//!
//! Run it with `cargo run --release --example custom_layer`. It checks the layer against finite differences, and fails
//! where they differ; do the same for yours.

use backpack_run::backpack::layers::{
    Activation, Curvature, Layer, Linear, LinearOptions, Mode, Parameter, Saved, Sigmoid, VjpTangent,
};
use backpack_run::backpack::losses::{CrossEntropy, Loss};
use backpack_run::backpack::{Labels, Network, Request, extended_backward, hessian_product};
use backpack_run::{Error, Result};
use tch::{Device, Kind, Tensor};

/// y = w * x, entry by entry, with a weight of the input's shape.
///
/// Shapes, here and below: N samples; V vectors that go through a Jacobian together; `*` the shape of one input.
struct Scale {
    parameters: [Parameter; 1],
}

impl Scale {
    /// A layer for inputs of this shape (without samples), which at first changes nothing.
    fn new(input: &[i64]) -> Self {
        Scale { parameters: [Parameter::new("weight", Tensor::ones(input, (Kind::Float, Device::Cpu)))] }
    }

    fn weight(&self) -> &Tensor {
        &self.parameters[0].value
    }
}

impl Layer for Scale {
    // 1. What it is. The name stands in errors.
    fn kind(&self) -> &'static str {
        "scale"
    }

    // 2. Shapes: networks are checked before anything is computed.
    fn output_shape(&self, input: &[i64]) -> Result<Vec<i64>> {
        if input != self.weight().size() {
            return Err(Error::Shape(format!("scale: built for {:?}, got {input:?}", self.weight().size())));
        }
        Ok(input.to_vec())
    }

    // 3. The forward map, and what the products below need of it: input and output, and in `extra` whatever else.
    fn forward(&self, input: &Tensor, _mode: Mode) -> Result<Saved> {
        Ok(Saved::new(input, input * self.weight()))
    }

    // 4. The Jacobian with respect to the input: transposed for what travels back, [V, N, *out] to [V, N, *in], and
    //    not transposed for tangents that travel forward. Here it is diagonal, and both are the same.
    fn vjp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v * self.weight())
    }

    fn jvp(&self, _saved: &Saved, v: &Tensor) -> Result<Tensor> {
        Ok(v * self.weight())
    }

    // 5. The parameters, and the Jacobian with respect to each: for every vector and sample by itself,
    //    [V, N, *out] to [V, N, *p], and forward, [V, *p] to [V, N, *out].
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    fn parameter_vjp(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(v * &saved.input)
    }

    fn parameter_jvp(&self, saved: &Saved, _parameter: usize, v: &Tensor) -> Result<Tensor> {
        Ok(v.unsqueeze(1) * &saved.input)
    }

    // The gradient, individual gradients, their norms, moments and variance, and the GGN's diagonal follow from these.

    // 6. For the Hessian's diagonal: the output is linear in the input. (For a function of each entry by itself say
    //    Elementwise and give `second_derivative`; without either, the Hessian's diagonal is refused.)
    fn curvature(&self) -> Curvature {
        Curvature::Zero
    }

    // 7. For products with the Hessian: how `vjp(g)` = g * w and the weight's gradient, the sum over samples of g * x,
    //    change when input and weight move.
    fn vjp_tangent(
        &self,
        _saved: &Saved,
        g: &Tensor,
        input: Option<&Tensor>,
        parameters: &[Option<Tensor>],
    ) -> Result<VjpTangent> {
        Ok(VjpTangent {
            input: parameters[0].as_ref().map(|weight| g * weight),
            parameters: vec![input.map(|input| (g * input).sum_dim_intlist(0, false, g.kind()))],
        })
    }

    // 8. Optional: a faster way. The default squares what `parameter_vjp` gives, [V, N, *p]; here the sum over vectors
    //    comes first, so that nothing of that size is made.
    fn squares_sum(&self, saved: &Saved, _parameter: usize, v: &Tensor, signs: Option<&Tensor>) -> Result<Tensor> {
        let squares = match signs {
            Some(signs) => v.square() * signs.unsqueeze(-1),
            None => v.square(),
        };
        let over_vectors = squares.sum_dim_intlist(0, false, v.kind());
        Ok((over_vectors * saved.input.square()).sum_dim_intlist(0, false, v.kind()))
    }
}

/// A small network with the layer in its middle, in double precision.
fn network() -> Result<Network> {
    let mut network = Network::sequential(vec![
        Box::new(Linear::new(&[5], &LinearOptions { out_features: 4, bias: true })?),
        Box::new(Scale::new(&[4])),
        Box::new(Activation::new(Sigmoid {})),
        Box::new(Linear::new(&[4], &LinearOptions { out_features: 3, bias: true })?),
    ]);
    network.to(Kind::Double, Device::Cpu);
    for parameter in network.parameters() {
        parameter.value.shallow_clone().copy_(&Tensor::randn_like(parameter.value));
    }
    Ok(network)
}

/// The example, which is also a test.
pub fn main() -> Result<()> {
    tch::manual_seed(0);
    let network = network()?;
    let loss = CrossEntropy::default();
    let (x, y) = (Tensor::randn([6, 5], (Kind::Double, Device::Cpu)), Tensor::from_slice(&[0i64, 1, 2, 2, 1, 0]));

    let request = Request::new(["grad", "batch_grad", "sum_grad_squared", "variance", "diag_ggn", "diag_hessian"])?;
    let labels = Labels::Drawn { seed: 0, step: 0 };
    let quantities = extended_backward(&network, &loss, &x, &y, Mode::Evaluation, &request, labels)?;

    // Parameters are counted through the network: 0.weight, 0.bias, 1.weight (ours), 3.weight, 3.bias.
    let ours = network.parameters().iter().position(|parameter| parameter.name == "1.weight").expect("it is there");
    println!("of 1.weight:");
    for name in ["grad", "variance", "diag_ggn", "diag_hessian"] {
        println!("{name:>13} {:?}", Vec::<f64>::try_from(quantities.get(name, ours).expect("it was asked for"))?);
    }

    // The judge: central differences of the loss, along each entry of every parameter. The layer's products serve those
    // in front of it too, so that all are compared.
    let value = || -> Result<f64> { Ok(f64::try_from(loss.value(&network.evaluate(&x)?, &y)?)?) };
    let step = 1e-4;
    for (place, parameter) in network.parameters().iter().enumerate() {
        let entries = parameter.value.view([-1]);
        let gradient = quantities.get("grad", place).expect("it was asked for").reshape([-1]);
        let diagonal = quantities.get("diag_hessian", place).expect("it was asked for").reshape([-1]);
        for entry in 0..entries.size()[0] {
            let entry_of = |tensor: &Tensor| tensor.double_value(&[entry]);
            let here = value()?;
            let moved = |by: f64| -> Result<f64> {
                let _ = entries.get(entry).g_add_scalar_(by);
                let there = value()?;
                let _ = entries.get(entry).g_sub_scalar_(by);
                Ok(there)
            };
            let (below, above) = (moved(-step)?, moved(step)?);
            let first = (above - below) / (2.0 * step);
            let second = (above - 2.0 * here + below) / (step * step);
            assert!((entry_of(&gradient) - first).abs() < 1e-7, "{}: gradient, entry {entry}", parameter.name);
            assert!((entry_of(&diagonal) - second).abs() < 1e-6, "{}: Hessian, entry {entry}", parameter.name);
        }
        // Individual gradients sum to the gradient, and their squares to the second moment, which went the fast way.
        let each = quantities.get("batch_grad", place).expect("it was asked for");
        let squares = each.square().sum_dim_intlist(0, false, Kind::Double);
        let moment = quantities.get("sum_grad_squared", place).expect("it was asked for");
        assert!((squares - moment).abs().max().double_value(&[]) < 1e-14, "{}: second moment", parameter.name);
    }

    // A product with the Hessian along one entry is a column of the Hessian; its own entry is the diagonal's.
    let unit: Vec<Tensor> = network.parameters().iter().map(|parameter| parameter.value.zeros_like()).collect();
    let _ = unit[ours].get(2).fill_(1.0);
    let column = hessian_product(&network, &loss, &x, &y, Mode::Evaluation, &unit)?;
    let diagonal = quantities.get("diag_hessian", ours).expect("it was asked for");
    assert!((column[ours].double_value(&[2]) - diagonal.double_value(&[2])).abs() < 1e-12);

    println!("all of them agree with finite differences");
    Ok(())
}
