//! Whether a second controller of the same environment is at work: it orders everything a second time.
//!
//! Two signs: somebody else writes the record, as another modulet does; a Node comes that modulet did not make, as
//! where the Go controller was the first to hear a base.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use tracing::warn;

use crate::{
    api::{Note, Subject},
    k8s::writer_of,
    planning::Effect,
};

/// Who goes on writing for so long after it was first seen is no predecessor on its way out.
const PERSISTS: Duration = Duration::from_secs(10);

/// Another controller.
#[derive(Debug)]
pub(super) struct Rival {
    /// This process.
    me: String,
    /// Who else wrote the record last, and since when it is seen.
    seen: Option<(String, Instant)>,
    /// What it did, once there is no doubt.
    did: Option<String>,
    reported: bool,
}

impl Rival {
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), seen: None, did: None, reported: false }
    }

    /// This process, for what it writes.
    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// The object that whoever orders modules writes has changed.
    pub(super) fn observed(&mut self, object: &ConfigMap, now: Instant) {
        let Some(writer) = writer_of(object).filter(|writer| *writer != self.me) else { return };
        match &self.seen {
            Some((known, since)) if known == writer => {
                if now.saturating_duration_since(*since) >= PERSISTS {
                    self.did.get_or_insert_with(|| format!("{writer} orders modules too"));
                }
            }
            _ => self.seen = Some((writer.to_owned(), now)),
        }
    }

    /// A Node of this environment came that modulet did not make.
    pub(super) fn made(&mut self, node: &str) {
        self.did.get_or_insert_with(|| format!("it made Node {node}"));
    }

    /// Whether another controller is at work.
    pub(super) fn is_there(&self) -> bool {
        self.did.is_some()
    }

    /// Reports it, once.
    pub(super) fn report(&mut self, env: &str, namespace: &str, name: &str, out: &mut Vec<Effect>) {
        let Some(did) = self.did.as_ref().filter(|_| !self.reported) else { return };
        let message = format!(
            "another controller of environment {env} is at work ({did}): commands may be doubled. Run one only"
        );
        warn!(did, env, "another controller of this environment is at work: commands may be doubled; run one only");
        let subject = Subject::ConfigMap(namespace.to_owned(), name.to_owned());
        out.push(Effect::Note(Note::of(subject, true, "AnotherController", message)));
        self.reported = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_goes_on_writing_is_told_once_and_a_predecessor_is_not() {
        let (start, mut rival) = (Instant::now(), Rival::new("me"));
        let mut reported = |writer: Option<&str>, seconds: u64| {
            let object = json!({ "metadata": { "name": "modulet-ordered.dev" }, "data": { "writer": writer } });
            let object = match writer {
                Some(_) => object,
                None => json!({ "metadata": { "name": "modulet-ordered.dev" } }),
            };
            rival.observed(&serde_json::from_value(object).unwrap(), start + Duration::from_secs(seconds));
            let mut out = Vec::new();
            rival.report("dev", "modulet", "modulet-ordered.dev", &mut out);
            out.len()
        };
        assert_eq!(reported(None, 0), 0, "version 0.1 did not say who it is");
        assert_eq!(reported(Some("me"), 60), 0);
        // The process before us, in its last seconds.
        assert_eq!(reported(Some("before"), 61) + reported(Some("before"), 65) + reported(Some("me"), 80), 0);
        assert_eq!(reported(Some("other"), 100), 0);
        assert_eq!(reported(Some("me"), 105), 0);
        assert_eq!(reported(Some("other"), 111), 1);
        assert_eq!(reported(Some("other"), 200), 0, "once");
    }

    #[test]
    fn who_makes_nodes_is_told_once() {
        let mut rival = Rival::new("me");
        let mut out = Vec::new();
        rival.report("dev", "modulet", "modulet-ordered.dev", &mut out);
        assert!(out.is_empty() && !rival.is_there());
        rival.made("vnode.base-1.dev");
        rival.made("vnode.base-2.dev");
        rival.report("dev", "modulet", "modulet-ordered.dev", &mut out);
        rival.report("dev", "modulet", "modulet-ordered.dev", &mut out);
        let [Effect::Note(note)] = &*out else { panic!("{out:?}") };
        assert!(note.message.contains("(it made Node vnode.base-1.dev)"), "{note:?}");
        assert!(rival.is_there());
    }
}
