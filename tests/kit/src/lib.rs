//! Real parts for modulet's tests, demo and benchmarks: control plane, a machine, brokers and bases.

pub mod audit;
pub mod base;
pub mod broker;
pub mod control_plane;
pub mod controller;
pub mod helm;
pub mod http;
pub mod java_base;
pub mod node;
pub mod office;
pub mod ports;
pub mod process;
pub mod promql;
pub mod proxy;
pub mod recorded;
pub mod schema;
pub mod tools;
pub mod wait;
