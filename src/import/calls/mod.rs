//! The calls of ATen that are understood, related families in one file, and how each is said in layers.

mod attention;
mod constant;
mod convolution;
mod dense;
mod merge;
mod pointwise;
mod recurrent;
mod shape;

use super::converter::{Converter, Given, Value};
use super::graph::{Call, Said, refuse};

/// Says a call.
///
/// # Errors
/// Where nothing here can.
pub fn say(converter: &mut Converter, call: &Call) -> Said<Vec<Value>> {
    const FAMILIES: [fn(&mut Converter, &Call) -> Given; 14] = [
        constant::say_number,
        constant::say,
        attention::say_written_out,
        shape::say,
        dense::say,
        convolution::say,
        convolution::say_pool,
        dense::say_norm,
        pointwise::say,
        pointwise::say_composed,
        convolution::say_upsample,
        merge::say,
        attention::say,
        recurrent::say,
    ];
    for family in FAMILIES {
        if let Some(given) = family(converter, call)? {
            return Ok(given);
        }
    }
    refuse("no layer computes this", instead(call.operation()))
}

/// What to write in place of an operation that no layer has.
fn instead(operation: &str) -> &'static str {
    match operation {
        "log_softmax" | "softmax" => {
            "leave it out at the end of the network: cross_entropy includes it; elsewhere there is softmax in attention alone"
        }
        "einsum" => {
            "write F.linear(x, weight) for a product with a parameter, F.scaled_dot_product_attention for attention"
        }
        "bernoulli" | "rand" | "randn" | "rand_like" | "randn_like" => "use nn.Dropout, or export with model.eval()",
        "detach" => "problem files have no part of a network without a gradient",
        "gt" | "ge" | "lt" | "le" | "eq" | "ne" | "where" | "maximum" | "minimum" | "abs" => {
            "use F.relu, F.leaky_relu or torch.clamp; only masks that do not depend on the batch are compared"
        }
        "var" | "std" | "var_mean" | "sqrt" | "rsqrt" => {
            "for a norm that is written out, use nn.LayerNorm, nn.RMSNorm or nn.GroupNorm"
        }
        "_weight_norm" | "_weight_norm_interface" => {
            "make it a plain weight: torch.nn.utils.parametrize.remove_parametrizations(module, \"weight\")"
        }
        "softplus" => "write -F.logsigmoid(-x), the same function",
        "mish" => "write x * torch.tanh(-F.logsigmoid(-x)), the same function",
        "prelu" => "use nn.LeakyReLU: no layer learns its slope",
        "exp" | "log" | "pow" | "sin" | "cos" | "erf" => {
            "use an activation that `backpack-run list layers` shows, or x * x for a square"
        }
        other if other.starts_with("upsample_") => {
            "upsample by mode=\"nearest\" and a whole factor, or nn.ConvTranspose2d"
        }
        "wrap_with_set_grad_enabled" => "export without torch.no_grad() in forward",
        _ => "write it with the layers that `backpack-run list layers` shows",
    }
}
