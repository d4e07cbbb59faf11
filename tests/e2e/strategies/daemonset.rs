//! Peer deployment by `DaemonSet`: every base has the module, each Pod is uninstalled before it is installed anew.

use std::time::Instant;

use anyhow::Result;
use modulet_testkit::base::{Activation, Generation, SimulatedBase};

use super::{QUIET, measured, one_on_each, release, removed};
use crate::{
    stage::{SOON, Stage},
    workloads::{bases, rolled_out, serving, told_no_more_than},
};

const FILE: &str = "peer-daemonset.yaml";

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_daemon_set_uninstalls_before_it_installs_once_on_each_base() -> Result<()> {
    let stage = Stage::set("peer-daemon").await?;
    let bases = bases(&stage, 3, Activation::Default).await?;
    release(&stage, FILE, "0.0.1").await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    one_on_each(&stage, &["base-0", "base-1", "base-2"]).await?;

    release(&stage, FILE, "0.0.2").await?;
    rolled_out(&stage, "daemonset/biz1").await?;
    serving(&bases, "biz1", "0.0.2", SOON).await?;
    for base in bases.iter() {
        told_no_more_than(base, "biz1", &["install 0.0.1", "uninstall 0.0.1", "install 0.0.2"], QUIET).await?;
    }
    removed(&stage, "daemonset/biz1", &bases).await?;
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_joins_gets_the_module_whether_it_asks_or_not() -> Result<()> {
    let stage = Stage::set("peer-daemon-joins").await?;
    release(&stage, FILE, "0.0.1").await?;
    let mut bases = Vec::new();
    // The first generation never asks for its baseline, and invents its identity.
    for (generation, how) in [(Generation::V2_1_11, "baseline 0.0.1"), (Generation::V2_1_5, "install 0.0.1")] {
        let since = Instant::now();
        let base = SimulatedBase::start(stage.base_options("asks").of_generation(generation)).await?;
        let what = format!("a base of {generation:?} joins, until its module is active");
        measured(&what, since, serving(std::slice::from_ref(&base), "biz1", "0.0.1", SOON)).await?;
        told_no_more_than(&base, "biz1", &[how], QUIET).await?;
        bases.push(base);
        let ids: Vec<_> = bases.iter().map(SimulatedBase::identity).collect();
        one_on_each(&stage, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    stage.ends_quietly().await
}
