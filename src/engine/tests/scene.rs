//! The engine between edges that a test holds in its hands: what goes out is seen, and answered when the test says so.

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api_server::{ApiServer, Done, Kind};
use crate::{
    api::{EventSink, Key, Lean, Outcome, Reader, Request, Seen, Watched, WriteError, Writer, Written},
    config::{Args, Config},
    domain::{Answer, BaseId, BaseInfo, Command, ListedModule, ModuleId, ModuleState, Reply},
    engine::{Edges, state::State},
    k8s::{Ordered, names, ordered_entry, ordered_name, record_object},
    metrics::Metrics,
    tunnel::{AddressError, Event, Health, Heartbeat, Message, Topics, mqtt},
};

pub(super) const ENV: &str = "dev";
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
    pub(super) open: Vec<(String, Key, Request)>,
    pub(super) api: ApiServer,
    /// Objects that are gone and that no watch has shown gone.
    hidden: VecDeque<Value>,
    config: Arc<Config>,
    runs: u32,
    _kept: Box<dyn Any>,
}

impl Scene {
    /// With bases that have registered.
    pub(super) fn of(bases: &[&str]) -> Self {
        Self::with(bases, &[])
    }

    /// With options.
    pub(super) fn with(bases: &[&str], options: &[&str]) -> Self {
        let args = ["modulet", "--env", ENV].iter().chain(options);
        let config = Arc::new(Config::from(Args::parse_from(args)));
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
            state: state(&config),
            config,
            edges,
            now: Instant::now(),
            commands,
            sent: VecDeque::new(),
            writes: vec![in_record, writes, in_background],
            open: Vec::new(),
            api: ApiServer::default(),
            hidden: VecDeque::new(),
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
        self.api.put(&name, Kind::Record, object);
    }

    /// The process dies, and the next one begins. Writes that were on their way are lost.
    pub(super) fn restart(&mut self) {
        self.open.clear();
        self.runs += 1;
        self.state = state(&self.config);
        self.begin();
    }

    /// Watches deliver what is there, the record now last and now first, and the broker is there.
    fn begin(&mut self) {
        let first = self.runs.is_multiple_of(2);
        if first {
            self.lists_record();
        }
        self.lists_pods_and_nodes();
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Deployment(0, Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Deployment(1, Box::new(seen)));
        }
        self.watched(Watched::ZonedNode(Seen::ListEnds));
        self.watched(Watched::ApiServer(Some("v1.36.1".to_owned())));
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

    /// The watches begin anew, all of them, and deliver what is there.
    pub(super) fn relist(&mut self) {
        self.lists_pods_and_nodes();
        self.lists_record();
    }

