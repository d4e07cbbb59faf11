//! What the broker's log and the API server's audit log say.

use serde::Deserialize;

/// A line of mosquitto's log that tells something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BrokerLine {
    /// Somebody is in.
    Connected { client: String, user: String },
    /// Somebody said something.
    Published { client: String, topic: String, qos: u8, retained: bool },
}

impl BrokerLine {
    /// `1764278000: New client connected from 127.0.0.1:4 as ID (p2, c1, k60, u'user').`
    /// `1764278000: Received PUBLISH from ID (d0, q1, r0, m1, 'topic', ... (12 bytes))`
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (_, text) = line.split_once(": ")?;
        if let Some(rest) = text.strip_prefix("New client connected from ") {
            let (client, rest) = rest.split_once(" as ")?.1.split_once(" (")?;
            let user = rest.split_once("u'").and_then(|(_, user)| user.split('\'').next()).unwrap_or_default();
            return Some(Self::Connected { client: client.to_owned(), user: user.to_owned() });
        }
        let (client, rest) = text.strip_prefix("Received PUBLISH from ")?.split_once(" (")?;
        let mut parts = rest.split(", ");
        let (_, qos, retained) = (parts.next()?, parts.next()?, parts.next()?);
        let topic = rest.split('\'').nth(1)?;
        Some(Self::Published {
            client: client.to_owned(),
            topic: topic.to_owned(),
            qos: qos.strip_prefix('q')?.parse().ok()?,
            retained: retained != "r0",
        })
    }
}

/// What a topic says to a base, if it is a command.
pub(crate) fn command(topic: &str) -> Option<&str> {
    let mut levels = topic.split('/').skip(2);
    match (levels.next()?, levels.next()) {
        (word, None) => Some(word),
        ("base", Some("baseline")) => Some("baseline"),
        _ => None,
    }
}

/// A line of the audit log.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditLine {
    pub(crate) verb: String,
    pub(crate) user: AuditUser,
    pub(crate) object_ref: Option<AuditObject>,
    pub(crate) response_status: Option<AuditStatus>,
    pub(crate) request_received_timestamp: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuditUser {
    pub(crate) username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditObject {
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditStatus {
    pub(crate) code: u16,
}

impl AuditLine {
    /// Who wrote what, if something was written that only a leader may write.
    pub(crate) fn write(&self) -> Option<(&str, &AuditObject)> {
        let object = self.object_ref.as_ref()?;
        let done = self.response_status.as_ref().is_some_and(|status| status.code < 300);
        let leaders = match object.resource.as_str() {
            "nodes" | "pods" | "configmaps" | "deployments" => true,
            "leases" => object.namespace == "kube-node-lease",
            _ => false,
        };
        let who = self.user.username.rsplit(':').next()?;
        (done && leaders).then_some((who, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_broker_are_read() {
        let line =
            "1764278000: New client connected from 127.0.0.1:41 as a@@@b-commands-c (p2, c1, k20, u'replica-0').";
        let connected = BrokerLine::Connected { client: "a@@@b-commands-c".into(), user: "replica-0".into() };
        assert_eq!(BrokerLine::read(line), Some(connected));
        let line = "1: Received PUBLISH from a@@@b (d0, q1, r0, m7, 'koupleless_e/base-1/installBiz', ... (99 bytes))";
        let topic = "koupleless_e/base-1/installBiz".to_owned();
        let said = BrokerLine::Published { client: "a@@@b".into(), topic, qos: 1, retained: false };
        assert_eq!(BrokerLine::read(line), Some(said));
        for other in ["", "1: Sending PUBLISH to x (d0, q1, r0, m1, 't', ... (1 bytes))", "1: mosquitto version 2"] {
            assert_eq!(BrokerLine::read(other), None);
        }
    }

    #[test]
    fn commands_are_told_from_what_bases_say() {
        let commands = ["installBiz", "uninstallBiz", "queryAllBiz", "health", "base/baseline"];
        assert!(commands.iter().all(|word| command(&format!("koupleless_e/base-1/{word}")).is_some()));
        let said = ["base/heart", "base/health", "base/simpleBiz", "base/bizOperation", "base/queryBaseline"];
        assert!(said.iter().all(|word| command(&format!("koupleless_e/base-1/{word}")).is_none()));
    }

    #[test]
    fn writes_of_a_leader_are_told_from_others() -> anyhow::Result<()> {
        let line = |resource: &str, namespace: &str, code: u16| {
            serde_json::from_value::<AuditLine>(serde_json::json!({
                "verb": "patch", "user": { "username": "system:serviceaccount:default:replica-1" },
                "objectRef": { "resource": resource, "namespace": namespace, "name": "x" },
                "responseStatus": { "code": code }, "requestReceivedTimestamp": "2026-01-01T00:00:00.000000Z",
            }))
        };
        assert_eq!(line("pods", "chaos", 200)?.write().map(|(who, _)| who.to_owned()), Some("replica-1".to_owned()));
        assert!(line("leases", "kube-node-lease", 200)?.write().is_some());
        assert!(line("leases", "default", 200)?.write().is_none(), "the Lease of the election");
        assert!(line("pods", "chaos", 409)?.write().is_none());
        Ok(())
    }
}
