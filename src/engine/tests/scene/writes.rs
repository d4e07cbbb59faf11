//! Writes that went out, and what the API server answers to them.

use serde_json::{Value, json};

use super::{super::api_server::Done, ENV, Scene};
use crate::{
    api::{Key, Outcome, Request, WriteError, Written},
    k8s::ordered_name,
};

impl Scene {
    fn take(&mut self, what: &str) -> (Key, Request) {
        let known = || self.open.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>();
        let index = self.open.iter().position(|(w, ..)| w == what);
        let index = index.unwrap_or_else(|| panic!("nothing asks for {what:?}, but {:?}", known()));
        let (_, key, request) = self.open.remove(index);
        (key, request)
    }

    /// Returns the object that has changed.
    pub(super) fn apply(&mut self, request: &Request) -> (Result<Outcome, WriteError>, Option<String>) {
        let (result, object) = match self.api.apply(request) {
            Ok(Done::Changed(object, version)) => (Ok(version), Some(object)),
            Ok(Done::Same(version)) => (Ok(version), None),
            Ok(Done::Removed(object)) => {
                self.hidden.push_back(object);
                (Ok(0), None)
            }
            Err(error) => (Err(error), None),
        };
        (result.map(|resource_version| Outcome { resource_version }), object)
    }

    /// The API server does what it was asked for; the watch has not shown it yet. Returns the object that has changed.
    pub(crate) fn accept(&mut self, what: &str) -> Option<String> {
        let (key, request) = self.take(what);
        let (answer, object) = self.apply(&request);
        if let Err(WriteError::Refused { code: code @ (400 | 413 | 422), message }) = &answer {
            panic!("{what}: {message} ({code})");
        }
        self.end(key, answer);
        object
    }

    /// The API server does what it was asked for, and the watch shows it.
    pub(crate) fn answer(&mut self, what: &str) {
        if let Some(object) = self.accept(what) {
            self.show(&object);
        }
        self.show_all_gone();
    }

    /// The API server does not do it, and does not answer.
    pub(crate) fn fail(&mut self, what: &str) {
        let (key, _) = self.take(what);
        self.end(key, Err(unreachable()));
    }

    /// The API server does not do it, and says so.
    pub(crate) fn refuse(&mut self, what: &str, code: u16) {
        let (key, _) = self.take(what);
        self.end(key, Err(WriteError::Refused { code, message: "not now".into() }));
    }

    /// The API server does it, but its answer is lost.
    pub(crate) fn lose_answer(&mut self, what: &str) {
        let (key, request) = self.take(what);
        let _ = self.apply(&request);
        self.end(key, Err(unreachable()));
    }

    /// The API server marks the Pod that it was to delete, and dies before it is gone; anything else it does not do.
    pub(crate) fn halve(&mut self, what: &str) {
        let (key, _) = self.take(what);
        if let Key::PodDelete(uid) = &key {
            self.mark(uid.as_ref());
        }
        self.end(key, Err(unreachable()));
    }

    /// The Pod is deleted but for the last step.
    pub(crate) fn mark(&mut self, pod: &str) {
        if self.api.objects.contains_key(pod) {
            self.api.edit(pod, |pod| {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
                pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            });
        }
    }

    fn end(&mut self, key: Key, result: Result<Outcome, WriteError>) {
        self.state.written(Written { key, result }, self.now);
    }
}

fn unreachable() -> WriteError {
    WriteError::Unreachable("no answer".into())
}

/// What a write is called.
pub(super) fn describe(key: &Key, request: &Request) -> String {
    let body = request.body();
    match key {
        Key::PodStatus(uid) => {
            let status = &body["status"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let ready = conditions.filter(|c| c["type"] == "Ready").any(|c| c["status"] == "True");
            let ready = if ready { " Ready" } else { "" };
            format!("{uid} {}{ready}", status["phase"].as_str().unwrap_or_default())
        }
        Key::PodDelete(uid) => format!("delete {uid}"),
        Key::Node(base) if is_beat(&body) => format!("Node {base} beats"),
        Key::Node(base) if *request.target().0 == http::Method::DELETE => format!("delete Node {base}"),
        Key::Node(base) => format!("Node {base}"),
        Key::Record(name) if **name == *ordered_name(ENV) => "orders".to_owned(),
        Key::Record(_) => "ledgers".to_owned(),
        other => format!("{other:?}"),
    }
}

/// A write of the Node's status that says that all is as it was.
fn is_beat(body: &Value) -> bool {
    let mut conditions = body["status"]["conditions"].as_array().into_iter().flatten().peekable();
    conditions.peek().is_some() && conditions.all(|condition| condition["status"].is_null())
}
