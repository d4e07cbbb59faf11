//! What bases say and what they are told, as bytes: nothing here needs a broker or a cluster.

mod commands;
mod fuzz;
mod generations;
mod http;
mod limits;
mod recorded;
mod recording;
mod topics;
