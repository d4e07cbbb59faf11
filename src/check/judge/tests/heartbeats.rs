//! What is said of bases over HTTP.

use std::io;

use super::{exit, finds, found, well};
use crate::{
    check::{
        facts::{Facts, Heartbeats},
        finding::Level,
    },
    tls::TlsError,
    tunnel::{
        AddressRanges,
        http::{HttpConfig, HttpError, Tls},
    },
};

const SECTION: &str = "bases over HTTP";

fn tunnel() -> HttpConfig {
    let ranges = AddressRanges::new(vec!["10.0.0.0/8".parse().unwrap()]);
    HttpConfig { port: 7777, ranges, secret: None, tls: None }
}

fn with(tunnel: HttpConfig, opened: Result<(), HttpError>) -> Facts {
    Facts { heartbeats: Some(Heartbeats { tunnel, opened }), ..well() }
}

#[test]
fn a_tunnel_over_http_alone_is_enough() {
    assert!(found(&well(), SECTION).is_empty());
    let facts = Facts { broker: None, ..with(tunnel(), Ok(())) };
    finds(&facts, SECTION, Level::Ok, &["port 7777 can be opened"]);
    finds(&facts, SECTION, Level::Ok, &["ranges of MODULET_BASE_ADDRESSES may beat", "without TLS"]);
    assert_eq!(exit(&facts), (0, 0), "{:?}", found(&facts, "broker"));
}

#[test]
fn who_may_beat_is_said_and_a_port_for_everybody_is_warned_of() {
    let facts = with(HttpConfig { ranges: AddressRanges::default(), ..tunnel() }, Ok(()));
    finds(&facts, SECTION, Level::Warning, &["whoever reaches port 7777", "docs/http.md"]);
    assert_eq!(exit(&facts), (0, 1));
    let tls = Tls { certificate: "/crt".into(), key: "/key".into(), clients: Some("/ca".into()) };
    let all = HttpConfig { secret: Some("/secret".into()), tls: Some(tls), ..tunnel() };
    finds(
        &with(all, Ok(())),
        SECTION,
        Level::Ok,
        &["ranges", "and carries the secret and has a certificate", "over TLS"],
    );
}

#[test]
fn what_keeps_bases_from_being_heard_is_named() {
    let file = TlsError::NoSecret { path: "/secret".into(), why: "it is empty" };
    let port = |source| HttpError::Port { port: 7777, source };
    let denied = port(io::Error::other("permission denied"));
    for (closed, level, words, code) in [
        (HttpError::File(file), Level::Problem, ["/secret", "HTTP_TUNNEL_SECRET_FILE"], 1),
        (denied, Level::Problem, ["permission denied", "HTTP_TUNNEL_LISTEN_PORT"], 1),
        (port(io::ErrorKind::AddrInUse.into()), Level::CannotLook, ["in use", "modulet that runs here"], 0),
    ] {
        let facts = with(tunnel(), Err(closed));
        finds(&facts, SECTION, level, &words);
        assert_eq!(exit(&facts).0, code);
    }
}
