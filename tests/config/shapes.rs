//! Shape inference: what leaves each layer, and how a layer that does not fit is shown.

use backpack_run::config::Source;
use backpack_run::problems::data::{DataFolders, describe};
use backpack_run::problems::definition::{self, ProblemDefinition};
use backpack_run::problems::{builder, layer_table};
use proptest::prelude::*;
use tch::{Kind, Tensor};

fn problem(layers: &str) -> ProblemDefinition {
    let text = format!("name = \"net\"\ndataset = \"mnist\"\nloss = \"cross_entropy\"\n\n{layers}");
    definition::parse(&Source::built_in("net.toml", &text)).unwrap_or_else(|error| panic!("{error}"))
}

/// One layer a line, options in the form of an inline table.
fn network(lines: &[&str]) -> ProblemDefinition {
    let layer = |line: &&str| format!("[[layers]]\n{}\n", line.replace("; ", "\n"));
    problem(&lines.iter().map(layer).collect::<String>())
}

fn misfit(lines: &[&str], input: &[i64]) -> String {
    match builder::build_network(&network(lines), input, 1) {
        Ok(_) => panic!("{lines:?} fits"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_layer_that_does_not_fit_is_shown() {
    let flatten = "type = \"flatten\"";
    let shown = [
        misfit(&["type = \"relu\"", "type = \"max_pool2d\"; kernel_size = 50", flatten], &[1, 28, 28]),
        misfit(&[flatten, "type = \"conv2d\"; out_channels = 3; kernel_size = 3"], &[1, 28, 28]),
        misfit(&["type = \"conv2d\"; out_channels = 4; kernel_size = 3; groups = 2", flatten], &[3, 8, 8]),
        misfit(&["type = \"conv2d\"; out_channels = 4; kernel_size = 3; dilation = 9", flatten], &[3, 8, 8]),
        misfit(&["type = \"max_pool2d\"; kernel_size = 2; padding = 2", flatten], &[3, 8, 8]),
        misfit(
            &["type = \"conv_transpose2d\"; out_channels = 2; kernel_size = 2; output_padding = 3", flatten],
            &[3, 8, 8],
        ),
        misfit(&["type = \"linear\"; out_features = 2147483647", "type = \"linear\"; out_features = 2147483647"], &[3]),
        misfit(&["type = \"zero_pad2d\"; padding = 2147483647", flatten], &[3, 8, 8]),
    ];
    let shown = shown.join("\n\n");
    insta::assert_snapshot!(shown);
}

#[test]
fn without_a_file_the_layer_is_named_all_the_same() {
    let json = serde_json::to_string(&network(&["type = \"flatten\"", "type = \"batch_norm2d\""])).unwrap();
    let definition: ProblemDefinition = serde_json::from_str(&json).unwrap();
    let error = builder::build_network(&definition, &[1, 4, 4], 1).err().unwrap().to_string();
    assert!(error.starts_with("layer 1 (batch_norm2d) does not fit") && error.contains("[16]"), "{error}");
}

#[test]
fn every_layer_type_is_built_as_described() {
    let definition = network(&[
        "type = \"zero_pad2d\"; padding = [1, 0, 2, 0]",
        "type = \"conv2d\"; out_channels = 4; kernel_size = [3, 2]; stride = [2, 1]; padding = [1, 2, 0, 3]; groups = 2",
        "type = \"batch_norm2d\"; frozen = true",
        "type = \"conv_transpose2d\"; out_channels = 6; kernel_size = 3; stride = 2; padding = 1; output_padding = 1",
        "type = \"max_pool2d\"; kernel_size = 3; stride = 2; padding = \"same\"",
        "type = \"avg_pool2d\"; kernel_size = 2; ceil_mode = true",
        "type = \"adaptive_avg_pool2d\"; output_size = [2, 3]",
        "type = \"leaky_relu\"; negative_slope = 0.2",
        "type = \"elu\"; alpha = 2",
        "type = \"selu\"",
        "type = \"sigmoid\"",
        "type = \"tanh\"",
        "type = \"log_sigmoid\"",
        "type = \"gelu\"",
        "type = \"silu\"",
        "type = \"identity\"",
        "type = \"dropout\"; p = 0.25",
        "type = \"flatten\"",
        "type = \"linear\"; out_features = 5; bias = false",
        "type = \"relu\"",
    ]);
    let input = [2, 9, 11];
    let rows = layer_table(&definition, &input).unwrap();
    let shown = rows.iter().map(|row| {
        let parameters = row.parameters.iter().map(|parameter| format!("{} {:?}", parameter.name, parameter.shape));
        let parameters = parameters.collect::<Vec<_>>().join(" ");
        format!("{} {} [{}] -> {:?} {parameters}", row.index, row.kind, row.options, row.output_shape)
    });
    let shown = shown.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(shown, @"
    0 zero_pad2d [padding [1, 0, 2, 0]] -> [2, 11, 12]
    1 conv2d [out_channels 4, kernel_size [3, 2], stride [2, 1], padding [1, 2, 0, 3], groups 2] -> [4, 6, 14] 1.weight [4, 1, 3, 2] 1.bias [4]
    2 batch_norm2d [frozen true] -> [4, 6, 14] 2.weight [4] 2.bias [4]
    3 conv_transpose2d [out_channels 6, kernel_size 3, stride 2, padding 1, output_padding 1] -> [6, 12, 28] 3.weight [4, 6, 3, 3] 3.bias [6]
    4 max_pool2d [kernel_size 3, stride 2, padding same] -> [6, 6, 14]
    5 avg_pool2d [kernel_size 2, ceil_mode true] -> [6, 3, 7]
    6 adaptive_avg_pool2d [output_size [2, 3]] -> [6, 2, 3]
    7 leaky_relu [negative_slope 0.2] -> [6, 2, 3]
    8 elu [alpha 2.0] -> [6, 2, 3]
    9 selu [] -> [6, 2, 3]
    10 sigmoid [] -> [6, 2, 3]
    11 tanh [] -> [6, 2, 3]
    12 log_sigmoid [] -> [6, 2, 3]
    13 gelu [] -> [6, 2, 3]
    14 silu [] -> [6, 2, 3]
    15 identity [] -> [6, 2, 3]
    16 dropout [p 0.25] -> [6, 2, 3]
    17 flatten [] -> [36]
    18 linear [out_features 5, bias false] -> [5] 18.weight [5, 36]
    19 relu [] -> [5]
    ");
    // The network itself gives what the table says.
    let network = builder::build_network(&definition, &input, 1).unwrap();
    let output = network.evaluate(&Tensor::ones([3, 2, 9, 11], (Kind::Float, tch::Device::Cpu))).unwrap();
    assert_eq!(output.size(), [3, 5]);
}

#[test]
fn batch_norm_starts_as_the_identity_and_inits_apply() {
    let definition = network(&[
        "type = \"batch_norm2d\"",
        "type = \"batch_norm2d\"; weight_init = { constant = 3 }; bias_init = { constant = 2 }",
        "type = \"flatten\"",
        "type = \"linear\"; out_features = 1000; weight_init = { uniform = 0.5 }; bias_init = { constant = -1 }",
    ]);
    let network = builder::build_network(&definition, &[2, 2, 2], 1).unwrap();
    let bounds: Vec<(String, f64, f64)> = network
        .parameters()
        .iter()
        .map(|parameter| {
            let number = |value: Tensor| (f64::try_from(value).unwrap() * 10.0).round() / 10.0;
            (parameter.name.clone(), number(parameter.value.min()), number(parameter.value.max()))
        })
        .collect();
    let expected = [
        ("0.weight", 1.0, 1.0),
        ("0.bias", 0.0, 0.0),
        ("1.weight", 3.0, 3.0),
        ("1.bias", 2.0, 2.0),
        ("3.weight", -0.5, 0.5),
        ("3.bias", -1.0, -1.0),
    ];
    assert_eq!(bounds, expected.map(|(name, least, most)| (name.to_owned(), least, most)));
}

proptest! {
    /// Whatever sizes a file gives, shape inference answers, and where it has an answer the network gives that shape.
    #[test]
    fn inferred_shapes_are_those_of_the_network(
        kernel in 1i64..6, stride in 1i64..4, padding in 0i64..3, dilation in 1i64..3, same: bool, pool in 1i64..5,
        channels in 1i64..3, height in 1i64..12, width in 1i64..12, ceil_mode: bool,
    ) {
        let padding = if same { "\"same\"".to_owned() } else { padding.to_string() };
        let window = format!("kernel_size = {kernel}; stride = {stride}; padding = {padding}; dilation = {dilation}");
        let definition = network(&[
            &format!("type = \"conv2d\"; out_channels = 2; {window}"),
            &format!("type = \"max_pool2d\"; kernel_size = {pool}; stride = {stride}; ceil_mode = {ceil_mode}"),
            &format!("type = \"avg_pool2d\"; kernel_size = {pool}; padding = {padding}; ceil_mode = {ceil_mode}"),
            "type = \"flatten\"",
        ]);
        let input = [channels, height, width];
        if let Ok(rows) = layer_table(&definition, &input) {
            let network = builder::build_network(&definition, &input, 1).unwrap();
            let x = Tensor::ones([2, channels, height, width], (Kind::Float, tch::Device::Cpu));
            let output = network.evaluate(&x).unwrap();
            prop_assert_eq!(&output.size()[1..], &rows.last().unwrap().output_shape[..]);
        }
    }
}

#[test]
fn outputs_must_be_the_classes_of_a_built_in_set() {
    let data = |definition: &ProblemDefinition| describe(&definition.dataset, &DataFolders::from_choice(None)).unwrap();
    let check = |outputs: usize| {
        let definition = network(&[
            "type = \"flatten\"",
            &format!("type = \"linear\"; out_features = {outputs}"),
            "type = \"relu\"",
        ]);
        let network = builder::build_network(&definition, &[1, 28, 28], 1).unwrap();
        builder::check_outputs(&definition, &network, &data(&definition))
    };
    assert!(check(10).is_ok());
    for outputs in [9, 11] {
        let error = check(outputs).unwrap_err().to_string();
        assert!(error.contains("net.toml:8:8") && error.contains("10"), "{error}");
    }
    // Ten classes, but at a position: the labels have none.
    let definition = network(&["type = \"conv2d\"; out_channels = 10; kernel_size = 28"]);
    let with_position = builder::build_network(&definition, &[1, 28, 28], 1).unwrap();
    let error = builder::check_outputs(&definition, &with_position, &data(&definition)).unwrap_err().to_string();
    assert!(error.contains("[10, 1, 1]") && error.contains("flatten"), "{error}");
}

/// A network with names, inputs and blocks, and what it is when it is written out.
#[test]
fn blocks_are_written_out() {
    let definition = problem(
        r#"
[[layers]]
type = "conv2d"
name = "stem"
out_channels = 3
kernel_size = 1

[[layers]]
type = "block"
block = "basic"
repeat = 2
name = "stage1"

[[layers]]
type = "block"
block = "basic"
inputs = ["stem"]

[[layers]]
type = "add"
inputs = ["previous", "stage1.1.sum", "input"]

[[layers]]
type = "flatten"

[[layers]]
type = "linear"
out_features = 10
names = { weight = "head.w" }

[[blocks.basic]]
type = "conv2d"
name = "conv"
out_channels = 3
kernel_size = 3
padding = 1

[[blocks.basic]]
type = "relu"

[[blocks.basic]]
type = "add"
name = "sum"
inputs = ["previous", "input", "1"]
"#,
    );
    let network = builder::build_network(&definition, &[3, 4, 4], 1).unwrap();
    let shown: Vec<String> = network
        .nodes()
        .iter()
        .map(|node| {
            let inputs = node
                .inputs()
                .iter()
                .map(|value| value.node().map_or("input", |place| network.nodes()[place].name.as_str()));
            format!("{} {} <- {}", node.name, node.kind(), inputs.collect::<Vec<_>>().join(", "))
        })
        .collect();
    let expected = [
        "stem conv2d <- input",
        "stage1.0.conv conv2d <- stem",
        "stage1.0.1 relu <- stage1.0.conv",
        "stage1.0.sum add <- stage1.0.1, stem, stage1.0.1",
        "stage1.1.conv conv2d <- stage1.0.sum",
        "stage1.1.1 relu <- stage1.1.conv",
        "stage1.1.sum add <- stage1.1.1, stage1.0.sum, stage1.1.1",
        "7 conv2d <- stem",
        "8 relu <- 7",
        "9 add <- 8, stem, 8",
        "10 add <- 9, stage1.1.sum, input",
        "11 flatten <- 10",
        "12 linear <- 11",
    ];
    assert_eq!(shown, expected);
    let names: Vec<String> = network.parameters().into_iter().map(|parameter| parameter.name).collect();
    assert_eq!(names[0], "stem.weight");
    assert_eq!(names[names.len() - 2..], ["head.w", "12.bias"]);

    // Written as a file and as JSON it reads back equal.
    let text = toml::to_string(&definition.to_toml().unwrap()).unwrap();
    assert_eq!(definition::parse(&Source::built_in("again.toml", &text)).unwrap(), definition);
    let json = serde_json::to_string(&definition).unwrap();
    assert_eq!(serde_json::from_str::<ProblemDefinition>(&json).unwrap(), definition);
}
