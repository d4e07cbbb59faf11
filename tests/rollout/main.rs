//! What of `ModuleRollout` needs no cluster: its definition in the chart, how Argo CD sees it, and how the kind of the
//! generation before becomes it.

mod argo_cd;
#[path = "../../examples/from-module-deployment/convert.rs"]
mod convert;
mod definition;
mod module_deployments;
