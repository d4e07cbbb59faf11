//! The journal as the process before this one left it.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{Watched, watch::Patience};
use crate::k8s::{Installs, journal_installs, names};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads all segments of `env` once, for as long as it takes. Where that is not allowed there is no journal.
pub fn read_journal(client: Client, namespace: String, env: &str, to: mpsc::Sender<Watched>) {
    let ours = ListParams::default().labels(&format!("{}={env}", names::JOURNAL));
    tokio::spawn(async move {
        let api = Api::<ConfigMap>::namespaced(client, &namespace);
        let mut failing = false;
        for pause in Patience::default() {
            let error = match timeout(TIMEOUT, api.list(&ours)).await {
                Ok(Ok(list)) => {
                    let segments = list.items.iter().filter_map(segment).collect();
                    let _ = to.send(Watched::Journal(Some(segments))).await;
                    return;
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    warn!(namespace, "not allowed to read ConfigMaps: going on without a journal");
                    let _ = to.send(Watched::Journal(None)).await;
                    return;
                }
                Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
                Err(_) => format!("no answer in {TIMEOUT:?}"),
            };
            // One line for each outage.
            if !std::mem::replace(&mut failing, true) {
                warn!(namespace, error, "cannot read the journal, trying again");
            }
            sleep(pause).await;
        }
    });
}

fn segment(object: &ConfigMap) -> Option<(String, Installs)> {
    Some((object.metadata.name.clone()?, journal_installs(object)))
}
