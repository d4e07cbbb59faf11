//! Programs are stopped in order, and do not outlive whoever started them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use modulet_testkit::process::{Process, Program, Signal};
use modulet_testkit::wait::eventually;

/// Set in the copy of this test program that is killed.
const ROLE: &str = "MODULET_TESTKIT_VICTIM";

fn shell(script: &str, directory: &Path) -> Process {
    let log = directory.join("log");
    let program = Program::new("script", "/bin/sh", log).args(["-c", script]);
    program.patience(Duration::from_millis(500)).start().unwrap()
}

fn is_alive(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_program_is_asked_to_end_and_may_say_how() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let process = shell(script, directory.path());
    process.wait_ready(Duration::from_secs(5), async || process.log_tail(1) == "ready").await.unwrap();
    assert!(is_alive(process.pid()));
    assert_eq!(process.terminate().await.unwrap().code(), Some(7));
    assert_eq!(process.log_tail(1), "bye");
    assert!(process.signal(Signal::TERM).is_err());
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let process = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done", directory.path());
    process.wait_ready(Duration::from_secs(5), async || process.log_tail(1) == "ready").await.unwrap();
    process.pause().unwrap();
    assert_eq!(process.terminate().await.unwrap().signal(), Some(9));
}

#[tokio::test]
async fn a_program_that_ends_early_is_reported_with_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let process = shell("echo no such luck >&2; exit 3", directory.path());
    let error = process.wait_ready(Duration::from_mins(1), async || false).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("exit status: 3") && error.contains("no such luck"), "{error}");
}

#[tokio::test]
async fn dropping_kills() {
    let directory = tempfile::tempdir().unwrap();
    let process = shell("exec sleep 1000", directory.path());
    let pid = process.pid();
    drop(process);
    assert!(!is_alive(pid));
}

/// Run again by the next test; by itself it does nothing.
#[tokio::test]
async fn victim() {
    let Some(directory) = std::env::var_os(ROLE) else {
        return;
    };
    let directory = Path::new(&directory);
    let stubborn = "trap '' TERM; while :; do sleep 0.01; done";
    let litter = directory.join("litter");
    fs::create_dir_all(litter.join("more")).unwrap();
    let program = Program::new("sleep", "/bin/sleep", directory.join("log")).arg("1000");
    let pids = [
        program.litter(litter).start().unwrap(),
        shell(stubborn, directory),
        // Something that ended must not make its watchman kill whoever has its process id now.
        shell("exit 0", directory),
    ]
    .map(|process| {
        let pid = process.pid();
        std::mem::forget(process); // like what is in a static
        pid.to_string()
    });
    fs::write(directory.join("written"), pids.join(" ")).unwrap();
    fs::rename(directory.join("written"), directory.join("pids")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn programs_die_when_their_parent_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env(ROLE, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let read = async || fs::read_to_string(directory.path().join("pids")).ok();
    let pids = eventually("the children", Duration::from_secs(10), read).await.unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids[..2].iter().all(|pid| is_alive(*pid)), "{pids:?}");

    parent.kill().unwrap();
    parent.wait().unwrap();

    eventually("the children to be gone", Duration::from_secs(15), async || !pids.iter().any(|pid| is_alive(*pid)))
        .await
        .unwrap();
    eventually("their litter to be gone", Duration::from_secs(5), async || !directory.path().join("litter").exists())
        .await
        .unwrap();
}
