//! Whether bases can beat over HTTP, and who else can.

use std::io::ErrorKind;

use crate::{
    check::{
        facts::{Facts, Heartbeats},
        finding::{Finding, Level},
    },
    tunnel::{AddressRanges, http::HttpError},
};

const HEARTBEATS: &str = "bases over HTTP";

pub(super) fn heartbeats(facts: &Facts) -> Vec<Finding> {
    let Some(Heartbeats { tunnel, opened }) = &facts.heartbeats else { return Vec::new() };
    let port = tunnel.port;
    let opened = match opened {
        Ok(()) => Finding::new(HEARTBEATS, Level::Ok, format!("port {port} can be opened")),
        // As it should be beside a modulet that runs.
        Err(HttpError::Port { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
            let text = format!("port {port} is in use: by the modulet that runs here, or else it will not start");
            Finding::new(HEARTBEATS, Level::CannotLook, text)
        }
        Err(HttpError::Port { source, .. }) => {
            Finding::new(HEARTBEATS, Level::Problem, format!("port {port} cannot be opened: {source}"))
                .advise("Set HTTP_TUNNEL_LISTEN_PORT to another one, above 1023")
        }
        Err(HttpError::File(why)) => Finding::new(HEARTBEATS, Level::Problem, why.to_string()).advise(
            "HTTP_TUNNEL_CRT_PATH, HTTP_TUNNEL_KEY_PATH and HTTP_TUNNEL_CLIENT_CA_PATH name PEM files, \
             HTTP_TUNNEL_SECRET_FILE a file with a secret of at least 16 characters in each line",
        ),
    };
    let who = [
        (tunnel.ranges != AddressRanges::default(), "is in the ranges of MODULET_BASE_ADDRESSES"),
        (tunnel.secret.is_some(), "carries the secret"),
        (tunnel.tls.as_ref().is_some_and(|tls| tls.clients.is_some()), "has a certificate of the authority"),
    ];
    let who: Vec<_> = who.into_iter().filter(|(is, _)| *is).map(|(_, who)| who).collect();
    let over = if tunnel.tls.is_some() { "over TLS" } else { "without TLS" };
    let may = if who.is_empty() {
        Finding::new(HEARTBEATS, Level::Warning, format!("whoever reaches port {port} may beat, {over}"))
            .advise("Set MODULET_BASE_ADDRESSES, a secret or certificates, or have a NetworkPolicy (docs/http.md)")
    } else {
        Finding::new(HEARTBEATS, Level::Ok, format!("who {} may beat, {over}", who.join(" and ")))
    };
    vec![opened, may]
}
