//! Sweeps: something is carried from the output back to the parameters, node by node, and added up where a value is
//! used more than once.

use tch::Tensor;

use crate::backpack::layers::Saved;
use crate::backpack::network::{Network, Node, Operation, Value};
use crate::error::Result;
use crate::interrupt;

/// What a sweep carries: vectors, or several things that belong together.
pub trait Carried: Sized {
    /// What arrives at a value that two nodes have taken.
    ///
    /// # Errors
    /// What libtorch says.
    fn add(self, other: Self) -> Result<Self>;
}

impl Carried for Tensor {
    fn add(self, other: Self) -> Result<Self> {
        Ok(self.f_add(&other)?)
    }
}

impl<A: Carried, B: Carried> Carried for (A, B) {
    fn add(self, other: Self) -> Result<Self> {
        Ok((self.0.add(other.0)?, self.1.add(other.1)?))
    }
}

/// What goes on from a node to its inputs.
#[derive(Debug)]
pub enum Onward<C> {
    /// Nothing.
    Nothing,
    /// This, to its one input.
    One(C),
    /// These, to its inputs in their order.
    Each(Vec<Option<C>>),
}

impl<C> From<Option<C>> for Onward<C> {
    fn from(one: Option<C>) -> Self {
        one.map_or(Onward::Nothing, Onward::One)
    }
}

impl Network {
    /// Carries something from the output back to every node that leads to parameters. `step` gets a node's place and
    /// what has arrived at its output, and gives what goes on to its inputs; what is not wanted there
    /// ([`Node::wanted`]) is dropped.
    ///
    /// # Errors
    /// The first one of `step`.
    pub fn backward<C: Carried>(
        &self,
        at_output: C,
        step: &mut dyn FnMut(usize, C) -> Result<Onward<C>>,
    ) -> Result<()> {
        self.sweep(vec![(self.output(), at_output)], step)
    }

    /// As [`Self::backward`], but from these values.
    ///
    /// # Errors
    /// The first one of `step`.
    pub fn sweep<C: Carried>(
        &self,
        seeds: Vec<(Value, C)>,
        step: &mut dyn FnMut(usize, C) -> Result<Onward<C>>,
    ) -> Result<()> {
        let mut waiting: Vec<Option<C>> = self.nodes().iter().map(|_| None).collect();
        let put = |waiting: &mut Vec<Option<C>>, value: Value, carried: C| -> Result<()> {
            let Some(place) = value.node() else { return Ok(()) };
            let node = &self.nodes()[place];
            if node.parameters().is_empty() && !node.goes_on() {
                return Ok(());
            }
            waiting[place] = Some(match waiting[place].take() {
                Some(before) => before.add(carried)?,
                None => carried,
            });
            Ok(())
        };
        for (value, carried) in seeds {
            put(&mut waiting, value, carried)?;
        }
        for (place, node) in self.nodes().iter().enumerate().rev() {
            let Some(carried) = waiting[place].take() else { continue };
            interrupt::check()?;
            match step(place, carried)? {
                Onward::Nothing => {}
                Onward::One(one) => put(&mut waiting, node.inputs()[0], one)?,
                Onward::Each(each) => {
                    for (value, one) in node.inputs().iter().zip(each) {
                        if let Some(one) = one {
                            put(&mut waiting, *value, one)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    /// Vectors at the output, `[V, N, *out]`, as those at the inputs that are wanted, `[V, N, *in]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn vjp(&self, saved: &Saved, v: &Tensor) -> Result<Onward<Tensor>> {
        if !self.goes_on() {
            return Ok(Onward::Nothing);
        }
        Ok(match self.operation() {
            Operation::Layer(layer) => Onward::One(layer.vjp(saved, v)?),
            Operation::Merge(merge) => Onward::Each(merge.vjp(saved, v, self.wanted())?),
        })
    }

    /// As [`Self::vjp`] for a single vector `[N, *out]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn vjp_of_one(&self, saved: &Saved, v: &Tensor) -> Result<Onward<Tensor>> {
        let squeeze = |tensor: Tensor| tensor.squeeze_dim(0);
        Ok(match self.vjp(saved, &v.unsqueeze(0))? {
            Onward::Nothing => Onward::Nothing,
            Onward::One(one) => Onward::One(squeeze(one)),
            Onward::Each(each) => Onward::Each(each.into_iter().map(|one| one.map(squeeze)).collect()),
        })
    }

    /// Tangents at the inputs, `[V, N, *in]` each (None is zero), as that of the output, `[V, N, *out]`.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn jvp(&self, saved: &Saved, tangents: &[Option<&Tensor>]) -> Result<Option<Tensor>> {
        if tangents.iter().all(Option::is_none) {
            return Ok(None);
        }
        Ok(match (self.operation(), tangents) {
            (Operation::Layer(layer), [Some(tangent)]) => Some(layer.jvp(saved, tangent)?),
            (Operation::Layer(_), _) => None,
            (Operation::Merge(merge), _) => Some(merge.jvp(saved, tangents)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpack::layers::{Activation, Add, Layer, Linear, LinearOptions, Relu};
    use crate::backpack::network::Part;

    /// Counts the ways from a node to the output.
    #[derive(Debug, PartialEq)]
    struct Ways(i64);

    impl Carried for Ways {
        fn add(self, other: Self) -> Result<Self> {
            Ok(Ways(self.0 + other.0))
        }
    }

    fn linear() -> Box<dyn Layer> {
        Box::new(Linear::new(&[3], &LinearOptions { out_features: 3, bias: true }).unwrap())
    }

    fn relu() -> Box<dyn Layer> {
        Box::new(Activation::new(Relu {}))
    }

    fn visited(network: &Network) -> Vec<(usize, i64)> {
        let mut visited = Vec::new();
        network
            .backward(Ways(1), &mut |place, ways| {
                visited.push((place, ways.0));
                let node = &network.nodes()[place];
                Ok(Onward::Each(node.wanted().iter().map(|wanted| wanted.then(|| Ways(ways.0))).collect()))
            })
            .unwrap();
        visited
    }

    #[test]
    fn a_sweep_stops_at_the_first_parameters() {
        let network = Network::sequential(vec![relu(), linear(), relu(), linear(), relu()]);
        assert_eq!(visited(&network), [(4, 1), (3, 1), (2, 1), (1, 1)]);
    }

    #[test]
    fn what_a_value_gets_from_its_takers_is_added_up() {
        let node = Value::of_node;
        let network = Network::new(vec![
            Part::layer("a", linear(), Value::INPUT),
            Part::layer("b", linear(), node(0)),
            Part::merge("c", Box::new(Add), vec![node(0), node(1), node(0)]),
            Part::merge("d", Box::new(Add), vec![node(2), node(0), Value::INPUT]),
        ])
        .unwrap();
        assert_eq!(visited(&network), [(3, 1), (2, 1), (1, 1), (0, 4)]);
    }
}
