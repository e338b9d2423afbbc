//! The store of the crate `checkpoint`: what it promises, on a simulated file system that crashes and fails, and against a model.

mod bits;
mod catalogue;
mod crash;
mod disk_full;
mod faults;
mod gate;
mod golden;
mod guards;
mod kill;
mod limits;
mod model;
mod museum;
mod own_pages;
mod races;
mod recovery;
mod schedule;
mod threads;
mod unfinished;
mod world;
