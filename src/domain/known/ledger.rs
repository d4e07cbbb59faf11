//! Who has claimed which module name on a base, and what this controller installed there.
//!
//! Pods come and go, also while the controller is down; what must not be forgotten with them
//! stands here and is kept on record.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::{ModuleId, Origin, Workload};

/// More workloads than this never contend for one module name on one base; the oldest are forgotten.
const MAX_CLAIMS: usize = 16;

/// The record of one base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    modules: BTreeMap<String, Entry>,
}

/// The record of one module name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::domain) struct Entry {
    /// Versions that this controller told the base to install, and what they were made from as far as that is known.
    /// Others are never uninstalled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "installed")]
    pub(in crate::domain) installed: BTreeMap<String, Option<Origin>>,
    /// Workloads whose version was active here, the latest last; one entry for each revision of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::domain) claims: Vec<Claim>,
}

/// Version 0.1 wrote no more than the versions.
fn installed<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Option<Origin>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Installed {
        Versions(Vec<String>),
        Origins(BTreeMap<String, Option<Origin>>),
    }
    Ok(match Installed::deserialize(input)? {
        Installed::Versions(versions) => versions.into_iter().map(|version| (version, None)).collect(),
        Installed::Origins(origins) => origins,
    })
}

/// A workload's version was active on the base at some time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Uid of the workload.
    #[serde(rename = "w")]
    pub workload: String,
    /// Revision of its template.
    #[serde(rename = "r", default)]
    pub revision: i64,
    /// The version.
    #[serde(rename = "v")]
    pub version: String,
    /// A later claim took the module name over.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

impl Claim {
    pub(in crate::domain) fn is_same(&self, other: &Self) -> bool {
        (&self.workload, self.revision, &self.version) == (&other.workload, other.revision, &other.version)
    }

    /// A bare replica set's template can be edited, so the version tells two claims apart too.
    pub(in crate::domain) fn is_of(&self, workload: &Workload, version: &str) -> bool {
        *self.workload == *workload.uid && self.revision == workload.revision && self.version == version
    }
}

impl Ledger {
    /// Whether this controller installed that module.
    pub fn installed(&self, id: &ModuleId) -> bool {
        self.modules.get(&id.name).is_some_and(|e| e.installed.contains_key(&id.version))
    }

    /// What that module was made from, as far as it was told to be installed and that is known.
    pub(in crate::domain) fn origin(&self, id: &ModuleId) -> Option<Origin> {
        *self.modules.get(&id.name)?.installed.get(&id.version)?
    }

    /// Records that the base has that module by us, or that a Pod adopts it.
    pub fn install(&mut self, id: &ModuleId) {
        self.entry(&id.name).installed.entry(id.version.clone()).or_default();
    }

    /// Records that the base is told to install that module, made from that. A command for the same version that was
    /// lost, as far as can be told, may still arrive before. Returns whether that is news.
    pub(in crate::domain) fn install_from(&mut self, id: &ModuleId, origin: Origin) -> bool {
        let installed = &mut self.entry(&id.name).installed;
        let before = installed.get(&id.version).copied();
        // What was adopted and is gone was ordered by nobody; what a process before this one ordered may be late, which
        // is passed over: it would cost every module that comes back after a start a second install.
        let known = before.flatten().is_none_or(|known| known == origin);
        let now = Some(if known { origin } else { Origin::UNCERTAIN });
        installed.insert(id.version.clone(), now);
        before != Some(now)
    }

    /// The base has answered that it could not install that module: no command for it is on its way any more.
    pub(in crate::domain) fn settle_origin(&mut self, id: &ModuleId, origin: Origin) {
        let installed = self.modules.get_mut(&id.name).and_then(|entry| entry.installed.get_mut(&id.version));
        installed.into_iter().filter(|known| **known == Some(origin)).for_each(|known| *known = None);
    }

    /// A process that died may have told the base to install that module after it wrote this record.
    pub fn forget_origin(&mut self, id: &ModuleId) {
        let installed = self.modules.get_mut(&id.name).and_then(|entry| entry.installed.get_mut(&id.version));
        installed.into_iter().for_each(|origin| *origin = None);
    }

    /// Whether more than one workload has a claim on some module name: which one took it over from which, neither the
    /// Pods nor the base can tell. Revisions of one workload tell their order themselves.
    pub fn is_contended(&self) -> bool {
        self.modules.values().any(|entry| {
            entry.claims.iter().zip(entry.claims.iter().skip(1)).any(|(one, next)| one.workload != next.workload)
        })
    }

    /// All modules on record as installed.
    pub fn all_installed(&self) -> impl Iterator<Item = ModuleId> {
        self.modules.iter().flat_map(|(name, e)| e.installed.keys().map(move |v| ModuleId::new(name, v)))
    }

