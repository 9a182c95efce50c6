//! The layers' Jacobian products by themselves: forward and transposed products are adjoint, second-order ones are
//! automatic differentiation's, and what a layer overrides for speed is what its plain products give.

use crate::cases::{Case, list};
use backpack_run::Error;
use backpack_run::backpack::layers::{
    Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, Curvature, Layer, Saved,
};
use backpack_run::backpack::oracle::error_between;
use backpack_run::random::{Purpose, normal, stream};
use tch::{Kind, Tensor};

const BOUND: f64 = 1e-11;

/// A layer of a case, in its place.
struct Site<'a> {
    case: &'a Case,
    layer: &'a dyn Layer,
    input: Tensor,
    saved: Saved,
    vectors: i64,
    seed: u64,
}

impl Site<'_> {
    /// `[V, N, *rest]`.
    fn draw(&self, rest: &[i64], step: u64) -> Tensor {
        let shape = [&[self.vectors, self.case.samples], rest].concat();
        normal(&mut stream(self.seed, Purpose::Batch, step), &shape)
    }

    fn input_shape(&self) -> Vec<i64> {
        self.input.size()[1..].to_vec()
    }

    fn output_shape(&self) -> Vec<i64> {
        self.saved.output.size()[1..].to_vec()
    }

    fn close(&self, a: &Tensor, b: &Tensor, what: &str) {
        let error = error_between(a, b);
        assert!(error < BOUND, "{}, {}: {what} off by {error:.1e}", self.case.name, self.layer.kind());
    }
}

fn everywhere(check: impl Fn(&Site)) {
    tch::set_num_threads(1);
    for case in list::all_cases() {
        let network = case.network(Kind::Double);
        let trace = network.forward(&case.x(Kind::Double), case.mode).unwrap();
        for (place, node) in network.nodes().iter().enumerate() {
            // Integers have no derivative; the oracle checks what takes them.
            let Some(layer) = node.layer().filter(|layer| layer.integers().is_none()) else { continue };
            let input = trace.value(node.inputs()[0]);
            for vectors in [1, 3] {
                let saved = layer.forward(input, case.mode).unwrap();
                let input = input.shallow_clone();
                check(&Site { case: &case, layer, input, saved, vectors, seed: place as u64 });
            }
        }
    }
}

#[test]
fn forward_and_transposed_products_are_adjoint() {
    everywhere(|site| {
        let (u, v) = (site.draw(&site.output_shape(), 1), site.draw(&site.input_shape(), 2));
        let forward = site.layer.jvp(&site.saved, &v).unwrap();
        let back = site.layer.vjp(&site.saved, &u).unwrap();
        assert_eq!((forward.size(), back.size()), (u.size(), v.size()), "{}", site.case.name);
        let inner = |a: &Tensor, b: &Tensor| (a * b).flatten(2, -1).sum_dim_intlist(2, false, None::<Kind>);
        site.close(&inner(&u, &forward), &inner(&back, &v), "the input's product");
        for (number, parameter) in site.layer.parameters().iter().enumerate() {
            let shape = [&[site.vectors], parameter.value.size().as_slice()].concat();
            let tangent = normal(&mut stream(site.seed, Purpose::Batch, 3), &shape);
            let forward = site.layer.parameter_jvp(&site.saved, number, &tangent).unwrap();
            let back = site.layer.parameter_vjp(&site.saved, number, &u).unwrap();
            site.close(&inner(&u, &forward), &inner(&back, &tangent.unsqueeze(1)), parameter.name);
        }
    });
}

