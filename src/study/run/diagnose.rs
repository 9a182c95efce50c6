//! A step that is measured: what gradient, update and curvature were like. The measurements are made in a pass of
//! their own, so that the step's numbers are those of a step that nobody looked at.

use std::time::Instant;

use tch::{Kind, Tensor};

use super::trainer::{Step, Trainer};
use crate::backpack::layers::Mode;
use crate::backpack::quantities::BuiltIn::{Grad, Variance};
use crate::backpack::quantities::Scale;
use crate::backpack::{Pass, Quantities};
use crate::error::Result;
use crate::optimizers::Measure;
use crate::problems::data::Order;

/// What the measurements of a layer add up from.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of the squared gradient.
    gradient: f64,
    /// Of the individual gradients' variances, unbiased.
    variance: f64,
    /// Of the ratios of squared gradient and variance, over the entries that have one.
    ratios: f64,
    entries: f64,
    /// Of the squared update.
    update: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.gradient += other.gradient;
        self.variance += other.variance;
        self.ratios += other.ratios;
        self.entries += other.entries;
        self.update += other.update;
    }

    fn measures(&self, layer: &str, has_variance: bool) -> Vec<Measure> {
        let mut measures = vec![
            Measure::new("gradient_norm", layer, self.gradient.sqrt()),
            Measure::new("update_norm", layer, self.update.sqrt()),
        ];
        if has_variance {
            measures.push(Measure::new("gradient_snr", layer, self.ratios / self.entries));
            measures.push(Measure::new("noise_scale", layer, self.variance / self.gradient));
        }
        measures
    }
}

impl Trainer {
    /// [`Trainer::step`], what was measured of it, and the seconds of the step alone.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_diagnosed(
        &mut self,
        order: &Order,
        epoch: usize,
        step: usize,
        want_regulariser: bool,
    ) -> Result<(Step, Vec<Measure>, f64)> {
        let _guard = tch::no_grad_guard();
        let before = self.copies();
        let quantities = self.first_order(order, epoch, step)?;
        let began = Instant::now();
        let (taken, ratio) = self.step_unjudged(order, epoch, step, want_regulariser)?;
        let seconds = began.elapsed().as_secs_f64();
        if matches!(taken, Step::Diverged { .. }) {
            return Ok((taken, Vec::new(), seconds));
        }
        let mut measures = self.norms(&quantities, &before)?;
        // Before the ratio changes the damping: what is told is what this step used.
        measures.extend(self.optimizer.measures(&self.network)?);
        self.judge(ratio);
        Ok((taken, measures, seconds))
    }

    fn copies(&self) -> Vec<Tensor> {
        self.network.parameters().iter().map(|parameter| parameter.value.copy()).collect()
    }

    /// Gradient, and variance where the samples are independent, of the step that comes; nothing is changed.
    fn first_order(&self, order: &Order, epoch: usize, step: usize) -> Result<Quantities> {
        let global = self.global_step(epoch, step);
        let batch = self.feed().train_batch(order, step, global)?;
        let mode = Mode::Training { seed: self.seed, step: global };
        let independent = self.network.nodes().iter().all(|node| node.samples_are_independent(mode));
        let several = batch.x.size()[0] > 1;
        let quantities = if independent && several { &[Grad, Variance][..] } else { &[Grad] };
        let pass = Pass::new(&self.network, self.loss.as_ref()).take(quantities.iter().copied())?;
        pass.scale(Scale::Paper).mode(mode).run(&batch.x, &batch.y)
    }

    fn norms(&self, quantities: &Quantities, before: &[Tensor]) -> Result<Vec<Measure>> {
        let samples = quantities.whole.samples as f64;
        let mut measures = Vec::new();
        let (mut all, mut has_variance) = (Sums::default(), true);
        for (node, _) in self.network.with_parameters() {
            let mut layer = Sums::default();
            for (number, parameter) in node.numbered() {
                layer.update += sum(&(&parameter.value - &before[number]).square())?;
                let Some(gradient) = quantities.find("grad", number, "") else { continue };
                let squared = gradient.square();
                layer.gradient += sum(&squared)?;
                let Some(variance) = quantities.find("variance", number, "") else {
                    has_variance = false;
                    continue;
                };
                // Of a sample: unbiased, and without the negative numbers that rounding may leave.
                let variance = variance.clamp_min(0.0) * (samples / (samples - 1.0));
                layer.variance += sum(&variance)?;
                let positive = variance.gt(0.0);
                let ratios = (squared / variance).where_self(&positive, &Tensor::from(0f32));
                layer.ratios += sum(&ratios)?;
                layer.entries += sum(&positive)?;
            }
            all.add(&layer);
            measures.extend(layer.measures(&node.name, has_variance));
        }
        let mut whole = all.measures("all", has_variance);
        whole.append(&mut measures);
        Ok(whole)
    }
}

fn sum(tensor: &Tensor) -> Result<f64> {
    Ok(f64::try_from(tensor.sum(Kind::Double))?)
}
