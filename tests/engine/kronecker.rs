//! Kronecker factors against the exact blocks of the generalised Gauss-Newton matrix, where they are exact; the input
//! factors of convolutions against patches cut out by hand.

use crate::cases::spec::ActivationKind::{Identity, Sigmoid, Tanh};
use crate::cases::spec::Spec::{self, Flat};
use crate::cases::spec::{around, avg_pool, conv, linear, pad};
use crate::cases::{Case, list, losses, title};
use backpack_run::backpack::layers::{Conv2dOptions, ConvTranspose2dOptions};
use backpack_run::backpack::losses::{Loss, MeanSquaredError, Reduction};
use backpack_run::backpack::oracle::{error_between, ggn_block};
use backpack_run::backpack::{Network, Pass, Quantities};
use tch::{Kind, Tensor};

const BOUND: f64 = 1e-9;

fn pass(case: &Case, network: &Network, loss: &dyn Loss, draws: i64, names: &[&str]) -> Quantities {
    let (x, y) = (case.x(Kind::Double), case.y(loss, Kind::Double));
    let pass = Pass::new(network, loss).take(names.iter().copied()).unwrap().mode(case.mode);
    pass.mc_samples(draws).seed(4).step(0).run(&x, &y).unwrap()
}

fn block(case: &Case, network: &Network, loss: &dyn Loss, parameter: usize) -> Tensor {
    ggn_block(network, loss, &case.x(Kind::Double), &case.y(loss, Kind::Double), case.mode, parameter).unwrap()
}

/// `V^T V` of a square root `[V, N, *p]`.
fn gram(root: &Tensor) -> Tensor {
    let rows = root.flatten(2, -1).flatten(0, 1);
    rows.tr().mm(&rows)
}

/// `B kron A` of a weight, `B` of a bias.
fn assembled(ours: &Quantities, quantity: &str, parameter: usize, role: &str) -> Tensor {
    let b = ours.factor(quantity, parameter, "B").unwrap();
    match role {
        "weight" => b.kron(ours.factor(quantity, parameter, "A").unwrap()),
        _ => b.shallow_clone(),
    }
}

fn close(a: &Tensor, b: &Tensor, what: &str) {
    let error = error_between(a, b);
    assert!(error < BOUND, "{what}: off by {error:.1e}");
}

/// Linear weights, and convolutions with a single output position.
fn batches_of_one() -> Vec<Case> {
    vec![
        Case::new("two layers", 1, &[4], vec![linear(5).into(), Sigmoid.into(), linear(3).into()]),
        Case::new("one class", 1, &[4], vec![linear(3).into(), Tanh.into(), linear(1).into()]),
        Case::new(
            "one position",
            1,
            &[2, 3, 2],
            vec![conv(4, [3, 2]).into(), Tanh.into(), Flat, linear(3).into(), Sigmoid.into(), linear(2).into()],
        ),
        Case::new(
            "one position, padded",
            1,
            &[2, 2, 2],
            vec![
                Conv2dOptions { padding: around(1, 0, 0, 1), stride: [3, 3], ..conv(3, [3, 3]) }.into(),
                Tanh.into(),
                Flat,
                linear(2).into(),
            ],
        ),
    ]
}

#[test]
fn at_batch_one_the_factors_are_the_block() {
    tch::set_num_threads(1);
    for case in batches_of_one() {
        let network = case.network(Kind::Double);
        for loss in losses() {
            let ours = pass(&case, &network, loss.as_ref(), 3, &["kfac", "kflr", "kfra", "sqrt_ggn", "sqrt_ggn_mc"]);
            for (number, parameter) in network.parameters().iter().enumerate() {
                let what = format!("{}, {}, {}", case.name, title(loss.as_ref()), parameter.name);
                let exact = block(&case, &network, loss.as_ref(), number);
                for quantity in ["kflr", "kfra"] {
                    let factors = assembled(&ours, quantity, number, parameter.role);
                    close(&factors, &exact, &format!("{quantity}, {what}"));
                }
                close(&gram(ours.get("sqrt_ggn", number).unwrap()), &exact, &format!("sqrt_ggn, {what}"));
                // Given the labels, KFAC is exact for the matrix that these labels estimate.
                let sampled = gram(ours.get("sqrt_ggn_mc", number).unwrap());
                let factors = assembled(&ours, "kfac", number, parameter.role);
                close(&factors, &sampled, &format!("kfac, {what}"));
            }
        }
    }
}

