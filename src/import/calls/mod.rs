//! The calls of ATen that are understood, a file a family, and how each is said in layers.

mod attention;
mod constant;
mod convolution;
mod dense;
mod merge;
mod norm;
mod number;
mod pointwise;
mod pool;
mod recurrent;
mod scores;
mod shape;

use super::converter::{Converter, Given};
use super::graph::{Call, Said, refuse};
use super::value::Value;

/// Says a call.
///
/// # Errors
/// Where nothing here can.
pub fn say(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    const FAMILIES: [fn(&mut Converter, &Call) -> Given; 12] = [
        number::say,
        constant::say,
        scores::say,
        shape::say,
        dense::say,
        convolution::say,
        pool::say,
        norm::say,
        pointwise::say,
        merge::say,
        attention::say,
        recurrent::say,
    ];
    for family in FAMILIES {
        if let Some(given) = family(converter, call)? {
            return Ok(given);
        }
    }
    let instead = match call.operation() {
        "log_softmax" | "softmax" => "leave it out at the end of the network: cross_entropy includes it",
        "einsum" => "write it with linear layers, permute and F.scaled_dot_product_attention",
        "bernoulli" | "rand" | "randn" | "rand_like" | "randn_like" => "use nn.Dropout, or export with model.eval()",
        "detach" => "problem files have no part of a network without a gradient",
        "upsample_nearest2d" | "upsample_bilinear2d" | "upsample_nearest1d" | "upsample_nearest3d" => {
            "upsample by nn.ConvTranspose2d"
        }
        "sqrt" | "rsqrt" | "exp" | "log" | "pow" | "abs" | "softplus" | "mish" | "hardswish" | "hardsigmoid" => {
            "use an activation of `list layers`"
        }
        "wrap_with_set_grad_enabled" => "export without torch.no_grad() in forward",
        _ => "write it with the layers that `backpack-run list layers` shows",
    };
    refuse("no layer computes this", instead)
}
