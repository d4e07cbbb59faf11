//! The engine between edges that a test holds in its hands: what goes out is seen, and answered when the test says so.

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api_server::{ApiServer, Done};
use crate::{
    api::{EventSink, Key, Outcome, Reader, Request, Seen, Watched, WriteError, Writer, Written},
    config::{Args, Config},
    domain::{Answer, BaseId, BaseInfo, Command, ListedModule, ModuleId, ModuleState, Reply},
    engine::{Edges, state::State},
    k8s::{Ordered, names, ordered_entry, ordered_name, record_object},
    metrics::Metrics,
    tunnel::{AddressError, Event, Health, Heartbeat, Message, Topics, mqtt},
};

const ENV: &str = "dev";
/// Writes that can wait.
pub(super) const ROOM: usize = 16;

/// The engine, an API server with nothing but objects, and bases that say what they are told to say.
pub(super) struct Scene {
    pub(super) state: State,
    edges: Edges,
    pub(super) now: Instant,
    commands: mpsc::Receiver<(BaseId, Command)>,
    /// Commands on their way to their bases.
    pub(super) sent: VecDeque<(String, Command)>,
    writes: Vec<mpsc::Receiver<(Key, Request)>>,
    /// Writes without an answer, and what they are called.
    pub(super) open: Vec<(String, Key, Value)>,
    pub(super) api: ApiServer,
    runs: u32,
    _kept: Box<dyn Any>,
}

