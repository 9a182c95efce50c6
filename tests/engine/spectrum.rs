//! Spectra from products alone, against matrices that are small enough to be formed.

use std::ops::Range;

use backpack_run::backpack::Network;
use backpack_run::backpack::extraction::Batch;
use backpack_run::backpack::losses::Loss;
use backpack_run::config::Source;
use backpack_run::problems::builder::{build_loss, build_network};
use backpack_run::problems::definition;
use backpack_run::spectrum::{
    CurvatureMatrix, DensitySettings, EigenvalueSettings, Kept, Matrix, Samples, Symmetric, density, eigenvalues, trace,
};
use tch::{Device, Kind, Tensor};

/// A matrix at hand.
struct Formed(Tensor);

impl Symmetric for Formed {
    fn dimension(&self) -> i64 {
        self.0.size()[0]
    }

    fn options(&self) -> (Kind, Device) {
        (self.0.kind(), self.0.device())
    }

    fn times(&mut self, vectors: &Tensor) -> backpack_run::Result<Tensor> {
        Ok(vectors.matmul(&self.0))
    }
}

impl Formed {
    /// The matrix with these eigenvalues, in a random basis.
    fn with(values: &[f64]) -> Self {
        let size = values.len() as i64;
        let (basis, _) = Tensor::linalg_qr(&Tensor::randn([size, size], (Kind::Double, Device::Cpu)), "reduced");
        Formed(basis.matmul(&Tensor::from_slice(values).diag(0)).matmul(&basis.tr()))
    }

    /// All eigenvalues, ascending.
    fn values(&self) -> Vec<f64> {
        Vec::try_from(self.0.linalg_eigvalsh("L")).unwrap()
    }

    fn trace(&self) -> f64 {
        self.0.trace().double_value(&[])
    }
}

fn settings(largest: usize, smallest: usize, vectors: usize) -> EigenvalueSettings {
    EigenvalueSettings { largest, smallest, tolerance: 1e-10, products: 5000, vectors, seed: 3 }
}

fn assert_ends(matrix: &mut dyn Symmetric, all: &[f64], settings: &EigenvalueSettings, bound: f64) {
    let found = eigenvalues(matrix, settings).unwrap();
    assert!(found.converged, "{found:?}");
    let expected: (Vec<f64>, Vec<f64>) = (
        all.iter().rev().take(settings.largest).copied().collect(),
        all.iter().take(settings.smallest).copied().collect(),
    );
    let scale = all.iter().fold(0.0f64, |scale, value| scale.max(value.abs()));
    for (one, other) in [(&found.largest, &expected.0), (&found.smallest, &expected.1)] {
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(other) {
            let error = (one.value - other).abs();
            assert!(error <= bound * scale, "{settings:?}: {} is not {other}: {error:e}", one.value);
            assert!(error <= one.residual + 1e-13 * scale, "{error:e} is beyond the residual {:e}", one.residual);
        }
    }
}

#[test]
fn ends_of_a_spectrum_are_found_with_equal_eigenvalues_and_few_vectors() {
    tch::set_num_threads(1);
    tch::manual_seed(1);
    let spread: Vec<f64> =
        (0..150).map(|i| (f64::from(i) * 0.37).sin() + if i < 4 { 3.0 * f64::from(i) } else { 0.0 }).collect();
    // Each of a few values many times over, most of them zero.
    let equal: Vec<f64> = (0..90).map(|i| [5.0, 5.0, 2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0][i % 10]).collect();
    for values in [spread, equal] {
        let mut matrix = Formed::with(&values);
        let all = matrix.values();
        for (largest, smallest, vectors) in [(1, 0, 10), (7, 3, 28), (25, 0, 60), (0, 12, 40), (40, 40, 200)] {
            assert_ends(&mut matrix, &all, &settings(largest, smallest, vectors), 1e-9);
        }
    }
    let mut nothing = Formed(Tensor::zeros([5, 5], (Kind::Double, Device::Cpu)));
    assert_ends(&mut nothing, &[0.0; 5], &settings(3, 2, 10), 0.0);
    let mut one = Formed::with(&[2.5]);
    assert_ends(&mut one, &[2.5], &settings(1, 0, 1), 1e-14);
}

#[test]
fn products_that_run_out_leave_what_is_known_with_its_residual() {
    tch::manual_seed(2);
    let values: Vec<f64> = (0..200).map(f64::from).collect();
    let mut matrix = Formed::with(&values);
    let found = eigenvalues(&mut matrix, &EigenvalueSettings { products: 20, ..settings(5, 0, 40) }).unwrap();
    assert!(!found.converged && found.products == 20 && found.largest.len() == 5);
    for one in &found.largest {
        let nearest = values.iter().map(|value| (value - one.value).abs()).fold(f64::INFINITY, f64::min);
        assert!(nearest <= one.residual * (1.0 + 1e-9), "{one:?}");
    }
}

