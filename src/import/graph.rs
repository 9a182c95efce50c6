//! The exported program as a list of calls: which of them matter, what their arguments are, and where each was written.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::archive::{Archive, Source, damaged};
use super::schema::{self, Argument, ExportedProgram, InputSpec, OutputSpec, Symbol, TensorMeta, Versioned};
use crate::error::{Error, Result};

/// What cannot be expressed in a problem file, and what would do instead.
#[derive(Debug)]
pub struct Refusal {
    pub why: String,
    pub instead: String,
}

/// What the reading of a call comes to.
pub type Said<T> = std::result::Result<T, Refusal>;

/// A refusal.
pub fn refuse<T>(why: impl Into<String>, instead: impl Into<String>) -> Said<T> {
    Err(Refusal { why: why.into(), instead: instead.into() })
}

impl From<tch::TchError> for Refusal {
    fn from(error: tch::TchError) -> Self {
        let text = Error::from(error).to_string();
        Refusal { why: format!("its constant value cannot be computed: {text}"), instead: DAMAGED.into() }
    }
}

/// What to do where a graph is not one that torch writes.
pub const DAMAGED: &str = "export the model again; this archive is damaged";

/// One call.
pub struct Call {
    /// The name of its first output.
    pub name: String,
    /// What is called, as torch.ops.aten.conv2d.default.
    pub target: String,
    pub arguments: Vec<(String, Argument)>,
    /// The names of its outputs.
    pub outputs: Vec<String>,
    /// The modules that it stands in, outermost first: path and class.
    pub modules: Vec<(String, String)>,
    stack: String,
}

impl Call {
    /// The operation's name without `torch.ops.aten.`, overload and the mark of one in place.
    pub fn operation(&self) -> &str {
        let plain = self.target.strip_prefix("torch.ops.aten.").unwrap_or(&self.target);
        if plain.starts_with("_operator.") {
            return plain;
        }
        let plain = plain.split('.').next().unwrap_or(plain);
        plain.strip_suffix('_').filter(|name| !name.starts_with("__") && !name.is_empty()).unwrap_or(plain)
    }

    /// Whether it changes its first argument.
    pub fn in_place(&self) -> bool {
        let name = self.target.strip_prefix("torch.ops.aten.").and_then(|name| name.split('.').next());
        name.is_some_and(|name| name.ends_with('_') && !name.starts_with("__"))
    }

    /// Whether its output shares its first argument's memory.
    fn is_view(&self) -> bool {
        const VIEWS: [&str; 23] = [
            "view",
            "reshape",
            "flatten",
            "unflatten",
            "squeeze",
            "unsqueeze",
            "permute",
            "transpose",
            "t",
            "select",
            "slice",
            "split",
            "split_with_sizes",
            "chunk",
            "unbind",
            "expand",
            "alias",
            "contiguous",
            "to",
            "movedim",
            "numpy_T",
            "mT",
            "narrow",
        ];
        self.in_place() || VIEWS.contains(&self.operation()) || matches!(self.operation(), "dropout" | "tensor_split")
    }

    /// An argument by its name in torch's schema; nothing where it is not given or None.
    pub fn argument(&self, name: &str) -> Option<&Argument> {
        let found = self.arguments.iter().find(|(known, _)| known == name).map(|(_, argument)| argument);
        found.filter(|argument| !matches!(argument, Argument::AsNone(_)))
    }

    /// The line of the user's own source that it comes from.
    fn line(&self) -> Option<String> {
        let mut frames: Vec<(String, String)> = Vec::new();
        for line in self.stack.lines() {
            match line.trim_start().strip_prefix("File \"") {
                Some(place) => frames.push((place.replacen('"', "", 1), String::new())),
                None => {
                    if let Some((_, code)) = frames.last_mut().filter(|(_, code)| code.is_empty()) {
                        code.push_str(line.trim());
                    }
                }
            }
        }
        let own = |place: &str| !place.contains("site-packages/") && !place.contains("dist-packages/");
        let (place, code) = frames.iter().rfind(|(place, _)| own(place)).or(frames.last())?;
        Some(if code.is_empty() { place.clone() } else { format!("{place}: {code}") })
    }

    /// The error about this call.
    pub fn error(&self, path: &Path, refusal: &Refusal) -> Error {
        let module = self.modules.last().filter(|(path, _)| !path.is_empty());
        let module = module.map_or(String::new(), |(path, class)| format!("\n  in module {path} ({class})"));
        let line = self.line().map_or(String::new(), |line| format!("\n  at {line}"));
        let (why, instead) = (&refusal.why, &refusal.instead);
        Error::Unsupported(format!(
            "{}: the node `{}`, {}, cannot be expressed in a problem file: {why}{module}{line}\n  instead: {instead}",
            path.display(),
            self.name.escape_debug(),
            self.target.escape_debug(),
        ))
    }
}

