//! Whatever the API server and the broker lose and refuse, whatever becomes of the bases, whoever else writes, and
//! whenever the process dies: what is ordered is on record; in the end every base has the modules of its Pods and no
//! others, Pods and Nodes say so, and then nothing is written.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, is_ready},
    steps::step,
};
use crate::{
    domain::{ModuleId, ModuleState, Reason, tests::jvm::Mode},
    k8s::names,
};

impl Cluster {
    /// Time passes without faults; then everything is as it should be, and stays.
    pub(super) fn ends_well(&mut self) -> Result<(), TestCaseError> {
        self.heal();
        self.run_for(Duration::from_secs(400));
        self.introduce();
        self.run_for(Duration::from_secs(800));
        self.is_as_it_should_be()?;
        let mut written = self.run_for(Duration::from_secs(240));
        written.retain(|what| !what.ends_with("beats"));
        prop_assert_eq!(written, Vec::<String>::new(), "nothing changes, so nothing is written");
        // A process that begins finds nothing to do but to tidy its record.
        self.restart();
        let mut written = self.run_for(Duration::from_secs(400));
        written.retain(|what| !(what.ends_with("beats") || what == "orders" || what == "ledgers"));
        prop_assert_eq!(written, Vec::<String>::new(), "a restart changes nothing");
        Ok(())
    }

    fn is_as_it_should_be(&self) -> Result<(), TestCaseError> {
        for (base, here) in &self.bases {
            let live = self.live(base);
            for (module, pod) in &live {
                prop_assert!(pod["metadata"]["deletionTimestamp"].is_null(), "every deletion completes: {pod}");
                let active = here.jvm.list.get(module) == Some(&ModuleState::Activated);
                prop_assert_eq!(is_ready(pod), active, "{} on {}: {}", module, base, pod);
                let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
                // Beside a stray version nothing is switched to.
                let beside = here.strays.iter().any(|stray| stray.name == module.name);
                let foreign = beside && *waiting == Reason::ForeignModule.as_str();
                prop_assert!(active || foreign || *waiting == Reason::Held.as_str(), "{module} on {base}: {pod}");
            }
            let wanted: BTreeSet<_> = live.iter().map(|(module, _)| module).collect();
            let stray = |name: &String| here.strays.iter().any(|s| s.name == *name && here.jvm.list.contains_key(s));
            let names = |modules: &BTreeSet<&ModuleId>| {
                modules.iter().map(|m| m.name.clone()).filter(|name| !stray(name)).collect::<BTreeSet<_>>()
            };
            let left = here.jvm.list.iter().filter(|(id, _)| wanted.contains(id) || !here.strays.contains(id));
            let serving = left.clone().filter(|(_, state)| **state == ModuleState::Activated).map(|(id, _)| id);
            let serving: BTreeSet<_> = serving.collect();
            prop_assert_eq!(names(&wanted), names(&serving), "{}: wanted {:?}, serving {:?}", base, wanted, serving);
            prop_assert!(serving.is_subset(&wanted), "{base}: wanted {wanted:?}, serving {serving:?}");
            prop_assert_eq!(left.count(), serving.len(), "left behind on {}: {:?}", base, here.jvm.list);
            self.says_what_is_so(base)?;
        }
        Ok(())
    }

    /// The base's Node, its Lease and its Pods name the base as it is.
    fn says_what_is_so(&self, base: &str) -> Result<(), TestCaseError> {
        let here = &self.bases[base];
        let node = self.scene.api.objects.get(base);
        prop_assert!(node.is_some_and(is_ready), "{base} is there: {node:?}");
        let node = node.unwrap_or(&Value::Null);
        prop_assert!(self.scene.api.leases.contains_key(&format!("vnode.{base}.dev")), "{base} has a Lease");
        let status = &node["status"];
        prop_assert_eq!(&status["nodeInfo"]["containerRuntimeVersion"], &format!("java://{}", here.java()));
        prop_assert_eq!(&status["capacity"]["memory"], &here.metaspace().to_string());
        // One that beats no more tells its name and address no more.
        if !here.heartless {
            prop_assert_eq!(&node["metadata"]["labels"][names::BASE_NAME], "app");
            let address = json!({ "type": "InternalIP", "address": here.ip });
            prop_assert!(status["addresses"].as_array().is_some_and(|all| all.contains(&address)), "{status}");
            let ip = json!([{ "ip": here.ip }]);
            for (module, pod) in self.live(base) {
                let (pods, hosts) = (&pod["status"]["podIPs"], &pod["status"]["hostIPs"]);
                prop_assert!(*pods == ip && *hosts == ip, "{module}: {pods} {hosts} should be {ip}");
            }
        }
        Ok(())
    }
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Default), Just(Mode::ActivateNew), Just(Mode::MultiActive)]
}

/// A case takes a quarter of an hour of the cluster's time; more cases are asked for by `PROPTEST_CASES`.
fn cases() -> ProptestConfig {
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    if given { ProptestConfig::default() } else { ProptestConfig::with_cases(64) }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn every_base_ends_with_the_modules_of_its_pods_and_no_others_and_then_nothing_is_written(
        mode in mode(), steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut cluster = Cluster::new(mode);
        for step in &steps {
            cluster.take(step);
        }
        cluster.ends_well()?;
    }
}
