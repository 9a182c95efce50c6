//! Where the entries of a value lie: the shape that PyTorch sees, told in parts of the axes that the network has.
//!
//! PyTorch's views, transposes and merged axes compute nothing. They are followed here and written down as layers only
//! where a layer needs its input in another order. Every axis is a product of atoms, row-major; a view that cuts an axis
//! cuts its atom in two. The samples are an atom of their own that is never cut.

use super::graph::{Refusal, Said, refuse};

/// A part of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Atom {
    id: u32,
    pub size: i64,
}

impl Atom {
    /// Whether these are the samples.
    pub fn is_batch(self) -> bool {
        self.id == 0
    }
}

/// Atoms, the outermost first; none is an axis of size 1.
pub type Axis = Vec<Atom>;

/// The size of an axis.
pub fn size(axis: &[Atom]) -> i64 {
    axis.iter().map(|atom| atom.size).product()
}

/// Makes atoms.
#[derive(Debug)]
pub struct Atoms {
    next: u32,
    batch: i64,
}

impl Atoms {
    /// For so many samples in the example.
    pub fn new(batch: i64) -> Self {
        Atoms { next: 1, batch }
    }

    /// The samples.
    pub fn batch(&self) -> Atom {
        Atom { id: 0, size: self.batch }
    }

    /// A new axis.
    pub fn axis(&mut self, size: i64) -> Axis {
        if size == 1 { Vec::new() } else { vec![self.atom(size)] }
    }

    fn atom(&mut self, size: i64) -> Atom {
        self.next += 1;
        Atom { id: self.next, size }
    }
}

/// The layout of a value.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The axes behind the samples, as the network has them.
    pub axes: Vec<Axis>,
    /// The axes that PyTorch sees.
    pub dims: Vec<Axis>,
}

impl Layout {
    /// One whose samples lie first, in new axes of these sizes.
    pub fn batch_first(sizes: &[i64], atoms: &mut Atoms) -> Self {
        let axes: Vec<Axis> = sizes.iter().map(|&size| atoms.axis(size)).collect();
        let dims = std::iter::once(vec![atoms.batch()]).chain(axes.iter().cloned()).collect();
        Layout { axes, dims }
    }

    /// The sizes that PyTorch sees.
    pub fn sizes(&self) -> Vec<i64> {
        self.dims.iter().map(|axis| size(axis)).collect()
    }

    /// The sizes behind the samples, as the network has them.
    pub fn shape(&self) -> Vec<i64> {
        self.axes.iter().map(|axis| size(axis)).collect()
    }

    /// A dimension counted from the end where it is negative.
    ///
    /// # Errors
    /// Where there is none.
    pub fn dim(&self, dim: i64) -> Said<usize> {
        wrap(dim, self.dims.len())
    }

    /// The dimension that is the samples and nothing else.
    pub fn batch_dim(&self) -> Option<usize> {
        self.dims.iter().position(|axis| matches!(axis.as_slice(), [atom] if atom.is_batch()))
    }

    /// Cuts `atom` into an outer part of `outer` entries and the rest.
    fn cut(&mut self, atom: Atom, outer: i64, atoms: &mut Atoms) {
        let parts = [atoms.atom(outer), atoms.atom(atom.size / outer)];
        for axis in self.axes.iter_mut().chain(&mut self.dims) {
            if let Some(place) = axis.iter().position(|&own| own == atom) {
                axis.splice(place..=place, parts);
            }
        }
    }

    /// The atoms of consecutive dimensions as axes of these sizes, cutting atoms where need be; nothing where sizes and
    /// atoms do not nest.
    ///
    /// # Errors
    /// Where the samples would be cut.
    pub fn regroup(
        &mut self,
        dims: std::ops::Range<usize>,
        sizes: &[i64],
        atoms: &mut Atoms,
    ) -> Said<Option<Vec<Axis>>> {
        let mut groups: Vec<Axis> = Vec::with_capacity(sizes.len());
        let mut used = 0;
        for &wanted in sizes {
            let (mut group, mut left) = (Vec::new(), wanted);
            while let Some(atom) = self.dims[dims.clone()].iter().flatten().nth(used).copied() {
                // A batch of one stands before what follows it, in an axis of its own where there is one.
                let alone = atom.size == 1 && wanted == 1 && group.is_empty();
                if left == 1 && !alone {
                    break;
                }
                if atom.size == 0 {
                    return Ok(None);
                }
                if left % atom.size != 0 {
                    if atom.size % left != 0 {
                        return Ok(None);
                    }
                    if atom.is_batch() {
                        return refuse(
                            "it cuts the batch axis",
                            "keep the samples in an axis of their own, and export with a batch of two or more",
                        );
                    }
                    self.cut(atom, left, atoms);
                    continue;
                }
                left /= atom.size;
                group.push(atom);
                used += 1;
                if alone {
                    break;
                }
            }
            if left != 1 {
                return Ok(None);
            }
            groups.push(group);
        }
        let rest = self.dims[dims].iter().flatten().count();
        Ok((used == rest).then_some(groups))
    }

