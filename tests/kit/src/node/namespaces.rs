//! The namespaces a machine runs in, and whether this one here can have them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{ADDRESS, API_SERVICE};
use crate::tools::Tool;

/// Says inside which group of processes the machine's containers are.
const CGROUP: &str = "MODULET_NODE_CGROUP";
const CGROUPS: &str = "/sys/fs/cgroup";
/// What names of groups and directories begin with, before the process that they are of.
const PREFIX: &str = "modulet-node-";

/// What programs inside must not see or change of the machine outside: sockets, state, logs.
const OWN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// How a program in namespaces of its own has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// With another, or by a signal.
    Badly,
}

/// Runs this very program again with one argument, in namespaces of its own. Its standard input is a pipe that ends when
/// this process does: it has to end then. All that it started ends with it.
pub fn enter(argument: &str) -> Result<Ended> {
    let group = format!("{PREFIX}{}", std::process::id());
    let directory = tempfile::Builder::new().prefix(&format!("{group}-")).tempdir()?;
    let mut inside = unshare()
        .arg(env::current_exe()?)
        .arg(argument)
        .env(CGROUP, format!("/{group}"))
        .env("TMPDIR", directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .context("unshare")?;
    let input = inside.stdin.take(); // `wait` closes it, and that is the sign to end
    let status = inside.wait();
    drop(input);
    drop(directory);
    remove_what_is_left();
    Ok(if status?.success() { Ended::Well } else { Ended::Badly })
}

/// Groups and directories of processes that are gone, our own and those that were killed.
fn remove_what_is_left() {
    let entries = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let is_left = |entry: &fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        process.is_some_and(|id| id == std::process::id() || !Path::new(&format!("/proc/{id}")).exists())
    };
    for group in groups().into_iter().flat_map(entries).filter(is_left) {
        remove_group(&group.path());
    }
    for directory in entries(env::temp_dir()).filter(is_left) {
        let _ = fs::remove_dir_all(directory.path());
    }
}

fn unshare() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    unshare
}

/// Inside: the addresses, and nothing of the machine outside.
pub fn set_up_network() -> Result<()> {
    for directory in OWN {
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "modulet-node", directory])?;
    }
    let machine = format!("{ADDRESS}/24");
    let service = format!("{API_SERVICE}/32");
    let lines = [
        "link set lo up",
        &format!("address add {service} dev lo"),
        // Two ends of one wire, with nobody at the other: a device that has an address, and a way to everywhere.
        "link add machine type veth peer name nowhere",
        "link set nowhere up",
        "link set machine up",
        &format!("address add {machine} dev machine"),
        "route add default dev machine",
    ];
    for line in lines {
        run("ip", &line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Why there cannot be a node here, in one line; none if there can be one.
pub async fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("containers need Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("a kubelet runs as root, and this is another user".to_owned());
    }
    let tools = ["containerd", "ctr", "runc", "ip", "buildah", "unshare", "mount", "mosquitto"];
    if let Some(tool) = tools.into_iter().find(|tool| find(tool).is_none()) {
        return Some(format!("{tool} is not installed: run `make setup-node`"));
    }
    if network_plugins().is_none() {
        return Some("containernetworking-plugins is not installed: run `make setup-node`".to_owned());
    }
    for (tool, program) in [(Tool::Kubelet, "kubelet"), (Tool::ControlPlane, "kubectl"), (Tool::Helm, "helm")] {
        if let Err(error) = tool.program(program).await {
            return Some(format!("{error:#}"));
        }
    }
    let devices = "ip link add one type veth peer name two && ip link add three type bridge && \
                   mount -t tmpfs none /run";
    if let Err(error) = output(unshare().args(["sh", "-c", devices])) {
        return Some(format!("no network or mounts of one's own: {error:#}"));
    }
    let Some(root) = groups().into_iter().next() else {
        return Some(format!("no groups of processes (cgroups) below {CGROUPS}"));
    };
    let probe = root.join(format!("{PREFIX}{}", std::process::id()));
    if let Err(error) = fs::create_dir(&probe) {
        return Some(format!("no groups of processes (cgroups) can be made: {}: {error}", probe.display()));
    }
    remove_group(&probe);
    None
}

/// The group of processes that the containers are in.
pub(super) fn cgroup() -> String {
    env::var(CGROUP).unwrap_or_else(|_| "/".to_owned())
}

/// Roots of the trees of groups: one for each controller, or one for all (v2).
fn groups() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut roots: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind.starts_with("cgroup") && path.starts_with(CGROUPS)).then(|| PathBuf::from(path))
        })
        .collect();
    roots.sort();
    roots
}

/// Those below it first. What is in use stays.
fn remove_group(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&below.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Looks on the path, and where Debian puts what is for root, which is not on everybody's path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(places).map(|place| place.join(program)).find(|path| path.is_file())
}

/// Where Debian and others put them.
pub(super) fn network_plugins() -> Option<PathBuf> {
    ["/usr/lib/cni", "/opt/cni/bin"].map(PathBuf::from).into_iter().find(|place| place.join("bridge").is_file())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    output(Command::new(find(program).with_context(|| format!("{program} is not installed"))?).args(args))
}

fn output(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!error.is_empty(), "{command:?}: {}", output.status);
    bail!("{}", error.trim().replace('\n', "; "))
}
