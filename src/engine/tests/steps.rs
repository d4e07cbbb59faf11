//! What may happen to a cluster, one step after the other.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    cluster::{BASES, Cluster, MODULES},
    scene::Scene,
};
use crate::k8s::names;

#[derive(Clone, Debug)]
pub(super) enum Step {
    AddPod { base: usize, module: usize },
    DeletePod(usize),
    Evict(usize),
    ForceDeletePod { pod: usize, unseen: bool },
    Decide,
    Answer(usize),
    AnswerWithoutWatch(usize),
    Fail(usize),
    Refuse { write: usize, code: usize },
    LoseAnswer(usize),
    Halve(usize),
    Show(usize),
    ShowGone,
    Relist,
    DeliverCommand,
    LoseCommand,
    DeliverAnswer { answer: usize, twice: bool },
    LoseAnswerOfBase(usize),
    Restart,
    Wait(u64),
    Run(u64),
    Silence(usize),
    Speak(usize),
    LoseHeart(usize),
    Goodbye(usize),
    Move { base: usize, to: u8 },
    RestartBase { base: usize, asks: bool, keeps: bool },
    Hang(u64),
    LoseBroker,
    BrokerBack,
    Break { base: usize, version: u8 },
    Mend(usize),
    DeleteNode { base: usize, unseen: bool },
    DeleteLease(usize),
    EditNode { base: usize, how: usize },
    EditPod { pod: usize, how: usize },
}

/// Any step.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let base = || 0..BASES.len();
    let number = any::<usize>;
    let normal = prop_oneof![
        4 => (base(), 0..MODULES.len()).prop_map(|(base, module)| Step::AddPod { base, module }),
        2 => number().prop_map(Step::DeletePod),
        1 => number().prop_map(Step::Evict),
        2 => (number(), any::<bool>()).prop_map(|(pod, unseen)| Step::ForceDeletePod { pod, unseen }),
        12 => Just(Step::Decide),
        6 => number().prop_map(Step::Answer),
        8 => Just(Step::DeliverCommand),
        8 => (number(), any::<bool>()).prop_map(|(answer, twice)| Step::DeliverAnswer { answer, twice }),
        3 => number().prop_map(Step::Show),
        2 => Just(Step::ShowGone),
        3 => (1..9_000u64).prop_map(Step::Wait),
        2 => (1..500u64).prop_map(Step::Run),
    ];
    let faults = prop_oneof![
        3 => number().prop_map(Step::AnswerWithoutWatch),
        2 => number().prop_map(Step::Fail),
        2 => (number(), number()).prop_map(|(write, code)| Step::Refuse { write, code }),
        2 => number().prop_map(Step::LoseAnswer),
        2 => number().prop_map(Step::Halve),
        1 => Just(Step::LoseCommand),
        1 => number().prop_map(Step::LoseAnswerOfBase),
        1 => Just(Step::Relist),
        1 => Just(Step::Restart),
    ];
    let bases = prop_oneof![
        2 => base().prop_map(Step::Silence),
        2 => base().prop_map(Step::Speak),
        1 => base().prop_map(Step::LoseHeart),
        1 => base().prop_map(Step::Goodbye),
        1 => (base(), 1..5u8).prop_map(|(base, to)| Step::Move { base, to }),
        2 => (base(), any::<bool>(), any::<bool>()).prop_map(|(base, asks, keeps)| Step::RestartBase { base, asks, keeps }),
        1 => (1..100u64).prop_map(Step::Hang),
        1 => Just(Step::LoseBroker),
        2 => Just(Step::BrokerBack),
        1 => (base(), 1..4u8).prop_map(|(base, version)| Step::Break { base, version }),
        1 => base().prop_map(Step::Mend),
    ];
    let others = prop_oneof![
        2 => (base(), any::<bool>()).prop_map(|(base, unseen)| Step::DeleteNode { base, unseen }),
        1 => base().prop_map(Step::DeleteLease),
        2 => (base(), number()).prop_map(|(base, how)| Step::EditNode { base, how }),
        2 => (number(), number()).prop_map(|(pod, how)| Step::EditPod { pod, how }),
    ];
    prop_oneof![50 => normal, 12 => faults, 8 => bases, 4 => others]
}

const CODES: [u16; 5] = [403, 409, 422, 429, 500];

/// Other controllers, people and leftovers.
fn edit_node(node: &mut Value, how: usize) {
    let taint = |key: &str| json!({ "key": key, "effect": "NoSchedule" });
    let condition = |node: &mut Value, type_: &str, status: &str| {
        for condition in node["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == type_ {
                condition["status"] = json!(status);
            }
        }
    };
    match how % 12 {
        0 => node["metadata"]["labels"][names::BASE_NAME] = json!("wrong"),
        1 => node["metadata"]["labels"]["team"] = json!("blue"),
        2 => node["metadata"]["annotations"] = json!({ "node.alpha.kubernetes.io/ttl": "0" }),
        3 => node["spec"]["taints"] = json!([taint("maintenance")]),
        4 => node["spec"]["taints"].as_array_mut().unwrap().extend([taint("node.kubernetes.io/unreachable")]),
        5 => condition(node, "Ready", "Unknown"),
        6 => condition(node, "MemoryPressure", "Unknown"),
        7 => node["status"]["conditions"].as_array_mut().unwrap().push(json!({ "type": "Fancy", "status": "True" })),
        8 => node["status"]["capacity"]["example.com/gpu"] = json!("2"),
        9 => node["status"]["capacity"]["memory"] = json!("0"),
        10 => node["status"]["addresses"] = json!([{ "type": "ExternalDNS", "address": "x" }]),
        _ => node["spec"]["podCIDR"] = json!("10.0.0.0/24"),
    }
}

