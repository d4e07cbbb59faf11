//! Whether somebody else writes the record: a second controller of the same environment orders everything a second time.

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

/// Another writer of the record.
#[derive(Debug)]
pub(super) struct Rival {
    /// This process.
    me: String,
    /// Who it was last, and since when it is seen.
    seen: Option<(String, Instant)>,
    /// It is to be reported, and was.
    persists: bool,
    reported: bool,
}

impl Rival {
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), seen: None, persists: false, reported: false }
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
                self.persists |= now.saturating_duration_since(*since) >= PERSISTS;
            }
            _ => self.seen = Some((writer.to_owned(), now)),
        }
    }

    /// Whether another controller is at work.
    pub(super) fn is_there(&self) -> bool {
        self.persists
    }

    /// Reports it, once.
    pub(super) fn report(&mut self, env: &str, namespace: &str, name: &str, out: &mut Vec<Effect>) {
        let Some((rival, _)) = self.seen.as_ref().filter(|_| self.persists && !self.reported) else { return };
        let message = format!(
            "another controller of environment {env} ({rival}) orders modules too: every command is doubled. Run one only"
        );
        warn!(rival, env, "another controller of this environment is at work: every command is doubled; run one only");
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
}
