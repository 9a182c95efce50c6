//! Draws a small network with its loss and batch from a seed, in the form of a problem file.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::backpack::layers::{LAYER_TYPES, LayerEntry, Mode};
use crate::config::Source;
use crate::error::Result;
use crate::problems::definition::{self, ProblemDefinition};
use crate::problems::layer_table;
use crate::random::{Purpose, stream};

/// The most entries that a layer's output, or a parameter, has: the oracle takes a derivative for each of them.
const MOST_ENTRIES: i64 = 60;
/// The most outputs of a network: the oracle takes a Jacobian's row for each of them.
const MOST_OUTPUTS: i64 = 6;
/// The most layers that are drawn; a flattening and a linear layer may follow.
const MOST_LAYERS: u64 = 6;
/// How many different integers an embedding takes.
pub const INTEGERS: i64 = 5;
/// The layer types that take sequences alone.
pub const RECURRENT: [&str; 2] = ["rnn", "lstm"];
/// How often a layer that does not fit is drawn again.
const ATTEMPTS: usize = 40;

/// A network of [`draw`], and how it is to be checked.
#[derive(Clone, Debug)]
pub struct RandomNet {
    /// What it was drawn from.
    pub seed: u64,
    /// The problem file that describes it.
    pub text: String,
    /// What the file defines.
    pub definition: ProblemDefinition,
    /// The shape of a sample.
    pub input: Vec<i64>,
    /// The number of outputs.
    pub outputs: i64,
    /// The number of samples of the batch.
    pub samples: i64,
    /// The spread of the batch's inputs.
    pub spread: f64,
    /// The mode of the forward pass.
    pub mode: Mode,
    /// Labels sampled for each sample.
    pub mc_samples: i64,
    /// How many bytes of vectors may travel back together.
    pub chunk_bytes: u64,
}

/// The network of this seed.
///
/// # Errors
/// Only if the generator writes what is no problem file.
pub fn draw(seed: u64) -> Result<RandomNet> {
    let mut dice = Dice(stream(seed, Purpose::RandomNets, 0));
    let input = match dice.below(4) {
        0 => vec![dice.from(1, 6)],
        1 => (0..dice.from(2, 4)).map(|_| dice.from(1, 4)).collect(),
        _ => vec![dice.from(1, 3), dice.from(1, 7), dice.from(1, 7)],
    };
    let head = head(&mut dice, &input);
    let mut layers: Vec<String> = Vec::new();
    let mut shape = input.clone();
    for _ in 0..=dice.below(MOST_LAYERS) {
        extend(&mut dice, &head, &input, &mut layers, &mut shape)?;
    }
    if shape.len() > 1 {
        layers.push("type = \"flatten\"".to_owned());
    }
    let has_parameters =
        |layers: &[String]| ["\"linear", "\"conv"].iter().any(|name| layers.iter().any(|layer| layer.contains(name)));
    if shape.iter().product::<i64>() > MOST_OUTPUTS || !has_parameters(&layers) || dice.chance(70) {
        layers.push(format!("type = \"linear\"\nout_features = {}", dice.from(1, 4)));
        if dice.chance(20) {
            let last = dice.pick::<&str>(&["tanh", "sigmoid", "identity", "silu"]);
            layers.push(format!("type = \"{last}\""));
        }
    }
    let (text, definition) = parse(&head, &layers)?;
    let outputs = layer_table(&definition, &input)?.last().map_or(1, |row| row.output_shape.iter().product());
    let mode = if dice.chance(50) { Mode::Training { seed, step: dice.below(100) } } else { Mode::Evaluation };
    // A normalisation by the batch needs more than one value of each channel.
    let least = if text.contains("batch_norm") { 2 } else { 1 };
    Ok(RandomNet {
        seed,
        text,
        definition,
        outputs,
        input,
        samples: dice.from(least, 4),
        spread: *dice.pick(&[0.3, 1.0, 1.0, 2.0]),
        mode,
        mc_samples: dice.from(1, 3),
        chunk_bytes: *dice.pick(&[1, 300, 2000, 1 << 30]),
    })
}

