//! The engine between edges that a test holds in its hands: what goes out is seen, and answered when the test says so.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    api::{EventSink, Key, Outcome, Reader, Request, Seen, Watched, WriteError, Writer, Written},
    config::{Args, Config},
    domain::{Answer, BaseId, BaseInfo, Command, ListedModule, ModuleId, ModuleState, Reply},
    engine::{Edges, journal::Journal, world::World},
    k8s::{Installs, names},
    metrics::Metrics,
    tunnel::{Event, Health, Heartbeat, Message, Topics, mqtt},
};

const ENV: &str = "dev";
const MODULE: &str = "biz1";
/// Writes that can wait.
pub(super) const ROOM: usize = 16;

/// The engine, an API server with nothing but objects, and bases that say what they are told to say.
pub(super) struct Scene {
    pub(super) world: World,
    edges: Edges,
    pub(super) now: Instant,
    commands: mpsc::Receiver<(BaseId, Command)>,
    writes: Vec<mpsc::Receiver<(Key, Request)>>,
    /// Writes without an answer, and what they are called.
    open: Vec<(String, Key, Value)>,
    /// Pods by uid, Nodes by base.
    objects: HashMap<String, Value>,
    version: u64,
    _kept: Box<dyn std::any::Any>,
}

impl Scene {
    /// With bases that have registered, and a journal that an earlier process left.
    pub(super) fn with(bases: &[&str], journal: &[(&str, &str)]) -> Self {
        let config = Arc::new(Config::from(Args::parse_from(["modulet", "--env", ENV])));
        let metrics = Arc::new(Metrics::new());
        let (writer, writes) = Writer::new("writes", ROOM);
        let (background, in_background) = Writer::new("background", ROOM);
        let (journal_writer, in_journal) = Writer::new("journal", 1);
        let (sender, commands) = mqtt::Sender::new();
        let (events, events_kept) = EventSink::new(Arc::clone(&metrics));
        let (reader, reader_kept) = Reader::new();
        let edges = Edges {
            tunnel: mpsc::channel(1).1,
            watched: mpsc::channel(1).1,
            written: mpsc::channel(1).1,
            read: mpsc::channel(1).1,
            reader,
            commands: Some(sender),
            writer,
            background,
            journal: journal_writer,
            events,
        };
        let segments = Journal::new("modulet".into(), ENV.into(), "1".into());
        let mut scene = Self {
            world: World::new(config, Topics::new(ENV), segments, metrics),
            edges,
            now: Instant::now(),
            commands,
            writes: vec![in_journal, writes, in_background],
            open: Vec::new(),
            objects: HashMap::new(),
            version: 1,
            _kept: Box::new((events_kept, reader_kept)),
        };
        scene.watches_deliver(journal);
        scene.world.tunnel(Event::Connected, scene.now);
        for base in bases {
            scene.say(base, Message::Heartbeat(Heartbeat { info: info(), going_away: false }));
            scene.say(base, Message::Health(Health::default()));
            scene.lists(base, &[]);
        }
        scene.settle();
        scene
    }

    /// With bases that have registered.
    pub(super) fn of(bases: &[&str]) -> Self {
        Self::with(bases, &[])
    }