    /// Replaces the dimensions by axes of these sizes; false where sizes and atoms do not nest.
    ///
    /// # Errors
    /// Where the samples would be cut.
    pub fn view(&mut self, sizes: &[i64], atoms: &mut Atoms) -> Said<bool> {
        let groups = self.regroup(0..self.dims.len(), sizes, atoms)?;
        let nests = groups.is_some();
        if let Some(groups) = groups {
            self.dims = groups;
        }
        Ok(nests)
    }

    /// The dimension's atoms in groups of these sizes, cut where need be.
    ///
    /// # Errors
    /// Where they do not nest, or the samples are among them.
    pub fn groups(&mut self, dim: usize, sizes: &[i64], atoms: &mut Atoms) -> Said<Vec<Axis>> {
        match self.regroup(dim..dim + 1, sizes, atoms)? {
            Some(groups) if !groups.iter().flatten().any(|atom| atom.is_batch()) => Ok(groups),
            _ => refuse("its axes do not fit those of the other operand", "reshape so that both have the same axes"),
        }
    }

    /// Whether another value has the same order of axes and the same view of it.
    pub fn same_form(&self, other: &Layout) -> bool {
        let form = |layout: &Layout| {
            let flat: Vec<Atom> = layout.axes.concat();
            let axes: Vec<Vec<i64>> =
                layout.axes.iter().map(|axis| axis.iter().map(|atom| atom.size).collect()).collect();
            let place = |atom: &Atom| {
                if atom.is_batch() { 0 } else { 1 + flat.iter().position(|own| own == atom).unwrap_or(0) }
            };
            let dims: Vec<Vec<usize>> = layout.dims.iter().map(|axis| axis.iter().map(place).collect()).collect();
            (axes, dims)
        };
        form(self) == form(other)
    }

    /// The axes without `atoms`, in their order; an axis that consists of them alone is left out.
    pub fn axes_without(&self, atoms: &[Atom]) -> Vec<Axis> {
        let mut axes = Vec::new();
        for axis in &self.axes {
            // What lies before and behind the atoms are axes of their own.
            for part in axis.split(|atom| atoms.contains(atom)) {
                if !part.is_empty() || axis.is_empty() {
                    axes.push(part.to_vec());
                }
            }
        }
        axes
    }
}

/// A dimension of `count`, counted from the end where it is negative.
///
/// # Errors
/// Where there is none.
pub fn wrap(dim: i64, count: usize) -> Said<usize> {
    let wrapped = if dim < 0 { dim + count as i64 } else { dim };
    match usize::try_from(wrapped) {
        Ok(dim) if dim < count => Ok(dim),
        _ => Err(Refusal {
            why: format!("there is no dimension {dim} of {count}"),
            instead: super::graph::DAMAGED.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(batch: i64, sizes: &[i64]) -> (Layout, Atoms) {
        let mut atoms = Atoms::new(batch);
        let layout = Layout::batch_first(sizes, &mut atoms);
        (layout, atoms)
    }

    /// What nn.MultiheadAttention does: the samples move, are merged with the heads, and come back.
    #[test]
    fn the_samples_are_followed_through_merged_axes() {
        for batch in [1, 2, 3, 5] {
            let (mut x, mut atoms) = layout(batch, &[5, 8]);
            x.dims.swap(0, 1);
            assert!(x.view(&[5, batch * 2, 4], &mut atoms).unwrap());
            x.dims.swap(0, 1);
            assert!(x.view(&[batch, 2, 5, 4], &mut atoms).unwrap());
            assert_eq!(x.batch_dim(), Some(0), "{x:?}");
            assert_eq!(x.shape(), [5, 8]);
            assert_eq!(x.axes[1].iter().map(|atom| atom.size).collect::<Vec<_>>(), [2, 4]);
            assert_eq!(x.dims[1..], [vec![x.axes[1][0]], x.axes[0].clone(), vec![x.axes[1][1]]]);
        }
    }

    #[test]
    fn a_view_that_does_not_nest_is_told() {
        let (mut x, mut atoms) = layout(2, &[4, 6]);
        assert!(!x.view(&[2, 6, 4], &mut atoms).unwrap());
        assert!(x.view(&[2, 2, 12], &mut atoms).unwrap());
        assert!(!matches!(x.view(&[4, 3, 4], &mut atoms), Ok(true)));
        let (mut x, mut atoms) = layout(4, &[6]);
        assert!(x.view(&[2, 12], &mut atoms).is_err(), "the samples are not cut");
    }

    #[test]
    fn sizes_of_one_come_and_go() {
        let (mut x, mut atoms) = layout(3, &[4, 1, 1]);
        assert!(x.view(&[3, 4], &mut atoms).unwrap());
        assert!(x.view(&[3, 1, 4, 1], &mut atoms).unwrap());
        assert_eq!(x.sizes(), [3, 1, 4, 1]);
        let (mut x, mut atoms) = layout(1, &[1, 4]);
        assert!(x.view(&[1, 4], &mut atoms).unwrap());
        assert_eq!(x.batch_dim(), Some(0));
    }
}
