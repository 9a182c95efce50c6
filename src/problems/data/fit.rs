//! Whether a data set fits a network and its loss, and how its samples become what they take.

use tch::{Kind, Tensor};

use super::set::{DataInfo, Inputs, Normalization};
use crate::error::{Error, Result};

/// What a network and its loss want of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// How many different integers the network takes, from 0 on; `None` where it takes floats.
    pub integers: Option<i64>,
    /// The shape of the output for one sample.
    pub output: &'a [i64],
    /// Whether the loss compares outputs `[C, ..]` with class labels `[..]`; else with numbers of the output's shape.
    pub classes: bool,
    /// Whether these numbers are the inputs themselves.
    pub inputs: bool,
}

/// How the samples of a data set become batches for a network and its loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// How many different integers the network takes, from 0 on; `None` where it takes floats.
    pub integers: Option<i64>,
    /// What the outputs are compared with.
    pub targets: Compared,
}

/// What outputs are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The set's targets, each sample's in this shape.
    Targets(Vec<i64>),
    /// The inputs, each in this shape.
    Inputs(Vec<i64>),
}

impl DataInfo {
    /// Checks that the set fits, and says how.
    ///
    /// A set that the program knows by name wants as many outputs as it has classes; in a user's set only a label beyond
    /// the outputs is an error. Labels and targets want their own shape.
    ///
    /// # Errors
    /// [`Error::Shape`] that says what is needed; [`Error::Usage`] where the loss is for other targets.
    pub fn fit(&self, wanted: &Wanted) -> Result<Fit> {
        let name = &self.name;
        match (wanted.integers, self.inputs) {
            (Some(_), Inputs::Floats) => {
                return Err(Error::Shape(format!(
                    "the network takes integers, which its embedding looks up, but data set {name} holds floats"
                )));
            }
            (None, Inputs::Tokens) => {
                return Err(Error::Shape(format!(
                    "data set {name} holds integers that stand for characters, but the network takes floats: begin with an \
                     embedding"
                )));
            }
            _ => {}
        }
        if wanted.inputs {
            return self.fit_inputs(wanted);
        }
        let targets = match (self.classes.is_some(), wanted.classes) {
            (true, true) => {
                let [outputs, positions @ ..] = wanted.output else { return Err(self.misfit(wanted)) };
                // A file may hold single labels as a column.
                if positions != self.target_shape && !(positions.is_empty() && self.target_shape == [1]) {
                    return Err(self.misfit(wanted));
                }
                self.check_outputs(*outputs)?;
                positions
            }
            (false, false) => {
                if wanted.output != self.target_shape {
                    return Err(self.misfit(wanted));
                }
                wanted.output
            }
            _ => return Err(self.other_targets()),
        };
        Ok(Fit { integers: wanted.integers, targets: Compared::Targets(targets.to_vec()) })
    }

    /// The same where outputs are compared with inputs: of their shape, or flat.
    fn fit_inputs(&self, wanted: &Wanted) -> Result<Fit> {
        if wanted.classes || wanted.integers.is_some() {
            return Err(Error::Usage(
                "targets = \"input\" is for floats and a loss that compares numbers, mse or bce_with_logits".to_owned(),
            ));
        }
        let (output, shape) = (wanted.output, &self.shape);
        if output != shape && *output != [shape.iter().product::<i64>()] {
            return Err(Error::Shape(format!(
                "the network's output has the shape {output:?} for each sample, but with targets = \"input\" it is compared \
                 with the input of shape {shape:?}: end with that shape, or with {} outputs",
                shape.iter().product::<i64>()
            )));
        }
        Ok(Fit { integers: None, targets: Compared::Inputs(output.to_vec()) })
    }

