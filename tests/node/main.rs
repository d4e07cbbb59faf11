//! The chart and the image on a machine: a real kubelet with containerd and runc beside the real control plane, installed,
//! upgraded, rolled back and uninstalled by the real Helm, while modules serve on bases outside of the cluster and in it.
//!
//! One test with a main of its own (`harness = false`), for it runs in namespaces of its own (`modulet_testkit::node`):
//! this program starts itself again inside. In the image of the bases in the cluster it is those bases.

mod base;
mod gate;
mod logs;
mod office;
mod people;
mod stage;
mod story;
mod vigil;

use std::{
    env,
    io::{Read as _, stdin},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use modulet_testkit::node::{self, Ended};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

const NAME: &str = "the_chart_and_the_image_on_a_machine_with_a_kubelet";
const INSIDE: &str = "inside";
/// It takes about two minutes on two cores; a machine that compiles beside it takes longer.
const LIMIT: Duration = Duration::from_mins(15);

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    let outcome = Runtime::new().map_err(Into::into).and_then(|runtime| match argument.as_deref() {
        Some(base::ARGUMENT) => runtime.block_on(base::run()),
        Some(INSIDE) => runtime.block_on(inside()),
        _ => outside(&runtime),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The words alone: a backtrace would push them out of the part of a log that people see.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says how it went as any test does.
fn outside(runtime: &Runtime) -> Result<()> {
    println!("\nrunning 1 test");
    let began = Instant::now();
    let tell = |how: &str, counted: &str| {
        let seconds = began.elapsed().as_secs_f32();
        println!("test {NAME} ... {how}\n\ntest result: {counted}; finished in {seconds:.2}s\n");
    };
    if let Some(why) = runtime.block_on(node::missing()) {
        tell(&format!("ignored, {why}"), "ok. 0 passed; 0 failed; 1 ignored");
        return Ok(());
    }
    // Ctrl-C reaches the process inside as well, which ends in order, and then we clean up.
    let _interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    if node::enter(INSIDE)? == Ended::Well {
        tell("ok", "ok. 1 passed; 0 failed; 0 ignored");
        return Ok(());
    }
    tell("FAILED", "FAILED. 0 passed; 1 failed; 0 ignored");
    bail!("1 test failed")
}

/// Until the story has ended, or the process outside has, or somebody wants us to.
async fn inside() -> Result<()> {
    let (gone, outside_is_gone) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = stdin().read(&mut [0]);
        let _ = gone.send(());
    });
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        told = timeout(LIMIT, story::tell()) => told?,
        _ = outside_is_gone => bail!("the process that started it is gone"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}
