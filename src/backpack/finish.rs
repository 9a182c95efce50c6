//! The last step: from what was taken of a whole batch to the quantities, those first that others are made of.

use tch::Tensor;

use crate::backpack::quantities::{Quantity, Scale, Whole};

/// What was taken of a quantity.
pub(crate) struct Taken<'q, 'f> {
    pub quantity: &'q dyn Quantity,
    /// Whether it was asked for, or is only needed by another one.
    pub visible: bool,
    /// The places of those that it requires among all.
    pub required: Vec<usize>,
    /// Parameter by parameter; None where it is left out.
    pub shares: Vec<Option<Vec<Share<'f>>>>,
}

/// A tensor of a quantity of a parameter, before the last step.
pub(crate) struct Share<'f> {
    /// The factor's name; empty where there is only one.
    pub factor: &'f str,
    pub tensor: Tensor,
    /// Whether it is the result already.
    pub is_done: bool,
}

/// A tensor of a quantity of a parameter.
pub(crate) struct Finished<'f> {
    /// The quantity's place among all.
    pub quantity: usize,
    pub parameter: usize,
    pub factor: &'f str,
    pub tensor: Tensor,
}

/// Finishes what is visible, each quantity made of its shares and of those that it requires, which have to be there and
/// not to go round in a circle.
pub(crate) fn finish<'f>(all: &[Taken<'_, 'f>], whole: &Whole) -> Vec<Finished<'f>> {
    let as_backpack = Whole { scale: Scale::Backpack, ..*whole };
    // Of each quantity, once it is finished, the tensors of each parameter in BackPACK's scale, for those that require it.
    let mut done: Vec<Option<Vec<Vec<Tensor>>>> = all.iter().map(|_| None).collect();
    let mut results: Vec<Vec<Finished>> = all.iter().map(|_| Vec::new()).collect();
    let ready = |done: &[Option<Vec<Vec<Tensor>>>]| {
        let is_ready = |taken: &Taken| taken.required.iter().all(|&other| done[other].is_some());
        (0..all.len()).find(|&place| done[place].is_none() && is_ready(&all[place]))
    };
    while let Some(place) = ready(&done) {
        let taken = &all[place];
        let is_required = all.iter().any(|other| other.required.contains(&place));
        let mut for_others = Vec::with_capacity(taken.shares.len());
        for (parameter, shares) in taken.shares.iter().enumerate() {
            let of_other = |&other: &usize| done[other].as_ref().map_or(&[][..], |all| all[parameter].as_slice());
            let required: Vec<&[Tensor]> = taken.required.iter().map(of_other).collect();
            let shares = match shares {
                Some(shares) if required.iter().all(|tensors| !tensors.is_empty()) => shares.as_slice(),
                _ => {
                    for_others.push(Vec::new());
                    continue;
                }
            };
            let required: Vec<&Tensor> = required.into_iter().flatten().collect();
            let own = if is_required { taken.of(shares, &required, &as_backpack) } else { Vec::new() };
            for_others.push(own.iter().map(|(_, tensor)| tensor.shallow_clone()).collect());
            if taken.visible {
                let same = is_required && whole.scale == Scale::Backpack;
                let own = if same { own } else { taken.of(shares, &required, whole) };
                let result = |(factor, tensor)| Finished { quantity: place, parameter, factor, tensor };
                results[place].extend(own.into_iter().map(result));
            }
        }
        done[place] = Some(for_others);
    }
    results.into_iter().flatten().collect()
}

impl<'f> Taken<'_, 'f> {
    /// The finished tensors of a parameter.
    fn of(&self, shares: &[Share<'f>], required: &[&Tensor], whole: &Whole) -> Vec<(&'f str, Tensor)> {
        let finished = |taken: Tensor| self.quantity.finish(taken, required, whole);
        let is_made_of_others = !required.is_empty() && shares.iter().all(|share| share.is_done);
        let of_others = is_made_of_others.then(|| ("", finished(Tensor::new())));
        let own = shares.iter().map(|share| {
            let tensor = share.tensor.shallow_clone();
            (share.factor, if share.is_done { tensor } else { finished(tensor) })
        });
        own.chain(of_others).collect()
    }
}
