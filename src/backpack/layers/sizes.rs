//! How the numbers of a layer's options are read: sizes one by one or one for all axes, with messages that say what was
//! expected. Each function is for serde's `deserialize_with`.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use crate::numbers::MAX_SIZE;
use crate::numbers::read::Number;

pub use crate::numbers::read::{above_0 as positive, finite, share};

/// libtorch's kernels count entries in 32 bits; no size, and no count of a parameter's entries, is above it.
pub const MAX_ENTRIES: i64 = MAX_SIZE;

/// More axes than any tensor has.
const MAX_AXES: i64 = 64;

/// An integer, or a list of them.
enum Integers {
    One(i64),
    Many(Vec<i64>),
}

impl<'de> Deserialize<'de> for Integers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Integers;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an integer or a list of integers")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Integers, E> {
                Ok(Integers::One(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Integers, E> {
                // What is beyond the range is beyond every bound too.
                Ok(Integers::One(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_i128<E: Error>(self, value: i128) -> Result<Integers, E> {
                Ok(Integers::One(value.clamp(i64::MIN.into(), i64::MAX.into()) as i64))
            }

            fn visit_u128<E: Error>(self, value: u128) -> Result<Integers, E> {
                Ok(Integers::One(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Integers, A::Error> {
                let mut integers = Vec::new();
                while let Some(entry) = list.next_element::<Integers>()? {
                    match entry {
                        Integers::One(value) => integers.push(value),
                        Integers::Many(_) => return Err(A::Error::custom("expected integers")),
                    }
                }
                Ok(Integers::Many(integers))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Checks a bound, or says what is expected.
pub(super) fn within<E: Error>(value: i64, least: i64, expected: &str) -> Result<i64, E> {
    match value {
        value if value > MAX_ENTRIES => Err(E::custom(format!("expected at most {MAX_ENTRIES}"))),
        value if value < least => Err(E::custom(expected)),
        value => Ok(value),
    }
}

fn integers<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<Integers, D::Error> {
    Integers::deserialize(deserializer).map_err(|_| D::Error::custom(expected))
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D, least: i64) -> Result<i64, D::Error> {
    let expected = format!("expected an integer of at least {least}");
    match integers(deserializer, &expected)? {
        Integers::One(value) => within(value, least, &expected),
        Integers::Many(_) => Err(D::Error::custom(expected)),
    }
}

/// A size: an integer of at least 1.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    integer(deserializer, 1)
}

/// An axis, counted from the end where it is negative.
pub fn axis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let expected = format!("expected an integer from {} to {MAX_AXES}", -MAX_AXES);
    match integers(deserializer, &expected)? {
        Integers::One(value) if (-MAX_AXES..=MAX_AXES).contains(&value) => Ok(value),
        _ => Err(D::Error::custom(expected)),
    }
}

/// An axis or a list of them.
pub fn axes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let expected = format!("expected an integer from {} to {MAX_AXES}, or a list of them", -MAX_AXES);
    let axes = match integers(deserializer, &expected)? {
        Integers::One(value) => vec![value],
        Integers::Many(values) => values,
    };
    let fits = !axes.is_empty() && axes.iter().all(|axis| (-MAX_AXES..=MAX_AXES).contains(axis));
    if fits { Ok(axes) } else { Err(D::Error::custom(expected)) }
}

/// A list of integers, each of at least `LEAST`.
pub fn list<'de, D: Deserializer<'de>, const LEAST: i64>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let least =
        if LEAST < -1 { "a list of integers".to_owned() } else { format!("a list of integers of at least {LEAST}") };
    let expected = format!("expected {least}, at least one");
    match integers(deserializer, &expected)? {
        Integers::Many(values) if !values.is_empty() => {
            values.into_iter().map(|value| within(value, LEAST, &expected)).collect()
        }
        _ => Err(D::Error::custom(expected)),
    }
}

/// A list of integers of either sign.
pub fn offsets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    list::<D, { -MAX_ENTRIES }>(deserializer)
}

/// A shape, if there is one: a list of sizes of at least 1.
pub fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<i64>>, D::Error> {
    list::<D, 1>(deserializer).map(Some)
}

/// As [`shape`], or the size of a single axis.
pub fn shape_or_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<i64>>, D::Error> {
    let expected = "expected an integer of at least 1, or a list of them";
    let values = match integers(deserializer, expected)? {
        Integers::One(value) => vec![value],
        Integers::Many(values) if !values.is_empty() => values,
        Integers::Many(_) => return Err(D::Error::custom(expected)),
    };
    values.into_iter().map(|value| within(value, 1, expected)).collect::<Result<_, _>>().map(Some)
}

/// The axes behind channels, for messages.
fn directions(axes: usize) -> &'static str {
    match axes {
        1 => "[length]",
        2 => "[height, width]",
        _ => "[depth, height, width]",
    }
}

/// A number for each of one to three axes: `[i64; 1]`, `[i64; 2]` or `[i64; 3]`.
pub trait PerAxis: Copy + fmt::Debug + PartialEq + AsRef<[i64]> {
    /// How many axes.
    const COUNT: usize;

    /// The number of each axis.
    fn of(number: impl FnMut(usize) -> i64) -> Self;
}

impl<const AXES: usize> PerAxis for [i64; AXES] {
    const COUNT: usize = AXES;

    fn of(number: impl FnMut(usize) -> i64) -> Self {
        std::array::from_fn(number)
    }
}

fn one_for_each_axis<'de, D: Deserializer<'de>, A: PerAxis>(deserializer: D, least: i64) -> Result<A, D::Error> {
    let several = match A::COUNT {
        1 => String::new(),
        2 => " or a pair [height, width] of them".to_owned(),
        _ => format!(" or a list {} of them", directions(A::COUNT)),
    };
    let expected = format!("expected an integer of at least {least}{several}");
    let values = match integers(deserializer, &expected)? {
        Integers::One(value) => vec![value; A::COUNT],
        Integers::Many(values) if values.len() == A::COUNT => values,
        Integers::Many(_) => return Err(D::Error::custom(&expected)),
    };
    for value in &values {
        within::<D::Error>(*value, least, &expected)?;
    }
    Ok(A::of(|axis| values[axis]))
}

/// A size of at least 1 for each axis, or one for all.
pub fn sizes<'de, D: Deserializer<'de>, A: PerAxis>(deserializer: D) -> Result<A, D::Error> {
    one_for_each_axis(deserializer, 1)
}

/// As [`sizes`], where it is given at all.
pub fn sizes_if<'de, D: Deserializer<'de>, A: PerAxis>(deserializer: D) -> Result<Option<A>, D::Error> {
    sizes(deserializer).map(Some)
}

/// A count of at least 0 for each axis, or one for all.
pub fn counts<'de, D: Deserializer<'de>, A: PerAxis>(deserializer: D) -> Result<A, D::Error> {
    one_for_each_axis(deserializer, 0)
}

/// Integers of at least 0, as many as one of `lengths`; a single one is a list of one.
pub(super) fn lengths<'de, D: Deserializer<'de>>(
    deserializer: D,
    lengths: &[usize],
    expected: &str,
) -> Result<Vec<i64>, D::Error> {
    let values = match integers(deserializer, expected)? {
        Integers::One(value) => vec![value],
        Integers::Many(values) if lengths.contains(&values.len()) => values,
        Integers::Many(_) => return Err(D::Error::custom(expected)),
    };
    let least = "expected an integer of at least 0";
    values.into_iter().map(|value| within(value, 0, least)).collect()
}

/// A probability below 1.
pub fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let fits = |value: f64| (0.0..1.0).contains(&value);
    Number { fits, expected: "a probability from 0 up to but not including 1" }.deserialize(deserializer)
}

/// A default: 1.
pub fn one() -> i64 {
    1
}

/// A default: 1 for every axis.
pub fn ones<A: PerAxis>() -> A {
    A::of(|_| 1)
}

/// A default: 0 for every axis.
pub fn none<A: PerAxis>() -> A {
    A::of(|_| 0)
}

/// A default: the number 1.
pub fn unit() -> f64 {
    1.0
}

/// A default: what PyTorch's normalisations but rms_norm add to a variance.
pub fn eps() -> f64 {
    1e-5
}

/// A default: true.
pub fn yes() -> bool {
    true
}

// An option that a type has got since its first version is left out where it has its default, so that old runs keep
// their hashes.

/// For serde's `skip_serializing_if`.
pub fn is_yes(value: &bool) -> bool {
    *value
}