fn edit_pod(pod: &mut Value, how: usize) {
    let status = &mut pod["status"];
    match how % 6 {
        0 => status["conditions"].as_array_mut().unwrap().push(json!({ "type": "example.com/gate", "status": "True" })),
        // The node lifecycle controller.
        1 => {
            for condition in status["conditions"].as_array_mut().unwrap() {
                if condition["type"] == "Ready" {
                    condition["status"] = json!("False");
                }
            }
        }
        2 => pod["metadata"]["labels"]["team"] = json!("blue"),
        3 => pod["metadata"]["finalizers"] = json!(["example.com/f"]),
        4 => pod["metadata"]["annotations"] = json!({ names::DELETION_COST: "3" }),
        _ => status["containerStatuses"] = json!([]),
    }
}

impl Cluster {
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::AddPod { base, module } => self.add_pod(*base, *module),
            Step::DeletePod(number) => {
                if let Some(pod) = self.some_pod(*number) {
                    self.delete_pod(&pod);
                }
            }
            Step::Evict(number) => {
                if let Some(pod) = self.some_pod(*number) {
                    self.evict(&pod);
                }
            }
            Step::ForceDeletePod { pod, unseen } => {
                if let Some(pod) = self.some_pod(*pod) {
                    if *unseen { self.scene.vanish(&pod) } else { self.scene.remove(&pod) }
                }
            }
            Step::Decide => drop(self.scene.step()),
            Step::Answer(number) => self.with_open(*number, Scene::answer),
            Step::AnswerWithoutWatch(number) => self.with_open(*number, |scene, what| drop(scene.accept(what))),
            Step::Fail(number) => self.with_open(*number, Scene::fail),
            Step::Refuse { write, code } => self.with_open(*write, |scene, what| {
                // Without a right to its record modulet installs all the same.
                let of_record = matches!(what, "orders" | "ledgers");
                let code = CODES[code % CODES.len()];
                scene.refuse(what, if of_record && code == 403 { 429 } else { code });
            }),
            Step::LoseAnswer(number) => self.with_open(*number, Scene::lose_answer),
            Step::Halve(number) => self.with_open(*number, Scene::halve),
            Step::Show(number) => {
                let all: Vec<_> = self.scene.api.objects.keys().cloned().collect();
                if !all.is_empty() {
                    self.scene.show(&all[number % all.len()]);
                }
            }
            Step::ShowGone => self.scene.show_all_gone(),
            Step::Relist => self.scene.relist(),
            Step::DeliverCommand => self.deliver_command(),
            Step::LoseCommand => drop(self.scene.sent.pop_front()),
            Step::DeliverAnswer { answer, twice } => self.deliver_answer(*answer, *twice),
            Step::LoseAnswerOfBase(number) => self.lose_answer_of_base(*number),
            Step::Restart => self.restart(),
            Step::Wait(ms) => self.wait(Duration::from_millis(*ms)),
            Step::Run(seconds) => drop(self.run_for(Duration::from_secs(*seconds))),
            step => self.befalls(step),
        }
    }

    /// What happens to bases and objects.
    fn befalls(&mut self, step: &Step) {
        match *step {
            Step::Silence(base) => self.bases.get_mut(BASES[base]).unwrap().silent = true,
            Step::Speak(base) => self.bases.get_mut(BASES[base]).unwrap().silent = false,
            Step::LoseHeart(base) => self.bases.get_mut(BASES[base]).unwrap().heartless = true,
            Step::Goodbye(base) => self.goodbye(base),
            Step::Move { base, to } => self.bases.get_mut(BASES[base]).unwrap().ip = format!("192.0.2.{to}"),
            Step::RestartBase { base, asks, keeps } => self.restart_base(base, asks, keeps),
            Step::Hang(seconds) => self.hang(Duration::from_secs(seconds)),
            Step::LoseBroker => self.lose_broker(),
            Step::BrokerBack => self.broker_back(),
            Step::Break { base, version } => {
                self.bases.get_mut(BASES[base]).unwrap().jvm.broken.insert(version.to_string());
            }
            Step::Mend(base) => self.bases.get_mut(BASES[base]).unwrap().jvm.broken.clear(),
            Step::DeleteNode { base, unseen } => {
                self.scene.vanish(BASES[base]);
                if !unseen {
                    self.scene.show_all_gone();
                }
            }
            Step::DeleteLease(base) => drop(self.scene.api.leases.remove(&format!("vnode.{}.dev", BASES[base]))),
            Step::EditNode { base, how } => {
                if self.scene.api.objects.contains_key(BASES[base]) {
                    self.scene.api.edit(BASES[base], |node| edit_node(node, how));
                }
            }
            Step::EditPod { pod, how } => {
                if let Some(pod) = self.some_pod(pod) {
                    self.scene.api.edit(&pod, |pod| edit_pod(pod, how));
                }
            }
            ref other => unreachable!("{other:?}"),
        }
    }
}
