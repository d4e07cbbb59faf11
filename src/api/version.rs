//! The API server's version.

use std::time::{Duration, Instant};

use kube::Client;
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

use super::{
    Watched,
    patience::{Failure, Patience},
};

/// It is asked again and again, for it may be upgraded while we run.
const EVERY: Duration = Duration::from_secs(600);

/// Hands on the version, and each other one, for as long as somebody takes it.
pub(super) async fn version(client: Client, to: mpsc::Sender<Watched>) {
    let (mut patience, mut last) = (Patience::default(), None);
    loop {
        let version = match client.apiserver_version().await {
            Ok(info) => Some(info.git_version),
            // It answers, and does not tell: one can do without.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => None,
            Err(error) => {
                let failure = if matches!(error, kube::Error::Api(_)) { Failure::Refused } else { Failure::Silent };
                sleep(patience.failed(failure, Instant::now())).await;
                continue;
            }
        };
        patience = Patience::default();
        if last.as_ref() != Some(&version) {
            if version.is_none() {
                warn!("the API server does not tell its version; Nodes say v0.0.0");
            }
            last = Some(version.clone());
            if to.send(Watched::ApiServer(version)).await.is_err() {
                return;
            }
        }
        sleep(EVERY).await;
    }
}
