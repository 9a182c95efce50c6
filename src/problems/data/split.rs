//! Which samples of the training file are for validation and which are trained on.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::random::{Purpose, permutation, stream};

/// Indices into the training file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// The first of the shuffled indices.
    pub valid: Vec<i64>,
    /// The rest, or the first `train_size` of it.
    pub train: Vec<i64>,
}

/// Shuffles `0..n` by the seed; the first `valid_size` are for validation, the next `train_size` (all, if `None`) are
/// trained on. So the split differs between seeds, as in the runs of the paper. Of samples that `follow` one another the
/// last are for validation, whatever the seed.
///
/// # Errors
/// [`Error::Usage`] where the file does not hold as many samples.
pub(crate) fn split(n: usize, valid_size: usize, train_size: Option<usize>, follow: bool, seed: u64) -> Result<Split> {
    let train_size = training_samples(n, valid_size, train_size)?;
    if follow {
        let indices = |from: usize, to: usize| (from as i64..to as i64).collect();
        return Ok(Split { valid: indices(n - valid_size, n), train: indices(0, train_size) });
    }
    let mut order = permutation(&mut stream(seed, Purpose::Split, 0), n);
    let mut train = order.split_off(valid_size);
    train.truncate(train_size);
    Ok(Split { valid: order, train })
}

/// How many of `n` samples are trained on, after `valid_size` for validation and with at most `train_size` of the rest.
///
/// # Errors
/// [`Error::Usage`] where the file does not hold as many samples.
pub(crate) fn training_samples(n: usize, valid_size: usize, train_size: Option<usize>) -> Result<usize> {
    if valid_size >= n {
        return Err(Error::Usage(format!(
            "valid_size {valid_size}: the training file holds {n} samples, and some must be left to train on"
        )));
    }
    let rest = n - valid_size;
    let train_size = train_size.unwrap_or(rest);
    if train_size > rest {
        return Err(Error::Usage(format!(
            "train_size = {train_size}: {rest} samples are left after {valid_size} of {n} are taken for validation"
        )));
    }
    Ok(train_size)
}

/// Checks that every part of a data set fills a batch: (part, samples, the key that changes them).
///
/// # Errors
/// [`Error::Usage`] that names the part.
pub(crate) fn check_batches(data: &str, batch_size: usize, parts: &[(&str, usize, &str)]) -> Result<()> {
    match parts.iter().find(|(_, count, _)| *count < batch_size) {
        Some((part, count, key)) => Err(Error::Usage(format!(
            "data set {data}: {count} {part} samples do not fill a batch of {batch_size} (a last, smaller batch is \
             dropped): lower batch_size, raise {key}, or set drop_last = false"
        ))),
        None => Ok(()),
    }
}

/// `indices` in a new order.
pub(crate) fn shuffled(indices: &[i64], purpose: Purpose, seed: u64, step: u64) -> Tensor {
    let order = permutation(&mut stream(seed, purpose, step), indices.len());
    let shuffled: Vec<i64> = order.into_iter().map(|place| indices[place as usize]).collect();
    Tensor::from_slice(&shuffled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_cover_the_file() {
        let parts = split(1000, 200, None, false, 42).unwrap();
        assert_eq!((parts.valid.len(), parts.train.len()), (200, 800));
        let mut all = [parts.valid.clone(), parts.train.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_ne!(parts, split(1000, 200, None, false, 43).unwrap(), "the split differs between seeds");
    }

    #[test]
    fn train_size_takes_the_first_of_the_rest() {
        let (whole, part) =
            (split(1000, 200, None, false, 42).unwrap(), split(1000, 200, Some(300), false, 42).unwrap());
        assert_eq!(part.valid, whole.valid);
        assert_eq!(part.train, whole.train[..300]);
    }

    #[test]
    fn samples_that_follow_one_another_end_in_validation() {
        let parts = split(10, 3, Some(4), true, 1).unwrap();
        assert_eq!((parts.valid, parts.train), (vec![7, 8, 9], vec![0, 1, 2, 3]));
    }

    #[test]
    fn too_much_is_refused() {
        assert!(split(10, 10, None, false, 0).unwrap_err().to_string().contains("valid_size 10"));
        assert!(split(10, 2, Some(9), false, 0).unwrap_err().to_string().contains("8 samples are left"));
    }
}