/// What the program takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The batch.
    Input,
    /// A parameter, by its name in the model.
    Parameter(String),
    /// A buffer or constant, by its name in the archive.
    Buffer(String),
}

/// The exported program.
pub struct Program {
    /// The calls that the output depends on, in order.
    pub calls: Vec<Call>,
    /// Where the names that no call makes come from.
    pub origins: HashMap<String, Origin>,
    /// The names of the model's parameters, in named_parameters' order.
    pub parameters: Vec<String>,
    /// The name of the batch.
    pub input: String,
    /// The name of the output.
    pub output: String,
    /// What is known of each value that is a tensor.
    pub metas: HashMap<String, TensorMeta>,
    /// The torch that exported it.
    pub torch: String,
}

impl Program {
    /// Reads the program of an archive.
    ///
    /// # Errors
    /// [`Error::Config`] for another version of the schema or a graph that is none; [`Error::Unsupported`] for a model that
    /// does not take one tensor and return one.
    pub fn read<S: Source>(archive: &mut Archive<S>, model: &str) -> Result<Self> {
        let member = format!("models/{model}.json");
        let bytes = archive.json_bytes(&member)?;
        let versioned: Versioned = archive.parse(&member, &bytes)?;
        let version = versioned.schema_version;
        if version.major != schema::MAJOR || !(0..=schema::MINOR).contains(&version.minor) {
            return Err(damaged(
                archive.path(),
                &format!(
                    "schema version {}.{}; known are {}.0 to {}.{} (torch 2.13)",
                    version.major,
                    version.minor,
                    schema::MAJOR,
                    schema::MAJOR,
                    schema::MINOR
                ),
            ));
        }
        let program: ExportedProgram = archive.parse(&member, &bytes)?;
        let graph = program.graph_module.graph;
        let signature = program.graph_module.signature;
        let path = archive.path();
        let mut inputs = Vec::new();
        let (mut origins, mut parameters) = (HashMap::new(), Vec::new());
        for spec in signature.input_specs {
            let (name, origin) = match spec {
                InputSpec::Parameter(spec) => {
                    parameters.push(spec.parameter_name.clone());
                    (spec.arg.name, Origin::Parameter(spec.parameter_name))
                }
                InputSpec::Buffer(spec) => (spec.arg.name, Origin::Buffer(spec.buffer_name)),
                InputSpec::TensorConstant(spec) => (spec.arg.name, Origin::Buffer(spec.tensor_constant_name)),
                InputSpec::UserInput(spec) => match spec.arg {
                    Argument::AsTensor(name) => {
                        inputs.push(name.name.clone());
                        (name.name, Origin::Input)
                    }
                    _ => continue,
                },
                InputSpec::CustomObj(_) | InputSpec::Token(_) | InputSpec::ConstantInput(_) => continue,
            };
            if origins.insert(name.clone(), origin).is_some() {
                return Err(damaged(path, &format!("two inputs are called `{}`", name.escape_debug())));
            }
        }
        let mut outputs = Vec::new();
        for spec in signature.output_specs {
            match spec {
                OutputSpec::UserOutput(value) => match value.arg {
                    Argument::AsTensor(name) => outputs.push(name.name),
                    Argument::AsNone(_) => {}
                    _ => return Err(not_one(path, "returns something that is no tensor", "return the output alone")),
                },
                OutputSpec::UserInputMutation(_) => {
                    return Err(not_one(path, "changes its input in place", "change a clone of it"));
                }
                _ => {}
            }
        }
        let [input] = inputs.as_slice() else {
            return Err(not_one(
                path,
                &format!("takes {} tensors", inputs.len()),
                "export a module that takes one batch x",
            ));
        };
        let [output] = outputs.as_slice() else {
            let what = format!("returns {} tensors", outputs.len());
            return Err(not_one(path, &what, "export a module whose forward returns the output alone"));
        };
        let calls = graph.nodes.into_iter().map(call).collect::<Vec<_>>();
        check_order(&calls, &origins, output).map_err(|what| damaged(path, &what))?;
        let program = Program {
            calls,
            parameters,
            input: input.clone(),
            output: output.clone(),
            origins,
            metas: graph.tensor_values,
            torch: versioned.torch_version,
        };
        program.live(path)
    }

    /// Keeps the calls that the output depends on, and looks whether what is changed in place is used by another name.
    fn live(mut self, path: &Path) -> Result<Self> {
        let mut needed = HashSet::from([self.output.clone()]);
        let mut kept: Vec<bool> = vec![false; self.calls.len()];
        for (place, call) in self.calls.iter().enumerate().rev() {
            if call.outputs.iter().any(|name| needed.contains(name)) {
                kept[place] = true;
                needed.extend(call.arguments.iter().flat_map(|(_, argument)| names(argument)).map(str::to_owned));
            }
        }
        self.check_changes(path, &kept)?;
        let mut keep = kept.iter();
        self.calls.retain(|_| *keep.next().unwrap_or(&false));
        Ok(self)
    }

