//! What happens, at random or in turn.

use std::time::Duration;

use super::cluster::Cluster;

impl Cluster {
    /// Anything may happen next.
    pub(super) fn happens(&mut self) {
        let (bases, sets) = (self.nodes.len(), self.deployment.sets.len());
        let base = self.rng.usize(0..bases);
        match self.rng.u8(0..20) {
            0 => {
                self.deployment.rolls();
                self.looks(); // a new revision is seen before what it makes
            }
            1 | 2 if sets > 0 => {
                let set = self.rng.usize(0..sets);
                self.deployment.replicates(set, &mut self.rng);
            }
            3..=5 => self.deployment.schedules(bases, &mut self.rng),
            6 => self.looks(),
            7 | 8 => self.writes(),
            9..=11 => self.decides(base),
            12..=15 => self.delivers(base),
            16..=18 => self.shows(base),
            _ => {
                let by = Duration::from_millis(self.rng.u64(1..2_000));
                self.later(by);
            }
        }
    }

    /// Everything has its turn, again and again.
    pub(super) fn runs(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.deployment.rolls();
            for set in 0..self.deployment.sets.len() {
                self.deployment.replicates(set, &mut self.rng);
            }
            for _ in 0..2 * self.nodes.len() {
                self.deployment.schedules(self.nodes.len(), &mut self.rng);
            }
            self.looks();
            self.writes();
            while !self.writes.is_empty() {
                self.writes();
            }
            for base in 0..self.nodes.len() {
                self.decides(base);
                for _ in 0..4 {
                    self.delivers(base);
                    self.shows(base);
                }
                while !self.nodes[base].unwritten.is_empty() {
                    self.shows(base);
                }
            }
            self.later(Duration::from_secs(1));
        }
    }
}
