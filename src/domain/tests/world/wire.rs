//! The wire and the base at its end, and how time passes.

use std::time::{Duration, Instant};

use super::{super::jvm::FromBase, World};
use crate::domain::*;

impl World {
    /// Something arrives at each moment, unless there is no connection or the broker hangs.
    pub(super) fn link(&self) -> Link {
        let proven = if self.hangs { self.hangs_since } else { Some(self.now) };
        let proven = proven.filter(|_| !self.base.liveness.is_deaf());
        let (loss_is_told, offers_switch) = (self.direct, self.direct);
        Link { proven, loss_is_told, offers_switch, ..Link::default() }
    }

    /// The oldest command reaches the base.
    pub(in crate::domain::tests) fn deliver_command(&mut self) {
        if self.hangs {
            return;
        }
        let Some(command) = self.to_base.pop_front().filter(|_| !self.silent) else { return };
        if let Command::Install(spec, _) = &command {
            let same = |(_, c): &(Instant, Command)| c.installs().iter().any(|s| s.id == spec.id);
            if self.at_work.iter().any(same) {
                let (module, answer) = (Some(spec.id.clone()), Answer::Conflict);
                self.from_base.push_back(FromBase::Reply(Reply { command: "installBiz", module, answer, space: None }));
                return;
            }
            if let Some(slow) = self.slow {
                self.at_work.push((self.now + slow, command));
                return;
            }
        }
        let answer = self.jvm.handle(&command);
        self.from_base.push_back(answer);
    }

    /// What the base was at work on until now ends.
    fn end_work(&mut self) {
        let (ended, at_work): (Vec<_>, _) =
            std::mem::take(&mut self.at_work).into_iter().partition(|(end, _)| *end <= self.now);
        self.at_work = at_work;
        for (_, command) in ended {
            let answer = self.jvm.handle(&command);
            self.from_base.push_back(answer);
        }
    }

    /// The oldest answer reaches us.
    pub(in crate::domain::tests) fn deliver_answer(&mut self, twice: bool) {
        if self.hangs {
            return;
        }
        let Some(answer) = self.from_base.pop_front() else { return };
        for _ in 0..=usize::from(twice) {
            self.base.liveness.heard(self.now);
            match answer.clone() {
                FromBase::List(modules) => self.base.listed(modules, self.now),
                FromBase::Reply(reply) => {
                    let took = self.base.replied(reply);
                    took.into_iter().for_each(|took| self.needs.learn(took));
                }
                FromBase::AlsoAlive => self.hear_metaspace(),
            }
        }
    }

    /// The base says how much metaspace it uses, where that is limited.
    pub(in crate::domain::tests) fn hear_metaspace(&mut self) {
        if self.jvm.metaspace.is_some() && !self.jvm.says_no_metaspace {
            self.base.health_answered(true);
            self.base.measured(self.jvm.metaspace, self.now);
        }
    }

    /// The base dies and a fresh JVM starts.
    pub(in crate::domain::tests) fn restart_base(&mut self, asks_for_baseline: bool) {
        self.jvm.list.clear();
        self.at_work.clear();
        self.to_base.clear();
        self.from_base.clear();
        self.base.liveness.heard(self.now);
        if asks_for_baseline {
            self.base.asked_for_baseline(Vec::new(), self.now);
        }
    }

    /// Everything works at once until nothing is left to do before `later`.
    pub(in crate::domain::tests) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(
                rounds < 20_000,
                "it never comes to rest: {:?} {:?}",
                self.base.ledger,
                self.sent.iter().rev().take(6).collect::<Vec<_>>()
            );
            self.end_work();
            let plan = self.step();
            let mut moved = false;
            while !(self.hangs || self.to_base.is_empty() && self.from_base.is_empty()) {
                self.deliver_command();
                self.deliver_answer(false);
                moved = true;
            }
            while !self.unwritten.is_empty() {
                self.write_status();
            }
            moved |= self.saved != self.base.ledger;
            self.save();
            moved |= !plan.finished.is_empty() || !plan.expired.is_empty();
            if moved {
                continue;
            }
            let ends = self.at_work.iter().map(|(end, _)| *end).min();
            let next = plan.wake.into_iter().chain(ends).min().unwrap_or(end).max(self.now + Duration::from_millis(1));
            if next >= end {
                self.now = end;
                self.step();
                return;
            }
            self.now = next;
        }
    }
}
