//! The engine between edges that a test holds in its hands: what goes out is seen, and answered when the test says so.

mod bases;
mod objects;
mod writes;

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use serde_json::Value;
use tokio::sync::mpsc;

use super::api_server::{ApiServer, Kind};
use crate::{
    api::{EventSink, Key, Reader, Request, Seen, Watched, Writer, Written},
    config::{Args, Config},
    domain::{BaseId, Command, ModuleId, ModuleState, ProbeOrder},
    engine::{Commands, Edges, state::State},
    k8s::{Ordered, ordered_entry, ordered_name, record_object},
    metrics::Metrics,
    probes::Prober,
    tunnel::{Event, Sender, Topics},
};
use writes::describe;

pub(crate) const ENV: &str = "dev";
/// Writes that can wait.
pub(crate) const ROOM: usize = 16;

/// The engine, an API server with nothing but objects, and bases that say what they are told to say.
pub(crate) struct Scene {
    pub(crate) state: State,
    edges: Edges,
    pub(crate) now: Instant,
    commands: mpsc::Receiver<(BaseId, Command)>,
    /// Commands on their way to their bases.
    pub(crate) sent: VecDeque<(String, Command)>,
    /// What is to be probed.
    pub(crate) probes: mpsc::Receiver<ProbeOrder>,
    writes: Vec<mpsc::Receiver<(Key, Request)>>,
    /// Writes without an answer, and what they are called.
    pub(crate) open: Vec<(String, Key, Request)>,
    pub(crate) api: ApiServer,
    /// Objects that are gone and that no watch has shown gone.
    hidden: VecDeque<Value>,
    config: Arc<Config>,
    runs: u32,
    _kept: Box<dyn Any>,
}

impl Scene {
    /// With bases that have registered.
    pub(crate) fn of(bases: &[&str]) -> Self {
        Self::with(bases, &[])
    }

    /// With options.
    pub(crate) fn with(bases: &[&str], options: &[&str]) -> Self {
        let args = ["modulet", "--env", ENV].iter().chain(options);
        let config = Arc::new(Config::from(Args::parse_from(args)));
        let metrics = Arc::new(Metrics::new());
        let (writer, writes) = Writer::new("writes", ROOM);
        let (background, in_background) = Writer::new("background", ROOM);
        let (record, in_record) = Writer::new("record", 1);
        let (sender, commands) = Sender::new();
        let (events, events_kept) = EventSink::new(Arc::clone(&metrics));
        let (reader, reader_kept) = Reader::new();
        let (prober, probes) = Prober::new();
        let edges = Edges {
            tunnel: mpsc::channel(1).1,
            watched: mpsc::channel(1).1,
            probed: mpsc::channel(1).1,
            written: mpsc::channel(1).1,
            read: mpsc::channel(1).1,
            reader,
            commands: Commands { mqtt: Some(sender), http: None },
            prober,
            writer,
            background,
            record,
            events,
            reports: None,
        };
        let mut scene = Self {
            state: state(&config),
            config,
            edges,
            now: Instant::now(),
            commands,
            sent: VecDeque::new(),
            probes,
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
    pub(crate) fn ordered_before(&mut self, module: &str) {
        let ordered = Ordered::from([(id(module), std::collections::BTreeSet::new())]);
        let name = ordered_name(ENV);
        let object = record_object(ENV, &name, &[ordered_entry(&ordered)].into());
        self.api.put(&name, Kind::Record, object);
    }

    /// The process dies, and the next one begins. Writes that were on their way are lost.
    pub(crate) fn restart(&mut self) {
        self.open.clear();
        self.runs += 1;
        self.state = state(&self.config);
        self.begin();
    }

    /// Another process does the work from now on, and this one hears what is said to it.
    pub(crate) fn stands_by(&mut self) {
        self.open.clear();
        self.runs += 1;
        self.state = state(&self.config);
        self.lists_nodes();
        self.lists_what_else_there_is();
        self.state.tunnel(Event::Connected, self.now);
        assert!(self.state.is_warm() && !self.state.begin(self.now));
    }

    /// The other one is gone.
    pub(crate) fn takes_over(&mut self) {
        self.lists_rollouts();
        self.lists_record();
        self.lists_pods();
        assert!(self.state.begin(self.now));
    }

    /// Watches deliver what is there, the record now last and now first, and the broker is there.
    fn begin(&mut self) {
        let first = self.runs.is_multiple_of(2);
        if first {
            self.lists_record();
        }
        self.lists_pods_and_nodes();
        self.lists_what_else_there_is();
        self.lists_rollouts();
        if !first {
            self.lists_record();
        }
        assert!(self.state.begin(self.now));
        self.state.tunnel(Event::Connected, self.now);
    }

    fn lists_rollouts(&mut self) {
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Rollout(Box::new(seen)));
        }
    }

    fn lists_what_else_there_is(&mut self) {
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Deployment(0, Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Deployment(1, Box::new(seen)));
        }
        for seen in [Seen::ListBegins, Seen::ListEnds] {
            self.watched(Watched::Workload(Box::new(seen)));
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
    }

    pub(crate) fn watched(&mut self, change: Watched) {
        self.state.watched(change, self.now);
    }

    /// Events that were told so far.
    pub(crate) fn events(&self) -> usize {
        self.edges.events.depth()
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Commands to somebody else take all the room on the way to the broker.
    pub(crate) fn fill_commands(&self) {
        let commands = self.edges.commands.mqtt.as_ref().unwrap();
        while commands.send(BaseId::new("somebody-else"), Command::QueryHealth) {}
    }

    /// Another order takes all the room on the way to the prober.
    pub(crate) fn fill_probes(&self, order: &ProbeOrder) {
        while self.edges.prober.send(order.clone()) {}
    }

    /// Decides on all that there is to decide on now. Returns all that went out, but for questions and Leases: commands
    /// first, then writes.
    pub(crate) fn step(&mut self) -> Vec<String> {
        let went_out = |scene: &Self| {
            let writes: usize = scene.writes.iter().map(mpsc::Receiver::len).sum();
            (scene.commands.len(), scene.probes.len(), writes, scene.events())
        };
        let (has_work, before) = (self.state.has_work(self.now), went_out(self));
        for round in 0.. {
            self.state.turn(&self.edges, self.now);
            if self.state.dirty.is_empty() && !self.state.is_due(self.now) {
                break;
            }
            assert!(round < 10, "it does not come to rest");
        }
        assert!(has_work || went_out(self) == before, "it had something to do and did not say so");
        let mut out = Vec::new();
        while let Ok((base, command)) = self.commands.try_recv() {
            match &command {
                Command::Install(spec, _) => {
                    let recorded = self.api.is_on_record(base.as_str(), &spec.id);
                    assert!(recorded, "{base} is told to install {}, and nobody would know", spec.id);
                    out.push(format!("{base} installs {}", spec.id));
                }
                Command::Switch(spec) => out.push(format!("{base} switches to {}", spec.id)),
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

    /// Decides and answers until there is nothing left to do now. Returns all that went out.
    pub(crate) fn settle(&mut self) -> Vec<String> {
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
    pub(crate) fn serving(&mut self, uid: &str, base: &str, module: &str, owner: Option<&str>) {
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
