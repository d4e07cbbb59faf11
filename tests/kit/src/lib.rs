//! Real parts for modulet: control plane, brokers and bases.
