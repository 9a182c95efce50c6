//! Matrix-free products of a vector with the generalised Gauss-Newton matrix, the Hessian and the sampled Fisher.
//!
//! Shapes: a *vector* is a list of tensors, one for each parameter of the network in its order, each of the
//! parameter's shape `[*p]`; a product is such a list again. The matrices are those of the reduced loss, and span all
//! parameters, not single blocks.
//!
//! With J the Jacobian of the output f with respect to the parameters, H_f the loss's Hessian with respect to f and
//! s the sampled square root of H_f (`E[s s^T] = H_f`), sums running over samples:
//!
//! * GGN: `J^T H_f J v` (Schraudolph, 2002, "Fast curvature matrix-vector products for second-order gradient descent"):
//!   one sweep of tangents forward, one product at the output, one sweep back.
//! * Monte-Carlo Fisher: `J^T (s s^T) J v` with labels drawn from the model or given: the same sweeps.
//! * Hessian: the derivative of the gradient along v (Pearlmutter, 1994, "Fast exact multiplication by the Hessian",
//!   the R-operator): tangents forward, then the gradient and its tangent backward together.
//!
//! Each costs a small multiple of a gradient, and no matrix is ever formed.

use tch::{Tensor, no_grad_guard};

use super::request::Labels;
use crate::backpack::layers::{Curvature, Layer, Merge, Mode, VjpTangent};
use crate::backpack::losses::{Evaluated, Loss};
use crate::backpack::network::{Network, Node, Operation, Trace, Value};
use crate::backpack::sweep::Onward;
use crate::error::{Error, Result};

/// A network at one batch, of which any number of products can be taken with one forward pass.
#[derive(Debug)]
pub struct Linearised<'a> {
    network: &'a Network,
    loss: &'a dyn Loss,
    mode: Mode,
    samples: i64,
    trace: Trace,
    at: Evaluated,
}

/// The product of the generalised Gauss-Newton matrix at a batch with `vector`; see the module's documentation.
///
/// `input` is `[N, *in]`, `target` as the loss takes it; `vector` has one tensor `[*p]` for each parameter.
///
/// # Errors
/// As [`Linearised::new`] and [`Linearised::ggn_product`].
pub fn ggn_product(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    mode: Mode,
    vector: &[Tensor],
) -> Result<Vec<Tensor>> {
    Linearised::new(network, loss, input, target, mode)?.ggn_product(vector)
}

/// The product of the Hessian of the reduced loss at a batch with `vector`; arguments as for [`ggn_product`].
///
/// # Errors
/// As [`Linearised::new`] and [`Linearised::hessian_product`].
pub fn hessian_product(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    mode: Mode,
    vector: &[Tensor],
) -> Result<Vec<Tensor>> {
    Linearised::new(network, loss, input, target, mode)?.hessian_product(vector)
}

/// The product of the Monte-Carlo Fisher at a batch with `vector`, and the labels used; arguments as for
/// [`ggn_product`], `mc_samples` and `labels` as for [`Linearised::labels`].
///
/// # Errors
/// As [`Linearised::new`], [`Linearised::labels`] and [`Linearised::fisher_mc_product`].
#[expect(clippy::too_many_arguments, reason = "those of ggn_product, and the labels")]
pub fn fisher_mc_product(
    network: &Network,
    loss: &dyn Loss,
    input: &Tensor,
    target: &Tensor,
    mode: Mode,
    vector: &[Tensor],
    mc_samples: i64,
    labels: Labels,
) -> Result<(Vec<Tensor>, Tensor)> {
    let point = Linearised::new(network, loss, input, target, mode)?;
    let labels = point.labels(mc_samples, labels)?;
    Ok((point.fisher_mc_product(vector, &labels)?, labels))
}

