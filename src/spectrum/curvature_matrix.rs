//! The curvature matrices of a network as matrices of which only products are taken, over any number of samples.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::symmetric::Symmetric;
use crate::backpack::Labels;
use crate::backpack::draws::Draws;
use crate::backpack::extraction::Batch;
use crate::backpack::layers::Mode;
use crate::backpack::losses::{Loss, Reduction};
use crate::backpack::network::Network;
use crate::backpack::products::{Linearised, why_not_hessian};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};

/// Which matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// The generalised Gauss-Newton matrix.
    Ggn,
    /// The Hessian.
    Hessian,
    /// The Fisher matrix, estimated with labels drawn from the model, as `fisher_mc_product` has it.
    Fisher,
}

impl Matrix {
    /// The name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Matrix::Ggn => "ggn",
            Matrix::Hessian => "hessian",
            Matrix::Fisher => "fisher",
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Where samples come from.
pub struct Samples<'a> {
    /// How many.
    pub count: i64,
    /// So many at a time.
    pub part: i64,
    /// Gives those of a range.
    pub load: &'a mut dyn FnMut(Range<i64>) -> Result<Batch>,
    /// Labels drawn for each, where they bring none.
    pub mc_samples: i64,
    /// The seed of their draws.
    pub mc_seed: u64,
}

/// A matrix of the loss reduced over all samples, with respect to all parameters, in evaluation mode. Its vectors hold the
/// parameters one after the other.
pub struct CurvatureMatrix<'a> {
    network: &'a Network,
    loss: &'a dyn Loss,
    matrix: Matrix,
    samples: Samples<'a>,
    /// The shapes of the parameters.
    shapes: Vec<Vec<i64>>,
    /// The forward pass, where all samples are one part, with the labels of the sampled matrix.
    held: Option<(Linearised<'a>, Option<Tensor>)>,
    /// The loss over all samples, once a product was taken.
    value: Option<f64>,
    /// Told the share of a product that has been done; false stops.
    watch: &'a mut dyn FnMut(f64) -> bool,
}

impl fmt::Debug for Samples<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Samples").field("count", &self.count).field("part", &self.part).finish_non_exhaustive()
    }
}

impl fmt::Debug for CurvatureMatrix<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let name = self.matrix.as_str();
        formatter
            .debug_struct("CurvatureMatrix")
            .field("matrix", &name)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl<'a> CurvatureMatrix<'a> {
    /// The matrix of a network and a loss; `watch` is told what share of a product has just been done, and says whether to go
    /// on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the network has no products with the Hessian; [`Error::Usage`] without parameters.
    pub fn new(
        (network, loss): (&'a Network, &'a dyn Loss),
        matrix: Matrix,
        samples: Samples<'a>,
        watch: &'a mut dyn FnMut(f64) -> bool,
    ) -> Result<Self> {
        if let Some(reason) = why_not_hessian(network).filter(|_| matrix == Matrix::Hessian) {
            return Err(Error::Unsupported(reason));
        }
        let shapes: Vec<Vec<i64>> = network.parameters().iter().map(|parameter| parameter.value.size()).collect();
        if shapes.is_empty() {
            return Err(Error::Usage("the network has no parameters, and its matrices no rows".to_owned()));
        }
        Ok(CurvatureMatrix { network, loss, matrix, samples, shapes, held: None, value: None, watch })
    }

    /// The loss over all samples; None before the first product.
    pub fn loss(&self) -> Option<f64> {
        self.value
    }

    /// The forward pass of a part, and the labels of the sampled matrix.
    fn at(&mut self, range: Range<i64>, draws: &RefCell<Draws>) -> Result<(Linearised<'a>, Option<Tensor>)> {
        let mut batch = (self.samples.load)(range)?;
        batch.fit_inputs(self.network.integers(), self.options().0)?;
        batch.fit(self.loss, self.network.shapes(&batch.x.size()[1..])?.output())?;
        let at = Linearised::new(self.network, self.loss, &batch.x, &batch.y, Mode::Evaluation)?;
        let source = batch.mc_labels.as_ref().map_or(Labels::Following(draws), Labels::Given);
        let labels = match self.matrix {
            Matrix::Fisher => Some(at.labels(self.samples.mc_samples, source)?),
            Matrix::Ggn | Matrix::Hessian => None,
        };
        Ok((at, labels))
    }

    /// A row `[P]` as a tensor for each parameter.
    fn split(&self, row: &Tensor) -> Vec<Tensor> {
        let mut start = 0;
        let part = |shape: &Vec<i64>| {
            let length = shape.iter().product();
            let part = row.narrow(0, start, length).view(shape.as_slice());
            start += length;
            part
        };
        self.shapes.iter().map(part).collect()
    }
}

impl Symmetric for CurvatureMatrix<'_> {
    fn dimension(&self) -> i64 {
        self.shapes.iter().map(|shape| shape.iter().product::<i64>()).sum()
    }

    fn options(&self) -> (Kind, Device) {
        let parameters = self.network.parameters();
        parameters.first().map_or((Kind::Float, Device::Cpu), |one| (one.value.kind(), one.value.device()))
    }

    fn times(&mut self, vectors: &Tensor) -> Result<Tensor> {
        let rows = vectors.size()[0];
        let sum = vectors.zeros_like();
        let (all, part) = (self.samples.count, self.samples.part.clamp(1, self.samples.count.max(1)));
        // Labels are drawn by sample, the same in each product and whatever the parts.
        let generator = stream(self.samples.mc_seed, Purpose::SampledLabels, 0);
        let draws = RefCell::new(Draws::parts(generator, all, 0));
        let (mut start, mut value) = (0, 0.0);
        while start < all {
            let length = part.min(all - start);
            let (at, labels) = match self.held.take() {
                Some(held) => held,
                None => self.at(start..start + length, &draws)?,
            };
            let share = if self.loss.reduction() == Reduction::Mean { length as f64 / all as f64 } else { 1.0 };
            value += share * at.loss()?;
            for row in 0..rows {
                let vector = self.split(&vectors.get(row));
                let product = match (self.matrix, &labels) {
                    (Matrix::Ggn, _) => at.ggn_product(&vector)?,
                    (Matrix::Hessian, _) => at.hessian_product(&vector)?,
                    (Matrix::Fisher, Some(labels)) => at.fisher_mc_product(&vector, labels)?,
                    (Matrix::Fisher, None) => return Err(Error::Shape("the sampled Fisher has no labels".to_owned())),
                };
                let flat: Vec<Tensor> = product.iter().map(|tensor| tensor.flatten(0, -1)).collect();
                let _ = sum.get(row).g_add_(&(Tensor::f_cat(&flat, 0)? * share));
                if !(self.watch)(length as f64 / all as f64) {
                    return Err(Error::Stopped("interrupted; nothing was written".to_owned()));
                }
            }
            if length == all {
                self.held = Some((at, labels));
            }
            start += length;
        }
        self.value = Some(value);
        Ok(sum)
    }
}
