//! What the broker lets modulet do.

use super::words::some;
use crate::check::{
    facts::Facts,
    finding::{Finding, Level},
};
use crate::tunnel::probe::{Probe, Refusal};

const BROKER: &str = "broker";

pub(super) fn broker(facts: &Facts) -> Vec<Finding> {
    let Some(probe) = &facts.broker else {
        if facts.heartbeats.is_some() {
            return Vec::new();
        }
        let text = "no tunnel is switched on (ENABLE_MQTT_TUNNEL, ENABLE_HTTP_TUNNEL): no base can be reached";
        return vec![Finding::new(BROKER, Level::Problem, text)];
    };
    if let Err(refusal) = &probe.connected {
        return vec![refused(probe, refusal)];
    }
    let tls = if probe.tls { "over TLS" } else { "without TLS" };
    let mut found = vec![Finding::new(BROKER, Level::Ok, format!("{}: logged in {tls}", probe.broker))];
    found.push(if probe.not_heard.is_empty() {
        Finding::new(BROKER, Level::Ok, "grants the subscriptions")
    } else {
        Finding::new(BROKER, Level::Problem, format!("refuses the subscription to {}", probe.not_heard.join(", ")))
            .advise("Grant modulet's user to read these in the broker's access list")
    });
    found.push(match &probe.not_said {
        Ok(topics) if topics.is_empty() => Finding::new(BROKER, Level::Ok, "lets commands be published"),
        Ok(topics) => {
            // The identity is one that was made up.
            let topics: Vec<_> = topics.iter().map(|topic| any_base(topic)).collect();
            Finding::new(BROKER, Level::Problem, format!("refuses to publish to {}", topics.join(", ")))
                .advise("Grant modulet's user to write these in the broker's access list")
        }
        Err(why) => Finding::new(
            BROKER,
            Level::CannotLook,
            format!("whether commands may be published only MQTT 5 tells: {why}"),
        ),
    });
    found.push(heard(facts, probe));
    found.extend(kept(probe));
    found
}

fn refused(probe: &Probe, refusal: &Refusal) -> Finding {
    let advice = match refusal {
        Refusal::File(_) => "Set MQTT_CA_PATH, MQTT_CLIENT_CRT_PATH and MQTT_CLIENT_KEY_PATH to PEM files",
        Refusal::Unreachable(_) => {
            "Compare MQTT_BROKER and MQTT_PORT with the broker's listener; look at the network between"
        }
        Refusal::Tls(_) => {
            "Compare MQTT_CA_PATH with the authority that signed the broker's certificate, its names with MQTT_BROKER, and the \
             listener's port; a broker may want a client certificate"
        }
        Refusal::Login(_) => "Compare MQTT_USERNAME and MQTT_PASSWORD with the broker's",
        Refusal::Odd(_) => "Is that port one of an MQTT broker? A TLS listener needs MQTT_CA_PATH",
    };
    Finding::new(BROKER, Level::Problem, format!("{} {refusal}", probe.broker)).advise(advice)
}

fn heard(facts: &Facts, probe: &Probe) -> Finding {
    let env = &facts.env;
    if let Some(base) = &probe.heard {
        return Finding::new(BROKER, Level::Ok, format!("base {base} of environment {env} was heard"));
    }
    if !probe.others.is_empty() {
        let text = format!("no base of environment {env} was heard, but bases of {}", some(&probe.others));
        return Finding::new(BROKER, Level::Warning, text).advise("Set ENV to the environment that the bases say");
    }
    let text = format!("no base of environment {env} was heard: there is none, or the broker keeps its messages back");
    Finding::new(BROKER, Level::Ok, text)
}

/// Commands that the broker hands to every base that connects.
fn kept(probe: &Probe) -> Option<Finding> {
    match &probe.kept {
        None => {
            let text = "whether it keeps commands (retained messages) only who may read the commands' topics sees";
            Some(Finding::new(BROKER, Level::CannotLook, text))
        }
        Some(kept) if kept.is_empty() => None,
        Some(kept) => {
            let text = format!(
                "keeps {} commands of another controller, which bases carry out each time they connect: {}",
                kept.len(),
                some(kept)
            );
            Some(
                Finding::new(BROKER, Level::Warning, text)
                    .advise("Clear each by an empty retained message: mosquitto_pub --retain --null-message --topic TOPIC (docs/migration.md)"),
            )
        }
    }
}

fn any_base(topic: &str) -> String {
    let levels = topic.split('/').enumerate().map(|(at, level)| if at == 1 { "{base}" } else { level });
    levels.collect::<Vec<_>>().join("/")
}
