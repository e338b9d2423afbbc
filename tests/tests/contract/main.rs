//! The durability contract, sentence by sentence, on the operating system's file system and on the simulated one.

#[macro_use]
mod world;

mod acknowledge;
mod append;
mod batch_mode;
mod close;
mod cut;
mod damage;
mod failure;
mod fixed_bytes;
mod foreign;
mod load;
mod lock;
mod observed;
mod open;
mod read;
mod statistics;
mod tickets;
mod truncate;
mod truncate_live;