/// What stands above the layers: name, data, loss.
fn head(dice: &mut Dice, input: &[i64]) -> String {
    let loss = dice.pick(&["cross_entropy", "mse", "bce_with_logits"]);
    let reduction = dice.pick(&["mean", "sum"]);
    format!(
        "name = \"random\"\nloss = \"{loss}\"\nreduction = \"{reduction}\"\n\
         dataset = {{ synthetic = {{ shape = {input:?}, classes = 2, train = 40, test = 20 }} }}\n"
    )
}

/// Adds a drawn layer that fits, if one is found; `shape` is what leaves the last layer.
fn extend(dice: &mut Dice, head: &str, input: &[i64], layers: &mut Vec<String>, shape: &mut Vec<i64>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        layers.push(layer(dice, shape, layers.len()));
        // As the loss is cross-entropy or not, the last layer must give one axis; here it need not be the last.
        let elsewhere = head.replace("cross_entropy", "mse");
        let (_, definition) = parse(&elsewhere, layers)?;
        if let Ok(rows) = layer_table(&definition, input)
            && let Some(last) = rows.last()
            && last.output_shape.iter().product::<i64>() <= MOST_ENTRIES
            && last.parameters.iter().all(|parameter| parameter.count <= MOST_ENTRIES as usize)
        {
            *shape = last.output_shape.clone();
            return Ok(());
        }
        layers.pop();
    }
    Ok(())
}

fn parse(head: &str, layers: &[String]) -> Result<(String, ProblemDefinition)> {
    let layers: String = layers.iter().map(|layer| format!("\n[[layers]]\n{layer}\n")).collect();
    let text = format!("{head}{layers}");
    let definition = definition::parse(&Source::built_in("random.toml", &text))?;
    Ok((text, definition))
}

/// A layer of any type, with any of its options, behind `before` others; it may not fit.
fn layer(dice: &mut Dice, shape: &[i64], before: usize) -> String {
    let kind = loop {
        let kind = &LAYER_TYPES[dice.below(LAYER_TYPES.len() as u64) as usize];
        let fits = match axes_of(kind.name) {
            Some(1) if kind.name.starts_with("batch_norm") => (1..=2).contains(&shape.len()),
            Some(axes) => shape.len() == axes + 1,
            None if kind.name == "class_token" => shape.len() == 2,
            // Its input is three times as wide as its output: a layer of that width goes before it.
            None if kind.name == "self_attention" => shape.len() == 2 && shape[1] % 3 == 0,
            None if kind.name == "attention" => shape.len() > 1,
            None if kind.name == "group_norm" => !shape.is_empty(),
            None if RECURRENT.contains(&kind.name) => shape.len() == 2,
            None => true,
        };
        // Only what arrives at the network can be integers.
        let wants_integers = kind.name == "embedding";
        let is_possible = fits && (!wants_integers || (before == 0 && shape.len() < 3));
        if is_possible && (kind.name != "flatten" || dice.chance(30)) {
            break kind;
        }
    };
    described(dice, kind, shape, before)
}

