//! Harness shared by the tests: workloads, the oracle of the contract, seeds.