    /// Forgets that this controller installed that module.
    pub fn forget_install(&mut self, id: &ModuleId) {
        if let Some(entry) = self.modules.get_mut(&id.name) {
            entry.installed.remove(&id.version);
        }
    }

    pub(in crate::domain) fn claims(&self, name: &str) -> &[Claim] {
        self.modules.get(name).map_or(&[], |e| &e.claims)
    }

    pub(in crate::domain) fn claim_of(&self, id: &ModuleId, workload: &Workload) -> Option<&Claim> {
        self.claims(&id.name).iter().find(|c| c.is_of(workload, &id.version))
    }

    /// The claim of a newer revision of the same workload.
    pub(in crate::domain) fn claim_of_newer(&self, name: &str, workload: &Workload) -> Option<&Claim> {
        let newer = |c: &&Claim| *c.workload == *workload.uid && c.revision > workload.revision;
        self.claims(name).iter().rfind(newer)
    }

    /// The latest claim: whoever it superseded is held until it ends.
    pub(in crate::domain) fn holder(&self, name: &str) -> Option<&Claim> {
        self.claims(name).last()
    }

    /// The workload's version is active: its claim becomes the latest, and every claim on a
    /// version that is not in `active` is superseded.
    pub(in crate::domain) fn take_over(&mut self, id: &ModuleId, workload: &Workload, active: &BTreeSet<&str>) {
        let entry = self.entry(&id.name);
        entry.claims.retain(|c| !c.is_of(workload, &id.version));
        for claim in &mut entry.claims {
            claim.superseded |= !active.contains(claim.version.as_str());
        }
        entry.claims.push(Claim {
            workload: workload.uid.to_string(),
            revision: workload.revision,
            version: id.version.clone(),
            superseded: false,
        });
        if entry.claims.len() > MAX_CLAIMS {
            entry.claims.remove(0);
        }
    }

    /// A version that was active before anything on record and is on record no more.
    pub(in crate::domain) fn recall(&mut self, id: &ModuleId, workload: &Workload) {
        // With a claim of an older revision the record is whole: the template became the current one again (an
        // undo), and a claim that it had before does not speak for what it wants now.
        let same = |c: &Claim| *c.workload == *workload.uid && c.version == id.version;
        if self.claims(&id.name).iter().any(same) || self.claim_of_newer(&id.name, workload).is_some() {
            return;
        }
        let (workload, revision, version) = (workload.uid.to_string(), workload.revision, id.version.clone());
        self.entry(&id.name).claims.insert(0, Claim { workload, revision, version, superseded: false });
    }

    /// The base made another version active and keeps this one deactivated.
    pub(in crate::domain) fn supersede(&mut self, id: &ModuleId, workload: &Workload) {
        if let Some(entry) = self.modules.get_mut(&id.name)
            && let Some(claim) = entry.claims.iter_mut().find(|c| c.is_of(workload, &id.version))
        {
            claim.superseded = true;
        }
    }

    /// Ends claims that nobody on the base stands for any more. When all that took over are
    /// gone, the latest of the superseded has its turn again.
    pub(in crate::domain) fn end_claims(&mut self, name: &str, mut lasts: impl FnMut(&Claim) -> bool) {
        let Some(entry) = self.modules.get_mut(name) else { return };
        loop {
            entry.claims.retain(|c| c.superseded || lasts(c));
            if !entry.claims.iter().all(|c| c.superseded) {
                return;
            }
            match entry.claims.last_mut() {
                Some(last) => last.superseded = false,
                None => return,
            }
        }
    }

    /// Drops superseded claims that nobody on the base stands for and that two newer revisions of the same workload have
    /// claims beside: those hold whoever comes again from the older ones. (The last but one is what an undo goes back
    /// to, and what it had before is told from what it takes by its old claim.)
    pub(in crate::domain) fn drop_what_newer_revisions_say(&mut self, name: &str, stands: impl Fn(&Claim) -> bool) {
        let Some(entry) = self.modules.get_mut(name) else { return };
        if entry.claims.len() < 3 {
            return;
        }
        let mut revisions = BTreeMap::<_, BTreeSet<_>>::new();
        for claim in &entry.claims {
            revisions.entry(claim.workload.clone()).or_default().insert(claim.revision);
        }
        let newer = |c: &Claim| revisions.get(&c.workload).map_or(0, |all| all.range(c.revision..).count());
        entry.claims.retain(|c| !c.superseded || stands(c) || newer(c) <= 2);
    }

    /// Drops records that say nothing.
    pub(in crate::domain) fn tidy(&mut self) {
        self.modules.retain(|_, e| !e.installed.is_empty() || !e.claims.is_empty());
        // What is empty and was not keeps its room.
        self.modules.values_mut().filter(|e| e.installed.is_empty()).for_each(|e| e.installed.clear());
        if self.modules.is_empty() {
            self.modules.clear();
        }
    }

    /// Module names on record.
    pub(in crate::domain) fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.modules.entry(name.to_owned()).or_default()
    }
}
