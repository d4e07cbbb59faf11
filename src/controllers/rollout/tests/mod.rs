//! The model of `docs/strategies/batch-update.md`, with the real decisions: what a Deployment's controller makes of it,
//! whatever is late, and what bases have at each moment.

mod cluster;
mod conversations;
mod daemon_sets;
mod deployment;
mod moments;
mod properties;
mod seen;
mod start;
mod stories;
