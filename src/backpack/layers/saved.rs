//! What a layer keeps of a forward pass for its Jacobian products.

use std::cell::RefCell;

use tch::Tensor;

use crate::error::Result;

/// What a layer keeps of a forward pass for its Jacobian products.
#[derive(Debug)]
pub struct Saved {
    /// The (first) input, `[N, *in]`.
    pub input: Tensor,
    /// A merge's other inputs.
    pub others: Vec<Tensor>,
    /// The layer's output, `[N, *out]`.
    pub output: Tensor,
    /// Whatever else the layer needs (pooling indices, a dropout mask), each with samples first.
    pub extra: Vec<Tensor>,
    /// What the layer has made of the vectors that arrived last.
    made: RefCell<Option<Made>>,
}

/// Vectors, and what a layer has made of them.
#[derive(Debug)]
struct Made {
    /// Held, so that no other tensor comes to lie in their place.
    of: Tensor,
    /// Counts changes in place.
    version: i64,
    made: Tensor,
}

impl Made {
    fn is_of(&self, v: &Tensor) -> Result<bool> {
        let same = self.of.data_ptr() == v.data_ptr() && self.of.size() == v.size() && self.of.stride() == v.stride();
        Ok(same && self.of.kind() == v.kind() && self.version == v.f_internal_version()?)
    }
}

impl Saved {
    /// What is kept where input and output suffice.
    pub fn new(input: &Tensor, output: Tensor) -> Self {
        let (others, extra, made) = (Vec::new(), Vec::new(), RefCell::new(None));
        Saved { input: input.shallow_clone(), others, output, extra, made }
    }

    /// What a merge keeps where inputs and output suffice.
    pub fn of_inputs(inputs: &[&Tensor], output: Tensor) -> Self {
        let others = inputs[1..].iter().map(|input| input.shallow_clone()).collect();
        Saved { others, ..Saved::new(inputs[0], output) }
    }

    /// With this beside input and output.
    pub fn with(self, extra: Vec<Tensor>) -> Self {
        Saved { extra, ..self }
    }

    /// All inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.input).chain(&self.others)
    }

    /// The samples `start..start + length` alone, as views.
    pub fn narrow(&self, start: i64, length: i64) -> Self {
        Saved {
            input: self.input.narrow(0, start, length),
            others: self.others.iter().map(|tensor| tensor.narrow(0, start, length)).collect(),
            output: self.output.narrow(0, start, length),
            extra: self.extra.iter().map(|tensor| tensor.narrow(0, start, length)).collect(),
            made: RefCell::new(None),
        }
    }

    /// The number of samples.
    pub fn samples(&self) -> i64 {
        self.input.size()[0]
    }

    /// What `make` makes of the vectors `v`, remembered until it is taken or others arrive: quantities ask a layer
    /// several times, parameter by parameter, about the same vectors.
    ///
    /// # Errors
    /// What `make` says.
    pub(super) fn make(&self, v: &Tensor, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let tensor = self.take_or_make(v, make)?;
        let made = Made { of: v.shallow_clone(), version: v.f_internal_version()?, made: tensor.shallow_clone() };
        self.made.replace(Some(made));
        Ok(tensor)
    }

    /// As [`Self::make`], for who asks last: nothing is remembered.
    ///
    /// # Errors
    /// What `make` says.
    pub(super) fn take_or_make(&self, v: &Tensor, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        match self.made.take() {
            Some(before) if before.is_of(v)? => Ok(before.made),
            _ => make(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// How often something is made: once for the same vectors, again for others, and for changed ones.
    #[test]
    fn what_is_made_of_vectors_is_made_once() {
        let options = (Kind::Double, Device::Cpu);
        let saved = Saved::new(&Tensor::ones([2, 3], options), Tensor::ones([2, 3], options));
        let mut count = 0;
        let mut ask = |v: &Tensor| {
            let made = saved.make(v, || {
                count += 1;
                Ok(v * 2.0)
            });
            assert_eq!(made.unwrap(), v * 2.0);
            count
        };
        let v = Tensor::randn([4, 2, 3], options);
        assert_eq!([ask(&v), ask(&v.shallow_clone())], [1, 1]);
        assert_eq!(ask(&v.narrow(0, 0, 2)), 2);
        assert_eq!(ask(&v.transpose(0, 1)), 3);
        assert_eq!(ask(&v), 4);
        let _ = v.get(1).fill_(3.0);
        assert_eq!(ask(&v), 5);
        let taken = saved.take_or_make(&v, || panic!("it is made already")).unwrap();
        assert_eq!(taken, &v * 2.0);
        assert_eq!(saved.take_or_make(&v, || Ok(v.zeros_like())).unwrap(), v.zeros_like());
    }
}
