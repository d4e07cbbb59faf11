//! modulet
