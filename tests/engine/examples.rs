//! The examples run, and their own checks hold.

#[path = "../../examples/custom_layer.rs"]
mod custom_layer;
#[path = "../../examples/custom_quantity.rs"]
mod custom_quantity;

#[test]
fn a_layer_of_ones_own() {
    custom_layer::main().unwrap();
}

#[test]
fn a_quantity_of_ones_own() {
    custom_quantity::main().unwrap();
}
