//! What is said of bases over HTTP.

use super::{exit, finds, found, well};
use crate::check::{
    facts::{Closed, Facts, Heartbeats},
    finding::Level,
};

const SECTION: &str = "bases over HTTP";

fn open() -> Heartbeats {
    Heartbeats { port: 7777, opened: Ok(()), ranges: true, secret: false, tls: false, certificates: false }
}

fn with(heartbeats: Heartbeats) -> Facts {
    Facts { heartbeats: Some(heartbeats), ..well() }
}

#[test]
fn a_tunnel_over_http_alone_is_enough() {
    assert!(found(&well(), SECTION).is_empty());
    let facts = Facts { broker: None, ..with(open()) };
    finds(&facts, SECTION, Level::Ok, &["port 7777 can be opened"]);
    finds(&facts, SECTION, Level::Ok, &["ranges of MODULET_BASE_ADDRESSES may beat", "without TLS"]);
    assert_eq!(exit(&facts), (0, 0), "{:?}", found(&facts, "broker"));
}

#[test]
fn who_may_beat_is_said_and_a_port_for_everybody_is_warned_of() {
    let facts = with(Heartbeats { ranges: false, ..open() });
    finds(&facts, SECTION, Level::Warning, &["whoever reaches port 7777", "docs/http.md"]);
    assert_eq!(exit(&facts), (0, 1));
    let all = Heartbeats { secret: true, tls: true, certificates: true, ..open() };
    finds(&with(all), SECTION, Level::Ok, &["ranges", "and carries the secret and has a certificate", "over TLS"]);
}

#[test]
fn what_keeps_bases_from_being_heard_is_named() {
    for (closed, level, words, code) in [
        (Closed::File("cannot read /secret".into()), Level::Problem, ["/secret", "HTTP_TUNNEL_SECRET_FILE"], 1),
        (Closed::Port("permission denied".into()), Level::Problem, ["permission denied", "HTTP_TUNNEL_LISTEN_PORT"], 1),
        (Closed::InUse, Level::CannotLook, ["in use", "modulet that runs here"], 0),
    ] {
        let facts = with(Heartbeats { opened: Err(closed), ..open() });
        finds(&facts, SECTION, level, &words);
        assert_eq!(exit(&facts).0, code);
    }
}
