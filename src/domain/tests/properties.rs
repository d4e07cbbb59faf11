//! Whatever happens in whatever order, the system comes to what is wanted and stays there.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{
    jvm::Mode,
    world::{World, change_jar},
};
use crate::domain::{Command, ModuleState};

#[derive(Clone, Debug)]
enum Step {
    AddPod { workload: u8, version: u8, jar: Jar },
    ChangeJar(usize),
    DeletePod(usize),
    ForceDeletePod(usize),
    Decide,
    Record,
    Save,
    DeliverCommand,
    LoseCommand,
    DeliverAnswer { twice: bool },
    LoseAnswer,
    SwapAnswers,
    WriteStatus,
    RestartController,
    RestartBase { asks: bool },
    LoseConnection,
    Wait(u16),
    Break(u8),
    Mend,
    Undo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 1..4u8, jar()).prop_map(|(workload, version, jar)| Step::AddPod { workload, version, jar }),
        1 => any::<usize>().prop_map(Step::ChangeJar),
        2 => any::<usize>().prop_map(Step::DeletePod),
        1 => any::<usize>().prop_map(Step::ForceDeletePod),
        12 => Just(Step::Decide),
        6 => Just(Step::Record),
        2 => Just(Step::Save),
        8 => Just(Step::DeliverCommand),
        1 => Just(Step::LoseCommand),
        8 => any::<bool>().prop_map(|twice| Step::DeliverAnswer { twice }),
        1 => Just(Step::LoseAnswer),
        1 => Just(Step::SwapAnswers),
        6 => Just(Step::WriteStatus),
        1 => Just(Step::RestartController),
        1 => any::<bool>().prop_map(|asks| Step::RestartBase { asks }),
        1 => Just(Step::LoseConnection),
        3 => (1..40_000u16).prop_map(Step::Wait),
        1 => (1..4u8).prop_map(Step::Break),
        1 => Just(Step::Mend),
        1 => Just(Step::Undo),
    ]
}

/// What a Pod asks for besides the version.
#[derive(Clone, Copy, Debug)]
struct Jar {
    another: bool,
    replaces: bool,
}

fn jar() -> impl Strategy<Value = Jar> {
    (prop::bool::weighted(0.2), any::<bool>()).prop_map(|(another, replaces)| Jar { another, replaces })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Default), Just(Mode::ActivateNew), Just(Mode::MultiActive)]
}

/// Workload 0 is one Deployment: its version is its revision. The others have one revision.
fn add(w: &mut World, workload: u8, version: u8, jar: Jar) {
    let revision = if workload == 0 { i64::from(version) } else { 1 };
    let uid = w.pod(&format!("w{workload}"), revision, &[("biz1", &version.to_string())]);
    w.change(&uid, |pod| {
        pod.replaces = jar.replaces;
        if jar.another {
            change_jar(pod);
        }
    });
}

fn take(w: &mut World, step: &Step) {
    match step {
        Step::AddPod { workload, version, jar } if w.pods.len() < 6 => add(w, *workload, *version, *jar),
        Step::ChangeJar(n) if !w.pods.is_empty() => {
            let n = n % w.pods.len();
            change_jar(&mut w.pods[n]);
        }
        Step::DeletePod(n) if !w.pods.is_empty() => {
            let uid = w.pods[n % w.pods.len()].uid.clone();
            w.delete(&uid);
        }
        Step::ForceDeletePod(n) if !w.pods.is_empty() => {
            let n = n % w.pods.len();
            w.pods.remove(n);
        }
        Step::AddPod { .. } | Step::ChangeJar(_) | Step::DeletePod(_) | Step::ForceDeletePod(_) => {}
        Step::Decide => {
            w.decide();
            // Who took over from whom is saved at once.
            if w.base.ledger.is_contended() {
                w.save();
            }
        }
        Step::Record => w.record(),
        Step::Save => w.save(),
        Step::DeliverCommand => w.deliver_command(),
        Step::LoseCommand => drop(w.to_base.pop_front()),
        Step::DeliverAnswer { twice } => w.deliver_answer(*twice),
        Step::LoseAnswer => drop(w.from_base.pop_front()),
        Step::SwapAnswers => {
            if w.from_base.len() > 1 {
                w.from_base.swap(0, 1);
            }
        }
        Step::WriteStatus => w.write_status(),
        Step::RestartController => w.restart_controller(),
        Step::RestartBase { asks } => w.restart_base(*asks),
        Step::LoseConnection => {
            w.base.connection_lost(w.now);
            w.to_base.clear();
            w.from_base.clear();
            w.now += Duration::from_secs(5);
            w.base.connection_back(w.now);
        }
        Step::Wait(ms) => w.now += Duration::from_millis(u64::from(*ms)),
        Step::Break(version) => drop(w.jvm.broken.insert(version.to_string())),
        Step::Mend => w.jvm.broken.clear(),
        Step::Undo => {
            let newest = w.pods.iter().filter(|p| &*p.workload.uid == "w0").map(|p| p.workload.revision).max();
            let oldest = w.pods.iter().filter(|p| &*p.workload.uid == "w0").map(|p| p.workload.revision).min();
            if let (Some(newest), Some(oldest)) = (newest, oldest) {
                w.set_revision("w0", oldest, newest + 1);
            }
        }
    }
}

