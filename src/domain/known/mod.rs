//! What is known of a base: what it said, what it was told, what is on record and what is remembered.
//!
//! Facts change it; nothing is decided here.

mod base;
mod commands;
mod contexts;
mod conversation;
mod failures;
mod health;
mod ledger;
mod link;
mod liveness;
mod memory;
mod needs;
mod operation;
mod pods;
mod probes;
mod question;
mod replacement;
mod view;

pub use base::Base;
pub use contexts::{Lesson, WebContexts, path_in_use};
pub(super) use contexts::{WebContext, in_use};
pub use conversation::Conversation;
#[cfg(test)]
pub(super) use health::JvmKnowledge;
pub(super) use health::Room;
pub use ledger::{Claim, Ledger};
pub use link::Link;
pub use liveness::{Liveness, Reachability};
pub(super) use memory::{PodMemory, Restart};
pub use needs::{Needs, Took};
pub use operation::{Answer, CommandView, Reply};
pub(super) use pods::{has_a_pod, is_awaited, is_in_release};
pub(super) use replacement::{Replacement, Stage};
pub use view::{BaseView, FailureView};