/// Networks that are affine, as wholes or after a first part; the parameters from `from` on are behind it.
fn affine() -> Vec<(usize, Case)> {
    let wide = Conv2dOptions { padding: around(0, 1, 1, 0), ..conv(2, [2, 2]) };
    vec![
        (
            0,
            Case::new(
                "deep linear",
                5,
                &[4],
                vec![linear(5).into(), linear(3).into(), Identity.into(), linear(2).into()],
            ),
        ),
        (
            2,
            Case::new(
                "affine after tanh",
                5,
                &[4],
                vec![linear(5).into(), Tanh.into(), linear(3).into(), linear(2).into()],
            ),
        ),
        (
            0,
            Case::new(
                "one position",
                4,
                &[2, 3, 2],
                vec![conv(3, [3, 2]).into(), Flat, linear(3).into(), linear(2).into()],
            ),
        ),
        // The convolution's weight has several positions; its bias block is still exact, and so is what follows.
        (
            1,
            Case::new(
                "linear convolutions",
                3,
                &[2, 3, 3],
                vec![
                    wide.into(),
                    pad(1, 0, 0, 0).into(),
                    avg_pool([2, 2]).into(),
                    Spec::AdaptiveAvgPool([1, 1]),
                    Flat,
                    linear(3).into(),
                    linear(2).into(),
                ],
            ),
        ),
    ]
}

#[test]
fn for_the_squared_error_the_factors_are_the_block_where_the_rest_is_affine() {
    tch::set_num_threads(1);
    for (from, case) in affine() {
        let network = case.network(Kind::Double);
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let loss = MeanSquaredError::new(reduction);
            let ours = pass(&case, &network, &loss, 1, &["kflr", "kfra"]);
            for (number, parameter) in network.parameters().iter().enumerate().skip(from) {
                let exact = block(&case, &network, &loss, number);
                for quantity in ["kflr", "kfra"] {
                    let factors = assembled(&ours, quantity, number, parameter.role);
                    close(&factors, &exact, &format!("{quantity}, {}, {}", case.name, parameter.name));
                }
            }
        }
    }
}

/// Whose positions do not meet: the loss of each position depends on it alone, so that each counts as a sample.
fn positions_apart() -> Vec<Case> {
    vec![
        Case::new("rows", 3, &[4, 3], vec![linear(5).into(), Identity.into(), linear(4).into(), linear(2).into()]),
        Case::new(
            "pixels",
            2,
            &[2, 4, 3],
            vec![conv(3, [3, 2]).into(), conv(4, [1, 1]).into(), conv(2, [1, 1]).into()],
        ),
        Case::new(
            "pixels, stride, dilation, padding",
            2,
            &[2, 6, 5],
            vec![
                Conv2dOptions { stride: [2, 1], dilation: [1, 2], padding: around(2, 1, 0, 1), ..conv(3, [3, 2]) }
                    .into(),
                conv(2, [1, 1]).into(),
            ],
        ),
    ]
}

/// Whose outputs are made of means over positions.
fn positions_averaged() -> Vec<Case> {
    vec![
        Case::new("rows", 3, &[4, 3], vec![linear(5).into(), linear(4).into(), Spec::Averaged(&[1]), linear(2).into()]),
        Case::new(
            "pixels",
            2,
            &[2, 4, 3],
            vec![conv(3, [3, 2]).into(), conv(4, [1, 1]).into(), Spec::AdaptiveAvgPool([1, 1]), Flat, linear(2).into()],
        ),
    ]
}

/// Eschenhagen et al. (2023): where positions do not meet `expand` is exact for deep linear networks and the squared
/// error, where they are averaged `reduce` is; each is wrong in the other's place.
#[test]
fn each_reading_is_the_block_in_its_own_setting() {
    tch::set_num_threads(1);
    for (reading, other, cases) in
        [("kflr_expand", "kflr_reduce", positions_apart()), ("kflr_reduce", "kflr_expand", positions_averaged())]
    {
        for case in cases {
            let network = case.network(Kind::Double);
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let loss = MeanSquaredError::new(reduction);
                let ours = pass(&case, &network, &loss, 1, &[reading, other, "kflr"]);
                let first = block(&case, &network, &loss, 0);
                for wrong in [other, "kflr"] {
                    let error = error_between(&assembled(&ours, wrong, 0, "weight"), &first);
                    assert!(error > 1e-3, "{wrong}, {}: off by {error:.1e} alone", case.name);
                }
                for (number, parameter) in network.parameters().iter().enumerate() {
                    let exact = block(&case, &network, &loss, number);
                    let factors = assembled(&ours, reading, number, parameter.role);
                    close(&factors, &exact, &format!("{reading}, {}, {}", case.name, parameter.name));
                }
            }
        }
    }
}

