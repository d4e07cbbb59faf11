//! The edge to the API server: watches in, writes out.

mod changes;
mod client;
mod election;
mod events;
mod forward;
mod gated;
mod hooks;
mod lean;
mod note;
mod patience;
mod proxy;
mod reader;
mod report;
mod reports;
mod request;
mod watch;
mod writer;

pub use changes::{Seen, Watched};
pub use client::{ClientError, Clients, STREAM_SILENCE};
pub use election::{Candidate, elect, lease_name, replica_of};
pub use events::EventSink;
pub use forward::chain;
pub use gated::Gated;
pub use hooks::{Hook, HookError, Hooks};
pub use lean::{Lean, Watchable};
pub use note::{Note, Subject};
pub use proxy::Proxies;
pub use reader::{Read, Reader};
pub use report::Report;
pub use reports::ReportSink;
pub use request::{Outcome, Request, WriteError};
pub use watch::{Place, watch};
pub use writer::{Key, Writer, Written};
