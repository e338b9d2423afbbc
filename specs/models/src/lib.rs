//! Models of the protocols: group commit, rotation, truncation, recovery, and the checkpoint.
//!
//! A model is what is left of a protocol when everything is taken away that does not decide whether it is right. It is so small
//! that every state it can reach is visited, in the order of the distance from its start, so that a counterexample is a shortest one.
//! Each model has switches that put a known bug in, and must then find a counterexample. `README.md` says which code a model stands for.

pub mod checker;
pub mod checkpoint;
pub mod commit;
pub mod names;
pub mod readers;
pub mod recovery;
pub mod rotation;
pub mod truncation;
