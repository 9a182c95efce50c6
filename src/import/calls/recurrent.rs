//! Recurrent layers.

use super::dense::holding;
use super::shape::{Part, part};
use crate::import::converter::{Activation, Converter, Given, Value};
use crate::import::graph::{Call, DAMAGED, Said, refuse};
use crate::import::layout::Layout;
use crate::import::network::{Holding, NewLayer};
use crate::import::schema::Argument;

/// Says rnn and lstm.
pub fn say(converter: &mut Converter, call: &Call) -> Given {
    let (kind, nonlinearity) = match call.operation() {
        "lstm" => ("lstm", None),
        "rnn_tanh" => ("rnn", None),
        "rnn_relu" => ("rnn", Some("relu")),
        "gru" => return refuse("a GRU", "use nn.LSTM or nn.RNN"),
        _ => return Ok(None),
    };
    recurrent(converter, call, kind, nonlinearity).map(Some)
}

fn recurrent(
    converter: &mut Converter,
    call: &Call,
    kind: &'static str,
    nonlinearity: Option<&str>,
) -> Said<Vec<Value>> {
    let x = converter.activation(call, "input")?;
    if x.layout.dims.len() != 3 || call.argument("batch_sizes").is_some() {
        return refuse("a packed sequence", "give it sequences of one length, [N, T, d]");
    }
    if converter.flag(call, "bidirectional", false) {
        return refuse("both directions", "use one direction");
    }
    let states = match call.argument("hx") {
        Some(Argument::AsTensors(names)) => names.iter().map(|name| name.name.clone()).collect(),
        Some(Argument::AsTensor(name)) => vec![name.name.clone()],
        _ => Vec::new(),
    };
    for state in states {
        let zero = match converter.named(&state)? {
            Value::Constant(tensor) => tensor.f_count_nonzero(None::<i64>)?.f_int64_value(&[])? == 0,
            _ => false,
        };
        if !zero {
            return refuse("a first state that is not zero", "leave the first state out");
        }
    }
    let layers = converter.int(call, "num_layers", 1)?;
    let biased = converter.flag(call, "has_biases", true);
    let p = converter.number(call, "dropout")?.unwrap_or(0.0);
    let parameters = converter.list(call, "params")?;
    let locals: &[&str] = if biased {
        &["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    } else {
        &["weight_ih_l0", "weight_hh_l0"]
    };
    if layers < 1
        || usize::try_from(layers).ok().and_then(|layers| layers.checked_mul(locals.len())) != Some(parameters.len())
    {
        return refuse(format!("{} parameters for {layers} layers", parameters.len()), "use nn.LSTM without proj_size");
    }
    let batch_first = converter.flag(call, "batch_first", false);
    let (samples, time) = if batch_first { (0, 1) } else { (1, 0) };
    if x.layout.batch_dim() != Some(samples) {
        return refuse("the samples are not where it takes them", "set batch_first as the input is");
    }
    let target = vec![x.layout.dims[time].clone(), x.layout.dims[2].clone()];
    let mut feed = converter.lay(&x, &target)?;
    let mut layout = Layout { axes: target, dims: x.layout.dims };
    let mut last = Vec::new();
    for (number, names) in parameters.chunks(locals.len()).enumerate() {
        let mut holdings: Vec<Holding> = Vec::new();
        let mut hidden = 0;
        for (local, name) in locals.iter().zip(names) {
            let Value::Parameter(view) = converter.named(name)? else {
                return refuse(format!("`{name}` is no parameter"), "use nn.LSTM as it is");
            };
            if view.layout.dims != view.layout.axes {
                return refuse(format!("`{}` is a view", view.name), "use nn.LSTM as it is");
            }
            if *local == "weight_hh_l0" {
                hidden = view.layout.sizes().last().copied().unwrap_or(0);
            }
            holdings.push(holding(local, view));
        }
        let gates = if kind == "lstm" { 4 } else { 1 };
        let sizes = converter.tensors.sizes(&holdings[0].source).map(<[_]>::to_vec);
        let width = crate::import::layout::size(&layout.dims[2]);
        if hidden < 1 || sizes != Some(vec![gates * hidden, width]) {
            return refuse(
                format!("a weight of {sizes:?} for {width} inputs and {hidden} outputs"),
                "use nn.LSTM without proj_size",
            );
        }
        if number > 0 && p > 0.0 {
            feed = converter.add(NewLayer::new("dropout", feed, layout.shape()).with("p", p));
        }
        let axis = converter.atoms.axis(hidden);
        layout.axes[1].clone_from(&axis);
        layout.dims[2] = axis;
        let mut new = NewLayer::new(kind, feed, layout.shape()).with("hidden_size", hidden);
        if let Some(nonlinearity) = nonlinearity {
            new = new.with("nonlinearity", nonlinearity);
        }
        feed = converter.network.add_with(new.with_unless("bias", biased, true), holdings, call)?;
        last.push(feed);
    }
    let mut given = converter.given(feed, layout.clone());
    given.push(state(converter, call, &last, &layout, time)?);
    if kind == "lstm" {
        let why = "the cells' last state is used";
        given.push(Value::Unsaid { why, instead: "use the output, whose last position is the last hidden state" });
    }
    Ok(given)
}

/// The last hidden state [layers, N, hidden] of one layer: the output's last position.
fn state(
    converter: &mut Converter,
    call: &Call,
    layers: &[crate::import::network::Feed],
    layout: &Layout,
    time: usize,
) -> Said<Value> {
    let [feed] = layers else {
        let why = "the last hidden states of several layers are used";
        return Ok(Value::Unsaid {
            why,
            instead: "use the output, whose last position is the last layer's hidden state",
        });
    };
    // A slice that nothing takes is not written.
    let whole = Activation { feed: *feed, layout: layout.clone(), shaped_by: converter.place };
    let length = crate::import::layout::size(&layout.dims[time]);
    let mut value = part(converter, call, &whole, time, Part::Index(length - 1))?;
    match &mut value {
        Value::Activation(x) => x.layout.dims.insert(0, Vec::new()),
        _ => return refuse("nothing is given", DAMAGED),
    }
    Ok(value)
}
