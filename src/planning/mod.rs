//! What plans are made of: effects, when to look again, and objects that are listed, watched and written.
//!
//! **Invariant:** nothing here does I/O or reads a clock.

mod effect;
mod listing;
mod pace;
mod packed;
mod schedule;
mod tracked;

pub use effect::{Effect, Lane};
pub use listing::Listing;
pub use pace::Pace;
pub use packed::Packed;
pub use schedule::{Schedule, Task};
pub use tracked::{Tracked, version};
