//! A peer Deployment over time.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::{domain::BaseId, planning::Packed};

const UID: &str = "deployment";

/// A Deployment of so many replicas, all of its present template, and what it runs on.
struct World {
    peers: Peers,
    schedule: Schedule,
    now: Instant,
    bases: Vec<(BaseId, Packed<Node>)>,
    pods: Vec<(PodUid, String, BaseId)>,
    serve: bool,
}

impl World {
    fn new(bases: &[(&str, Value)], pods: &[&str], replicas: i32) -> Self {
        let node = |taints: &Value| {
            let node = json!({ "spec": taints });
            Packed::new(&serde_json::from_value::<Node>(node).unwrap())
        };
        let mut world = Self {
            peers: Peers::default(),
            schedule: Schedule::default(),
            now: Instant::now(),
            bases: bases.iter().map(|(id, spec)| (BaseId::new(*id), node(spec))).collect(),
            pods: pods.iter().map(|id| (PodUid::from(*id), format!("shop/on-{id}"), BaseId::new(*id))).collect(),
            serve: true,
        };
        world.shows(replicas, replicas);
        world
    }

    /// The watch shows it with so many replicas, of which so many are of the present template.
    fn shows(&mut self, replicas: i32, updated: i32) {
        let ready = if self.serve { replicas } else { 0 };
        let object = json!({
            "metadata": { "namespace": "shop", "name": "biz1", "uid": UID, "generation": 3, "labels": { names::ENV: "dev" } },
            "spec": { "replicas": replicas, "selector": {}, "template": { "spec": { "containers": [] } } },
            "status": { "observedGeneration": 3, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready },
        });
        let seen = Seen::Applied(serde_json::from_value(object).unwrap());
        self.peers.seen(0, seen, self.now, &mut self.schedule);
    }

    /// What is written so many seconds later: kind and path of each.
    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        let nodes: Vec<_> =
            self.bases.iter().map(|(base, node)| PeerNode { base, node, not_ready_since: None }).collect();
        let (pods, is_ready) = (&self.pods, self.serve);
        let pods_of = |_: &str| {
            let deletion_cost = Some("7"); // a person's own: there are no marks to write
            let all = pods.iter().map(|(uid, name, base)| PeerPod { uid, name, base, is_ready, deletion_cost });
            all.collect()
        };
        let mut out = Vec::new();
        let facts = PeerFacts { env: "dev", nodes: &nodes, pods_of: &pods_of };
        self.peers.plan(&facts, self.now, &mut self.schedule, &mut out);
        let writes = out.into_iter().filter_map(|effect| match effect {
            Effect::Write(_, key, request) => Some((key, request)),
            _ => None,
        });
        let writes: Vec<_> = writes.collect();
        for (key, _) in &writes {
            match key {
                Key::Scale(uid) => self.peers.written(uid, Ok(Outcome::default()), self.now, &mut self.schedule),
                Key::PodMove(pod) => self.peers.moved(pod, Ok(Outcome::default()), self.now, &mut self.schedule),
                _ => {}
            }
        }
        writes.iter().map(|(_, request)| request.target()).map(|(how, path, _)| format!("{how} {path}")).collect()
    }
}

fn open() -> Value {
    json!({})
}

fn cordoned() -> Value {
    json!({ "unschedulable": true })
}

/// As the node controller leaves it for a moment.
fn new() -> Value {
    json!({ "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] })
}

const SCALE: &str = "PATCH /apis/apps/v1/namespaces/shop/deployments/biz1/scale";
const MOVE: &str = "DELETE /api/v1/namespaces/shop/pods/on-two";
const NOTHING: [&str; 0] = [];

#[test]
fn it_grows_when_the_scheduler_is_let_to_the_new_node() {
    let mut world = World::new(&[("one", open()), ("two", new())], &["one"], 1);
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(600), NOTHING);
    world.bases[1].1 = Packed::new(&Node::default());
    assert_eq!(world.after(0), [SCALE]);
}

#[test]
fn a_node_whose_taint_is_about_to_go_takes_no_replica_away() {
    let mut world = World::new(&[("one", open()), ("two", new())], &["one", "two"], 2);
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(60), NOTHING);
    let mut surplus = World::new(&[("one", open()), ("two", new())], &["one", "two"], 3);
    assert_eq!(surplus.after(0), [SCALE]);
}

#[test]
fn a_pod_whose_base_ceased_to_count_as_another_began_is_moved() {
    let bases = [("one", open()), ("two", cordoned()), ("three", open())];
    let mut world = World::new(&bases, &["one", "two"], 2);
    assert_eq!(world.after(0), NOTHING, "Kubernetes may do it");
    assert!(world.schedule.has(&Task::Peers));
    assert_eq!(world.after(5), [MOVE]);
    world.pods[1].2 = BaseId::new("three");
    assert_eq!(world.after(60), NOTHING);
}

#[test]
fn of_pods_that_serve_a_quarter_is_moved_and_the_next_when_all_serve_again() {
    let names: Vec<_> = (0..16).map(|number| number.to_string()).collect();
    let bases: Vec<_> = names.iter().map(|id| (id.as_str(), if id.len() == 1 { cordoned() } else { open() })).collect();
    let more = ["a", "b", "c", "d"].map(|id| (id, open()));
    let all: Vec<_> = bases.into_iter().chain(more).collect();
    let pods: Vec<_> = names.iter().take(10).map(String::as_str).collect();
    let mut world = World::new(&all, &pods, 10);
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(5).len(), 3);
    world.serve = false;
    world.shows(10, 10);
    world.serve = true;
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(600), NOTHING, "the new ones do not serve yet");
    world.shows(10, 10);
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(5).len(), 3);

    let mut silent = World::new(&all, &pods, 10);
    silent.serve = false;
    silent.shows(10, 10);
    assert_eq!(silent.after(0), NOTHING);
    assert_eq!(silent.after(5).len(), 10, "nobody misses them");
}

#[test]
fn what_the_scheduler_puts_there_again_is_moved_ever_more_seldom() {
    let bases = [("one", open()), ("two", cordoned()), ("three", open())];
    let mut world = World::new(&bases, &["one", "two"], 2);
    let moves: Vec<_> = (0..1_200).filter(|_| !world.after(1).is_empty()).collect();
    assert!((5..15).contains(&moves.len()), "{moves:?}");
}

#[test]
fn no_pod_is_moved_while_an_update_is_under_way_or_there_is_nowhere_to() {
    let bases = [("one", open()), ("two", cordoned()), ("three", open())];
    let mut world = World::new(&bases, &["one", "two"], 2);
    world.shows(2, 1);
    assert_eq!(world.after(0), NOTHING);
    assert_eq!(world.after(600), NOTHING, "the old Pods serve until the new ones do");

    let mut closed = World::new(&[("one", open()), ("two", cordoned()), ("three", new())], &["one", "two"], 2);
    assert_eq!(closed.after(0), NOTHING);
    assert_eq!(closed.after(600), NOTHING);
}