    fn lists_pods_and_nodes(&mut self) {
        self.hidden.clear();
        self.watched(Watched::Pod(Box::new(Seen::ListBegins)));
        self.watched(Watched::Node(Box::new(Seen::ListBegins)));
        let all: Vec<_> = self.api.objects.keys().filter(|name| !name.starts_with("modulet-")).cloned().collect();
        all.iter().for_each(|object| self.show(object));
        self.watched(Watched::Pod(Box::new(Seen::ListEnds)));
        self.watched(Watched::Node(Box::new(Seen::ListEnds)));
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

    pub(super) fn beats_from(&mut self, base: &str, ip: &str, going_away: bool) {
        let ip = Some(ip.to_owned());
        let info = BaseInfo { name: "app".into(), version: "1".into(), cluster: None, ip, host_name: None };
        self.say(base, Message::Heartbeat(Heartbeat { info, no_address: None, going_away }));
    }

    /// The connection to the broker proves alive, is lost or comes back.
    pub(super) fn link(&mut self, event: Event) {
        self.state.tunnel(event, self.now);
    }

    /// The base says that it goes away.
    pub(super) fn says_goodbye(&mut self, base: &str) {
        let info = BaseInfo { name: "app".into(), version: "1".into(), cluster: None, ip: None, host_name: None };
        self.say(base, Message::Heartbeat(Heartbeat { info, no_address: None, going_away: true }));
    }

    /// Events that were told so far.
    pub(super) fn events(&self) -> usize {
        self.edges.events.depth()
    }

    pub(super) fn registers(&mut self, base: &str) {
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
                "generation": 1, "labels": { names::COMPONENT: "module" }, "ownerReferences": owners,
            },
            "status": { "phase": "Pending", "qosClass": "BestEffort", "conditions": [{ "type": "PodScheduled", "status": "True" }] },
            "spec": { "nodeName": format!("vnode.{base}.{ENV}"), "containers": [{
                "name": name, "image": "https://modules.example.com/biz.jar",
                "env": [{ "name": names::BIZ_VERSION, "value": version }],
            }] },
        });
        self.api.put(uid, Kind::Pod, pod);
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
        let object = self.api.objects[object].clone();
        self.watched(match object["kind"].as_str() {
            Some("ConfigMap") => Watched::Record(Box::new(Seen::Applied(lean::<ConfigMap>(object)))),
            Some("Node") => Watched::Node(Box::new(Seen::Applied(lean::<Node>(object)))),
            _ => Watched::Pod(Box::new(Seen::Applied(lean::<Pod>(object)))),
        });
    }

    fn show_gone(&mut self, object: Value) {
        self.watched(match object["kind"].as_str() {
            Some("ConfigMap") => Watched::Record(Box::new(Seen::Gone(lean::<ConfigMap>(object)))),
            Some("Node") => Watched::Node(Box::new(Seen::Gone(lean::<Node>(object)))),
            _ => Watched::Pod(Box::new(Seen::Gone(lean::<Pod>(object)))),
        });
    }

    /// The watches show what is gone.
    pub(super) fn show_all_gone(&mut self) {
        while let Some(object) = self.hidden.pop_front() {
            self.show_gone(object);
        }
    }

    // What goes out.

    /// Commands to somebody else take all the room on the way to the broker.
    pub(super) fn fill_commands(&self) {
        let commands = self.edges.commands.as_ref().unwrap();
        while commands.send(BaseId::new("somebody-else"), Command::QueryHealth) {}
    }

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
                    leases.push((key, request));
                    continue;
                }
                let what = describe(&key, &request);
                out.push(what.clone());
                self.open.push((what, key, request));
            }
        }
        for (key, request) in leases {
            let (result, _) = self.apply(&request);
            self.state.written(Written { key, result }, self.now);
        }
        out
    }

    fn take(&mut self, what: &str) -> (Key, Request) {
        let known = || self.open.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>();
        let index = self.open.iter().position(|(w, ..)| w == what);
        let index = index.unwrap_or_else(|| panic!("nothing asks for {what:?}, but {:?}", known()));
        let (_, key, request) = self.open.remove(index);
        (key, request)
    }

    /// An object is gone at once. The watches do not show it yet.
    pub(super) fn vanish(&mut self, object: &str) {
        if let Some(object) = self.api.objects.remove(object) {
            self.hidden.push_back(object);
        }
    }

    /// A Pod is gone at once, and the watch shows it.
    pub(super) fn remove(&mut self, uid: &str) {
        self.vanish(uid);
        self.show_all_gone();
    }

    /// Returns the object that has changed.
    fn apply(&mut self, request: &Request) -> (Result<Outcome, WriteError>, Option<String>) {
        let (result, object) = match self.api.apply(request) {
            Ok(Done::Changed(object, version)) => (Ok(version), Some(object)),
            Ok(Done::Same(version)) => (Ok(version), None),
            Ok(Done::Removed(object)) => {
                self.hidden.push_back(object);
                (Ok(0), None)
            }
            Err(error) => (Err(error), None),
        };
        (result.map(|resource_version| Outcome { resource_version }), object)
    }

    /// The API server does what it was asked for; the watch has not shown it yet. Returns the object that has changed.
    pub(super) fn accept(&mut self, what: &str) -> Option<String> {
        let (key, request) = self.take(what);
        let (answer, object) = self.apply(&request);
        if let Err(WriteError::Refused { code: code @ (400 | 413 | 422), message }) = &answer {
            panic!("{what}: {message} ({code})");
        }
        self.end(key, answer);
        object
    }

    /// The API server does what it was asked for, and the watch shows it.
    pub(super) fn answer(&mut self, what: &str) {
        if let Some(object) = self.accept(what) {
            self.show(&object);
        }
        self.show_all_gone();
    }

    /// The API server does not do it, and does not answer.
    pub(super) fn fail(&mut self, what: &str) {
        let (key, _) = self.take(what);
        self.end(key, Err(unreachable()));
    }

    /// The API server does not do it, and says so.
    pub(super) fn refuse(&mut self, what: &str, code: u16) {
        let (key, _) = self.take(what);
        self.end(key, Err(WriteError::Refused { code, message: "not now".into() }));
    }

    /// The API server does it, but its answer is lost.
    pub(super) fn lose_answer(&mut self, what: &str) {
        let (key, request) = self.take(what);
        let _ = self.apply(&request);
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

fn state(config: &Arc<Config>) -> State {
    State::new(Arc::clone(config), Topics::new(ENV), Arc::new(Metrics::new()))
}

/// `name:version`.
fn id(module: &str) -> ModuleId {
    let (name, version) = module.split_once(':').unwrap();
    ModuleId::new(name, version)
}

fn unreachable() -> WriteError {
    WriteError::Unreachable("no answer".into())
}

/// As a watch reads it.
fn lean<K: crate::api::Watchable>(object: Value) -> K {
    let Lean(object) = serde_json::from_value(object).unwrap();
    object
}

fn describe(key: &Key, request: &Request) -> String {
    let body = request.body();
    match key {
        Key::PodStatus(uid) => {
            let status = &body["status"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let ready = conditions.filter(|c| c["type"] == "Ready").any(|c| c["status"] == "True");
            let ready = if ready { " Ready" } else { "" };
            format!("{uid} {}{ready}", status["phase"].as_str().unwrap_or_default())
        }
        Key::PodDelete(uid) => format!("delete {uid}"),
        Key::Node(base) if is_beat(&body) => format!("Node {base} beats"),
        Key::Node(base) if *request.target().0 == http::Method::DELETE => format!("delete Node {base}"),
        Key::Node(base) => format!("Node {base}"),
        Key::Record(name) if **name == *ordered_name(ENV) => "orders".to_owned(),
        Key::Record(_) => "ledgers".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A write of the Node's status that says that all is as it was.
fn is_beat(body: &Value) -> bool {
    let mut conditions = body["status"]["conditions"].as_array().into_iter().flatten().peekable();
    conditions.peek().is_some() && conditions.all(|condition| condition["status"].is_null())
}