/// The diagonal of the curvature in a basis: its trace is kept, and in the basis of KFAC's eigenvectors nothing diagonal
/// is nearer to the matrix, so that it is at least as near as KFAC itself (George et al., 2018).
#[test]
fn ekfac_is_the_diagonal_in_kfacs_basis() {
    tch::set_num_threads(1);
    let cases = positions_apart().into_iter().chain(positions_averaged()).chain(batches_of_one());
    for case in cases.chain([list::linear_cases().swap_remove(3), list::conv_cases().swap_remove(0)]) {
        let network = case.network(Kind::Double);
        for loss in losses() {
            let names = ["ekfac", "kfac_expand", "diag_ggn_mc", "sqrt_ggn_mc"];
            let ours = pass(&case, &network, loss.as_ref(), 3, &names);
            for (number, parameter) in network.parameters().iter().enumerate() {
                let what = format!("{}, {}, {}", case.name, title(loss.as_ref()), parameter.name);
                let values = ours.factor("ekfac", number, "eigenvalues").unwrap();
                let trace = ours.get("diag_ggn_mc", number).unwrap().sum(Kind::Double);
                close(&values.sum(Kind::Double), &trace, &what);
                let mut basis = ours.factor("ekfac", number, "B").unwrap().shallow_clone();
                if let Ok(a) = ours.factor("ekfac", number, "A") {
                    basis = basis.kron(a);
                }
                let exact = gram(ours.get("sqrt_ggn_mc", number).unwrap());
                let in_basis = basis.tr().mm(&exact).mm(&basis);
                close(&values.flatten(0, -1), &in_basis.diagonal(0, 0, 1), &what);
                let off = |matrix: Tensor| f64::try_from((matrix - &exact).norm()).unwrap();
                let ekfac = off((&basis * values.flatten(0, -1)).mm(&basis.tr()));
                let kfac = off(assembled(&ours, "kfac_expand", number, parameter.role));
                assert!(ekfac <= kfac + 1e-12, "{what}: {ekfac} and {kfac}");
            }
        }
    }
}

/// At any batch, loss and network; and KFAC's are exact for the matrix that its labels estimate. A layer that is used
/// once in a forward pass has its bias added at every position, which the factor B sums over.
#[test]
fn bias_blocks_are_exact() {
    tch::set_num_threads(1);
    let families = [list::linear_cases, list::conv_cases, list::conv_transpose_cases, list::pool_cases];
    let mut checked = 0;
    for case in families.into_iter().flat_map(|family| family()) {
        let network = case.network(Kind::Double);
        for loss in losses() {
            let ours = pass(&case, &network, loss.as_ref(), 2, &["kfac", "kflr", "sqrt_ggn", "sqrt_ggn_mc"]);
            for (number, parameter) in network.parameters().iter().enumerate() {
                // With groups B holds the groups' own blocks alone.
                let b = ours.factor("kflr", number, "B").unwrap();
                if parameter.role != "bias" || b.dim() != 2 {
                    continue;
                }
                let what = format!("{}, {}, {}", case.name, title(loss.as_ref()), parameter.name);
                close(b, &gram(ours.get("sqrt_ggn", number).unwrap()), &format!("kflr, {what}"));
                let sampled = gram(ours.get("sqrt_ggn_mc", number).unwrap());
                close(ours.factor("kfac", number, "B").unwrap(), &sampled, &format!("kfac, {what}"));
                checked += 1;
            }
        }
    }
    assert!(checked > 300, "{checked}");
}

/// The square roots' outer products are the exact blocks, weights included, at any batch.
#[test]
fn square_roots_multiply_to_the_block() {
    tch::set_num_threads(1);
    for case in
        [list::linear_cases().swap_remove(3), list::conv_cases().swap_remove(4), list::pool_cases().swap_remove(3)]
    {
        let network = case.network(Kind::Double);
        for loss in losses() {
            let ours = pass(&case, &network, loss.as_ref(), 2, &["sqrt_ggn"]);
            for (number, parameter) in network.parameters().iter().enumerate() {
                let exact = block(&case, &network, loss.as_ref(), number);
                let what = format!("{}, {}, {}", case.name, title(loss.as_ref()), parameter.name);
                close(&gram(ours.get("sqrt_ggn", number).unwrap()), &exact, &what);
            }
        }
    }
}

