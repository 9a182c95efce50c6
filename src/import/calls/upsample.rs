//! Upsampling by repetition: copies of a value joined in a new axis.

use crate::import::converter::{Converter, Given};
use crate::import::graph::{Call, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::{Feed, NewLayer};

/// The largest factor by which the nearest entry is always the one of whole division, as PyTorch rounds.
const MOST: i64 = 8;

/// Says nearest-neighbour upsampling by whole factors.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let dims = match call.operation() {
        "upsample_nearest1d" => 1,
        "upsample_nearest2d" => 2,
        "upsample_nearest3d" => 3,
        _ => return Ok(None),
    };
    // The overload of two names calls it `input`, the others `self`.
    let name = if call.argument("input").is_some() { "input" } else { "self" };
    let x = converter.activation(call, name)?;
    let (from, to) = (x.layout.sizes(), converter.example_sizes(&call.name).unwrap_or_default());
    let whole = |(from, to): (&i64, &i64)| to % from == 0 && to / from <= MOST;
    if from.len() != dims + 2 || to.len() != from.len() || !from.iter().zip(&to).skip(2).all(whole) {
        return refuse(
            format!("upsampling of {from:?} to {to:?}"),
            format!("upsample by whole factors up to {MOST}, or by nn.ConvTranspose2d"),
        );
    }
    let mut feed = converter.lay_as_seen(&x)?;
    let mut shape = from[1..].to_vec();
    for axis in 1..shape.len() {
        let factor = to[axis + 1] / from[axis + 1];
        feed = repeated(converter, feed, &mut shape, axis, factor)?;
    }
    let layout = Layout::batch_first(&shape, &mut converter.atoms);
    Ok(Some(converter.given(feed, layout)))
}

/// Every entry of an axis so often, one after the other.
fn repeated(converter: &mut Converter, feed: Feed, shape: &mut [i64], axis: usize, factor: i64) -> Said<Feed> {
    if factor == 1 {
        return Ok(feed);
    }
    let mut apart = shape.to_vec();
    apart.insert(axis + 1, 1);
    let feed = converter.add(NewLayer::new("reshape", feed, apart.clone()).with("shape", apart.clone()));
    apart[axis + 1] = factor;
    let mut copies = NewLayer::new("concat", feed, apart).with("dim", axis as i64 + 2);
    copies.inputs.extend((1..factor).map(|_| feed));
    let feed = converter.add(copies);
    shape[axis] *= factor;
    Ok(converter.add(NewLayer::new("reshape", feed, shape.to_vec()).with("shape", shape.to_vec())))
}
