//! The observer's eyes: Pods and the Lease, bases, the broker's log and the API server's audit log.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, utils::Backoff, watcher},
};
use modulet_testkit::audit::AuditLine;
use modulet_testkit::base::{BizState, ReceivedCommand};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{
    event::{At, Event, Module, Order, Part},
    logs::{BrokerLine, command},
    seen::Seen,
    world::{NAME, World, base_of},
};

/// How often bases and logs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// How often the pulse is felt, how late it may be, and when it is felt anew.
const PULSE_EVERY: Duration = Duration::from_millis(250);
const SLOW: Duration = Duration::from_secs(1);
const LOST: Duration = Duration::from_secs(10);
/// A Node's status is written again after five minutes, changed or not.
const STATUS_EVERY: At = At::from_secs(280);

/// Tries again soon, for ever: what is not seen cannot be judged.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

/// Watches Pods.
pub(crate) async fn pods(client: Client, seen: Arc<Seen>) {
    let mut changes = pin!(watcher(Api::<Pod>::namespaced(client, NAME), watcher::Config::default()).backoff(Soon));
    let mut known: HashMap<String, (Option<usize>, bool, bool)> = HashMap::new();
    let mut listed = BTreeSet::new();
    while let Some(change) = changes.next().await {
        let (pod, lists) = match change {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(pod)) => (pod, true),
            Ok(watcher::Event::Apply(pod)) => (pod, false),
            Ok(watcher::Event::Delete(pod)) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                known.remove(&uid);
                seen.see(seen.now(), Event::PodGone { uid });
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                let gone: Vec<_> = known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    known.remove(&uid);
                    seen.see(seen.now(), Event::PodGone { uid });
                }
                continue;
            }
            Err(_) => continue,
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if lists {
            listed.insert(uid.clone());
        }
        let (base, wanted, ready) = (pod_base(&pod), is_wanted(&pod), is_ready(&pod));
        if known.insert(uid.clone(), (base, wanted, ready)) != Some((base, wanted, ready)) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            seen.see(seen.now(), Event::Pod { uid, name, base, modules: modules_of(&pod), wanted, ready });
        }
    }
}

/// The base that a Pod is bound to.
pub(crate) fn pod_base(pod: &Pod) -> Option<usize> {
    base_of(pod.spec.as_ref()?.node_name.as_deref()?)
}

/// Whether it is to run.
pub(crate) fn is_wanted(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

/// The Ready condition.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What its containers ask for.
pub(crate) fn modules_of(pod: &Pod) -> Vec<Module> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let version = |env: &Option<Vec<k8s_openapi::api::core::v1::EnvVar>>| {
        env.iter().flatten().find(|env| env.name == "BIZ_VERSION").and_then(|env| env.value.clone()).unwrap_or_default()
    };
    containers.map(|container| Module::new(&container.name, version(&container.env))).collect()
}

/// Watches who leads.
pub(crate) async fn leads(client: Client, seen: Arc<Seen>) {
    let config = watcher::Config::default().fields(&format!("metadata.name=modulet-{NAME}"));
    let mut changes = pin!(watcher(Api::<Lease>::namespaced(client, "default"), config).backoff(Soon));
    let mut last = None;
    while let Some(change) = changes.next().await {
        let Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) = change else { continue };
        let spec = lease.spec.unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let who = holder.and_then(|holder| holder.split('_').next().map(str::to_owned));
        if last.as_ref() != Some(&who) {
            let acquired = spec.acquire_time.filter(|_| who.is_some());
            let since = acquired.map_or_else(|| seen.now(), |time| seen.at_time(time.0));
            seen.see(seen.now(), Event::Leads { who: who.clone(), since });
            last = Some(who);
        }
    }
}

/// Watches bases: what they are told, and what they have. Lets time pass, too.
pub(crate) async fn bases(world: Arc<World>, seen: Arc<Seen>) {
    let mut told = vec![0; world.bases.len()];
    let mut had: Vec<Option<BTreeSet<Module>>> = vec![None; world.bases.len()];
    loop {
        for (number, base) in world.bases.iter().enumerate() {
            let commands = base.jvm.commands_after(told[number]);
            told[number] += commands.len();
            for (at, order) in commands.iter().filter_map(|command| Some((command.at, order_of(command)?))) {
                seen.see(seen.at(at), Event::Told { base: number, order });
            }
            let modules = base.jvm.modules().into_iter();
            let active = modules.filter(|module| module.2 == BizState::Activated);
            let active: BTreeSet<_> = active.map(|module| Module::new(module.0, module.1)).collect();
            if had[number].as_ref() != Some(&active) {
                had[number] = Some(active.clone());
                seen.see(seen.now(), Event::Active { base: number, modules: active });
            }
        }
        seen.tick();
        sleep(LOOK_EVERY).await; // there is nothing to wait for: bases tell nobody
    }
}

