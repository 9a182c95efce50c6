//! What of an exported program's JSON is read: torch's own schema (torch/_export/serde/schema.yaml), as far as it is needed.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// The major version of the schema that is understood.
pub const MAJOR: i64 = 8;
/// The latest minor version of it that is known.
pub const MINOR: i64 = 20;

/// The version alone, which decides whether the rest is read.
#[derive(Deserialize)]
pub struct Versioned {
    pub schema_version: SchemaVersion,
    #[serde(default)]
    pub torch_version: String,
}

#[derive(Deserialize, Clone, Copy, Debug)]
pub struct SchemaVersion {
    pub major: i64,
    pub minor: i64,
}

#[derive(Deserialize)]
pub struct ExportedProgram {
    pub graph_module: GraphModule,
}

#[derive(Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
}

#[derive(Deserialize)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub tensor_values: HashMap<String, TensorMeta>,
}

#[derive(Deserialize)]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

#[derive(Deserialize, Clone, Debug)]
pub struct Name {
    pub name: String,
}

/// A value of a node's argument. Kinds that no call known here takes are kept as they are.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "as the schema names them")]
pub enum Argument {
    AsNone(IgnoredAny),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsOptionalTensor(OptionalTensor),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    #[serde(deserialize_with = "float")]
    AsFloat(f64),
    AsFloats(IgnoredAny),
    AsString(String),
    AsStrings(IgnoredAny),
    AsSymInt(Symbol),
    AsSymInts(Vec<Symbol>),
    AsSymBool(IgnoredAny),
    AsSymBools(IgnoredAny),
    AsSymFloat(SymFloat),
    AsSymFloats(IgnoredAny),
    AsScalarType(IgnoredAny),
    AsMemoryFormat(IgnoredAny),
    AsLayout(IgnoredAny),
    AsDevice(IgnoredAny),
    AsBool(bool),
    AsBools(IgnoredAny),
    AsGraph(IgnoredAny),
    AsCustomObj(IgnoredAny),
    AsOperator(IgnoredAny),
    AsComplex(IgnoredAny),
    AsNestedTensors(IgnoredAny),
    AsIntLists(IgnoredAny),
    AsStringToArgument(IgnoredAny),
    AsFloatLists(IgnoredAny),
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub enum OptionalTensor {
    AsTensor(Name),
    AsNone(IgnoredAny),
}

/// A size, or the name of a value that is one.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Symbol {
    AsName(String),
    AsInt(i64),
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SymFloat {
    AsName(String),
    #[serde(deserialize_with = "float")]
    AsFloat(f64),
}

/// A float, which JSON writes as a text where it is not finite.
fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(f64),
        Text(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(number),
        Form::Text(text) => match text.as_str() {
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            "NaN" => Ok(f64::NAN),
            _ => Err(serde::de::Error::custom(format!("`{}` where a float is expected", text.escape_debug()))),
        },
    }
}

#[derive(Deserialize, Clone, Debug)]
pub struct TensorMeta {
    pub dtype: i64,
    pub sizes: Vec<SymInt>,
    #[serde(default)]
    pub strides: Vec<SymInt>,
    pub storage_offset: Option<SymInt>,
}

/// A size: a number, or an expression of symbols with its value in the example that was exported.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SymInt {
    AsInt(i64),
    AsExpr(SymExpr),
}

#[derive(Deserialize, Clone, Debug)]
pub struct SymExpr {
    pub hint: Option<Hint>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "as the schema names them")]
pub enum Hint {
    AsInt(i64),
    AsBool(IgnoredAny),
    AsFloat(IgnoredAny),
}

impl SymInt {
    /// The number, or the value that it had in the example.
    pub fn value(&self) -> Option<i64> {
        match self {
            SymInt::AsInt(size) => Some(*size),
            SymInt::AsExpr(SymExpr { hint: Some(Hint::AsInt(size)), .. }) => Some(*size),
            SymInt::AsExpr(_) => None,
        }
    }
}

#[derive(Deserialize)]
pub struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    UserInput(UserValue),
    Parameter(ParameterInput),
    Buffer(BufferInput),
    TensorConstant(ConstantInput),
    CustomObj(IgnoredAny),
    Token(IgnoredAny),
    ConstantInput(IgnoredAny),
}

#[derive(Deserialize)]
pub struct UserValue {
    pub arg: Argument,
}

#[derive(Deserialize)]
pub struct ParameterInput {
    pub arg: Name,
    pub parameter_name: String,
}

#[derive(Deserialize)]
pub struct BufferInput {
    pub arg: Name,
    pub buffer_name: String,
}

#[derive(Deserialize)]
pub struct ConstantInput {
    pub arg: Name,
    pub tensor_constant_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSpec {
    UserOutput(UserValue),
    LossOutput(IgnoredAny),
    BufferMutation(IgnoredAny),
    GradientToParameter(IgnoredAny),
    GradientToUserInput(IgnoredAny),
    UserInputMutation(IgnoredAny),
    ParameterMutation(IgnoredAny),
    Token(IgnoredAny),
}

/// The tensors of a folder of the archive, by name.
#[derive(Deserialize)]
pub struct Payloads {
    pub config: serde_json::Map<String, Json>,
}

/// Where a tensor lies.
#[derive(Deserialize, Clone, Debug)]
pub struct Payload {
    pub path_name: String,
    #[serde(default)]
    pub is_param: bool,
    pub use_pickle: bool,
    pub tensor_meta: Option<TensorMeta>,
}