    /// Checks that a network with `outputs` outputs can tell the classes apart.
    ///
    /// # Errors
    /// [`Error::Shape`] that says how many outputs are needed.
    pub fn check_outputs(&self, outputs: i64) -> Result<()> {
        let wanted = match self.classes.map(|classes| classes as i64) {
            Some(classes) if self.built_in && outputs != classes => classes.to_string(),
            Some(classes) if outputs < classes => format!("at least {classes}"),
            _ => return Ok(()),
        };
        Err(self.other_outputs(outputs, &wanted))
    }

    fn other_outputs(&self, outputs: i64, wanted: &str) -> Error {
        Error::Shape(format!(
            "the network has {outputs} outputs, but data set {} needs {wanted}: change out_features of the last layer",
            self.name
        ))
    }

    fn misfit(&self, wanted: &Wanted) -> Error {
        let (output, targets, name) = (wanted.output, &self.target_shape, &self.name);
        if let (false, &[outputs], &[width]) = (wanted.classes, output, targets.as_slice()) {
            return self.other_outputs(outputs, &width.to_string());
        }
        let what = if wanted.classes { "labels" } else { "targets" };
        let has = match targets.as_slice() {
            [] => "one label for each".to_owned(),
            [_] if !wanted.classes => format!("one row of targets {targets:?} for each"),
            _ => format!("{what} of shape {targets:?} for each"),
        };
        let needs = match (wanted.classes, output) {
            (true, [_, positions @ ..]) => format!(", for labels of shape {positions:?}"),
            _ => String::new(),
        };
        let remedy = match targets.as_slice() {
            [] | [_] => "end with one axis, for example by a flatten or a mean",
            _ => "end with their shape, for example by a reshape or a permute (classes come first)",
        };
        Error::Shape(format!(
            "the network's output has the shape {output:?} for each sample{needs}, but data set {name} has {has}: {remedy}"
        ))
    }

    /// The error of a loss that is for other targets than the set's.
    fn other_targets(&self) -> Error {
        let targets = if self.classes.is_some() { "class labels" } else { "float targets" };
        Error::Usage(format!(
            "{} has {targets}; cross_entropy goes with class labels, mse and bce_with_logits with float targets",
            self.name
        ))
    }
}

/// The error of an integer that is none of the `count` which a network takes.
pub(super) fn beyond(name: &str, odd: i64, count: i64) -> Error {
    Error::Shape(format!(
        "data set {name} holds {odd}; the network's embedding has the rows 0 to {}: change num_embeddings",
        count - 1
    ))
}

impl Fit {
    /// Checks that integers are among those that the network takes.
    ///
    /// # Errors
    /// [`Error::Shape`] that tells the first which is not.
    pub(super) fn check_integers(&self, x: &Tensor, name: &str) -> Result<()> {
        let Some(count) = self.integers.filter(|_| x.numel() > 0) else { return Ok(()) };
        let (least, largest) = (i64::try_from(x.min())?, i64::try_from(x.max())?);
        if least >= 0 && largest < count {
            return Ok(());
        }
        Err(beyond(name, if least < 0 { least } else { largest }, count))
    }

    /// A batch's inputs `[N, *shape]` for the network: integers, or floats scaled as those of a set of `bytes` are.
    pub(super) fn inputs(&self, x: &Tensor, bytes: bool, scaling: &Normalization, kind: Kind) -> Result<Tensor> {
        match self.integers {
            Some(_) => Ok(x.f_to_kind(Kind::Int64)?),
            None => scaling.apply(x, kind, bytes),
        }
    }

