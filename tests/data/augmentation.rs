//! Augmentation against images that torchvision made with the same parameters (scripts/make_augmentation_golden.py).

use std::collections::HashMap;
use std::path::Path;

use backpack_run::problems::data::augmentation::{Draws, Jitter, Recipe, augment};
use tch::{Kind, Tensor};

#[test]
fn images_are_those_of_torchvision() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/augmentation.safetensors");
    let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
    let integers = |name: &str| Vec::<i64>::try_from(golden[name].to_kind(Kind::Int64).view([-1])).unwrap();
    let factors = Vec::<f32>::try_from(golden["factors"].view([-1])).unwrap();
    let order = integers("order");
    let jitters = order.chunks_exact(3).zip(factors.chunks_exact(3)).map(|(order, factors)| {
        [0, 1, 2].map(|place| {
            let jitter = [Jitter::Brightness, Jitter::Contrast, Jitter::Saturation][order[place] as usize];
            (jitter, factors[order[place] as usize])
        })
    });
    let draws = Draws {
        rows: integers("rows"),
        columns: integers("columns"),
        flips: integers("flips").into_iter().map(|flip| flip == 1).collect(),
        jitters: jitters.collect(),
    };

    let got = augment(&golden["images"], &Recipe::CIFAR, &draws).unwrap();

    let expected = golden["expected"].to_kind(Kind::Float);
    assert_eq!(got.size(), expected.size());
    let difference = (&got - &expected).abs();
    let largest = f64::try_from(difference.max()).unwrap();
    let changed = f64::try_from(difference.gt(0.0).to_kind(Kind::Float).mean(Kind::Double)).unwrap();
    println!("largest difference {largest}, share of pixels that differ {changed}");
    assert!(largest <= 1.0, "largest difference {largest}");
    assert!(changed < 1e-3, "{changed} of the pixels differ, though none should but for the platform's rounding");
    let moved = f64::try_from((&expected - golden["images"].to_kind(Kind::Float)).abs().mean(Kind::Double)).unwrap();
    assert!(moved > 10.0, "the golden images are changed images");
}
