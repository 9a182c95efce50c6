//! A network made of a model that torch.export has written, computing with the model's own tensors.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backpack_run::backpack::extraction::{Batch, LABELS, Settings, extract};
use backpack_run::backpack::layers::Mode;
use backpack_run::backpack::losses::{Loss, Reduction};
use backpack_run::backpack::quantities::Scale;
use backpack_run::backpack::{KeptMemory, Labels, Linearised, memory};
use backpack_run::config::Source;
use backpack_run::import::{Head, outline};
use backpack_run::problems::builder::{self, lay_out};
use backpack_run::problems::definition::{self, LossKind, REDUCTIONS};
use backpack_run::{Error, Result, backpack};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tch::{Device, Kind, Tensor};

use crate::errors::{self, to_python};
use crate::tensors::{give, take, take_all};

/// A model's network. It holds no tensors of its own; each call brings those that the model has by then.
#[pyclass(frozen, module = "backpack_run._native")]
#[derive(Debug)]
pub struct Network {
    network: Mutex<backpack::Network>,
    memory: Option<KeptMemory>,
    names: Vec<String>,
    parameters: Vec<String>,
    notes: Vec<String>,
    random: Vec<String>,
    shape: Vec<i64>,
}

/// What one call brings beside the tensors of the model: inputs, targets, and perhaps labels to be used.
pub struct Samples {
    pub x: Tensor,
    pub y: Tensor,
    pub mc_labels: Option<Tensor>,
}

impl Samples {
    pub fn from_python(
        x: &Bound<'_, PyAny>,
        y: &Bound<'_, PyAny>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Samples { x: take(x)?, y: take(y)?, mc_labels: labels.map(take).transpose()? })
    }

    /// As a batch that fits network and loss, on the device and in the floats of the network.
    pub fn fit(self, network: &backpack::Network, loss: &dyn Loss) -> Result<Batch> {
        let mut batch = self.batch()?;
        let first = network.parameters().first().map(|parameter| (parameter.value.kind(), parameter.value.device()));
        let (kind, device) = first.unwrap_or((batch.x.kind(), batch.x.device()));
        for (name, tensor) in [("x", Some(&batch.x)), ("y", Some(&batch.y)), (LABELS, batch.mc_labels.as_ref())] {
            let Some(tensor) = tensor else { continue };
            if tensor.device() != device || (tensor.is_floating_point() && tensor.kind() != kind) {
                return Err(Error::Shape(format!(
                    "`{name}` is {} on {}, the model's parameters are {} on {}: bring them together with .to()",
                    words(tensor.kind()),
                    place(tensor.device()),
                    words(kind),
                    place(device)
                )));
            }
        }
        batch.fit_inputs(network.integers(), kind)?;
        batch.fit(loss, network.shapes(&batch.x.size()[1..])?.output())?;
        Ok(batch)
    }

    fn batch(self) -> Result<Batch> {
        let mut tensors = BTreeMap::from([("x".to_owned(), self.x), ("y".to_owned(), self.y)]);
        tensors.extend(self.mc_labels.map(|labels| (LABELS.to_owned(), labels)));
        Batch::from_tensors(tensors)
    }
}

