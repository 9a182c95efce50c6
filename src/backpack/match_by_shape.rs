//! Matches tensors of other names with a network's parameters and buffers: by their shapes, in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use tch::Tensor;

use crate::backpack::Network;
use crate::error::{Error, Result};

/// What became of a set of tensors.
#[derive(Debug)]
pub struct Matched {
    /// The tensors by the network's names.
    pub tensors: BTreeMap<String, Tensor>,
    /// Those whose name was another: theirs, and the network's.
    pub renamed: Vec<(String, String)>,
}

/// Gives every parameter and buffer of the network a tensor. Equal names belong together. The others are matched by
/// shape and the last part of their names ("weight", "running_mean"), then by shape alone: as many as the network has of
/// them, in order. `tensors` are in the order in which they are to be taken; `num_batches_tracked` is left out.
///
/// # Errors
/// [`Error::Shape`] that lists what is left on both sides.
pub fn match_by_shape(network: &Network, tensors: Vec<(String, Tensor)>) -> Result<Matched> {
    let own = network.parameters().into_iter().map(|parameter| (parameter.name.to_owned(), parameter.value.size()));
    let buffers = network.buffers().into_iter().map(|(name, buffer)| (name, buffer.size()));
    let mut wanted: Vec<(String, Vec<i64>)> = own.chain(buffers).collect();
    let mut left: Vec<(String, Tensor)> =
        tensors.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    let mut matched = Matched { tensors: BTreeMap::new(), renamed: Vec::new() };
    wanted.retain(|(name, shape)| {
        let found = left.iter().position(|(own, tensor)| own == name && tensor.size() == *shape);
        if let Some(place) = found {
            matched.tensors.insert(name.clone(), left.remove(place).1);
        }
        found.is_none()
    });
    for by_last in [true, false] {
        let key = |name: &str, shape: &[i64]| {
            let last = name.rsplit('.').next().filter(|_| by_last).unwrap_or_default();
            (last.to_owned(), shape.to_vec())
        };
        let mut kinds: BTreeMap<_, (Vec<String>, usize)> = BTreeMap::new();
        for (name, shape) in &wanted {
            kinds.entry(key(name, shape)).or_default().0.push(name.clone());
        }
        for (name, tensor) in &left {
            if let Some((_, count)) = kinds.get_mut(&key(name, &tensor.size())) {
                *count += 1;
            }
        }
        for (kind, (names, _)) in kinds.into_iter().filter(|(_, (names, count))| names.len() == *count) {
            for name in names {
                let Some(place) = left.iter().position(|(own, tensor)| key(own, &tensor.size()) == kind) else {
                    continue;
                };
                let (theirs, tensor) = left.remove(place);
                matched.tensors.insert(name.clone(), tensor);
                matched.renamed.push((theirs, name.clone()));
                wanted.retain(|(own, _)| *own != name);
            }
        }
    }
    if wanted.is_empty() && left.is_empty() {
        return Ok(matched);
    }
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let wanted = wanted.iter().map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
    let left = left.iter().map(|(name, tensor)| format!("`{name}` {:?}", tensor.size())).collect();
    Err(Error::Shape(format!(
        "shapes do not match one to one; left of the network: {}; left of the file: {}",
        list(wanted),
        list(left)
    )))
}

/// Names in the order in which people count: "layers.2" before "layers.10".
pub fn natural_order(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| {
        let mut parts: Vec<(bool, String)> = Vec::new();
        for letter in text.chars() {
            let digit = letter.is_ascii_digit();
            match parts.last_mut() {
                Some((digits, part)) if *digits == digit => part.push(letter),
                _ => parts.push((digit, letter.to_string())),
            }
        }
        parts
    };
    let (one, other) = (parts(one), parts(other));
    for ((digits, one), (other_digits, other)) in one.iter().zip(&other) {
        let order = match (digits, other_digits) {
            (true, true) => {
                let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
                one.len().cmp(&other.len()).then_with(|| one.cmp(other))
            }
            _ => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::backpack::layers::{Activation, Linear, LinearOptions, Relu};

    /// Two linear layers of 3 and 3, with a relu between them, and one of 3 and 2.
    fn network() -> Network {
        let linear = |outputs| Linear::new(&[3], &LinearOptions { out_features: outputs, bias: true }).unwrap();
        let relu = Activation::new(Relu {});
        Network::sequential(vec![Box::new(linear(3)), Box::new(relu), Box::new(linear(3)), Box::new(linear(2))])
    }

    fn tensors(names: &[(&str, &[i64])]) -> Vec<(String, Tensor)> {
        let tensor = |(place, (name, shape)): (usize, &(&str, &[i64]))| {
            ((*name).to_owned(), Tensor::full(*shape, place as f64, (Kind::Float, Device::Cpu)))
        };
        names.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn other_names_are_matched_by_shape_in_order() {
        let file = tensors(&[
            ("fc.0.bias", &[3]),
            ("fc.0.weight", &[3, 3]),
            ("fc.1.bias", &[3]),
            ("fc.1.weight", &[3, 3]),
            ("3.weight", &[2, 3]),
            ("head.offset", &[2]),
        ]);
        let matched = match_by_shape(&network(), file).unwrap();
        let number = |name: &str| f64::try_from(matched.tensors[name].max()).unwrap();
        let names = ["0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"];
        assert_eq!(names.map(number), [1.0, 0.0, 3.0, 2.0, 4.0, 5.0]);
        assert!(matched.renamed.contains(&("head.offset".into(), "3.bias".into())));
        assert!(!matched.renamed.iter().any(|(theirs, _)| theirs == "3.weight"));
    }

    #[test]
    fn what_does_not_match_one_to_one_is_refused() {
        let more = tensors(&[("a.weight", &[3, 3]), ("b.weight", &[3, 3]), ("c.weight", &[3, 3])]);
        let error = match_by_shape(&network(), more).unwrap_err().to_string();
        assert!(error.contains("`c.weight` [3, 3]") && error.contains("`3.bias` [2]"), "{error}");
    }

    #[test]
    fn numbers_in_names_are_counted() {
        let mut names = ["h.10.w", "h.9.w", "h.2.b", "a", "h.2"];
        names.sort_by(|one, other| natural_order(one, other));
        assert_eq!(names, ["a", "h.2", "h.2.b", "h.9.w", "h.10.w"]);
    }
}
