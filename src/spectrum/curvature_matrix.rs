//! The curvature matrices of a network as matrices of which only products are taken, over any number of samples.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::Symmetric;
use super::kept::{Kept, Progress};
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
    /// Where products are kept.
    kept: Option<Kept>,
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
        Ok(CurvatureMatrix { network, loss, matrix, samples, shapes, held: None, value: None, watch, kept: None })
    }

    /// Keeps products, and takes those that were kept before in place of computing them anew. Whoever stops it can go on later.
    #[must_use]
    pub fn kept_in(self, kept: Kept) -> Self {
        CurvatureMatrix { kept: Some(kept), ..self }
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

    /// As much of the product with these vectors as was kept.
    fn begun(&mut self, vectors: &Tensor, digest: Option<&str>) -> Result<Progress> {
        let (all, rows) = (self.samples.count, vectors.size()[0]);
        let begun = self.kept.as_mut().zip(digest).map(|(kept, digest)| kept.next(digest, vectors)).transpose()?;
        let is_sound = |done: &Progress| (0..=all).contains(&done.samples) && (0..=rows).contains(&done.rows);
        Ok(begun.flatten().filter(is_sound).unwrap_or_else(|| Progress::none(vectors)))
    }

    /// Tells who watches what share of a product has been done, and keeps it where it is time or the last chance.
    fn tell(&mut self, share: f64, digest: Option<&str>, done: &Progress) -> Result<()> {
        let goes_on = (self.watch)(share);
        match self.kept.as_mut().zip(digest) {
            Some((kept, digest)) if !goes_on || kept.is_due() => kept.save_with(digest, done)?,
            None if !goes_on => return Err(Error::Stopped("interrupted; nothing was written".to_owned())),
            _ => {}
        }
        if goes_on { Ok(()) } else { Err(Error::Interrupted) }
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
        let (all, part) = (self.samples.count, self.samples.part.clamp(1, self.samples.count.max(1)));
        let digest = self.kept.as_ref().map(|_| Kept::digest(vectors)).transpose()?;
        let mut done = self.begun(vectors, digest.as_deref())?;
        let was_whole = done.samples == all;
        // Labels are drawn by sample, the same in each product and whatever the parts.
        let generator = stream(self.samples.mc_seed, Purpose::SampledLabels, 0);
        let draws = RefCell::new(Draws::parts(generator, all, done.samples));
        while done.samples < all {
            let length = part.min(all - done.samples);
            let (at, labels) = match self.held.take() {
                Some(held) => held,
                None => self.at(done.samples..done.samples + length, &draws)?,
            };
            let share = if self.loss.reduction() == Reduction::Mean { length as f64 / all as f64 } else { 1.0 };
            while done.rows < rows {
                let vector = self.split(&vectors.get(done.rows));
                let product = match (self.matrix, &labels) {
                    (Matrix::Ggn, _) => at.ggn_product(&vector)?,
                    (Matrix::Hessian, _) => at.hessian_product(&vector)?,
                    (Matrix::Fisher, Some(labels)) => at.fisher_mc_product(&vector, labels)?,
                    (Matrix::Fisher, None) => return Err(Error::Shape("the sampled Fisher has no labels".to_owned())),
                };
                let flat: Vec<Tensor> = product.iter().map(|tensor| tensor.flatten(0, -1)).collect();
                let _ = done.sum.get(done.rows).g_add_(&(Tensor::f_cat(&flat, 0)? * share));
                done.rows += 1;
                self.tell(length as f64 / all as f64, digest.as_deref(), &done)?;
            }
            done.loss += share * at.loss()?;
            (done.samples, done.rows) = (done.samples + length, 0);
            if length == all {
                self.held = Some((at, labels));
            }
        }
        self.value = Some(done.loss);
        if let Some((kept, digest)) = self.kept.as_mut().zip(digest).filter(|_| !was_whole) {
            kept.add(&digest, &done)?;
        }
        Ok(done.sum)
    }
}