/// How many of 100 seeds have the trace within their bar.
fn hits(matrix: &mut dyn Symmetric, products: usize, expected: f64) -> usize {
    let is_hit = |seed: &u64| {
        let found = trace(matrix, products, *seed).unwrap();
        (found.value - expected).abs() <= found.bar
    };
    (0..100).filter(is_hit).count()
}

#[test]
fn traces_lie_within_their_bars() {
    tch::set_num_threads(1);
    tch::manual_seed(3);
    let steep: Vec<f64> = (1..150).map(|i| 1.0 / f64::from(i).powi(2)).collect();
    let flat: Vec<f64> = (0..150).map(|i| (f64::from(i) * 1.7).sin()).collect();
    for values in [steep, flat] {
        let mut matrix = Formed::with(&values);
        let expected = matrix.trace();
        let count = hits(&mut matrix, 30, expected);
        assert!(count >= 95, "{count} of 100");
        let found = trace(&mut matrix, 30, 0).unwrap();
        assert!(found.products == 30 && found.standard_error > 0.0 && found.bar < 2.0 * expected.abs().max(30.0));
    }
    // Where directions are as many as rows nothing is left to estimate.
    let mut small = Formed::with(&[3.0, -1.0, 0.5]);
    let found = trace(&mut small, 30, 0).unwrap();
    assert!((found.value - 2.5).abs() <= found.bar && found.bar < 1e-12 && found.standard_error == 0.0);
    assert!(trace(&mut small, 5, 0).is_err());
}

