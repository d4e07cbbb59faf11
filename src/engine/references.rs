//! Objects that environments refer to: read when a Pod comes, and again while they are missing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::world::World;
use crate::{
    api::{Read, Reader},
    domain::PodUid,
    k8s::{Reference, Referred, references},
};

/// What was read this lately is not read again for another Pod of the same rollout.
const FRESH: Duration = Duration::from_secs(5);
/// Something missing is looked for this often.
const AGAIN: Duration = Duration::from_secs(5);

/// What has been read, and what is to be.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) known: HashMap<Reference, Referred>,
    read_at: HashMap<Reference, Instant>,
    due: BTreeMap<Reference, Instant>,
}

impl References {
    /// A Pod that refers to objects has come: it is to see them as they are now.
    pub(super) fn wanted(&mut self, wanted: impl Iterator<Item = Reference>, now: Instant) {
        for reference in wanted {
            let fresh = self.read_at.get(&reference).is_some_and(|at| now < *at + FRESH);
            if !fresh {
                self.due.entry(reference).or_insert(now);
            }
        }
    }

    /// When the next read is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }
}

impl World {
    /// Sends the reads that are due.
    pub(super) fn read_references(&mut self, reader: &Reader, now: Instant) {
        let due: Vec<_> = self.references.due.iter().filter(|(_, at)| **at <= now).map(|(r, _)| r.clone()).collect();
        for reference in due {
            if !self.pods.values().any(|p| references(&p.object).contains(&reference)) {
                self.references.due.remove(&reference);
                self.references.known.remove(&reference);
                self.references.read_at.remove(&reference);
            } else if reader.read(reference.clone()) {
                // A read that is lost is made again.
                self.references.due.insert(reference, now + Duration::from_secs(30));
            } else {
                self.references.due.insert(reference, now + Duration::from_millis(100));
            }
        }
    }

    /// An object was read.
    pub(super) fn reference_read(&mut self, read: Read, now: Instant) {
        let Read { reference, referred } = read;
        self.references.read_at.insert(reference.clone(), now);
        if matches!(referred, Referred::Data(_)) {
            self.references.due.remove(&reference);
        } else {
            self.references.due.insert(reference.clone(), now + AGAIN);
        }
        if self.references.known.get(&reference) == Some(&referred) {
            return;
        }
        self.references.known.insert(reference.clone(), referred);
        let users = self.pods.iter().filter(|(_, p)| references(&p.object).contains(&reference));
        let users: Vec<PodUid> = users.map(|(uid, _)| uid.clone()).collect();
        users.iter().for_each(|uid| self.view_again(uid));
    }
}
