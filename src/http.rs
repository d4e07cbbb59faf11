//! Health, readiness and metrics over HTTP, and what is known of bases (see [`debug`]).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;

use crate::{debug, metrics::Metrics, picture::Pictures};

/// The engine turns every 2 s at least. After so long without a turn it hangs, and the process is not alive.
const PULSE_WITHIN: Duration = Duration::from_secs(30);

/// When something that goes on for ever last did so.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds since then.
    beat: AtomicU64,
}

impl Pulse {
    /// It goes on now.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.begun).as_millis();
        self.beat.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long it has not.
    pub fn silence(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        now.saturating_duration_since(self.begun).saturating_sub(beat)
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begun: Instant::now(), beat: AtomicU64::new(0) }
    }
}

/// What `/readyz` and `/healthz` ask.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The engine's loop.
    pub pulse: Pulse,
    /// All watches have delivered their first list, or all that a standby has.
    pub watches: AtomicBool,
    /// It leads; if not, it is there to take over.
    pub leads: AtomicBool,
    /// The broker is connected.
    pub broker: AtomicBool,
    /// There is no tunnel to any base, and none will come.
    pub no_tunnel: bool,
}

impl Readiness {
    fn missing(&self) -> Vec<&'static str> {
        let tunnel = if self.no_tunnel {
            "a tunnel to the bases, and none is switched on (ENABLE_MQTT_TUNNEL=false)"
        } else {
            "MQTT broker"
        };
        let parts = [(&self.watches, "API server watches"), (&self.broker, tunnel)];
        parts.iter().filter(|(is, _)| !is.load(Ordering::Relaxed)).map(|(_, name)| *name).collect()
    }
}

/// Opens the listener; a port in use is told at the start.
///
/// # Errors
/// The address can't be listened on.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for health and metrics"))
}

/// Serves for ever.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    pictures: Arc<Pictures>,
) -> std::io::Result<()> {
    let router = Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).with_state(readiness).route(
        "/metrics",
        get(async move || {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(axum::http::header::CONTENT_TYPE, content_type)], metrics.render())
        }),
    );
    let router = router.merge(debug::routes(pictures));
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn alive(State(readiness): State<Arc<Readiness>>) -> (StatusCode, String) {
    let silence = readiness.pulse.silence(Instant::now());
    if silence <= PULSE_WITHIN {
        (StatusCode::OK, "ok".to_owned())
    } else {
        let text = format!("the engine hangs: its last turn was {} s ago", silence.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        let text = if readiness.leads.load(Ordering::Relaxed) { "ok" } else { "ok, standby" };
        (StatusCode::OK, text.to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use modulet_testkit::http::get;

    use super::*;

    fn pictures() -> Arc<Pictures> {
        let pictures = Arc::new(Pictures::default());
        pictures.taken(true);
        pictures
    }

    #[tokio::test]
    async fn the_peers_address_is_told_to_the_routes_that_ask_for_it() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(serve(listener, Arc::new(Metrics::new()), Arc::default(), pictures()));
        assert_eq!(get(&address, "/debug/bases").await.unwrap(), (200, "[]".to_owned()));
        server.abort();
    }

    #[tokio::test]
    async fn it_is_alive_while_the_engine_turns_and_not_because_the_socket_is_open() {
        let now = Instant::now();
        let begun = now.checked_sub(Duration::from_secs(100)).unwrap();
        let readiness = Arc::new(Readiness { pulse: Pulse { begun, beat: AtomicU64::new(0) }, ..Readiness::default() });
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let metrics = Arc::new(Metrics::new());
        let server = tokio::spawn(serve(listener, metrics, Arc::clone(&readiness), pictures()));

        let (status, text) = get(&address, "/healthz").await.unwrap();
        assert_eq!((status, text.as_str()), (503, "the engine hangs: its last turn was 100 s ago"));
        readiness.pulse.beat(now);
        assert_eq!(get(&address, "/healthz").await.unwrap(), (200, "ok".to_owned()));
        readiness.pulse.beat(now.checked_sub(Duration::from_secs(31)).unwrap());
        assert_eq!(get(&address, "/healthz").await.unwrap().0, 503);
        server.abort();
    }

    #[test]
    fn a_pulse_is_as_old_as_its_last_beat() {
        let pulse = Pulse::default();
        let (begun, second) = (pulse.begun, Duration::from_secs(1));
        assert_eq!(pulse.silence(begun + 40 * second), 40 * second);
        pulse.beat(begun + 30 * second);
        assert_eq!(pulse.silence(begun + 40 * second), 10 * second);
        assert_eq!(pulse.silence(begun), Duration::ZERO, "a clock that is behind");
    }
}
