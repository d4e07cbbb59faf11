//! Whether bases can beat over HTTP, and who else can.

use crate::check::{
    facts::{Closed, Facts},
    finding::{Finding, Level},
};

const HEARTBEATS: &str = "bases over HTTP";

pub(super) fn heartbeats(facts: &Facts) -> Vec<Finding> {
    let Some(seen) = &facts.heartbeats else { return Vec::new() };
    let port = seen.port;
    let opened = match &seen.opened {
        Ok(()) => Finding::new(HEARTBEATS, Level::Ok, format!("port {port} can be opened")),
        Err(Closed::InUse) => {
            let text = format!("port {port} is in use: by the modulet that runs here, or else it will not start");
            Finding::new(HEARTBEATS, Level::CannotLook, text)
        }
        Err(Closed::Port(why)) => {
            Finding::new(HEARTBEATS, Level::Problem, format!("port {port} cannot be opened: {why}"))
                .advise("Set HTTP_TUNNEL_LISTEN_PORT to another one, above 1023")
        }
        Err(Closed::File(why)) => Finding::new(HEARTBEATS, Level::Problem, why.clone()).advise(
            "HTTP_TUNNEL_CRT_PATH, HTTP_TUNNEL_KEY_PATH and HTTP_TUNNEL_CLIENT_CA_PATH name PEM files, \
             HTTP_TUNNEL_SECRET_FILE a file with a secret of at least 16 characters in each line",
        ),
    };
    let who = [
        (seen.ranges, "is in the ranges of MODULET_BASE_ADDRESSES"),
        (seen.secret, "carries the secret"),
        (seen.certificates, "has a certificate of the authority"),
    ];
    let who: Vec<_> = who.into_iter().filter(|(is, _)| *is).map(|(_, who)| who).collect();
    let over = if seen.tls { "over TLS" } else { "without TLS" };
    let may = if who.is_empty() {
        Finding::new(HEARTBEATS, Level::Warning, format!("whoever reaches port {port} may beat, {over}"))
            .advise("Set MODULET_BASE_ADDRESSES, a secret or certificates, or have a NetworkPolicy (docs/http.md)")
    } else {
        Finding::new(HEARTBEATS, Level::Ok, format!("who {} may beat, {over}", who.join(" and ")))
    };
    vec![opened, may]
}