/// A type as torch names it.
fn words(kind: Kind) -> String {
    match kind {
        Kind::Half => "float16".into(),
        Kind::Float => "float32".into(),
        Kind::Double => "float64".into(),
        Kind::BFloat16 => "bfloat16".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A device as torch names it.
fn place(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The loss of these names.
pub fn loss(kind: &str, reduction: &str) -> Result<Box<dyn Loss>> {
    let kind = LossKind::NAMES.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    let reduction: Option<Reduction> = REDUCTIONS.iter().find(|(name, _)| *name == reduction).map(|(_, one)| *one);
    let unknown = || Error::Usage("expected cross_entropy, mse or bce_with_logits, and mean or sum".to_owned());
    Ok(builder::loss(kind.ok_or_else(unknown)?, reduction.ok_or_else(unknown)?))
}

/// How long what is free counts as known: asking the system takes longer than a small pass.
const KNOWN: Duration = Duration::from_secs(1);

/// The budget where none is given, as of a moment ago.
fn default_budget() -> Result<u64> {
    static LAST: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match *last {
        Some((asked, budget)) if asked.elapsed() < KNOWN => Ok(budget),
        _ => {
            let budget = memory::default_budget()?;
            *last = Some((Instant::now(), budget));
            Ok(budget)
        }
    }
}

impl Network {
    /// Computes as [`errors::compute`] does, with large tensors in the memory that is kept, if any is.
    pub fn compute<T: Send>(&self, py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
        errors::compute(py, || match &self.memory {
            Some(memory) => memory.during(work),
            None => work(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, backpack::Network> {
        // What a panic left is replaced by the next call's tensors.
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network with these tensors in it, in the order of `names`.
    pub fn with(&self, tensors: Vec<Tensor>) -> Result<MutexGuard<'_, backpack::Network>> {
        let mut network = self.lock();
        network.put(tensors.into_iter().map(|tensor| tensor.contiguous()).collect())?;
        Ok(network)
    }
}

#[pymethods]
impl Network {
    /// The network of an archive of torch.export; whether the memory of a call is kept for the next one.
    #[new]
    fn new(py: Python<'_>, archive: &[u8], keep_memory: bool) -> PyResult<Self> {
        errors::compute(py, || {
            let path = Path::new("the exported model");
            let head = Head { name: "model".to_owned(), ..Head::default() };
            let imported = outline(Cursor::new(archive), path, &head)?;
            let definition = definition::parse(&Source::built_in("the exported model", &imported.problem))?;
            let network = lay_out(&definition, &imported.input_shape)?;
            let inside: BTreeMap<String, String> = imported.names.into_iter().collect();
            let missing = |name: &String| Error::Shape(format!("`{name}` is no tensor of the model"));
            let names = network.tensor_names();
            let names = names.iter().map(|name| inside.get(name).cloned().ok_or_else(|| missing(name)));
            let random = network.nodes().iter().filter(|node| {
                node.kind() == "dropout" || !node.samples_are_independent(Mode::Training { seed: 0, step: 0 })
            });
            Ok(Network {
                names: names.collect::<Result<_>>()?,
                parameters: network.parameters().into_iter().map(|parameter| parameter.name).collect(),
                notes: imported.notes,
                random: random.map(|node| node.title()).collect(),
                shape: imported.input_shape,
                network: Mutex::new(network),
                memory: keep_memory.then(KeptMemory::new),
            })
        })
    }

    /// The model's names of the tensors that each call brings, in their order: parameters, then running statistics.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// The parameters, in the order of computation.
    #[getter]
    fn parameters(&self) -> Vec<String> {
        self.parameters.clone()
    }

    /// What the user should know of the conversion.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The layers that do something else while training: dropout, and norms by the batch's own statistics.
    #[getter]
    fn random(&self) -> Vec<String> {
        self.random.clone()
    }

    /// The shape of a sample.
    #[getter]
    fn shape(&self) -> Vec<i64> {
        self.shape.clone()
    }

    /// The quantities of a batch: (loss, output, labels, [(quantity, parameter, factor, tensor)], [(skipped, reason)],
    /// metadata). `all` among the quantities stands for those of Table 1 and the gradient; `training` is the seed of dropout
    /// masks where they are on.
    #[pyo3(signature = (tensors, samples, loss, quantities, *, scale, mc_samples, mc_seed, training=None, budget=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn extract<'py>(
        &self,
        py: Python<'py>,
        tensors: Vec<Bound<'py, PyAny>>,
        samples: (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>),
        loss: (String, String),
        quantities: Vec<String>,
        scale: &str,
        mc_samples: i64,
        mc_seed: u64,
        training: Option<u64>,
        budget: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tensors = take_all(&tensors)?;
        let samples = Samples::from_python(&samples.0, &samples.1, samples.2.as_ref())?;
        let scale = match scale {
            "backpack" => Scale::Backpack,
            "paper" => Scale::Paper,
            other => {
                let text = format!("scale={other:?}: expected \"backpack\" or \"paper\"");
                return Err(to_python(py, Error::Usage(text)));
            }
        };
        let (table_1, explicit): (Vec<String>, Vec<String>) = quantities.into_iter().partition(|name| name == "all");
        let found = self.compute(py, move || {
            let settings = Settings {
                explicit,
                table_1: !table_1.is_empty(),
                scale,
                mode: training.map_or(Mode::Evaluation, |seed| Mode::Training { seed, step: 0 }),
                mc_samples,
                mc_seed,
                memory_budget: budget.map_or_else(default_budget, Ok)?,
            };
            let loss = self::loss(&loss.0, &loss.1)?;
            let network = self.with(tensors)?;
            let batch = samples.fit(&network, loss.as_ref())?;
            extract(&network, loss.as_ref(), &batch, None, &settings)
        })?;
        let mut taken = Vec::new();
        for one in found.taken {
            taken.push((one.quantity, one.parameter, one.factor, give(py, &one.tensor)?));
        }
        let labels = found.labels.map(|labels| give(py, &labels)).transpose()?;
        let (loss, output) = (give(py, &found.loss)?, give(py, &found.output)?);
        let metadata = PyDict::new(py);
        for (key, value) in found.metadata {
            metadata.set_item(key, value)?;
        }
        Ok((loss, output, labels, taken, found.skipped, metadata).into_pyobject(py)?.into_any())
    }

    /// The product of a curvature matrix, `ggn`, `hessian` or `fisher`, with each of several vectors, which have a tensor for
    /// each of `parameters`; and the labels that the Fisher matrix used.
    #[pyo3(signature = (tensors, samples, loss, matrix, vectors, *, mc_samples, mc_seed, training=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn products<'py>(
        &self,
        py: Python<'py>,
        tensors: Vec<Bound<'py, PyAny>>,
        samples: (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>),
        loss: (String, String),
        matrix: String,
        vectors: Vec<Vec<Bound<'py, PyAny>>>,
        mc_samples: i64,
        mc_seed: u64,
        training: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tensors = take_all(&tensors)?;
        let samples = Samples::from_python(&samples.0, &samples.1, samples.2.as_ref())?;
        let vectors = vectors.iter().map(|vector| take_all(vector)).collect::<PyResult<Vec<Vec<Tensor>>>>()?;
        let (products, labels) = self.compute(py, move || {
            let loss = self::loss(&loss.0, &loss.1)?;
            let network = self.with(tensors)?;
            let Batch { x, y, mc_labels } = samples.fit(&network, loss.as_ref())?;
            let mode = training.map_or(Mode::Evaluation, |seed| Mode::Training { seed, step: 0 });
            let at = Linearised::new(&network, loss.as_ref(), &x, &y, mode)?;
            let labels = (matrix == "fisher").then(|| {
                // Those that the quantities of the same seed use.
                let drawn = Labels::Drawn { seed: mc_seed, step: 0 };
                at.labels(mc_samples, mc_labels.as_ref().map_or(drawn, Labels::Given))
            });
            let labels = labels.transpose()?;
            let product = |vector: Vec<Tensor>| match (matrix.as_str(), &labels) {
                ("ggn", _) => at.ggn_product(&vector),
                ("hessian", _) => at.hessian_product(&vector),
                (_, Some(labels)) => at.fisher_mc_product(&vector, labels),
                (other, None) => Err(Error::Usage(format!("matrix {other}: expected ggn, hessian or fisher"))),
            };
            Ok((vectors.into_iter().map(product).collect::<Result<Vec<_>>>()?, labels))
        })?;
        let mut given = Vec::new();
        for product in &products {
            given.push(product.iter().map(|tensor| give(py, tensor)).collect::<PyResult<Vec<_>>>()?);
        }
        let labels = labels.map(|labels| give(py, &labels)).transpose()?;
        Ok((given, labels).into_pyobject(py)?.into_any())
    }
}
