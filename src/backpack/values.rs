//! What travels between the nodes of a network: values, what a forward pass keeps of them, and their shapes.

use std::ops::Index;

use tch::Tensor;

use crate::backpack::layers::Saved;

/// Something that travels between the nodes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(super) usize);

impl Value {
    /// What arrives at the network.
    pub const INPUT: Value = Value(0);

    /// The output of the node at this place.
    pub fn of_node(place: usize) -> Self {
        Value(place + 1)
    }

    /// The place of the node whose output it is; None for the network's input.
    pub fn node(self) -> Option<usize> {
        self.0.checked_sub(1)
    }
}

/// What a forward pass leaves behind.
#[derive(Debug)]
pub struct Trace {
    input: Tensor,
    saved: Vec<Saved>,
}

impl Trace {
    /// A pass on this input that has yet to go through its nodes.
    pub(super) fn new(input: &Tensor, nodes: usize) -> Self {
        Trace { input: input.shallow_clone(), saved: Vec::with_capacity(nodes) }
    }

    /// Adds what the next node has kept.
    pub(super) fn push(&mut self, saved: Saved) {
        self.saved.push(saved);
    }

    /// The network's output.
    pub fn output(&self) -> &Tensor {
        self.saved.last().map_or(&self.input, |saved| &saved.output)
    }

    /// A value of the pass.
    pub fn value(&self, value: Value) -> &Tensor {
        value.node().map_or(&self.input, |place| &self.saved[place].output)
    }

    /// How many numbers the input and every node's output have for one sample.
    pub fn sizes(&self) -> impl Iterator<Item = i64> {
        let samples = self.input.size()[0].max(1);
        let outputs = self.saved.iter().map(|saved| &saved.output);
        std::iter::once(&self.input).chain(outputs).map(move |value| value.numel() as i64 / samples)
    }

    /// What each node has kept, in the order of computation.
    pub fn iter(&self) -> std::slice::Iter<'_, Saved> {
        self.saved.iter()
    }

    /// The samples `start..start + length` alone, as views.
    pub fn narrow(&self, start: i64, length: i64) -> Trace {
        Trace {
            input: self.input.narrow(0, start, length),
            saved: self.saved.iter().map(|saved| saved.narrow(start, length)).collect(),
        }
    }
}

impl Index<usize> for Trace {
    type Output = Saved;

    fn index(&self, place: usize) -> &Saved {
        &self.saved[place]
    }
}

/// The shapes of a network's values, without samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes(Vec<Vec<i64>>);

impl Shapes {
    /// Those of the network's input and of every node's output.
    pub(super) fn new(shapes: Vec<Vec<i64>>) -> Self {
        Shapes(shapes)
    }

    /// That of the network's output.
    pub fn output(&self) -> &[i64] {
        &self.0[self.0.len() - 1]
    }

    /// That of the output of the node at this place.
    pub fn of_node(&self, place: usize) -> &[i64] {
        &self.0[place + 1]
    }

    /// Those of the network's input and of every node's output.
    pub fn iter(&self) -> impl Iterator<Item = &[i64]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl Index<Value> for Shapes {
    type Output = [i64];

    fn index(&self, value: Value) -> &[i64] {
        &self.0[value.0]
    }
}