#[test]
fn densities_are_the_shares_of_eigenvalues() {
    tch::set_num_threads(1);
    tch::manual_seed(4);
    let mut matrix = Formed::with(&[&[0.0; 30][..], &[1.0; 15], &[4.0; 5]].concat());
    let settings = DensitySettings { vectors: 300, steps: 20, width: Some(0.05), seed: 1 };
    let curve = density(&mut matrix, &settings).unwrap();
    // Three distinct eigenvalues close the basis after three steps.
    assert_eq!(curve.products, 900);
    assert!(curve.quadratures.iter().all(|one| (one.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    let step = curve.places[1] - curve.places[0];
    for (centre, share) in [(0.0, 0.6), (1.0, 0.3), (4.0, 0.1)] {
        let near = curve.places.iter().zip(&curve.density).filter(|(place, _)| (**place - centre).abs() < 0.4);
        let found = near.map(|(_, density)| density * step).sum::<f64>();
        assert!((found - share).abs() < 0.02, "{found} of {share} at {centre}");
    }
    let between = |at: usize| curve.low[at] <= curve.density[at] && curve.density[at] <= curve.high[at];
    assert!((0..curve.places.len()).all(between));
}

/// A network with everything that second derivatives meet, and what it takes.
const NETS: [(&str, &[i64]); 2] = [
    (
        "loss = 'cross_entropy'\n[[layers]]\ntype = 'linear'\nout_features = 6\n[[layers]]\ntype = 'tanh'\n[[layers]]\ntype = \
         'layer_norm'\n[[layers]]\ntype = 'linear'\nout_features = 4\n",
        &[5],
    ),
    // Every eigenvalue of its matrices three times over.
    ("loss = 'mse'\n[[layers]]\ntype = 'linear'\nout_features = 3\n", &[7]),
];

fn network(layers: &str, input: &[i64]) -> (Network, Box<dyn Loss>) {
    let text = format!("name = 'n'\ninput = {{ shape = {input:?} }}\n{layers}");
    let definition = definition::parse(&Source::built_in("n.toml", &text)).unwrap();
    let mut network = build_network(&definition, input, 3).unwrap();
    network.to(Kind::Double, Device::Cpu);
    (network, build_loss(&definition).unwrap())
}

fn batch(loss: &dyn Loss, input: &[i64], outputs: i64) -> Batch {
    let x = Tensor::randn([&[17], input].concat().as_slice(), (Kind::Double, Device::Cpu));
    let y = match loss.name() {
        "cross_entropy" => Tensor::randint(outputs, [17], (Kind::Int64, Device::Cpu)),
        _ => Tensor::randn([17, outputs], (Kind::Double, Device::Cpu)),
    };
    Batch { x, y, mc_labels: None }
}

#[test]
fn spectra_of_networks_are_those_of_the_formed_matrices() {
    tch::set_num_threads(1);
    tch::manual_seed(5);
    for (layers, input) in NETS {
        let (network, loss) = network(layers, input);
        let outputs = *network.shapes(input).unwrap().output().last().unwrap();
        let batch = batch(loss.as_ref(), input, outputs);
        for matrix in [Matrix::Ggn, Matrix::Hessian, Matrix::Fisher] {
            let mut formed: Option<Tensor> = None;
            for part in [17, 5] {
                let mut load = |range: Range<i64>| Ok(batch.part(range));
                let mut told = 0.0;
                let mut watch = |share: f64| {
                    told += share;
                    true
                };
                let samples = Samples { count: 17, part, load: &mut load, mc_samples: 2, mc_seed: 4 };
                let mut curvature =
                    CurvatureMatrix::new((&network, loss.as_ref()), matrix, samples, &mut watch).unwrap();
                let size = curvature.dimension();
                let whole = curvature.times(&Tensor::eye(size, (Kind::Double, Device::Cpu))).unwrap();
                // The matrix does not depend on the parts.
                let first = formed.get_or_insert_with(|| whole.copy());
                let error = (&whole - &*first).abs().max().double_value(&[]);
                assert!(error < 1e-14, "{matrix} in parts of {part}: {error:e}");
                let symmetric = Formed((&whole + whole.tr()) / 2.0);
                let (all, expected) = (symmetric.values(), symmetric.trace());
                let smallest = if matrix == Matrix::Hessian { 4 } else { 0 };
                assert_ends(&mut curvature, &all, &settings(8, smallest, 40), 1e-8);
                if part == 17 && loss.name() == "cross_entropy" {
                    let count = hits(&mut curvature, 18, expected);
                    assert!(count >= 95, "{matrix}: {count} of 100");
                }
                assert!(curvature.loss().is_some_and(f64::is_finite));
                drop(curvature);
                assert!(told > size as f64);
            }
        }
    }
}

#[test]
fn what_watches_can_stop() {
    let (network, loss) = network(NETS[0].0, NETS[0].1);
    let batch = batch(loss.as_ref(), &[5], 4);
    let mut load = |range: Range<i64>| Ok(batch.part(range));
    let mut left = 10;
    let mut watch = |_: f64| {
        left -= 1;
        left > 0
    };
    let samples = Samples { count: 17, part: 4, load: &mut load, mc_samples: 1, mc_seed: 0 };
    let mut curvature = CurvatureMatrix::new((&network, loss.as_ref()), Matrix::Ggn, samples, &mut watch).unwrap();
    let error = eigenvalues(&mut curvature, &settings(3, 0, 20)).unwrap_err();
    assert_eq!(error.exit_code(), 130, "{error}");
}

#[test]
fn a_spectrum_that_is_stopped_again_and_again_takes_each_product_once_and_ends_with_the_same_numbers() {
    tch::set_num_threads(1);
    let (network, loss) = network(NETS[0].0, NETS[0].1);
    let batch = batch(loss.as_ref(), &[5], 4);
    // All that the process may do until it is stopped, and how many shares of products it has taken.
    let run = |kept: Option<Kept>, mut left: usize| {
        let mut load = |range: Range<i64>| Ok(batch.part(range));
        let mut taken = 0;
        let mut watch = |_: f64| {
            (taken, left) = (taken + 1, left - 1);
            left > 0
        };
        let samples = Samples { count: 17, part: 5, load: &mut load, mc_samples: 2, mc_seed: 4 };
        let mut curvature =
            CurvatureMatrix::new((&network, loss.as_ref()), Matrix::Fisher, samples, &mut watch).unwrap();
        if let Some(kept) = kept {
            curvature = curvature.kept_in(kept);
        }
        let shown = (|| {
            let found = eigenvalues(&mut curvature, &settings(3, 2, 20))?;
            let trace = trace(&mut curvature, 18, 1)?;
            let settings = DensitySettings { vectors: 2, steps: 9, width: None, seed: 1 };
            let density = density(&mut curvature, &settings)?;
            Ok::<_, backpack_run::Error>(format!("{found:?} {trace:?} {density:?} {:?}", curvature.loss()))
        })();
        drop(curvature);
        (shown, taken)
    };
    let (whole, shares) = run(None, usize::MAX);
    let whole = whole.unwrap();
    // Odd, so that it is stopped at any place of a product.
    let each = (shares / 12) | 1;
    for damaged in [None, Some("0"), Some("unfinished")] {
        let folder = tempfile::tempdir().unwrap();
        let open = |identity: &str| Kept::open(&folder.path().join("kept"), identity.to_owned()).unwrap();
        let (mut stops, mut taken) = (0, 0);
        let shown = loop {
            let (shown, more) = run(Some(open("this")), each);
            taken += more;
            match shown {
                Ok(shown) => break shown,
                Err(error) => assert_eq!((error.exit_code(), more), (130, each), "{error}"),
            }
            stops += 1;
            if let Some(name) = damaged.filter(|_| stops == 6) {
                let path = folder.path().join("kept").join(name);
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            }
        };
        assert_eq!(shown, whole, "{damaged:?}");
        assert!(stops >= 10, "{stops}");
        // What was damaged, and what came behind it, was taken once more.
        assert_eq!(taken == shares, damaged.is_none(), "{taken} of {shares}, {damaged:?}");
        // Nothing of it serves another matrix.
        let (shown, taken) = run(Some(open("other")), usize::MAX);
        assert_eq!((shown.unwrap(), taken), (whole.clone(), shares));
        Kept::remove(&folder.path().join("kept")).unwrap();
        assert!(!folder.path().join("kept").exists());
    }
}