    fn watches_deliver(&mut self, journal: &[(&str, &str)]) {
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Pod(Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Node(Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Deployment(Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::DaemonSet(Box::new(seen)));
        }
        for index in 0..2 {
            self.watched(Watched::ReplicaSet(index, Seen::ListEnds));
            self.watched(Watched::ControllerRevision(index, Box::new(Seen::ListEnds)));
        }
        let installs: Installs =
            journal.iter().map(|(base, version)| (BaseId::new(*base), vec![module(version)])).collect();
        let segments = if installs.is_empty() { vec![] } else { vec![("left".to_owned(), installs)] };
        self.watched(Watched::Journal(Some(segments)));
        assert!(self.world.synced());
    }

    pub(super) fn watched(&mut self, change: Watched) {
        self.world.watched(change, self.now);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    // What bases say.

    fn say(&mut self, base: &str, message: Message) {
        self.world.tunnel(Event::Message(BaseId::new(base), message), self.now);
    }

    /// The base answers an install or uninstall.
    pub(super) fn done(&mut self, base: &str, command: &'static str, version: &str) {
        let answer = Answer::Done { actual: None };
        self.say(base, Message::Reply(Reply { command, module: Some(module(version)), answer }));
    }

    /// The base says which versions it has.
    pub(super) fn lists(&mut self, base: &str, versions: &[(&str, ModuleState)]) {
        let listed =
            |(version, state): &(&str, ModuleState)| ListedModule { id: module(version), state: *state, message: None };
        self.say(base, Message::Modules(versions.iter().map(listed).collect()));
    }

    // What Kubernetes says.

    /// A Pod bound to the base; `owner` is the uid of its `ReplicaSet`.
    pub(super) fn pod(&mut self, uid: &str, base: &str, version: &str, owner: Option<&str>) {
        let owners = owner.map(|uid| json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true }]));
        let pod = json!({
            "metadata": {
                "name": uid, "namespace": "default", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { names::COMPONENT: "module" }, "ownerReferences": owners,
            },
            "spec": { "nodeName": format!("vnode.{base}.{ENV}"), "containers": [{
                "name": MODULE, "image": "https://modules.example.com/biz1.jar",
                "env": [{ "name": names::BIZ_VERSION, "value": version }],
            }] },
        });
        self.objects.insert(uid.to_owned(), pod);
        self.show(uid);
    }

    /// A `ReplicaSet` of the Deployment `d`.
    pub(super) fn replica_set(&mut self, uid: &str, revision: u32) {
        let set = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": uid, "uid": uid, "annotations": { "deployment.kubernetes.io/revision": revision.to_string() },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true }],
            },
        });
        self.watched(Watched::ReplicaSet(0, Seen::Applied(serde_json::from_value(set).unwrap())));
    }

    /// A watch shows the object as it is now.
    pub(super) fn show(&mut self, object: &str) {
        self.version += 1;
        let version = self.version.to_string();
        let object = self.objects.get_mut(object).unwrap();
        object["metadata"]["resourceVersion"] = json!(version);
        let object = object.clone();
        self.watched(if object["kind"] == "Node" {
            Watched::Node(Box::new(Seen::Applied(serde_json::from_value(object).unwrap())))
        } else {
            Watched::Pod(Box::new(Seen::Applied(serde_json::from_value(object).unwrap())))
        });
    }

    // What goes out.

    /// Decides on all that there is to decide on now. Returns all that went out, but for questions and Leases: commands
    /// first, then writes.
    pub(super) fn step(&mut self) -> Vec<String> {
        for round in 0.. {
            self.world.decide(&self.edges, self.now);
            if self.world.dirty.is_empty() && self.world.timers.next().is_none_or(|at| at > self.now) {
                break;
            }
            assert!(round < 10, "it does not come to rest");
        }
        let mut out = Vec::new();
        while let Ok((base, command)) = self.commands.try_recv() {
            match command {
                Command::Install(spec, _) => out.push(format!("{base} installs {}", spec.id.version)),
                Command::Uninstall(id) => out.push(format!("{base} uninstalls {}", id.version)),
                _ => {}
            }
        }
        let mut leases = Vec::new();
        for writes in &mut self.writes {
            while let Ok((key, request)) = writes.try_recv() {
                if matches!(key, Key::Lease(_)) {
                    leases.push(key);
                    continue;
                }
                let what = describe(&key, &request.body());
                out.push(what.clone());
                self.open.push((what, key, request.body()));
            }
        }
        for key in leases {
            self.world.written(Written { key, result: Ok(Outcome::default()) }, self.now);
        }
        out
    }

    fn take(&mut self, what: &str) -> (Key, Value) {
        let known = || self.open.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>();
        let index = self.open.iter().position(|(w, ..)| w == what);
        let index = index.unwrap_or_else(|| panic!("nothing asks for {what:?}, but {:?}", known()));
        let (_, key, body) = self.open.remove(index);
        (key, body)
    }

    /// The API server does what it was asked for; the watch has not shown it yet. Returns the object it was about.
    pub(super) fn accept(&mut self, what: &str) -> Option<String> {
        let (key, body) = self.take(what);
        let object = match &key {
            Key::PodStatus(uid) => uid.to_string(),
            Key::Node(base) => base.to_string(),
            _ => {
                self.end(key, Ok(Outcome::default()));
                return None;
            }
        };
        merge(self.objects.entry(object.clone()).or_default(), &body);
        self.version += 1;
        let version = self.version;
        let metadata = &mut self.objects.get_mut(&object).unwrap()["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-of-{object}"));
        }
        self.end(key, Ok(Outcome { resource_version: version }));
        Some(object)
    }

    /// The API server does what it was asked for, and the watch shows it.
    pub(super) fn answer(&mut self, what: &str) {
        if let Some(object) = self.accept(what) {
            self.show(&object);
        }
    }

    /// The API server does not answer.
    pub(super) fn fail(&mut self, what: &str) {
        let (key, _) = self.take(what);
        self.end(key, Err(WriteError::Unreachable("no answer".into())));
    }

    fn end(&mut self, key: Key, result: Result<Outcome, WriteError>) {
        self.world.written(Written { key, result }, self.now);
    }

    /// Decides and answers until there is nothing left to do now. Returns all that went out.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let out = self.step();
            if out.is_empty() && self.open.is_empty() {
                return all;
            }
            all.extend(out);
            let open: Vec<_> = self.open.iter().map(|(what, ..)| what.clone()).collect();
            open.iter().for_each(|what| self.answer(what));
        }
        panic!("it does not come to rest: {all:#?}");
    }

    /// A Pod whose module is installed and serves.
    pub(super) fn serving(&mut self, uid: &str, base: &str, version: &str, owner: Option<&str>) {
        self.pod(uid, base, version, owner);
        self.settle();
        self.done(base, "installBiz", version);
        self.settle();
        self.lists(base, &[(version, ModuleState::Activated)]);
        let out = self.settle();
        assert!(out.contains(&format!("{uid} Running Ready")), "{out:?}");
    }
}

fn module(version: &str) -> ModuleId {
    ModuleId::new(MODULE, version)
}

fn info() -> BaseInfo {
    BaseInfo { name: "app".into(), version: "1".into(), cluster: None, ip: Some("192.0.2.1".into()), host_name: None }
}

fn describe(key: &Key, body: &Value) -> String {
    match key {
        Key::PodStatus(uid) => {
            let status = &body["status"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let ready = conditions.filter(|c| c["type"] == "Ready").any(|c| c["status"] == "True");
            let ready = if ready { " Ready" } else { "" };
            format!("{uid} {}{ready}", status["phase"].as_str().unwrap_or_default())
        }
        Key::PodDelete(uid) => format!("delete {uid}"),
        Key::Node(base) => format!("Node {base}"),
        Key::Journal(_) => "journal".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Objects merge; anything else is replaced. The lists in what the engine writes are whole.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => into.clone_from(patch),
    }
}
