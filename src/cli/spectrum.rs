//! `backpack-run spectrum`: eigenvalues, trace and density of a curvature matrix that is never formed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::flags::{Format, OutputFlags};
use super::samples::{Dtype, Opened, SampleArgs, Source};
use super::tables::Table;
use super::terminal::print;
use crate::backpack::memory;
use crate::backpack::quantities::Source as Vectors;
use crate::digits::{significant, with_bar};
use crate::error::{Error, Result};
use crate::problems::definition::ProblemDefinition;
use crate::report::write_spectrum;
use crate::signals::Stop;
use crate::spectrum::{
    About, CONFIDENCE, CurvatureMatrix, DensitySettings, EigenvalueSettings, Kept, Matrix, Record, Samples, Symmetric,
    density, eigenvalues, trace,
};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// A curvature matrix of the reduced loss.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixChoice {
    /// The generalised Gauss-Newton matrix.
    Ggn,
    /// The Hessian.
    Hessian,
    /// The Fisher matrix, with --mc-samples labels per sample drawn from the model.
    Fisher,
}

impl From<MatrixChoice> for Matrix {
    fn from(choice: MatrixChoice) -> Self {
        match choice {
            MatrixChoice::Ggn => Matrix::Ggn,
            MatrixChoice::Hessian => Matrix::Hessian,
            MatrixChoice::Fisher => Matrix::Fisher,
        }
    }
}

/// Show the spectrum of a curvature matrix: eigenvalues, trace, density.
///
/// Example: backpack-run spectrum --problem mnist_logreg --split train --samples 1000 --matrix ggn
///
/// The matrix covers all parameters and is never formed. The eigenvalues at its ends come from the Lanczos process with full
/// reorthogonalisation, the trace with its 99 % interval from Hutch++, and the density from stochastic Lanczos quadrature. With
/// --batch-size the samples are processed in parts: the matrix is still that of all of them, in the memory of one part.
/// docs/spectrum.md explains how to read the result. With --out, an interrupted command leaves DIR.partial, and the same command
/// continues from it.
#[derive(Args, Clone, Debug)]
pub struct SpectrumArgs {
    /// The network and its samples.
    #[command(flatten)]
    at: SampleArgs,
    /// Which matrix
    #[arg(long, value_enum)]
    matrix: MatrixChoice,
    /// How many of the largest eigenvalues
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    largest: u16,
    /// How many of the smallest (most negative) eigenvalues
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    smallest: u16,
    /// The residual at which an eigenvalue counts as found, relative to the largest [default: 1e-5; 1e-10 in f64]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    tolerance: Option<f64>,
    /// At most this many products for the eigenvalues
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    eigenvalue_products: u32,
    /// Products for the trace, 6 or more; 0 for no trace
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = trace_products)]
    trace_products: u32,
    /// Random vectors for the density; 0 for no density
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=1000))]
    density_vectors: u16,
    /// Lanczos steps from each random vector
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=2000))]
    density_steps: u16,
    /// The standard deviation of the Gaussian at each node of the density [default: a hundredth of the spectrum's extent]
    #[arg(long, value_name = "WIDTH", value_parser = width)]
    density_width: Option<f64>,
    /// Labels drawn per sample for the Fisher matrix, unless the batch holds mc_labels
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    mc_samples: i64,
    /// The seed of the drawn labels
    #[arg(long, value_name = "S", default_value_t = 42)]
    mc_seed: u64,
    /// A folder for spectrum.json, spectrum.csv, density.csv and the figure density.svg, .png and .pdf
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
}

/// Measures, writes and prints.
///
/// # Errors
/// As [`SampleArgs::open`]; [`Error::Unsupported`] for what the network or the memory does not allow; after a signal
/// [`Error::Interrupted`] with what was done kept, or [`Error::Stopped`] without --out.
pub(super) fn run(args: SpectrumArgs) -> Result<()> {
    let definition = args.at.resolved()?;
    let Opened { network, loss, samples } = args.at.open(&definition)?;
    let matrix = Matrix::from(args.matrix);
    let count = samples.len();
    let part = args.at.batch_size.unwrap_or(count).min(count);
    let given = match &samples {
        Source::Given(batch) => batch.mc_labels.as_ref().map(|labels| labels.size()[0]),
        Source::Chosen(..) => None,
    };
    let stop = Stop::on_signals()?;
    let (mut done, begun, mut told) = (0.0, Instant::now(), Instant::now());
    let mut watch = |share: f64| {
        done += share;
        if told.elapsed() >= TELL {
            let each =
                humantime::format_duration(Duration::from_millis((begun.elapsed().as_millis() as f64 / done) as u64));
            tracing::info!("{done:.1} products, {each} each");
            told = Instant::now();
        }
        !stop.is_requested()
    };
    let mut load = |range| samples.part(range);
    let (mc_samples, mc_seed) = (given.unwrap_or(args.mc_samples), args.mc_seed);
    let of = Samples { count, part, load: &mut load, mc_samples, mc_seed };
    let mut curvature = CurvatureMatrix::new((&network, loss.as_ref()), matrix, of, &mut watch)?;
    let settings = args.eigenvalues(curvature.dimension());
    let first = samples.part(0..1)?;
    let element = curvature.options().0.elt_size_in_bytes();
    let plan = memory::Plan::new(&network, &first.x.size()[1..], part, 1, element)?;
    args.check_memory(&plan, &settings)?;
    if let Some(folder) = &args.out {
        let identity = args.identity(&definition, part)?;
        curvature = curvature.kept_in(Kept::open(&partial(folder), identity)?);
    }
    let locate = |error| args.at.locate(error);
    let seed = args.at.seed;
    let found = match settings.largest + settings.smallest {
        0 => None,
        _ => Some(eigenvalues(&mut curvature, &settings).map_err(locate)?),
    };
    if let Some(found) = found.as_ref().filter(|found| !found.converged) {
        tracing::warn!(
            "not all eigenvalues have converged after {} products; their residuals tell how far they are known, and \
             --eigenvalue-products takes more",
            found.products
        );
    }
    let trace = match args.trace_products {
        0 => None,
        products => Some(trace(&mut curvature, products as usize, seed).map_err(locate)?),
    };
    let density = match args.density_vectors {
        0 => None,
        vectors => {
            let (vectors, steps) = (vectors.into(), args.density_steps.into());
            let settings = DensitySettings { vectors, steps, width: args.density_width, seed };
            Some(density(&mut curvature, &settings).map_err(locate)?)
        }
    };
    let about = About {
        problem: definition.name.clone(),
        matrix,
        samples: count,
        parameters: curvature.dimension(),
        dtype: if args.at.dtype == Dtype::F64 { "f64" } else { "f32" }.to_owned(),
        seed,
        mc: (matrix == Matrix::Fisher).then_some((mc_samples, mc_seed)),
        loss: curvature.loss(),
    };
    let record = Record { about, eigenvalues: found, trace, density };
    if let Some(folder) = &args.out {
        write_spectrum(folder, &record)?;
        Kept::remove(&partial(folder))?;
    }
    print(&match args.output.format {
        Format::Table => table(&record),
        Format::Csv => record.csv()?,
        Format::Json => record.json()?,
    })
}