/// A layer of this type, with any of its options.
fn described(dice: &mut Dice, kind: &LayerEntry, shape: &[i64], before: usize) -> String {
    let channels = shape.first().copied().unwrap_or(1);
    let mut text = format!("type = \"{}\"", kind.name);
    let groups: Vec<i64> = (1..=channels).filter(|groups| channels % groups == 0).collect();
    let groups = if dice.chance(40) { *dice.pick(&groups) } else { 1 };
    for option in kind.options() {
        // Where a row's entries are nearly equal, a small eps lets normalisation multiply their rounding.
        let bounded = option.name == "eps" && NORMS.contains(&kind.name);
        if option.default.is_some() && !bounded && dice.chance(45) && !(option.name == "groups" && groups > 1) {
            continue;
        }
        if let Some(value) = value(dice, kind.name, &option.name, shape, groups) {
            text += &format!("\n{} = {value}", option.name);
        }
    }
    if kind.is_merge {
        let earlier = dice.below(before as u64 + 1);
        let earlier = if earlier == before as u64 { quoted("input") } else { quoted(&earlier.to_string()) };
        let third = if kind.inputs == 3 || dice.chance(20) { format!(", {earlier}") } else { String::new() };
        text += &format!("\ninputs = [\"previous\", {earlier}{third}]");
    }
    if text.contains("bias = false") {
        text = text.lines().filter(|line| !line.starts_with("bias_init")).collect::<Vec<_>>().join("\n");
    }
    text
}

/// The layer types that normalise each sample by itself.
const NORMS: [&str; 3] = ["layer_norm", "rms_norm", "group_norm"];

/// How many axes behind the channels a layer type is for, by the end of its name; None where that does not matter.
fn axes_of(kind: &str) -> Option<usize> {
    ["1d", "2d", "3d"].iter().position(|end| kind.ends_with(end)).map(|place| place + 1)
}

