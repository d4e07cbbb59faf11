//! `DaemonSet`s whose Pods would come to bases, said once at the start: nothing runs there for them, and that is better
//! known than found.

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Node};
use tracing::warn;

use crate::{
    api::Seen,
    k8s::{Intruder, intruder},
};

/// Lines at a start.
const LINES: usize = 20;

/// Those of the first list.
#[derive(Debug)]
pub(super) struct Intruders {
    /// A base's Node; none where it has all been said.
    base: Option<Node>,
    found: Vec<Intruder>,
    more: usize,
}

impl Intruders {
    pub(super) fn new(base: Option<Node>) -> Self {
        Self { base, found: Vec::new(), more: 0 }
    }

    /// A fact from the watch.
    pub(super) fn seen(&mut self, seen: &Seen<DaemonSet>) {
        let Some(base) = &self.base else { return };
        match seen {
            Seen::ListBegins => (self.found, self.more) = (Vec::new(), 0),
            Seen::Applied(set) => {
                if let Some(found) = intruder(set, base) {
                    if self.found.len() < LINES {
                        self.found.push(found);
                    } else {
                        self.more = self.more.saturating_add(1);
                    }
                }
            }
            Seen::Gone(_) => {}
            Seen::ListEnds => {
                self.base = None;
                self.say();
            }
        }
    }

    fn say(&mut self) {
        for found in std::mem::take(&mut self.found) {
            let set = format!("{}/{}", found.namespace, found.name);
            let fix = found.command();
            warn!(daemon_set = set, fix, "this DaemonSet puts Pods on bases, where nothing but modules runs");
        }
        if self.more > 0 {
            warn!(more = self.more, "more DaemonSets put Pods on bases: modulet check names them all");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::typical_base;

    fn agent(name: &str) -> Seen<DaemonSet> {
        let spec = json!({ "containers": [], "tolerations": [{ "operator": "Exists" }] });
        let set = json!({ "metadata": { "name": name }, "spec": { "selector": {}, "template": { "spec": spec } } });
        Seen::Applied(serde_json::from_value(set).unwrap())
    }

    #[test]
    fn the_first_list_is_looked_at_once_and_within_bounds() {
        let mut intruders = Intruders::new(typical_base("dev", 10, false, false));
        // A list that was cut off begins anew.
        for _ in 0..2 {
            intruders.seen(&Seen::ListBegins);
            for number in 0..25 {
                intruders.seen(&agent(&number.to_string()));
            }
            assert_eq!((intruders.found.len(), intruders.more), (LINES, 5));
        }
        intruders.seen(&Seen::ListEnds);
        assert_eq!(intruders.found, []);
        for late in [Seen::ListBegins, agent("late")] {
            intruders.seen(&late);
        }
        assert_eq!(intruders.found, [], "all later ones are somebody's own doing");
    }
}