fn order_of(command: &ReceivedCommand) -> Option<Order> {
    let module = |value: &Value| {
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        Module::new(text("bizName"), text("bizVersion"))
    };
    let payload = &command.payload;
    match command.command.as_str() {
        "installBiz" if payload["installStrategy"] == "uninstallThenInstall" => Some(Order::Replace(module(payload))),
        "installBiz" => Some(Order::Install(module(payload))),
        "uninstallBiz" => Some(Order::Uninstall(module(payload))),
        "baseline" => Some(Order::Baseline(payload.as_array().into_iter().flatten().map(module).collect())),
        _ => None,
    }
}

/// Feels the API server's pulse, and our own: on a machine that has too much to do all is as if something were wrong.
pub(crate) async fn pulse(client: Client, seen: Arc<Seen>) {
    let api = Api::<ConfigMap>::namespaced(client, NAME);
    let mut count = 0_u64;
    loop {
        let begin = Instant::now();
        sleep(PULSE_EVERY).await; // how late we are called tells how late all are
        if begin.elapsed() > PULSE_EVERY + SLOW {
            slow(&seen, begin, Part::Way);
            seen.see(seen.now(), Event::Ends { part: Part::Way });
        }
        count += 1;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "pulse" }, "data": { "count": count.to_string() },
        });
        let (params, patch) = (PatchParams::apply("observer").force(), Patch::Apply(&map));
        let (begin, write) = (Instant::now(), timeout(LOST, api.patch("pulse", &params, &patch)));
        let mut write = pin!(write);
        let answer = if let Ok(answer) = timeout(SLOW, &mut write).await {
            answer
        } else {
            slow(&seen, begin, Part::ApiServer);
            let answer = write.await;
            seen.see(seen.now(), Event::Ends { part: Part::ApiServer });
            answer
        };
        if !matches!(answer, Ok(Ok(_))) && begin.elapsed() < SLOW {
            slow(&seen, begin, Part::ApiServer);
            sleep(PULSE_EVERY).await; // what failed at once is not better before
            seen.see(seen.now(), Event::Ends { part: Part::ApiServer });
        }
    }
}

fn slow(seen: &Seen, since: Instant, part: Part) {
    seen.see(seen.at(since.into_std()), Event::Begins { part });
}

/// Reads what is added to a file.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, rest: Vec::new() }
    }

    /// Whole lines since the last time.
    fn lines(&mut self) -> Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        self.read += u64::try_from(file.read_to_end(&mut self.rest)?)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines = self.rest.drain(..=end).collect::<Vec<_>>();
        Ok(String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect())
    }
}

/// Reads the broker's log.
pub(crate) async fn broker(log: PathBuf, seen: Arc<Seen>) {
    let mut tail = Tail::new(&log);
    loop {
        for line in tail.lines().unwrap_or_default().iter().filter_map(|line| BrokerLine::read(line)) {
            match line {
                BrokerLine::Connected { client, user } if client.contains("commands") => {
                    seen.see(seen.now(), Event::Commands { who: user });
                }
                BrokerLine::Published { client, topic, qos, retained } if command(&topic).is_some() => {
                    seen.see_quietly(seen.now(), Event::Sent { client, topic, qos, retained });
                }
                _ => {}
            }
        }
        sleep(LOOK_EVERY).await; // nobody tells that a file has grown
    }
}

/// Reads the audit log.
pub(crate) async fn audit(log: PathBuf, seen: Arc<Seen>) {
    let mut tail = Tail::new(&log);
    let mut statuses: HashMap<String, At> = HashMap::new();
    loop {
        for line in tail.lines().unwrap_or_default() {
            let Ok(line) = serde_json::from_str::<AuditLine>(&line) else { continue };
            if !line.is_write_of_a_leader() {
                continue;
            }
            let object = line.object();
            let at = seen.at_time(line.request_received_timestamp.0);
            let mut counts = object.resource != "leases";
            if object.resource == "nodes" && object.subresource == "status" {
                let before = statuses.insert(object.name.clone(), at);
                counts = before.is_none_or(|before| before + STATUS_EVERY > at);
            }
            let what = format!("{} {} {}/{}", line.verb, object.resource, object.subresource, object.name);
            let event = Event::Wrote { who: line.who().to_owned(), what, counts };
            if counts { seen.see(at, event) } else { seen.see_quietly(at, event) }
        }
        sleep(LOOK_EVERY).await; // nobody tells that a file has grown
    }
}