    /// A batch's targets for the loss: of its inputs x as the network takes them, and its targets y as the set holds them.
    pub(super) fn targets(&self, x: &Tensor, y: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let (targets, shape) = match &self.targets {
            Compared::Targets(shape) => (y()?, shape),
            Compared::Inputs(shape) => (x.shallow_clone(), shape),
        };
        let shape = [&targets.size()[..1], shape].concat();
        if targets.size() == shape { Ok(targets) } else { Ok(targets.f_reshape(shape.as_slice())?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(classes: Option<usize>, target_shape: &[i64]) -> DataInfo {
        DataInfo {
            name: "own".to_owned(),
            shape: vec![6],
            inputs: Inputs::Integers,
            classes,
            target_shape: target_shape.to_vec(),
            train: 10,
            test: 2,
            built_in: false,
            augmentation: false,
            default_valid_size: 2,
        }
    }

    fn wanted(output: &[i64], classes: bool) -> Wanted<'_> {
        Wanted { integers: None, output, classes, inputs: false }
    }

    #[test]
    fn labels_fit_by_position_and_targets_by_shape() {
        let shape = |info: DataInfo, output: &[i64], classes| match info.fit(&wanted(output, classes)) {
            Ok(Fit { targets: Compared::Targets(shape) | Compared::Inputs(shape), .. }) => Ok(shape),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(shape(info(Some(3), &[]), &[3], true).unwrap(), [0i64; 0]);
        assert_eq!(shape(info(Some(3), &[1]), &[3], true).unwrap(), [0i64; 0], "a column of labels");
        assert_eq!(shape(info(Some(3), &[1]), &[3, 1], true).unwrap(), [1]);
        assert!(shape(info(Some(3), &[]), &[3, 1], true).unwrap_err().contains("flatten"));
        assert_eq!(shape(info(Some(3), &[4, 5]), &[3, 4, 5], true).unwrap(), [4, 5]);
        assert_eq!(shape(info(None, &[4, 5]), &[4, 5], false).unwrap(), [4, 5]);
        assert!(shape(info(Some(3), &[4, 5]), &[3, 5, 4], true).unwrap_err().contains("[4, 5]"));
        assert!(shape(info(Some(3), &[4]), &[2, 4], true).unwrap_err().contains("at least 3"));
        assert!(shape(info(None, &[4]), &[5], false).unwrap_err().contains("needs 4"));
        assert!(shape(info(None, &[4]), &[4, 1], false).unwrap_err().contains("[4, 1]"));
        assert!(shape(info(Some(3), &[]), &[3], false).unwrap_err().contains("class labels"));
        assert!(shape(info(None, &[3]), &[3], true).unwrap_err().contains("float targets"));
    }

    #[test]
    fn inputs_are_targets_of_their_shape_or_flat() {
        let images = DataInfo { shape: vec![2, 3], inputs: Inputs::Floats, ..info(Some(3), &[]) };
        let fit = |output: &[i64], classes| images.fit(&Wanted { inputs: true, ..wanted(output, classes) });
        let x = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view([2, 2, 3]);
        for output in [&[2, 3][..], &[6]] {
            let y = fit(output, false).unwrap().targets(&x, || panic!("no targets of its own")).unwrap();
            assert_eq!((y.size()[1..].to_vec(), y.view([2, 2, 3])), (output.to_vec(), x.shallow_clone()));
        }
        assert!(fit(&[3, 2], false).unwrap_err().to_string().contains("[2, 3]"));
        assert!(fit(&[6], true).unwrap_err().to_string().contains("mse"));
    }

    #[test]
    fn integers_are_taken_as_they_are_and_held_to_their_range() {
        let fit = info(Some(3), &[]).fit(&Wanted { integers: Some(6), ..wanted(&[3], true) }).unwrap();
        let x = Tensor::from_slice(&[5u8, 0]);
        let scaled = fit.inputs(&x, true, &Normalization::default(), Kind::Float).unwrap();
        assert_eq!((scaled.kind(), Vec::<i64>::try_from(scaled).unwrap()), (Kind::Int64, vec![5, 0]));
        fit.check_integers(&x, "own").unwrap();
        assert!(fit.check_integers(&Tensor::from_slice(&[6i64]), "own").unwrap_err().to_string().contains("0 to 5"));
        assert!(fit.check_integers(&Tensor::from_slice(&[-1i64]), "own").unwrap_err().to_string().contains("-1"));
        let floats = DataInfo { inputs: Inputs::Floats, ..info(Some(3), &[]) };
        assert!(floats.fit(&Wanted { integers: Some(6), ..wanted(&[3], true) }).is_err());
    }
}
