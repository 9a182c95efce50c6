//! Heavy ball on preconditioned steps (Polyak, 1964): v <- m v + step, theta <- theta - alpha v; the first v is the
//! first step.

use std::collections::BTreeMap;

use tch::Tensor;

use super::take;
use crate::error::Result;

/// The velocities, one for each parameter of the network; none where the weight is zero.
#[derive(Debug)]
pub(super) struct HeavyBall {
    weight: f64,
    velocities: Vec<Option<Tensor>>,
}

impl HeavyBall {
    pub fn new(weight: f64) -> Self {
        HeavyBall { weight, velocities: Vec::new() }
    }

    /// Whether it changes anything.
    pub fn is_on(&self) -> bool {
        self.weight != 0.0
    }

    /// What is subtracted from the parameter of this number, learning rate aside. `step` is not held on to.
    pub fn through(&mut self, parameter: usize, step: Tensor) -> Tensor {
        if !self.is_on() {
            return step;
        }
        if self.velocities.len() <= parameter {
            self.velocities.resize_with(parameter + 1, || None);
        }
        let velocity = match self.velocities[parameter].take() {
            Some(mut velocity) => velocity.g_mul_scalar_(self.weight).g_add_(&step),
            None => step.copy(),
        };
        self.velocities[parameter].insert(velocity).shallow_clone()
    }

    /// What later steps depend on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let some = |(place, velocity): (usize, &Option<Tensor>)| {
            velocity.as_ref().map(|velocity| (format!("velocity.{place}"), velocity.shallow_clone()))
        };
        self.velocities.iter().enumerate().filter_map(some).collect()
    }

    /// Takes its part out of a saved state.
    pub fn load_state(&mut self, state: &mut BTreeMap<String, Tensor>) -> Result<()> {
        self.velocities.clear();
        let number = |name: &String| name.strip_prefix("velocity.").and_then(|place| place.parse::<usize>().ok());
        let places: Vec<usize> = state.keys().filter_map(number).collect();
        for place in places {
            if self.velocities.len() <= place {
                self.velocities.resize_with(place + 1, || None);
            }
            self.velocities[place] = Some(take(state, &format!("velocity.{place}"))?);
        }
        Ok(())
    }
}
