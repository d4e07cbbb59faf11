//! modulet while everything around it, and itself, is killed, frozen, cut off and delayed at random: `make chaos`.

#[path = "mod.rs"]
mod chaos;