    /// A value that is changed in place must not be read afterwards under another name that shares its memory.
    fn check_changes(&self, path: &Path, kept: &[bool]) -> Result<()> {
        // The value that each name shares its memory with, and the changes of it, by their places.
        let mut memory: HashMap<&str, &str> = HashMap::new();
        let mut changed: HashMap<&str, usize> = HashMap::new();
        let mut made: HashMap<&str, usize> = HashMap::new();
        for (place, call) in self.calls.iter().enumerate() {
            let taken = call.arguments.iter().filter(|_| kept[place]).flat_map(|(_, argument)| names(argument));
            for name in taken {
                let root = memory.get(name).copied().unwrap_or(name);
                let stale = changed.get(root).is_some_and(|&change| made.get(name).is_none_or(|&birth| birth < change));
                if stale {
                    return Err(call.error(path, &changed_before(name)));
                }
            }
            let first = call.arguments.first().and_then(|(_, argument)| names(argument).first().copied());
            if let Some(root) = first.filter(|_| call.is_view()).map(|name| memory.get(name).copied().unwrap_or(name)) {
                for output in &call.outputs {
                    memory.insert(output, root);
                }
                if call.in_place() {
                    changed.insert(root, place);
                }
            }
            for output in &call.outputs {
                made.insert(output, place);
            }
        }
        let output = self.output.as_str();
        let root = memory.get(output).copied().unwrap_or(output);
        let change = changed.get(root).copied();
        match change.filter(|&change| made.get(output).is_none_or(|&birth| birth < change)) {
            Some(change) => Err(self.calls[change].error(path, &changed_before(output))),
            None => Ok(()),
        }
    }
}

/// Why a value is not read that was changed under another name.
fn changed_before(name: &str) -> Refusal {
    Refusal {
        why: format!("`{}` is changed in place under another name before it is used", name.escape_debug()),
        instead: "compute the value that is changed out of place, as x = x + y in place of x += y".into(),
    }
}

fn not_one(path: &Path, what: &str, instead: &str) -> Error {
    Error::Unsupported(format!(
        "{}: the model {what}. A problem's network maps one batch to one output: {instead}",
        path.display()
    ))
}

fn call(node: schema::Node) -> Call {
    let outputs: Vec<String> = node.outputs.iter().flat_map(names).map(str::to_owned).collect();
    let stack = node.metadata.get("nn_module_stack").map_or("", String::as_str);
    // `;` divides modules and `,` a module's key, path and class.
    let modules = stack.split(';').filter_map(|module| {
        let mut parts = module.splitn(3, ',').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    });
    Call {
        name: outputs.first().cloned().unwrap_or_default(),
        target: node.target,
        modules: modules.collect(),
        arguments: node.inputs.into_iter().map(|argument| (argument.name, argument.arg)).collect(),
        outputs,
        stack: node.metadata.get("stack_trace").cloned().unwrap_or_default(),
    }
}

/// The names of values in an argument.
fn names(argument: &Argument) -> Vec<&str> {
    match argument {
        Argument::AsTensor(name) => vec![&name.name],
        Argument::AsTensors(names) => names.iter().map(|name| name.name.as_str()).collect(),
        Argument::AsOptionalTensor(schema::OptionalTensor::AsTensor(name)) => vec![&name.name],
        Argument::AsOptionalTensors(list) => list
            .iter()
            .filter_map(|one| match one {
                schema::OptionalTensor::AsTensor(name) => Some(name.name.as_str()),
                schema::OptionalTensor::AsNone(_) => None,
            })
            .collect(),
        Argument::AsSymInt(Symbol::AsName(name)) | Argument::AsSymFloat(schema::SymFloat::AsName(name)) => vec![name],
        Argument::AsSymInts(list) => list
            .iter()
            .filter_map(|symbol| match symbol {
                Symbol::AsName(name) => Some(name.as_str()),
                Symbol::AsInt(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether every value is made once, and before it is used.
fn check_order(calls: &[Call], origins: &HashMap<String, Origin>, output: &str) -> std::result::Result<(), String> {
    let mut known: HashSet<&str> = origins.keys().map(String::as_str).collect();
    for call in calls {
        for name in call.arguments.iter().flat_map(|(_, argument)| names(argument)) {
            if !known.contains(name) {
                return Err(format!(
                    "the node `{}` takes `{}`, which nothing before it makes",
                    call.name.escape_debug(),
                    name.escape_debug()
                ));
            }
        }
        for name in &call.outputs {
            if !known.insert(name) {
                return Err(format!("two values are called `{}`", name.escape_debug()));
            }
        }
    }
    if known.contains(output) { Ok(()) } else { Err(format!("nothing makes the output `{}`", output.escape_debug())) }
}
