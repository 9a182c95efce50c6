//! Every quantity of every layer type is the oracle's: see `cases/list.rs` for the cases.

use crate::cases::hold::hold_all;
use crate::cases::list;

#[test]
fn linear_layers() {
    hold_all(list::linear_cases());
}

#[test]
fn graphs() {
    hold_all(list::graph_cases());
}

#[test]
fn activations() {
    hold_all(list::activation_cases());
}

#[test]
fn losses_in_their_limits() {
    hold_all(list::loss_cases());
}

#[test]
fn convolutions() {
    hold_all(list::conv_cases());
}

#[test]
fn transposed_convolutions() {
    hold_all(list::conv_transpose_cases());
}

#[test]
fn pooling() {
    hold_all(list::pool_cases());
}

#[test]
fn normalisation_padding_dropout() {
    hold_all(list::other_cases());
}

#[test]
fn the_papers_networks() {
    hold_all(list::network_cases());
}

#[test]
fn layers_of_one_and_three_axes() {
    hold_all(crate::cases::dimensions::dimension_cases());
}

#[test]
fn normalisation_by_sample() {
    hold_all(crate::cases::transformers::norm_cases());
}

#[test]
fn attention() {
    hold_all(crate::cases::transformers::attention_cases());
}

#[test]
fn recurrent_layers() {
    hold_all(crate::cases::recurrent::recurrent_cases());
}
