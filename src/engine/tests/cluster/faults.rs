//! All that can go wrong between bases, broker, this process and the API server.

use std::time::Duration;

use serde_json::json;

use super::{BASES, Cluster, TICK};
use crate::{
    domain::{BaseId, BaseInfo},
    tunnel::{Event, Message},
};

impl Cluster {
    /// The taint manager deletes a Pod of a Node that is away.
    pub(crate) fn evict(&mut self, pod: &str) {
        self.scene.api.edit(pod, |pod| {
            let evicted = json!({ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager" });
            pod["status"]["conditions"].as_array_mut().unwrap().push(evicted);
        });
        self.delete_pod(pod);
    }

    /// Whoever put finalizers on Pods takes them away: those that are deleted are gone then.
    fn finalize(&mut self) {
        for pod in self.pods() {
            let metadata = &self.scene.api.objects[&pod]["metadata"];
            if metadata["finalizers"].is_null() {
                continue;
            }
            if metadata["deletionGracePeriodSeconds"] == 0 {
                self.scene.vanish(&pod);
            } else {
                self.scene.api.edit(&pod, |pod| drop(pod["metadata"].as_object_mut().unwrap().remove("finalizers")));
            }
        }
    }

    /// This process dies and the next one begins. The broker is there for it.
    pub(crate) fn restart(&mut self) {
        self.forget_what_nothing_names();
        self.answers.clear();
        self.scene.sent.clear();
        self.connected = true;
        self.scene.restart();
        self.watch_replica_sets();
    }

    /// A known limit (docs/limits.md): where the process dies before a ledger is written, and nothing is left that names
    /// the base by then, neither Node nor Pod nor an older ledger, its modules are taken for somebody else's.
    fn forget_what_nothing_names(&mut self) {
        let objects = &self.scene.api.objects;
        let ledgers = objects.values().filter(|object| object["kind"] == "ConfigMap");
        let on_record: Vec<_> = ledgers.filter_map(|object| object["data"].as_object()).collect();
        let bound = |base: &str| {
            let node = format!("vnode.{base}.dev");
            objects.values().any(|object| object["spec"]["nodeName"] == node)
        };
        for (base, here) in &mut self.bases {
            let named =
                objects.contains_key(*base) || bound(base) || on_record.iter().any(|data| data.contains_key(*base));
            if !named {
                here.strays.extend(here.jvm.list.keys().cloned());
            }
        }
    }

    pub(crate) fn lose_broker(&mut self) {
        if std::mem::replace(&mut self.connected, false) {
            self.answers.clear();
            self.scene.sent.clear();
            self.scene.link(Event::Disconnected);
        }
    }

    pub(crate) fn broker_back(&mut self) {
        if !std::mem::replace(&mut self.connected, true) {
            self.scene.link(Event::Connected);
        }
    }

    /// The base begins anew, with the modules that it had or without them. What was on its way to it is lost.
    pub(crate) fn restart_base(&mut self, base: usize, asks: bool, keeps: bool) {
        let base = BASES[base];
        self.scene.sent.retain(|(to, _)| to != base);
        // What it had said of itself is delivered before what the new one says, or never.
        self.answers.retain(|(from, message)| from != base || !matches!(message, Message::Health(_)));
        let here = self.bases.get_mut(base).unwrap();
        if !keeps {
            here.jvm.list.clear();
        }
        here.stopped = false;
        // Another JVM with the same modules, none, whose question for them is lost is not to be told from the one before.
        if !asks || here.silent || !self.connected {
            return;
        }
        (here.life, here.started) = (here.life + 1, false);
        let info = BaseInfo { name: "app".into(), version: "1".into(), ..BaseInfo::default() };
        self.say(base, Message::QueryBaseline(Some(info)));
    }

    /// The base says that it goes away.
    pub(crate) fn goodbye(&mut self, base: usize) {
        let base = BASES[base];
        let here = self.bases.get_mut(base).unwrap();
        if self.connected && !here.silent {
            here.stopped = true;
            let ip = here.ip.clone();
            self.scene.beats_from(base, &ip, true);
        }
    }

    /// The broker hangs: the connection stays, but nothing comes or goes.
    pub(crate) fn hang(&mut self, time: Duration) {
        let end = self.scene.now + time;
        while self.scene.now < end {
            self.scene.step();
            self.scene.pass(TICK);
        }
    }

    pub(crate) fn lose_answer_of_base(&mut self, number: usize) {
        if !self.answers.is_empty() {
            self.answers.remove(number % self.answers.len());
        }
    }

    /// All faults are over: what is silent speaks, what was written is shown.
    pub(crate) fn heal(&mut self) {
        self.broker_back();
        for base in BASES {
            let here = self.bases.get_mut(base).unwrap();
            here.jvm.broken.clear();
            here.silent = false;
            if std::mem::take(&mut here.stopped) {
                let ip = here.ip.clone();
                self.scene.beats_from(base, &ip, false);
            }
        }
        self.finalize();
        self.scene.relist();
    }

    /// One of which nothing is left anywhere (no Node, no ledger, a stranger) and that beats no more is nobody's to
    /// find: it beats once.
    pub(crate) fn introduce(&mut self) {
        for (base, here) in &self.bases {
            if !self.scene.state.bases.contains_key(&BaseId::new(*base)) {
                self.scene.beats_from(base, &here.ip, false);
            }
        }
    }
}
