//! What the engine promises at its edges: what goes out in which order, and what becomes of it when the API server
//! does not answer.

mod addresses;
mod api_server;
mod base_pods;
mod cluster;
mod deletions;
mod extremes;
mod figures;
mod jvm;
mod metaspace;
mod neighbours;
mod objects;
mod pictures;
mod probes;
mod properties;
mod record;
mod scene;
mod silence;
mod standby;
mod statuses;
mod steps;
mod web;