proptest! {
    #[test]
    fn converges_and_stays_whatever_happened(
        mode in mode(), web: bool, replaces: bool, steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut w = World::new(mode);
        w.jvm.web = web;
        w.replaces = replaces;
        for step in &steps {
            take(&mut w, step);
        }
        // The last fault is over.
        w.jvm.broken.clear();
        let created = w.created;
        w.run_for(Duration::from_secs(800));
        let replacements = w.created - created;
        prop_assert!(replacements <= 12, "{replacements} replacements after the last fault");

        // Nothing is left to do.
        let (sent, created) = (w.sent.len(), w.created);
        w.run_for(Duration::from_secs(400));
        prop_assert_eq!(&w.sent[sent..], &[] as &[Command], "commands in a settled system");
        prop_assert_eq!(w.created, created);

        // What Kubernetes is told is what the base runs.
        let live: Vec<_> = w.pods.iter().filter(|p| p.is_live()).collect();
        prop_assert!(w.pods.iter().all(|p| p.deleting.is_none()), "every deletion completes");
        for pod in &live {
            let spec = pod.modules().next().unwrap();
            // After a death orders may be late, and what they were made from is not known: then the record is believed.
            let died = steps.iter().any(|step| matches!(step, Step::RestartController));
            let recorded = w.base.ledger.origin(&spec.id).is_none_or(|origin| origin == spec.origin);
            let same = if died { recorded } else { w.jvm.urls.get(&spec.id) == Some(&spec.url) };
            let active = same && w.jvm.list.get(&spec.id) == Some(&ModuleState::Activated);
            let says = w.says(&pod.uid);
            prop_assert_eq!(w.is_ready(&pod.uid), active, "{} {}", pod.name, says);
            let waits = match says {
                "Held" | "VersionInUse" => true,
                "WebContextInUse" | "InstallFailed" => web,
                _ => false,
            };
            prop_assert!(active || waits, "{} {} {:?} {:?} {:?} {:?}", pod.name, says, w.message(&pod.uid), w.jvm.list, w.base.replacements, live.iter().map(|p| (&p.uid, p.replaces, w.says(&p.uid), w.message(&p.uid))).collect::<Vec<_>>());
        }
        // If anything is wanted, something serves, and nothing else is on the base.
        let wanted: BTreeSet<_> = live.iter().flat_map(|p| p.modules()).map(|m| m.id.clone()).collect();
        let serving: BTreeSet<_> =
            w.jvm.list.iter().filter(|(_, s)| **s == ModuleState::Activated).map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(wanted.is_empty(), serving.is_empty(), "wanted {:?}, serving {:?}", wanted, serving);
        prop_assert!(serving.is_subset(&wanted), "wanted {:?}, serving {:?}", wanted, serving);
        prop_assert_eq!(w.jvm.list.len(), serving.len(), "left behind: {:?}", w.jvm.list);
    }
}
