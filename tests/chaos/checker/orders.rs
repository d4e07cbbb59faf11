//! What can be judged only later: when it is sure that what was seen then is all that there was.

use std::collections::{BTreeSet, VecDeque};

use super::{
    super::event::{At, Module, Order},
    Checker, FENCED_WITHIN, LATE, LATE_IF_DISTURBED, Promise,
    wishes::SLACK,
};

/// By then the observer has seen it, if it sees at all.
const SETTLED: At = At::from_secs(4);

#[derive(Debug)]
enum Matter {
    Told { base: usize, order: Order, active: BTreeSet<Module> },
    Connected { who: String },
    Sent { who: String, topic: String },
    Wrote { who: String, what: String },
}

/// What is still to be judged, oldest first but for what was told late.
#[derive(Debug, Default)]
pub(crate) struct Pending(VecDeque<(At, Matter)>);

impl Pending {
    pub(crate) fn told(&mut self, at: At, base: usize, order: Order, active: BTreeSet<Module>) {
        self.0.push_back((at, Matter::Told { base, order, active }));
    }

    pub(crate) fn connected(&mut self, at: At, who: &str) {
        self.0.push_back((at, Matter::Connected { who: who.to_owned() }));
    }

    pub(crate) fn sent(&mut self, at: At, who: &str, topic: &str) {
        self.0.push_back((at, Matter::Sent { who: who.to_owned(), topic: topic.to_owned() }));
    }

    pub(crate) fn wrote(&mut self, at: At, who: &str, what: &str) {
        self.0.push_back((at, Matter::Wrote { who: who.to_owned(), what: what.to_owned() }));
    }
}

impl Checker {
    /// Judges what can be judged by now.
    pub(crate) fn judge(&mut self, now: At) {
        if self.disturbances.of_sight(now).is_some() {
            return;
        }
        while let Some((at, matter)) = self.pending.0.pop_front_if(|(at, _)| *at + SETTLED <= now) {
            match matter {
                Matter::Told { base, order, active } => self.judge_order(at, base, &order, &active),
                Matter::Connected { who } => {
                    self.checked(Promise::OneCommander);
                    if self.leads.ago(&who, at).is_none_or(|ago| ago > LATE) {
                        let text = format!("{who} connected to command, and {:?} leads", self.leads.now());
                        self.broken(Promise::OneCommander, at, text);
                    }
                }
                Matter::Sent { who, topic } => {
                    self.checked(Promise::OneCommander);
                    let ago = self.leads.ago(&who, at);
                    self.late_command = self.late_command.max(ago.unwrap_or_default());
                    if ago.is_none_or(|ago| ago > FENCED_WITHIN) {
                        let text = format!("{who} sent {topic}, and led {ago:?} ago");
                        self.broken(Promise::OneCommander, at, text);
                    }
                }
                Matter::Wrote { who, what } => {
                    self.checked(Promise::OneWriter);
                    let ago = self.leads.ago(&who, at);
                    self.late_write = self.late_write.max(ago.unwrap_or_default());
                    let disturbed = self.disturbances.of_replicas(at).is_some();
                    let limit = if disturbed { LATE_IF_DISTURBED } else { LATE };
                    if ago.is_none_or(|ago| ago > limit) {
                        self.broken(Promise::OneWriter, at, format!("{who} wrote {what}, and led {ago:?} ago"));
                    }
                }
            }
        }
    }

    fn judge_order(&mut self, at: At, base: usize, order: &Order, active: &BTreeSet<Module>) {
        let known = self.disturbances.of_base(base, at).unwrap_or(at);
        match order {
            Order::Uninstall(module) => {
                self.checked(Promise::WantedStays);
                if !self.wishes.sure(base, &module.name, known, at).contains(&module) {
                    return;
                }
                let others = self.wishes.possible(Some(base), &module.name, known, at);
                if !others.iter().any(|other| *other != module && active.contains(*other)) {
                    let text =
                        format!("base {base} was told to uninstall {module:?}; wanted: {others:?}, active: {active:?}");
                    self.broken(Promise::WantedStays, at, text);
                }
            }
            Order::Install(module) | Order::Replace(module) => {
                self.checked(Promise::OnlyWanted);
                let known = known.saturating_sub(SLACK);
                if !self.wishes.possible(Some(base), &module.name, known, at).contains(&module) {
                    self.broken(Promise::OnlyWanted, at, format!("base {base} was told {order:?}"));
                }
            }
            Order::Baseline(modules) => {
                // A workload's, also before it has a Pod there.
                for module in modules {
                    self.checked(Promise::OnlyWanted);
                    let known = known.saturating_sub(SLACK);
                    if !self.wishes.possible(None, &module.name, known, at).contains(&module) {
                        self.broken(Promise::OnlyWanted, at, format!("base {base} got {module:?} in its baseline"));
                    }
                }
            }
        }
    }
}
