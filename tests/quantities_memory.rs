//! A thousand passes of each quantity on a small convolutional network: the memory of the process stays where it is.
#![cfg(target_os = "linux")]

mod cases;

use std::sync::Mutex;

use backpack_run::backpack::Pass;
use backpack_run::backpack::losses::{CrossEntropy, Reduction};
use backpack_run::backpack::quantities::all;
use cases::Case;
use cases::spec::ActivationKind::{Relu, Sigmoid};
use cases::spec::Spec::Flat;
use cases::spec::{conv, linear, max_pool};
use tch::Kind;

/// Tests that share a process take turns.
static TURN: Mutex<()> = Mutex::new(());

fn resident_bytes() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 4096
}

fn stays(quantity: &str) {
    let _turn = TURN.lock();
    tch::set_num_threads(1);
    let layers = vec![
        conv(4, [3, 3]).into(),
        Relu.into(),
        max_pool([2, 2]).into(),
        conv(3, [2, 2]).into(),
        Sigmoid.into(),
        Flat,
        linear(3).into(),
    ];
    let case = Case::new("small", 8, &[2, 10, 10], layers);
    let network = case.network(Kind::Float);
    let loss = CrossEntropy::new(Reduction::Mean);
    let (x, y) = (case.x(Kind::Float), case.y(&loss, Kind::Float));
    let pass = Pass::new(&network, &loss).take([quantity]).unwrap().mode(case.mode).seed(1);
    let mut after_200 = 0;
    for step in 0..1000 {
        let found = pass.clone().step(step).run(&x, &y).unwrap();
        assert!(!found.values().is_empty());
        if step == 199 {
            after_200 = resident_bytes();
        }
    }
    let growth = resident_bytes() - after_200;
    println!("{quantity}: {} KiB in 800 passes", growth >> 10);
    assert!(growth < 8 << 20, "{quantity}: grew by {growth} bytes in 800 passes");
}

macro_rules! quantities {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            stays(stringify!($name));
        })*

        #[test]
        fn every_quantity_is_here() {
            assert_eq!(all().iter().map(|quantity| quantity.name()).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

quantities! {
    grad, batch_grad, batch_l2, sum_grad_squared, variance, diag_ggn, diag_ggn_mc, diag_hessian, kfac, kflr, kfra,
    batch_diag_ggn, batch_diag_hessian, sqrt_ggn, sqrt_ggn_mc, kfac_expand, kfac_reduce, kflr_expand, kflr_reduce, ekfac,
}
