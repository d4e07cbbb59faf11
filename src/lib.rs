//! modulet, the kubelet for modules: makes every Koupleless *base* (a running JVM application that loads
//! and unloads modules) a Kubernetes Node, and every module a Pod on it.
//!
//! The modules in the order in which the data passes them:
//!
//! - [`tunnel`]: MQTT in and out; bytes and topics end here.
//! - [`api`]: the API server: watches in, writes out.
//! - [`engine`]: one task that owns all state; facts in, plans out, effects carried out in one place.
//! - [`controllers`]: plans for workloads.
//! - [`planning`]: what plans are made of: effects, the schedule, objects that are watched and written.
//! - [`domain`]: the decisions: pure, no I/O, no clock.
//! - [`k8s`]: what is decided, as Kubernetes objects: pure.
//!
//! Beside them: [`check`], which looks at a cluster and a broker before modulet runs there, and [`kubelet`], the API of a kubelet
//! for `kubectl logs` and its like.
//!
//! Around them: [`config`], [`go_controller`] (its variables), [`app`] (wiring), [`tasks`] (what must not end), [`http`]
//! (health, metrics), [`metrics`], [`picture`] and [`debug`] (what is known, for people who look), [`telemetry`], [`said`]
//! (what was logged of an outage), [`tls`] (certificates and keys in files), [`renewed`] (what is made of files that change).

pub mod api;
pub mod app;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod check;
pub mod config;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod controllers;
pub mod debug;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod domain;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod engine;
pub mod go_controller;
pub mod http;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod k8s;
pub mod kubelet;
pub mod lead;
pub mod metrics;
pub mod picture;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]
pub mod planning;
pub mod probes;
pub mod renewed;
pub mod said;
pub mod serving;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
