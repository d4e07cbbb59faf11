//! How facts change what is known, and which bases they concern.

mod messages;
mod nodes;
mod objects;
mod pods;
mod probes;
mod start;