/// A value for an option of a layer type, as TOML; `shape` is what arrives at the layer.
fn value(dice: &mut Dice, kind: &str, option: &str, shape: &[i64], groups: i64) -> Option<String> {
    let axes = shape.len() as i64;
    let spatial = axes_of(kind).unwrap_or(2);
    Some(match option {
        "num_embeddings" => INTEGERS.to_string(),
        "embedding_dim" => dice.from(1, 4).to_string(),
        "hidden_size" => dice.from(1, 3).to_string(),
        "nonlinearity" => quoted(dice.pick::<&str>(&["tanh", "relu"])),
        "value" => dice.pick(&["0.5", "-1.5", "1.0"]).to_string(),
        "factor" => dice.pick(&["-0.7", "2.0", "0.1"]).to_string(),
        "start_dim" => dice.from(1, axes).to_string(),
        "end_dim" => dice.pick(&[-1, axes, 2]).to_string(),
        "dim" if kind == "mean" => format!("[{}]", dice.pick(&[-1, 1, axes])),
        "dim" => dice.pick(&[1, -1, axes]).to_string(),
        "index" => {
            let part = |dice: &mut Dice| dice.pick(&["0", "-1", ":", "1:", "::2", ":-1"]).to_string();
            let parts: Vec<String> = (0..dice.from(1, axes)).map(|_| part(dice)).collect();
            quoted(&parts.join(", "))
        }
        "dims" => {
            let mut dims: Vec<i64> = (1..=axes).collect();
            dims.rotate_left(dice.below(axes.max(1) as u64) as usize);
            format!("{:?}", [&[0], dims.as_slice()].concat())
        }
        "shape" if kind == "reshape" => {
            let first = dice.pick(&[1, 2, 3]);
            dice.pick(&[format!("[{first}, -1]"), "[-1]".to_owned(), format!("[-1, {first}, 1]")]).clone()
        }
        "shape" => {
            let own = shape.iter().map(|&size| if dice.chance(50) { size } else { 1 }).collect::<Vec<_>>();
            format!("{:?}", &own[dice.below(axes.max(1) as u64) as usize..])
        }
        "padding" if kind == "pad" => {
            let pairs = dice.from(1, axes);
            format!("{:?}", (0..2 * pairs).map(|_| dice.from(-1, 2)).collect::<Vec<_>>())
        }
        "out_features" => dice.from(1, 5).to_string(),
        "out_channels" => (groups * dice.from(1, 2)).to_string(),
        "groups" => groups.to_string(),
        "kernel_size" => dice.size(1, if kind.contains("pool") { 4 } else { 3 }, spatial),
        "stride" => dice.size(1, 3, spatial),
        "dilation" => dice.size(1, 3, spatial),
        "output_padding" => dice.size(0, 2, spatial),
        "output_size" => dice.size(1, 3, spatial),
        "padding" => match dice.below(4) {
            0 if !kind.starts_with("conv_transpose") && kind != "zero_pad2d" => quoted("same"),
            1 if !kind.starts_with("conv_transpose") => {
                let sides: Vec<i64> = (0..2 * spatial).map(|_| dice.from(0, 2)).collect();
                format!("{sides:?}")
            }
            _ => dice.size(0, 2, spatial),
        },
        "ceil_mode" | "frozen" | "bias" | "count_include_pad" | "causal" | "affine" | "elementwise_affine" => {
            dice.chance(50).to_string()
        }
        "num_groups" => groups.to_string(),
        "num_heads" => dice.from(1, 2).to_string(),
        "normalized_shape" => format!("{:?}", &shape[dice.below(axes.max(1) as u64) as usize..]),
        "eps" if NORMS.contains(&kind) => dice.pick(&["0.1", "0.03"]).to_string(),
        "eps" => dice.pick(&["1e-5", "0.1", "1e-3"]).to_string(),
        "momentum" => dice.pick(&["0.1", "0.0", "1.0", "0.6"]).to_string(),
        "p" => dice.pick(&["0.5", "0.0", "0.2", "0.8"]).to_string(),
        "approximate" => quoted(dice.pick::<&str>(&["none", "tanh"])),
        "negative_slope" => dice.pick(&["0.01", "0.3", "0.0", "-0.2"]).to_string(),
        "alpha" => dice.pick(&["1.0", "0.4", "1.7"]).to_string(),
        "weight_init" | "bias_init" => dice
            .pick(&[
                "\"default\"",
                "\"xavier_normal\"",
                "\"xavier_uniform\"",
                "{ normal = 0.6 }",
                "{ uniform = 0.8 }",
                "{ truncated_normal = 0.5 }",
            ])
            .to_string(),
        // Only a layer of the same weight could be tied; tests/cases has such nets.
        _ => return None,
    })
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The stream that everything about a network is drawn from.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0.next_u64() % count
    }

    fn from(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1) as u64) as i64
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// A number, or one for each axis.
    fn size(&mut self, least: i64, most: i64, axes: usize) -> String {
        if self.chance(50) {
            self.from(least, most).to_string()
        } else {
            format!("{:?}", (0..axes).map(|_| self.from(least, most)).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A new layer type or option has to be drawn too.
    #[test]
    fn every_option_of_every_layer_type_is_drawn() {
        let mut dice = Dice(stream(1, Purpose::RandomNets, 0));
        for kind in LAYER_TYPES.iter() {
            let shape = vec![6; axes_of(kind.name).unwrap_or(2) + 1];
            let mut seen = BTreeSet::new();
            for _ in 0..80 {
                let text = described(&mut dice, kind, &shape, 2);
                seen.extend(text.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())));
            }
            for option in kind.options().iter().filter(|option| option.name != "tied") {
                assert!(seen.contains(&option.name), "{} {}", kind.name, option.name);
            }
        }
    }

    #[test]
    fn every_layer_type_is_drawn() {
        let mut seen = BTreeSet::new();
        for seed in 0..600 {
            let net = draw(seed).unwrap();
            assert!((1..=MOST_ENTRIES).contains(&net.outputs), "{}", net.text);
            seen.extend(net.definition.layers.iter().map(|layer| layer.kind()));
        }
        // Attention needs widths that are rarely drawn.
        let rare = ["self_attention", "attention"];
        let missing: Vec<&str> = LAYER_TYPES
            .iter()
            .map(|kind| kind.name)
            .filter(|name| !seen.contains(name) && !rare.contains(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_seed_is_a_network() {
        assert_eq!(draw(7).unwrap().text, draw(7).unwrap().text);
        assert_ne!(draw(7).unwrap().text, draw(8).unwrap().text);
    }
}
