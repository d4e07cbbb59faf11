//! What to do, given what is wanted and what is known.
//!
//! Nothing is remembered here: [`reconcile()`] is a function. [`Base::step`](crate::domain::Base::step) carries out on
//! what is known what a plan says.

mod claims;
mod context;
mod module;
mod orders;
mod outcomes;
mod plan;
mod reconcile;
mod replace;
mod room;
mod step;
mod web;
mod why;

pub use plan::Plan;
pub use reconcile::reconcile;
