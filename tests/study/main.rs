//! Grids, seeds and studies: what they write, and what they survive.

mod archive;
mod cluster;
mod damage;
mod diagnostics;
mod estimate;
mod faults;
mod file_systems;
mod grid;
mod length;
mod locks;
mod own_data;
mod own_programs;
mod pause;
mod protocol;
mod random_damage;
mod resume;
mod seeds;
mod slurm;
#[path = "../study_support/mod.rs"]
mod study_support;
#[path = "../support/mod.rs"]
mod support;
