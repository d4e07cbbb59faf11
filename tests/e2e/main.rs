//! modulet on a real control plane and a real broker, with simulated bases.
//!
//! One process, so that all tests share one control plane; each has a namespace, an environment, a
//! broker and a controller of its own.

mod baseline;
mod broker_security;
mod certificates;
#[path = "../chaos/mod.rs"]
mod chaos;
mod check;
mod configuration;
mod debug;
mod documented_manifest;
mod endpoints;
mod environment;
mod failures;
mod faults;
mod faults_api;
mod faults_bases;
mod faults_broker;
mod faults_commands;
mod faults_help;
mod faults_neighbour;
mod faults_neighbour_trust;
mod faults_pods;
mod faults_start;
mod faults_workloads;
mod generations;
mod helm;
mod helm_guards;
mod holding;
mod http_security;
mod http_tunnel;
mod http_tunnel_story;
mod http_tunnel_traps;
mod http_web_paths;
mod kubectl;
mod kubectl_rollout;
mod kubelet_api;
mod lifecycle;
mod main_job;
mod migration;
mod nodes;
mod ordinary;
mod peers;
mod quick_start;
mod quiet;
mod real_base;
mod real_base_http;
mod record;
mod replicas;
mod rollouts;
mod services;
mod stage;
mod starting;
mod strategies;
mod watching;
mod watching_reports;
mod web_modules;
mod workloads;
