//! A JVM gives back what modules left behind when it collects, and that may be at its limit: who has been seen to do so is
//! not kept waiting for it.

use super::{
    super::{jvm::Mode, world::World},
    MIB, MINUTE, limited,
};
use crate::domain::PodUid;

/// The next version comes, and the one before goes.
fn update(w: &mut World, version: i64, before: &PodUid) -> PodUid {
    let next = w.pod("a", version, &[("biz1", &version.to_string())]);
    w.run_for(MINUTE);
    if w.is_ready(&next) {
        w.delete(before);
        w.run_for(MINUTE);
    }
    next
}

/// Updates until one waits: how many, and the one that waits.
fn updates(w: &mut World, from: i64, most: i64) -> (i64, PodUid) {
    let mut pod = w.pod("a", from, &[("biz1", &from.to_string())]);
    w.run_for(MINUTE);
    for version in from + 1..=from + most {
        pod = update(w, version, &pod);
        if !w.is_ready(&pod) {
            return (version - from, pod);
        }
    }
    (most, pod)
}

#[test]
fn a_jvm_that_was_seen_to_collect_is_trusted_to_do_it_again() {
    let mut w = limited(Mode::ActivateNew, 100);
    w.jvm.collects_to = Some(100 * MIB);
    let (count, waits) = updates(&mut w, 1, 20);
    assert_eq!((count, w.says(&waits)), (4, "InsufficientMetaspace"));
    w.jvm.collect();
    w.run_for(MINUTE);
    assert!(w.is_ready(&waits));
    w.delete(&waits);
    w.run_for(MINUTE);
    let (count, last) = updates(&mut w, 10, 30);
    assert_eq!((count, w.says(&last)), (30, "Active"));
}

#[test]
fn a_jvm_that_gives_little_back_is_not() {
    let mut w = limited(Mode::ActivateNew, 100);
    let (count, waits) = updates(&mut w, 1, 20);
    assert_eq!((count, w.says(&waits)), (4, "InsufficientMetaspace"));
    let used = |w: &mut World, less: u64| w.jvm.metaspace.iter_mut().for_each(|m| m.used -= less * MIB);
    used(&mut w, 33); // of 90 that are not loaded any more
    w.run_for(MINUTE);
    assert!(w.is_ready(&waits));
    let waits = update(&mut w, 6, &waits);
    w.run_for(10 * MINUTE);
    assert_eq!(w.says(&waits), "InsufficientMetaspace");
}
