//! How serde reads numbers of configuration: integers and numbers in their ranges, lists of them, seeds. What is refused is
//! refused with what was expected; whoever reads tells the place.
//!
//! Functions are for `deserialize_with`, of a field or of one that may be missing: `R` is the type, or an `Option` of it.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::value::I64Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};

use super::{MAX_SEED, MAX_SIZE, SINGLE, check_count, check_seeds, is_single, parse, parse_seeds};

/// An integer in `range`.
pub fn integer<'de, D: Deserializer<'de>>(deserializer: D, range: RangeInclusive<i64>) -> Result<i64, D::Error> {
    let (least, most) = range.into_inner();
    let expected = match most {
        MAX_SIZE | i64::MAX => format!("an integer of at least {least}"),
        most => format!("an integer from {least} to {most}"),
    };
    match i128::deserialize(deserializer) {
        Ok(value) if value > i128::from(most) => Err(D::Error::custom(format!("expected at most {most}"))),
        Ok(value) if value >= i128::from(least) => Ok(value as i64),
        _ => Err(D::Error::custom(format!("expected {expected}"))),
    }
}

/// A count from `LEAST` to `MOST`.
pub fn count<'de, D: Deserializer<'de>, R: From<usize>, const LEAST: i64, const MOST: i64>(
    deserializer: D,
) -> Result<R, D::Error> {
    Ok(R::from(integer(deserializer, LEAST..=MOST)? as usize))
}

/// A size: an integer of at least 1.
pub fn size<'de, D: Deserializer<'de>, R: From<usize>>(deserializer: D) -> Result<R, D::Error> {
    count::<D, R, 1, MAX_SIZE>(deserializer)
}

/// A seed: an integer from 0 to [`MAX_SEED`].
pub fn seed<'de, D: Deserializer<'de>, R: From<u64>>(deserializer: D) -> Result<R, D::Error> {
    let seed = i128::deserialize(deserializer).ok().and_then(|seed| u64::try_from(seed).ok());
    let seed = seed.filter(|seed| *seed <= MAX_SEED).map(R::from);
    seed.ok_or_else(|| D::Error::custom(format!("expected an integer from 0 to {MAX_SEED}")))
}

/// Seeds: an integer, a list of them, or a text of such with ranges (`42..51`).
pub fn seeds<'de, D: Deserializer<'de>, R: From<Vec<u64>>>(deserializer: D) -> Result<R, D::Error> {
    struct Seeds;
    struct One;
    impl<'de> DeserializeSeed<'de> for One {
        type Value = u64;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
            seed(deserializer)
        }
    }
    impl<'de> Visitor<'de> for Seeds {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an integer from 0, a list of such, or a range such as \"42..51\"")
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Vec<u64>, E> {
            let value: I64Deserializer<E> = value.into_deserializer();
            Ok(vec![seed(value)?])
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u64>, E> {
            parse_seeds(text).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
            let mut seeds = Vec::new();
            while let Some(seed) = list.next_element_seed(One)? {
                seeds.push(seed);
            }
            Ok(seeds)
        }
    }
    let seeds = deserializer.deserialize_any(Seeds)?;
    check_seeds(&seeds).map_err(D::Error::custom)?;
    Ok(R::from(seeds))
}

/// One number that `fits`, which are `expected`.
#[derive(Clone, Copy, Debug)]
pub struct Number<'e> {
    /// Which numbers are taken.
    pub fits: fn(f64) -> bool,
    /// What these are, in words.
    pub expected: &'e str,
}

impl<'de> DeserializeSeed<'de> for Number<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        // A visitor's errors have the place of the value, in a variant of an enum too.
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        self.check(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        self.check(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        self.check(value)
    }
}

impl Number<'_> {
    fn check<E: Error>(self, value: f64) -> Result<f64, E> {
        match (self.fits)(value) {
            // Adding zero makes -0.0 a plain 0.0, so that both are the same setting.
            true if is_single(value) => Ok(value + 0.0),
            true => Err(E::custom(format!("expected {SINGLE}"))),
            false => Err(E::custom(format!("expected {}", self.expected))),
        }
    }
}

/// A number above 0.
pub fn above_0<'de, D: Deserializer<'de>, R: From<f64>>(deserializer: D) -> Result<R, D::Error> {
    let fits = |value: f64| value > 0.0 && value.is_finite();
    Number { fits, expected: "a number above 0" }.deserialize(deserializer).map(R::from)
}

/// A number of at least 0.
pub fn from_0<'de, D: Deserializer<'de>, R: From<f64>>(deserializer: D) -> Result<R, D::Error> {
    let fits = |value: f64| value >= 0.0 && value.is_finite();
    Number { fits, expected: "a number of at least 0" }.deserialize(deserializer).map(R::from)
}

/// A finite number.
pub fn finite<'de, D: Deserializer<'de>, R: From<f64>>(deserializer: D) -> Result<R, D::Error> {
    Number { fits: f64::is_finite, expected: "a finite number" }.deserialize(deserializer).map(R::from)
}

/// A number from 0 to 1.
pub fn share<'de, D: Deserializer<'de>, R: From<f64>>(deserializer: D) -> Result<R, D::Error> {
    let fits = |value: f64| (0.0..=1.0).contains(&value);
    Number { fits, expected: "a number from 0 to 1" }.deserialize(deserializer).map(R::from)
}

/// A number, a list of such, or a text of such (`logspace(-4, 0, 5)`), each of which fits.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'e>(pub Number<'e>);

impl Numbers<'_> {
    fn one<E: Error>(self, value: f64) -> Result<Vec<f64>, E> {
        let expected = self.to_string();
        Ok(vec![Number { expected: &expected, ..self.0 }.check(value)?])
    }
}

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}, a list or \"logspace(a, b, n)\"", self.0.expected)
    }
}

impl<'de> DeserializeSeed<'de> for Numbers<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = deserializer.deserialize_any(self)?;
        if values.is_empty() || !values.iter().copied().all(self.0.fits) {
            return Err(D::Error::custom(format!("expected each to be {}, and at least one", self.0.expected)));
        }
        match values.iter().copied().all(is_single) {
            true => Ok(values),
            false => Err(D::Error::custom(format!("expected each to be {SINGLE}"))),
        }
    }
}

impl<'de> Visitor<'de> for Numbers<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Vec<f64>, E> {
        self.one(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Vec<f64>, E> {
        self.one(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Vec<f64>, E> {
        self.one(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<f64>, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f64>, A::Error> {
        let mut values = Vec::new();
        while let Some(more) = list.next_element_seed(self)? {
            check_count(values.len() + more.len()).map_err(A::Error::custom)?;
            values.extend(more);
        }
        Ok(values)
    }
}
