//! First-order statistics, diagonals and square roots, as their definitions have them.

use tch::{Kind, Tensor};

use super::question::{Expected, Question, Way, largest};
use super::samples::Derivatives;
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::Network;
use crate::backpack::quantities::{Scale, by_name, is_own};

/// Everything but the Kronecker factors.
pub(super) fn of(network: &Network, loss: &dyn Loss, each: &[Derivatives], question: &Question) -> Vec<Expected> {
    let mut found = Vec::new();
    let parameters = network.parameters();
    for (parameter, value) in parameters.iter().enumerate() {
        let entries = question.coordinates.pick(parameter, value.value.numel() as i64, value.value.device());
        if each.iter().any(|sample| !sample.gradient.is_empty()) {
            first_order(loss, each, question, parameter, &mut found);
        }
        let mut push = |quantity: &'static str, leading: i64, tensor: Tensor| {
            if question.asks(&[quantity]) {
                let entries = entries.as_ref().map(Tensor::shallow_clone);
                found.push(Expected::entries(quantity, parameter, tensor, leading, entries));
            }
        };
        if each.iter().any(|sample| !sample.jacobian.is_empty()) {
            // diag(J^T H J), sample by sample.
            let diagonals = stack(each, 0, |sample| {
                let jacobian = &sample.jacobian[parameter];
                (sample.loss_hessian.mm(jacobian) * jacobian).sum_dim_intlist(0, false, None::<Kind>)
            });
            push("diag_ggn", 0, sum(&diagonals));
            push("batch_diag_ggn", 1, diagonals);
            push("sqrt_ggn", 2, stack(each, 1, |sample| sample.root.mm(&sample.jacobian[parameter])));
            if each.iter().all(|sample| sample.sampled_root.is_some()) {
                let root = stack(each, 1, |sample| {
                    let root = sample.sampled_root.as_ref().expect("all samples have one");
                    root.mm(&sample.jacobian[parameter])
                });
                push("diag_ggn_mc", 0, sum(&sum(&root.square())));
                push("sqrt_ggn_mc", 2, root);
            }
        }
        if each.iter().any(|sample| !sample.hessian.is_empty()) {
            let diagonals = stack(each, 0, |sample| sample.hessian[parameter].shallow_clone());
            push("diag_hessian", 0, sum(&diagonals));
            push("batch_diag_hessian", 1, diagonals);
        }
    }
    found
}

fn first_order(
    loss: &dyn Loss,
    each: &[Derivatives],
    question: &Question,
    parameter: usize,
    found: &mut Vec<Expected>,
) {
    let samples = each.len() as f64;
    let individual = stack(each, 0, |sample| sample.gradient[parameter].shallow_clone());
    // Table 1 is about the gradients of the unreduced losses; a mean loss has put 1/N into each of them.
    let table = match (question.scale, loss.reduction()) {
        (Scale::Paper, Reduction::Mean) => &individual * samples,
        _ => individual.shallow_clone(),
    };
    let moment = sum(&table.square());
    let moment = match (question.scale, loss.reduction()) {
        (Scale::Paper, Reduction::Mean) => moment / samples,
        _ => moment,
    };
    let centred = &table - table.mean_dim(0, true, None::<Kind>);
    let variance = sum(&centred.square()) / samples;
    let yardstick = largest(&(sum(&table.square()) / samples));
    if !matches!(question.way, Way::WholeBatch) && question.asks(&["grad"]) {
        found.push(Expected::whole("grad", parameter, "", sum(&individual)));
    }
    for quantity in question.quantities.iter().filter(|name| is_own(name)).filter_map(|name| by_name(name)) {
        if let Some(tensor) = quantity.of_gradients(&individual) {
            found.push(Expected::whole(quantity.name(), parameter, "", tensor));
        }
    }
    let norms = individual.square().flatten(1, -1).sum_dim_intlist(1, false, None::<Kind>);
    for (name, tensor) in
        [("batch_grad", individual), ("batch_l2", norms), ("sum_grad_squared", moment), ("variance", variance)]
    {
        if question.asks(&[name]) {
            let mut expected = Expected::whole(name, parameter, "", tensor);
            if name == "variance" {
                expected.yardstick = yardstick;
            }
            found.push(expected);
        }
    }
}

fn stack(each: &[Derivatives], axis: i64, of: impl Fn(&Derivatives) -> Tensor) -> Tensor {
    let parts: Vec<Tensor> = each.iter().map(of).collect();
    Tensor::stack(&parts, axis)
}

fn sum(tensor: &Tensor) -> Tensor {
    tensor.sum_dim_intlist(0, false, None::<Kind>)
}
