//! What is said of a broker.

use std::collections::BTreeSet;

use super::{exit, finds, found, probe, well};
use crate::{
    check::{facts::Facts, finding::Level},
    tunnel::probe::{Probe, Refusal},
};

#[test]
fn what_ends_the_way_to_the_broker_is_named() {
    for (refusal, words) in [
        (Refusal::Unreachable("Connection refused".into()), ["cannot be reached", "MQTT_PORT"]),
        (Refusal::Tls("UnknownIssuer".into()), ["TLS", "MQTT_CA_PATH"]),
        (Refusal::Login("not authorized".into()), ["refuses the login", "MQTT_PASSWORD"]),
        (Refusal::Odd("closed".into()), ["does not answer", "MQTT_CA_PATH"]),
        (Refusal::File("cannot read /ca".into()), ["/ca", "PEM"]),
    ] {
        let facts = Facts { broker: Some(Probe { connected: Err(refusal), ..probe() }), ..well() };
        finds(&facts, "broker", Level::Problem, &words);
        assert_eq!(found(&facts, "broker").len(), 1, "nothing else can be said of it");
        assert_eq!(exit(&facts).0, 1);
    }
    finds(&Facts { broker: None, ..well() }, "broker", Level::Problem, &["ENABLE_MQTT_TUNNEL"]);
}

#[test]
fn what_the_broker_does_not_grant_is_named() {
    let refusing = Probe {
        not_heard: vec!["koupleless_dev/+/base/heart".into()],
        not_said: Ok(vec!["koupleless_dev/modulet-check-1/installBiz".into()]),
        ..probe()
    };
    let facts = Facts { broker: Some(refusing), ..well() };
    finds(&facts, "broker", Level::Problem, &["subscription to koupleless_dev/+/base/heart"]);
    finds(&facts, "broker", Level::Problem, &["publish to koupleless_dev/{base}/installBiz"]);
    let old = Probe { not_said: Err("it does not speak MQTT 5".into()), kept: None, ..probe() };
    let facts = Facts { broker: Some(old), ..well() };
    finds(&facts, "broker", Level::CannotLook, &["MQTT 5"]);
    finds(&facts, "broker", Level::CannotLook, &["retained"]);
    assert_eq!(exit(&facts), (0, 0));
}

#[test]
fn a_silent_environment_and_kept_commands_are_named() {
    let facts = Facts { broker: Some(Probe { heard: None, ..probe() }), ..well() };
    finds(&facts, "broker", Level::Ok, &["no base", "dev"]);
    let others = BTreeSet::from(["default".to_owned()]);
    let facts = Facts { broker: Some(Probe { heard: None, others, ..probe() }), ..well() };
    finds(&facts, "broker", Level::Warning, &["bases of default", "ENV"]);
    let kept = (0..9).map(|n| format!("koupleless_dev/base-{n}/installBiz")).collect();
    let facts = Facts { broker: Some(Probe { kept: Some(kept), ..probe() }), ..well() };
    finds(&facts, "broker", Level::Warning, &["keeps 9 commands", "base-4/installBiz and 4 more", "--null-message"]);
}