impl SpectrumArgs {
    fn eigenvalues(&self, dimension: i64) -> EigenvalueSettings {
        let (largest, smallest) = (self.largest.into(), self.smallest.into());
        let default = if self.at.dtype == Dtype::F64 { 1e-10 } else { 1e-5 };
        EigenvalueSettings {
            largest,
            smallest,
            tolerance: self.tolerance.unwrap_or(default),
            products: self.eigenvalue_products as usize,
            vectors: EigenvalueSettings::vectors_for(largest + smallest, dimension),
            seed: self.at.seed,
        }
    }

    /// Tells the matrix apart from others; `part` decides how its products are rounded.
    fn identity(&self, definition: &ProblemDefinition, part: i64) -> Result<String> {
        let content = json!({
            "at": self.at.identity(definition)?,
            "matrix": Matrix::from(self.matrix).as_str(),
            "part": part,
            "labels": [json!(self.mc_samples), json!(self.mc_seed)],
        });
        Ok(hex::encode(Sha256::digest(content.to_string().as_bytes())))
    }

    /// Refuses what there is no room for, before anything is computed.
    fn check_memory(&self, plan: &memory::Plan, settings: &EigenvalueSettings) -> Result<()> {
        let budget = self.at.memory_budget()?;
        // Bases, and of the trace its directions, their products, the random vectors and theirs; products on their way to disk.
        let kept = if self.out.is_some() { Kept::WAITING + self.trace_products as usize / 3 } else { 0 };
        let vectors =
            settings.vectors.max(self.density_steps.into()).max(4 * self.trace_products as usize / 3) + 4 + kept;
        let held = plan.parameters().saturating_mul(vectors as u64);
        let pass = plan.base().saturating_add(plan.sweep(Vectors::Gradient, u64::MAX).saturating_mul(2));
        let needed = held.saturating_add(pass);
        if needed <= budget {
            return Ok(());
        }
        let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        Err(Error::Unsupported(format!(
            "this needs about {}, {} of it for vectors, the memory budget is {}; take a smaller --batch-size, fewer \
             --largest, --trace-products or --density-steps, or raise --memory-budget",
            size(needed),
            size(held),
            size(budget)
        )))
    }
}

fn table(record: &Record) -> String {
    let about = &record.about;
    let mut text = format!(
        "{}, {}: {} samples, {} parameters{}\n",
        about.problem,
        about.matrix,
        about.samples,
        about.parameters,
        about.loss.map_or_else(String::new, |loss| format!(", loss {loss:.6}"))
    );
    if let Some(trace) = &record.trace {
        let (trace, products) = (with_bar(trace.value, trace.bar), trace.products);
        text += &format!("trace {trace} ({:.0} %, {products} products)\n", 100.0 * CONFIDENCE);
    }
    if let Some(found) = &record.eigenvalues {
        text += &format!("eigenvalues from {} products\n", found.products);
        let mut table = Table::new(["end", "place", "eigenvalue", "residual"]).right(1..4);
        let ends = record.rows().into_iter().filter(|(quantity, ..)| *quantity != "trace");
        for (end, place, value, residual) in ends {
            table.row([end.to_owned(), place.to_string(), significant(value, 7), format!("{residual:.1e}")]);
        }
        text += &format!("{table}\n");
    }
    text
}

/// Where an interrupted spectrum keeps what it has done.
fn partial(folder: &Path) -> PathBuf {
    let mut name = folder.components().as_path().as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "expected a number between 0 and 1".to_owned())
}

fn width(text: &str) -> Result<f64, String> {
    let width = text.parse().ok().filter(|width: &f64| *width > 0.0 && width.is_finite());
    width.ok_or_else(|| "expected a number above 0".to_owned())
}

fn trace_products(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if count == 0 || (6..=100_000).contains(&count) => Ok(count),
        _ => Err("expected 0, or a number from 6 to 100000".to_owned()),
    }
}
