//! Tests of the core: tables for the rows that users rely on, properties for everything between them.

mod absence;
mod batches;
mod conversation;
mod direct;
mod extremes;
mod health;
mod jars;
pub(crate) mod jvm;
mod lifecycle;
mod metaspace;
mod probes;
mod properties;
mod replace;
mod restarts;
mod slow;
mod updates;
mod web;
mod world;
