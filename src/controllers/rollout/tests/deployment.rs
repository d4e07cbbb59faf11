//! A Deployment's controller, its replica sets' and the scheduler, in miniature: what they do with statuses that may be
//! older than the Pods.

use fastrand::Rng;

/// A Pod as the API has it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) id: usize,
    pub(super) set: usize,
    pub(super) base: Option<usize>,
    pub(super) deleting: bool,
    pub(super) failed: bool,
    pub(super) ready: bool,
    /// What its status shows that it waits for.
    pub(super) held_back: bool,
    pub(super) broken: bool,
}

impl Pod {
    pub(super) fn is_live(&self) -> bool {
        !self.deleting && !self.failed
    }
}

/// A replica set: what is wanted, and what its status said last.
#[derive(Clone, Debug)]
pub(super) struct ReplicaSet {
    pub(super) hash: &'static str,
    pub(super) revision: i64,
    pub(super) replicas: usize,
    pub(super) available: usize,
    pub(super) actual: usize,
}

/// A Deployment and what is made for it.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) replicas: usize,
    pub(super) max_surge: usize,
    pub(super) max_unavailable: usize,
    pub(super) sets: Vec<ReplicaSet>,
    pub(super) template: &'static str,
    pub(super) pods: Vec<Pod>,
    /// As many as it had when its sets were scaled last.
    scaled_for: usize,
    made: usize,
}

impl Deployment {
    pub(super) fn new(replicas: usize, max_surge: usize, max_unavailable: usize, template: &'static str) -> Self {
        let (sets, pods) = (Vec::new(), Vec::new());
        Self { replicas, max_surge, max_unavailable, sets, template, pods, scaled_for: replicas, made: 0 }
    }

    fn current(&mut self) -> usize {
        let newest = self.sets.iter().map(|set| set.revision).max().unwrap_or(0);
        match self.sets.iter().position(|set| set.hash == self.template) {
            Some(at) => {
                if self.sets[at].revision < newest {
                    self.sets[at].revision = newest + 1; // an undo
                }
                at
            }
            None => {
                let hash = self.template;
                self.sets.push(ReplicaSet { hash, revision: newest + 1, replicas: 0, available: 0, actual: 0 });
                self.sets.len() - 1
            }
        }
    }

    /// One turn of the Deployment's controller, with the sets' statuses as they were written last.
    pub(super) fn rolls(&mut self) {
        let current = self.current();
        if self.scaled_for != self.replicas && self.sets.iter().filter(|set| set.replicas > 0).count() > 1 {
            self.scales();
            return;
        }
        self.scaled_for = self.replicas;
        let others = |sets: &[ReplicaSet]| -> Vec<usize> {
            let mut others: Vec<_> = (0..sets.len()).filter(|set| *set != current && sets[*set].replicas > 0).collect();
            others.sort_by_key(|set| sets[*set].revision);
            others
        };
        // Up: what all sets want is at most the number and the surge.
        let total: usize = self.sets.iter().map(|set| set.replicas).sum();
        let most = self.replicas + self.max_surge;
        if self.sets[current].replicas > self.replicas {
            self.sets[current].replicas = self.replicas;
        } else if self.sets[current].replicas < self.replicas && total < most {
            let missing = self.replicas - self.sets[current].replicas;
            self.sets[current].replicas += missing.min(most - total);
            return;
        }
        // Down: never below what has to be available, first what is not.
        let least = self.replicas - self.max_unavailable;
        let new_unavailable = self.sets[current].replicas.saturating_sub(self.sets[current].available);
        let mut may_go = total.saturating_sub(least).saturating_sub(new_unavailable);
        for set in others(&self.sets) {
            let unhealthy = self.sets[set].replicas.saturating_sub(self.sets[set].available).min(may_go);
            self.sets[set].replicas -= unhealthy;
            may_go -= unhealthy;
        }
        let available: usize = self.sets.iter().map(|set| set.available).sum();
        let mut may_go = available.saturating_sub(least);
        for set in others(&self.sets) {
            let down = self.sets[set].replicas.min(may_go);
            self.sets[set].replicas -= down;
            may_go -= down;
        }
    }

    /// Proportional scaling: every set gets its share of the difference.
    fn scales(&mut self) {
        let total: usize = self.sets.iter().map(|set| set.replicas).sum();
        let allowed = self.replicas + self.max_surge;
        let grows = allowed > total;
        let mut difference = allowed.abs_diff(total);
        let mut order: Vec<_> = (0..self.sets.len()).filter(|set| self.sets[*set].replicas > 0).collect();
        order.sort_by_key(|set| std::cmp::Reverse(self.sets[*set].replicas));
        for set in order {
            let share = (self.sets[set].replicas * allowed.abs_diff(total)).div_ceil(total.max(1)).min(difference);
            let had = self.sets[set].replicas;
            self.sets[set].replicas = if grows { had + share } else { had.saturating_sub(share) };
            difference -= share;
        }
        self.scaled_for = self.replicas;
    }

    /// One turn of a replica set's controller; afterwards its status is of this moment.
    pub(super) fn replicates(&mut self, set: usize, rng: &mut Rng) {
        let live: Vec<_> = self.pods.iter().filter(|pod| pod.set == set && pod.is_live()).map(|pod| pod.id).collect();
        let wanted = self.sets[set].replicas;
        for _ in live.len()..wanted {
            self.made += 1;
            self.pods.push(Pod {
                id: self.made,
                set,
                base: None,
                deleting: false,
                failed: false,
                ready: false,
                held_back: true,
                broken: false,
            });
        }
        let mut surplus: Vec<_> = self.pods.iter().filter(|pod| pod.set == set && pod.is_live()).collect();
        rng.shuffle(&mut surplus);
        // Not bound before bound, not Ready before Ready, doubled on a base before alone, younger before older.
        let doubled = |pod: &Pod| self.pods.iter().filter(|other| other.base == pod.base && other.is_live()).count();
        surplus.sort_by_key(|pod| {
            (pod.base.is_some(), pod.ready, std::cmp::Reverse(doubled(pod)), std::cmp::Reverse(pod.id))
        });
        let gone: Vec<_> = surplus.iter().take(live.len().saturating_sub(wanted)).map(|pod| pod.id).collect();
        for pod in self.pods.iter_mut().filter(|pod| gone.contains(&pod.id)) {
            pod.deleting = true;
        }
        self.pods.retain(|pod| !(pod.deleting && pod.base.is_none()));
        let of_it = self.pods.iter().filter(|pod| pod.set == set && pod.is_live());
        let (available, actual) = (of_it.clone().filter(|pod| pod.ready).count(), of_it.count());
        (self.sets[set].available, self.sets[set].actual) = (available, actual);
    }

    /// The scheduler binds one Pod: one of a version on each base.
    pub(super) fn schedules(&mut self, bases: usize, rng: &mut Rng) {
        let unbound: Vec<_> =
            self.pods.iter().filter(|pod| pod.base.is_none() && pod.is_live()).map(|p| p.id).collect();
        let Some(id) = rng.choice(&unbound).copied() else { return };
        let Some(set) = self.pods.iter().find(|pod| pod.id == id).map(|pod| pod.set) else { return };
        let taken = |base: usize| self.pods.iter().any(|pod| pod.base == Some(base) && pod.set == set && !pod.failed);
        let free: Vec<_> = (0..bases).filter(|base| !taken(*base)).collect();
        let Some(base) = rng.choice(&free).copied() else { return };
        self.pods.iter_mut().filter(|pod| pod.id == id).for_each(|pod| pod.base = Some(base));
    }
}