impl Scene {
    /// With bases that have registered.
    pub(super) fn of(bases: &[&str]) -> Self {
        let metrics = Arc::new(Metrics::new());
        let (writer, writes) = Writer::new("writes", ROOM);
        let (background, in_background) = Writer::new("background", ROOM);
        let (record, in_record) = Writer::new("record", 1);
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
            record,
            events,
        };
        let mut scene = Self {
            state: state(),
            edges,
            now: Instant::now(),
            commands,
            sent: VecDeque::new(),
            writes: vec![in_record, writes, in_background],
            open: Vec::new(),
            api: ApiServer::default(),
            runs: 1,
            _kept: Box::new((events_kept, reader_kept)),
        };
        scene.begin();
        for base in bases {
            scene.registers(base);
        }
        scene.settle();
        scene
    }

    /// The process before this one ordered this, and nothing else is known of it.
    pub(super) fn ordered_before(&mut self, module: &str) {
        let ordered = Ordered::from([(id(module), std::collections::BTreeSet::new())]);
        let name = ordered_name(ENV);
        let object = record_object(ENV, &name, &[ordered_entry(&ordered)].into());
        self.api.objects.insert(name, object);
    }

    /// The process dies, and the next one begins. Writes that were on their way are lost.
    pub(super) fn restart(&mut self) {
        self.open.clear();
        self.runs += 1;
        self.state = state();
        self.begin();
    }

    /// Watches deliver what is there, the record now last and now first, and the broker is there.
    fn begin(&mut self) {
        let first = self.runs.is_multiple_of(2);
        if first {
            self.lists_record();
        }
        self.watched(Watched::Pod(Box::new(Seen::ListBegins)));
        self.watched(Watched::Node(Box::new(Seen::ListBegins)));
        let all: Vec<_> = self.api.objects.keys().filter(|name| !name.starts_with("modulet-")).cloned().collect();
        all.iter().for_each(|object| self.show(object));
        self.watched(Watched::Pod(Box::new(Seen::ListEnds)));
        self.watched(Watched::Node(Box::new(Seen::ListEnds)));
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
        if !first {
            self.lists_record();
        }
        assert!(self.state.begin(self.now));
        self.state.tunnel(Event::Connected, self.now);
    }

    fn lists_record(&mut self) {
        self.watched(Watched::Record(Box::new(Seen::ListBegins)));
        let all: Vec<_> = self.api.objects.keys().filter(|name| name.starts_with("modulet-")).cloned().collect();
        all.iter().for_each(|object| self.show(object));
        self.watched(Watched::Record(Box::new(Seen::ListEnds)));
    }

    pub(super) fn watched(&mut self, change: Watched) {
        self.state.watched(change, self.now);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    // What bases say.

    pub(super) fn say(&mut self, base: &str, message: Message) {
        self.state.tunnel(Event::Message(BaseId::new(base), message), self.now);
    }

    pub(super) fn beats(&mut self, base: &str) {
        self.beats_at(base, Ok("192.0.2.1".to_owned()));
    }

    /// The base says another address, or what is none.
    pub(super) fn beats_at(&mut self, base: &str, address: Result<String, AddressError>) {
        let (ip, no_address) = match address {
            Ok(ip) => (Some(ip), None),
            Err(why) => (None, Some(why)),
        };
        let info = BaseInfo { name: "app".into(), version: "1".into(), cluster: None, ip, host_name: None };
        self.say(base, Message::Heartbeat(Heartbeat { info, no_address, going_away: false }));
    }

    fn registers(&mut self, base: &str) {
        self.beats(base);
        self.say(base, Message::Health(Health::default()));
        self.lists(base, &[]);
    }

    /// The base answers an install or uninstall.
    pub(super) fn done(&mut self, base: &str, command: &'static str, module: &str) {
        let answer = Answer::Done { actual: None };
        self.say(base, Message::Reply(Reply { command, module: Some(id(module)), answer }));
    }

    /// The base says which modules it has.
    pub(super) fn lists(&mut self, base: &str, modules: &[(&str, ModuleState)]) {
        let listed =
            modules.iter().map(|(module, state)| ListedModule { id: id(module), state: *state, message: None });
        self.say(base, Message::Modules(listed.collect()));
    }

    // What Kubernetes says.

    /// A Pod bound to the base; `owner` is the uid of its `ReplicaSet`.
    pub(super) fn pod(&mut self, uid: &str, base: &str, module: &str, owner: Option<&str>) {
        let ModuleId { name, version } = id(module);
        let owners = owner.map(|uid| json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true }]));
        let pod = json!({
            "metadata": {
                "name": uid, "namespace": "default", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { names::COMPONENT: "module" }, "ownerReferences": owners,
            },
            "spec": { "nodeName": format!("vnode.{base}.{ENV}"), "containers": [{
                "name": name, "image": "https://modules.example.com/biz.jar",
                "env": [{ "name": names::BIZ_VERSION, "value": version }],
            }] },
        });
        self.api.objects.insert(uid.to_owned(), pod);
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
        let object = self.api.touch(object);
        self.watched(if object["kind"] == "ConfigMap" {
            Watched::Record(Box::new(Seen::Applied(serde_json::from_value(object).unwrap())))
        } else if object["kind"] == "Node" {
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
            self.state.turn(&self.edges, self.now);
            if self.state.dirty.is_empty() && self.state.schedule.next().is_none_or(|at| at > self.now) {
                break;
            }
            assert!(round < 10, "it does not come to rest");
        }
        let mut out = Vec::new();
        while let Ok((base, command)) = self.commands.try_recv() {
            match &command {
                Command::Install(spec, _) => {
                    let recorded = self.api.is_on_record(base.as_str(), &spec.id);
                    assert!(recorded, "{base} is told to install {}, and nobody would know", spec.id);
                    out.push(format!("{base} installs {}", spec.id));
                }
                Command::Uninstall(id) => out.push(format!("{base} uninstalls {id}")),
                _ => {}
            }
            self.sent.push_back((base.to_string(), command));
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
            self.state.written(Written { key, result: Ok(Outcome::default()) }, self.now);
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

    /// A Pod is gone at once, and the watch shows it.
    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.api.objects.remove(uid) {
            self.gone(pod);
        }
    }

    fn gone(&mut self, pod: Value) {
        self.watched(Watched::Pod(Box::new(Seen::Gone(serde_json::from_value(pod).unwrap()))));
    }

    fn apply(&mut self, key: &Key, body: &Value) -> (Result<Outcome, WriteError>, Option<String>) {
        match self.api.apply(key, body) {
            Done::Changed(object, version) => (Ok(Outcome { resource_version: version }), Some(object)),
            Done::Removed(pod) => {
                self.gone(pod);
                (Ok(Outcome::default()), None)
            }
            Done::Other => (Ok(Outcome::default()), None),
            Done::NotFound => (Err(WriteError::Refused { code: 404, message: "not found".into() }), None),
        }
    }

    /// The API server does what it was asked for; the watch has not shown it yet. Returns the object it was about.
    pub(super) fn accept(&mut self, what: &str) -> Option<String> {
        let (key, body) = self.take(what);
        let (answer, object) = self.apply(&key, &body);
        self.end(key, answer);
        object
    }

    /// The API server does what it was asked for, and the watch shows it.
    pub(super) fn answer(&mut self, what: &str) {
        if let Some(object) = self.accept(what) {
            self.show(&object);
        }
    }

    /// The API server does not do it, and does not answer.
    pub(super) fn fail(&mut self, what: &str) {
        let (key, _) = self.take(what);
        self.end(key, Err(unreachable()));
    }

    /// The API server does it, but its answer is lost.
    pub(super) fn lose_answer(&mut self, what: &str) {
        let (key, body) = self.take(what);
        let _ = self.apply(&key, &body);
        self.end(key, Err(unreachable()));
    }

    fn end(&mut self, key: Key, result: Result<Outcome, WriteError>) {
        self.state.written(Written { key, result }, self.now);
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
    pub(super) fn serving(&mut self, uid: &str, base: &str, module: &str, owner: Option<&str>) {
        self.pod(uid, base, module, owner);
        self.settle();
        self.done(base, "installBiz", module);
        self.settle();
        self.lists(base, &[(module, ModuleState::Activated)]);
        let out = self.settle();
        assert!(out.contains(&format!("{uid} Running Ready")), "{out:?}");
    }
}

fn state() -> State {
    let config = Arc::new(Config::from(Args::parse_from(["modulet", "--env", ENV])));
    State::new(config, Topics::new(ENV), Arc::new(Metrics::new()))
}

/// `name:version`.
fn id(module: &str) -> ModuleId {
    let (name, version) = module.split_once(':').unwrap();
    ModuleId::new(name, version)
}

fn unreachable() -> WriteError {
    WriteError::Unreachable("no answer".into())
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
        Key::Record(name) if **name == *ordered_name(ENV) => "orders".to_owned(),
        Key::Record(_) => "ledgers".to_owned(),
        other => format!("{other:?}"),
    }
}
