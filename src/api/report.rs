//! A failure, and what is said of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{hooks::Form, note::shown_trace};
use crate::domain::{Reason, printable, without_credentials};

/// Characters of a message.
const MESSAGE_MAX: usize = 1_000;

/// A failure.
#[derive(Clone, Debug)]
pub struct Report {
    /// The base's Node.
    pub node: String,
    /// The Pod: `namespace/name`.
    pub pod: String,
    /// The module; empty where the whole Pod has failed.
    pub module: String,
    /// In one word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The work that the Pod belongs to.
    pub trace: Option<Arc<str>>,
}

impl Report {
    /// The fields of the Go controller, with its words for what failed.
    fn json(&self, env: &str) -> Value {
        let stops = self.reason == Reason::UninstallFailed.as_str();
        let (event, code) = if stops { ("ContainerShutdown", "01003") } else { ("ContainerStart", "01002") };
        let (namespace, pod) = self.pod.split_once('/').unwrap_or(("", &self.pod));
        let message = without_credentials(&self.message);
        json!({
            "traceID": self.trace.as_deref().map(shown_trace).unwrap_or_default(),
            "scene": "vpod_deploy",
            "event": event,
            "result": "fail",
            "message": format!("{}: {}", self.reason, printable(&message, MESSAGE_MAX)),
            "code": code,
            "labels": {
                "env": env, "node": self.node, "namespace": namespace, "pod": pod,
                "module": printable(&self.module, MESSAGE_MAX), "reason": self.reason,
            },
        })
    }

    /// What is posted to a hook of this form.
    pub(super) fn body(&self, env: &str, form: Form) -> Value {
        let json = self.json(env);
        if form == Form::Json {
            return json;
        }
        // As the Go controller words it: robots let messages in by a word in them.
        let labels = json["labels"].as_object().into_iter().flatten();
        let labels: Vec<_> = labels.map(|(name, value)| format!("{name}: {}\n", plain(value))).collect();
        let labels = labels.concat();
        let field = |name: &str| plain(&json[name]);
        let text = format!(
            "## MC告警\n\n- **Trace ID**: {}\n- **工单类型**: {}\n- **节点**: {}\n- **结果**: {}\n- **失败信息**: {}\n\
             - **错误代码**: {}\n- **部署信息**: [{labels}]",
            field("traceID"),
            field("scene"),
            field("event"),
            field("result"),
            field("message"),
            field("code"),
        );
        json!({ "msgtype": "markdown", "markdown": { "title": "Log Notification", "text": text } })
    }
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