/// The mean over samples of the sums over positions of the patches' outer products, each patch cut out by hand.
fn conv_factor(x: &Tensor, options: &Conv2dOptions, positions: [i64; 2]) -> Tensor {
    let size = x.size();
    let padding =
        crate::cases::spec::resolved(options.padding, x, options.kernel_size, options.stride, options.dilation);
    let padded = x.constant_pad_nd(padding);
    let channels = size[1] / options.groups;
    let mut groups = Vec::new();
    for group in 0..options.groups {
        let mut sum = None;
        for sample in 0..size[0] {
            for row in 0..positions[0] {
                for column in 0..positions[1] {
                    let mut patch = Vec::new();
                    for channel in group * channels..(group + 1) * channels {
                        for i in 0..options.kernel_size[0] {
                            for j in 0..options.kernel_size[1] {
                                let y = row * options.stride[0] + i * options.dilation[0];
                                let x = column * options.stride[1] + j * options.dilation[1];
                                patch.push(padded.double_value(&[sample, channel, y, x]));
                            }
                        }
                    }
                    let patch = Tensor::from_slice(&patch);
                    let outer = patch.outer(&patch);
                    sum = Some(sum.map_or(outer.shallow_clone(), |sum: Tensor| sum + &outer));
                }
            }
        }
        groups.push(sum.unwrap() / size[0] as f64);
    }
    if options.groups == 1 { groups.remove(0) } else { Tensor::stack(&groups, 0) }
}

/// The same of a transposed convolution: what reaches an output pixel through each entry of the kernel.
fn conv_transpose_factor(x: &Tensor, options: &ConvTranspose2dOptions, output: [i64; 2]) -> Tensor {
    let size = x.size();
    let channels = size[1] / options.groups;
    let mut groups = Vec::new();
    for group in 0..options.groups {
        let mut sum = None;
        for sample in 0..size[0] {
            for row in 0..output[0] {
                for column in 0..output[1] {
                    let mut patch = Vec::new();
                    for channel in group * channels..(group + 1) * channels {
                        for i in 0..options.kernel_size[0] {
                            for j in 0..options.kernel_size[1] {
                                let source = |at: i64, entry: i64, axis: usize| {
                                    let steps = at + options.padding[axis] - entry * options.dilation[axis];
                                    let input = steps / options.stride[axis];
                                    let hit = steps >= 0 && steps % options.stride[axis] == 0 && input < size[axis + 2];
                                    hit.then_some(input)
                                };
                                patch.push(match (source(row, i, 0), source(column, j, 1)) {
                                    (Some(y), Some(z)) => x.double_value(&[sample, channel, y, z]),
                                    _ => 0.0,
                                });
                            }
                        }
                    }
                    let patch = Tensor::from_slice(&patch);
                    let outer = patch.outer(&patch);
                    sum = Some(sum.map_or(outer.shallow_clone(), |sum: Tensor| sum + &outer));
                }
            }
        }
        groups.push(sum.unwrap() / size[0] as f64);
    }
    if options.groups == 1 { groups.remove(0) } else { Tensor::stack(&groups, 0) }
}

/// Compares A of a first layer with the patches; false where it is no convolution.
fn assert_input_factor(case: &Case) -> bool {
    tch::set_num_threads(1);
    let loss = losses().remove(0);
    let network = case.network(Kind::Double);
    let shapes = network.shapes(&case.input).unwrap();
    let positions = &shapes.of_node(0)[1..];
    let x = case.x(Kind::Double);
    let expected = match &case.layers[0] {
        Spec::Conv(options) => conv_factor(&x, options, [positions[0], positions[1]]),
        Spec::ConvTranspose(options) => conv_transpose_factor(&x, options, [positions[0], positions[1]]),
        _ => return false,
    };
    let ours = pass(case, &network, loss.as_ref(), 1, &["kfac"]);
    close(ours.factor("kfac", 0, "A").unwrap(), &expected, case.name);
    true
}

#[test]
fn input_factors_are_those_of_patches_cut_out_by_hand() {
    let cases = list::conv_cases().into_iter().chain(list::conv_transpose_cases());
    let checked = cases.filter(assert_input_factor).count();
    assert!(checked > 25, "{checked}");
}

/// With many channels the factor is made of products of shifted images where that is cheaper and possible.
#[test]
fn input_factors_of_many_channels_are_those_of_patches_too() {
    let padded = Conv2dOptions { padding: around(1, 1, 1, 1), ..conv(2, [3, 3]) };
    for options in [
        padded,
        Conv2dOptions { padding: around(2, 0, 1, 1), ..padded },
        Conv2dOptions { stride: [2, 2], ..padded },
        Conv2dOptions { dilation: [1, 2], ..padded },
        conv(2, [1, 1]),
    ] {
        let case = Case::new("many channels", 2, &[16, 12, 12], vec![options.into(), Flat, linear(2).into()]);
        assert!(assert_input_factor(&case));
    }
}
