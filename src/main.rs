//! The modulet binary.
fn main() {}