#[test]
fn tangents_of_transposed_products_are_autograds() {
    everywhere(|site| {
        if site.vectors > 1 {
            return;
        }
        let g = site.draw(&site.output_shape(), 1).squeeze_dim(0);
        let parameters: Vec<Tensor> =
            site.layer.parameters().iter().map(|parameter| parameter.value.set_requires_grad(true)).collect();
        let x = site.input.detach().set_requires_grad(true);
        let mut at = vec![x.shallow_clone()];
        at.extend(parameters.iter().map(Tensor::shallow_clone));
        let directions: Vec<Tensor> = at
            .iter()
            .enumerate()
            .map(|(number, at)| normal(&mut stream(site.seed, Purpose::Batch, 10 + number as u64), &at.size()))
            .collect();
        let value = (site.layer.forward(&x, site.case.mode).unwrap().output * &g).sum(None::<Kind>);
        // A matrix for the steps behind the first is not used by a sequence of one.
        let or_zeros = |(found, at): (Tensor, &Tensor)| if found.defined() { found } else { at.zeros_like() };
        let first = Tensor::run_backward(&[value], &at, true, true);
        let first: Vec<Tensor> = first.into_iter().zip(&at).map(or_zeros).collect();
        let along: Vec<Tensor> =
            first.iter().zip(&directions).map(|(first, direction)| (first * direction).sum(None::<Kind>)).collect();
        let along = Tensor::stack(&along, 0).sum(None::<Kind>);
        let theirs: Vec<Tensor> = if along.requires_grad() {
            Tensor::run_backward(&[along], &at, false, false).into_iter().zip(&at).map(or_zeros).collect()
        } else {
            at.iter().map(Tensor::zeros_like).collect()
        };
        for parameter in &parameters {
            let _ = parameter.set_requires_grad(false);
        }
        let moving: Vec<Option<Tensor>> = directions[1..].iter().map(|one| Some(one.shallow_clone())).collect();
        let ours = tch::no_grad(|| site.layer.vjp_tangent(&site.saved, &g, Some(&directions[0]), &moving)).unwrap();
        let or_zero = |tensor: Option<Tensor>, at: &Tensor| tensor.unwrap_or_else(|| at.zeros_like());
        site.close(&or_zero(ours.input, &x), &theirs[0], "the tangent of the input's product");
        let mut found = ours.parameters.into_iter();
        for (number, at) in at.iter().enumerate().skip(1) {
            site.close(&or_zero(found.next().flatten(), at), &theirs[number], "the tangent of a parameter's product");
        }
        if let Curvature::Elementwise(function) = site.layer.curvature() {
            let second = function.second_derivative(&site.saved).unwrap();
            site.close(&(second * &g * &directions[0]), &theirs[0], "the second derivative");
        }
    });
}

#[test]
fn overrides_are_what_the_plain_products_give() {
    everywhere(|site| {
        let v = site.draw(&site.output_shape(), 1);
        let signs = site.draw(&[], 4).sign();
        let sum = |tensor: &Tensor, axis: i64| tensor.sum_dim_intlist(axis, false, None::<Kind>);
        for (number, parameter) in site.layer.parameters().iter().enumerate() {
            let (layer, saved, name) = (site.layer, &site.saved, parameter.name);
            let each = layer.parameter_vjp(saved, number, &v).unwrap();
            site.close(&layer.parameter_vjp_sum(saved, number, &v).unwrap(), &sum(&each, 1), name);
            let norms = sum(&each.square().flatten(2, -1), 2);
            site.close(&layer.squared_norms(saved, number, &v).unwrap(), &norms, name);
            for signs in [None, Some(&signs)] {
                let squares = match signs {
                    Some(signs) => {
                        let mut shape = signs.size();
                        shape.resize(each.dim(), 1);
                        each.square() * signs.view(shape.as_slice())
                    }
                    None => each.square(),
                };
                let per_sample = sum(&squares, 0);
                site.close(&layer.squares_per_sample(saved, number, &v, signs).unwrap(), &per_sample, name);
                site.close(&layer.squares_sum(saved, number, &v, signs).unwrap(), &sum(&per_sample, 0), name);
            }
        }
        let g = v.get(0);
        let (gradients, input) = site.layer.gradient(&site.saved, &g, true).unwrap();
        let v = g.unsqueeze(0);
        site.close(&input.unwrap(), &site.layer.vjp(&site.saved, &v).unwrap().squeeze_dim(0), "the input's gradient");
        for (number, gradient) in gradients.iter().enumerate() {
            let plain = site.layer.parameter_vjp(&site.saved, number, &v).unwrap().squeeze_dim(0);
            site.close(gradient, &sum(&plain, 0), "a parameter's gradient");
        }
        assert_eq!(gradients.len(), site.layer.parameters().len());
        let without = site.layer.gradient(&site.saved, &g, false).unwrap();
        assert!(without.1.is_none() && without.0.len() == gradients.len());
    });
}

/// What `bench` differentiates automatically is the same function.
#[test]
fn libtorchs_own_forward_is_the_same() {
    everywhere(|site| {
        // Each draws masks of its own.
        if site.layer.kind() == "dropout" {
            return;
        }
        let library = site.layer.library(&site.input, site.case.mode).unwrap();
        site.close(&library, &site.saved.output, "libtorch's own forward");
    });
}

/// Remainders alone would let these pass, or divide by zero.
#[test]
fn groups_and_channels_of_convolutions_start_at_one() {
    for (groups, out_channels) in [(0, 4), (2, 0), (-1, 4), (1, -4)] {
        let conv = Conv2dOptions { groups, out_channels, kernel_size: [3, 3], ..Conv2dOptions::default() };
        let made = Conv2d::new(&[4, 5, 5], &conv);
        assert!(matches!(made, Err(Error::Shape(_))), "{groups} {out_channels}");
        let transposed =
            ConvTranspose2dOptions { groups, out_channels, kernel_size: [3, 3], ..ConvTranspose2dOptions::default() };
        let made = ConvTranspose2d::new(&[4, 5, 5], &transposed);
        assert!(matches!(made, Err(Error::Shape(_))), "{groups} {out_channels}");
    }
}
