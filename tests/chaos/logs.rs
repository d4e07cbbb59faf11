//! What the broker's log says.

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
}
