//! News of probes: what is known of a container changes, and its Pod's Events tell why.

use std::time::Instant;

use tracing::info;

use crate::{
    domain::{ProbeFact, ProbeSays},
    engine::state::State,
};

impl State {
    /// A probe has news.
    pub(in crate::engine) fn probed(&mut self, fact: &ProbeFact, now: Instant) {
        let Some(state) = self.bases.get_mut(&fact.base) else { return };
        let Some(restarts) = state.base.probed(fact, now) else { return };
        let Some(pod) = self.pods.get(&fact.pod) else { return };
        let kind = fact.kind;
        let note = match &fact.says {
            // A kubelet's reasons and words.
            ProbeSays::Failed(why) => pod.note(true, "Unhealthy", format!("{} probe failed: {why}", kind.name())),
            ProbeSays::Warns(what) => pod.note(true, "ProbeWarning", format!("{} probe warning: {what}", kind.name())),
            ProbeSays::Fails(_) if restarts => {
                let message = format!("Container {} failed {} probe, will be restarted", fact.container, kind.word());
                pod.note(false, "Killing", message)
            }
            ProbeSays::Fails(_) | ProbeSays::Succeeds => None,
        };
        if !matches!(fact.says, ProbeSays::Failed(_)) {
            let (trace, kind) = (pod.pod.trace.as_deref(), kind.word());
            info!(base = %fact.base, pod = pod.pod.name, trace, container = fact.container, kind, says = ?fact.says, "probe");
        }
        self.fact_notes.extend(note);
        if matches!(fact.says, ProbeSays::Succeeds | ProbeSays::Fails(_)) {
            self.dirty.insert(fact.base.clone());
        }
    }
}
