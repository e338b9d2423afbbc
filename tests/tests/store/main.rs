//! The store of the crate `checkpoint`: what it promises, on a simulated file system that crashes and fails, and against a model.

mod crash;
mod model;
mod world;