impl<'a> Linearised<'a> {
    /// Runs the network forward on `input` (`[N, *in]`) and evaluates the loss at `target`.
    ///
    /// # Errors
    /// [`Error::Unsupported`], before anything is computed, when a layer mixes the samples of a batch (BatchNorm while
    /// training); [`Error::Shape`] when shapes do not fit.
    pub fn new(
        network: &'a Network,
        loss: &'a dyn Loss,
        input: &Tensor,
        target: &Tensor,
        mode: Mode,
    ) -> Result<Linearised<'a>> {
        let _guard = no_grad_guard();
        if let Some(node) = network.nodes().iter().find(|node| !node.samples_are_independent(mode)) {
            return Err(Error::Unsupported(format!(
                "{}: while it normalises by the batch's own statistics the samples depend on each other, and products \
                 with curvature matrices are not defined; use evaluation mode or `frozen = true`",
                node.title()
            )));
        }
        network.shapes(&input.size()[1..])?;
        let trace = network.forward(input, mode)?;
        let at = loss.evaluate(trace.output(), target)?;
        Ok(Linearised { network, loss, mode, samples: input.size()[0], trace, at })
    }

    /// The mode of the forward pass.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The loss at the batch.
    ///
    /// # Errors
    /// What libtorch says when it cannot be read.
    pub fn loss(&self) -> Result<f64> {
        Ok(f64::try_from(&self.at.value)?)
    }

    /// The labels that sampled quantities use here: `mc_samples` drawn for each sample from the model, the same that
    /// [`crate::backpack::Pass`] draws with the same seed and step, or those given. `[M, N]` classes or `[M, N, D]`.
    ///
    /// # Errors
    /// What libtorch says when the output is not one to draw from.
    pub fn labels(&self, mc_samples: i64, labels: Labels) -> Result<Tensor> {
        let _guard = no_grad_guard();
        labels.at(self.loss, &self.at, mc_samples)
    }

    /// The generalised Gauss-Newton matrix times `vector`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `vector` is not shaped like the parameters.
    pub fn ggn_product(&self, vector: &[Tensor]) -> Result<Vec<Tensor>> {
        let _guard = no_grad_guard();
        self.around(vector, |tangent| self.loss.hessian_product(&self.at, tangent, self.samples))
    }

    /// The Fisher matrix, estimated with these labels (see [`Self::labels`]), times `vector`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `vector` is not shaped like the parameters, or `labels` do not fit the output.
    pub fn fisher_mc_product(&self, vector: &[Tensor], labels: &Tensor) -> Result<Vec<Tensor>> {
        let _guard = no_grad_guard();
        let root = self.loss.sqrt_hessian_sampled(&self.at, labels, self.samples)?;
        // s (s^T t), summed over the M draws of each sample: [M, N, *out] and [1, N, *out] to [1, N, *out]. Positions are
        // entries of the output like any others, as in the diagonal of the same matrix.
        let entries: Vec<i64> = (2..root.dim() as i64).collect();
        self.around(vector, |tangent| {
            let along = (&root * tangent).sum_dim_intlist(entries.as_slice(), true, None::<tch::Kind>);
            Ok((&root * along).sum_dim_intlist(0, true, None::<tch::Kind>))
        })
    }

    /// The Hessian of the reduced loss times `vector`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names the first layer of general curvature, before anything is computed;
    /// [`Error::Shape`] when `vector` is not shaped like the parameters.
    pub fn hessian_product(&self, vector: &[Tensor]) -> Result<Vec<Tensor>> {
        let _guard = no_grad_guard();
        if let Some(reason) = why_not_hessian(self.network) {
            return Err(Error::Unsupported(reason));
        }
        let tangents = self.tangents(vector)?;
        let network = self.network;
        let Some(output) = &tangents[network.output()] else { return Ok(Vec::new()) };
        let mut product: Vec<Option<Tensor>> = vector.iter().map(|_| None).collect();
        let along = self.loss.hessian_product(&self.at, output, self.samples)?;
        // What travels back is the gradient with respect to the node's output, and its derivative along the vector.
        network.backward((self.at.gradient.shallow_clone(), along), &mut |place, (g, along)| {
            let node = &network.nodes()[place];
            let inputs: Vec<Option<Tensor>> =
                node.inputs().iter().map(|value| tangents[*value].as_ref().map(|t| t.squeeze_dim(0))).collect();
            match node.operation() {
                Operation::Layer(layer) => {
                    let bent =
                        self.bent(place, layer.as_ref(), (&g, &along), inputs[0].as_ref(), vector, &mut product)?;
                    Ok(bent.into())
                }
                Operation::Merge(merge) => self.bent_merge(place, merge.as_ref(), (&g, &along), &inputs),
            }
        })?;
        Ok(product.into_iter().flatten().collect())
    }

    /// A layer's step of [`Self::hessian_product`]: its parameters' shares, and what goes on to its input.
    fn bent(
        &self,
        place: usize,
        layer: &dyn Layer,
        (g, along): (&Tensor, &Tensor),
        input: Option<&Tensor>,
        vector: &[Tensor],
        product: &mut [Option<Tensor>],
    ) -> Result<Option<(Tensor, Tensor)>> {
        let (node, saved) = (&self.network.nodes()[place], &self.trace[place]);
        let directions: Vec<_> = node.used().map(|number| Some(vector[number].shallow_clone())).collect();
        let tangent = layer.vjp_tangent(saved, g, input, &directions).map_err(|error| located(node, &error))?;
        let VjpTangent { input: bent, parameters: mut shares } = tangent;
        shares.resize_with(directions.len(), || None);
        for (parameter, share) in shares.into_iter().enumerate() {
            let straight = layer.parameter_vjp_sum(saved, parameter, along)?.squeeze_dim(0);
            let whole = match share {
                Some(share) => straight + share,
                None => straight,
            };
            add(&mut product[node.parameter(parameter)], whole);
        }
        if !node.goes_on() {
            return Ok(None);
        }
        let below = layer.vjp(saved, along)?;
        let below = match bent {
            Some(bent) => below + bent.unsqueeze(0),
            None => below,
        };
        Ok(Some((layer.vjp(saved, &g.unsqueeze(0))?.squeeze_dim(0), below)))
    }

    /// A merge's step of [`Self::hessian_product`].
    fn bent_merge(
        &self,
        place: usize,
        merge: &dyn Merge,
        (g, along): (&Tensor, &Tensor),
        inputs: &[Option<Tensor>],
    ) -> Result<Onward<(Tensor, Tensor)>> {
        let (node, saved) = (&self.network.nodes()[place], &self.trace[place]);
        let gradients = merge.vjp(saved, &g.unsqueeze(0), node.wanted())?;
        let mut alongs = merge.vjp(saved, along, node.wanted())?;
        if let Some(bend) = merge.bend() {
            let tangents: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
            let bent = bend.vjp_tangent(saved, g, &tangents, node.wanted())?;
            for (along, bent) in alongs.iter_mut().zip(bent) {
                if let (Some(along), Some(bent)) = (along.as_mut(), bent) {
                    *along = along.f_add(&bent.unsqueeze(0))?;
                }
            }
        }
        let each = gradients.into_iter().zip(alongs).map(|(g, along)| Some((g?.squeeze_dim(0), along?)));
        Ok(Onward::Each(each.collect()))
    }

    /// `J^T m(J v)` for a map `m` of tangents at the output, `[1, N, D]`.
    fn around(&self, vector: &[Tensor], at_output: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let tangents = self.tangents(vector)?;
        let network = self.network;
        let Some(output) = &tangents[network.output()] else { return Ok(Vec::new()) };
        let mut product: Vec<Option<Tensor>> = vector.iter().map(|_| None).collect();
        network.backward(at_output(output)?.squeeze_dim(0), &mut |place, g| {
            let (node, saved) = (&network.nodes()[place], &self.trace[place]);
            let Some(layer) = node.layer().filter(|layer| !layer.parameters().is_empty()) else {
                return node.vjp_of_one(saved, &g);
            };
            let (parameters, input) = layer.gradient(saved, &g, node.goes_on())?;
            for (slot, part) in parameters.into_iter().enumerate() {
                add(&mut product[node.parameter(slot)], part);
            }
            Ok(input.into())
        })?;
        Ok(product.into_iter().flatten().collect())
    }

    /// The tangents `J v` of every value, `[1, N, *]` each; None is zero, as before the first layer with parameters.
    fn tangents(&self, vector: &[Tensor]) -> Result<Tangents> {
        self.check(vector)?;
        let mut tangents = Tangents(vec![None]);
        for (node, saved) in self.network.nodes().iter().zip(self.trace.iter()) {
            let inputs: Vec<Option<&Tensor>> = node.inputs().iter().map(|value| tangents[*value].as_ref()).collect();
            let mut leaving = node.jvp(saved, &inputs)?;
            if let Some(layer) = node.layer() {
                for slot in 0..layer.parameters().len() {
                    let direction = vector[node.parameter(slot)].unsqueeze(0);
                    let share = layer.parameter_jvp(saved, slot, &direction)?;
                    leaving = Some(match leaving {
                        Some(sum) => sum + share,
                        None => share,
                    });
                }
            }
            tangents.0.push(leaving);
        }
        Ok(tangents)
    }

    fn check(&self, vector: &[Tensor]) -> Result<()> {
        let parameters = self.network.parameters();
        if vector.len() != parameters.len() {
            return Err(Error::Shape(format!(
                "a vector of {} tensors, expected one for each of the network's {} parameters",
                vector.len(),
                parameters.len()
            )));
        }
        for (part, parameter) in vector.iter().zip(&parameters) {
            if part.size() != parameter.value.size() || part.kind() != parameter.value.kind() {
                return Err(Error::Shape(format!(
                    "the vector's part for `{}` is {:?} of shape {:?}, expected {:?} of shape {:?}",
                    parameter.name,
                    part.kind(),
                    part.size(),
                    parameter.value.kind(),
                    parameter.value.size()
                )));
            }
        }
        Ok(())
    }
}

/// Why products with the Hessian cannot be had from this network: its first layer of general curvature. None where
/// they can.
pub fn why_not_hessian(network: &Network) -> Option<String> {
    let general = |node: &&Node| node.layer().is_some_and(|layer| matches!(layer.curvature(), Curvature::General));
    let node = network.nodes().iter().find(general)?;
    Some(format!(
        "{}: products with the Hessian can only go through layers that are linear or act on each entry by itself, which \
         it does not say of itself; products with the GGN and the sampled Fisher are possible",
        node.title()
    ))
}

/// The tangents of a network's values.
struct Tangents(Vec<Option<Tensor>>);

impl std::ops::Index<Value> for Tangents {
    type Output = Option<Tensor>;

    fn index(&self, value: Value) -> &Option<Tensor> {
        &self.0[value.node().map_or(0, |place| place + 1)]
    }
}

/// Adds what one of the nodes that use a parameter gives.
fn add(sum: &mut Option<Tensor>, part: Tensor) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + part,
        None => part,
    });
}

fn located(node: &Node, error: &Error) -> Error {
    Error::Unsupported(format!("{}: {error}", node.title()))
}
