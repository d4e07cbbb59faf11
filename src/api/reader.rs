//! Reads of single objects that an environment refers to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    k8s::{Reference, Referred},
    metrics::Metrics,
    tasks::Tasks,
};

/// Reads that wait. Full: the engine tries again.
const QUEUE: usize = 1024;
/// Reads at a time.
const PERMITS: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(10);

/// A read that ended.
#[derive(Debug)]
pub struct Read {
    /// What was read.
    pub reference: Reference,
    /// What it holds.
    pub referred: Referred,
}

/// Takes reads.
#[derive(Clone, Debug)]
pub struct Reader {
    queue: mpsc::Sender<Reference>,
}

impl Reader {
    /// Starts reading on demand.
    pub fn start(tasks: &mut Tasks, client: Client, report: mpsc::Sender<Read>, metrics: Arc<Metrics>) -> Self {
        let (reader, mut references) = Self::new();
        tasks.spawn("reader", async move {
            let references = stream::poll_fn(move |cx| references.poll_recv(cx));
            let (client, metrics, report) = (&client, &metrics, &report);
            let answer = |reference: Reference| async move {
                let referred = match timeout(TIMEOUT, read(client.clone(), &reference)).await {
                    Ok(Ok(referred)) => referred,
                    Ok(Err(error)) => Referred::Unreadable(error.to_string()),
                    Err(_) => Referred::Unreadable(format!("no answer in {TIMEOUT:?}")),
                };
                let unreadable = matches!(referred, Referred::Unreadable(_));
                metrics.written("reference_read", if unreadable { "refused" } else { "ok" });
                // The engine is gone only at the end.
                let _ = report.send(Read { reference, referred }).await;
            };
            references.for_each_concurrent(PERMITS, answer).await;
        });
        reader
    }

    /// A reader, and the end at which what is asked for comes out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Reference>) {
        let (queue, references) = mpsc::channel(QUEUE);
        (Self { queue }, references)
    }

    /// Asks for an object; false if there is no room.
    pub fn read(&self, reference: Reference) -> bool {
        self.queue.try_send(reference).is_ok()
    }
}

async fn read(client: Client, reference: &Reference) -> Result<Referred, kube::Error> {
    let data: Option<BTreeMap<String, String>> = match reference {
        Reference::ConfigMap(namespace, name) => {
            let object = Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await?;
            object.map(|o| o.data.unwrap_or_default())
        }
        Reference::Template(namespace, name) => {
            let object = Api::<ReplicaSet>::namespaced(client, namespace).get_opt(name).await?;
            let template = object.and_then(|o| o.spec?.template);
            template.map(|template| [("template".to_owned(), serde_json::json!(template).to_string())].into())
        }
        Reference::Secret(namespace, name) => {
            let object = Api::<Secret>::namespaced(client, namespace).get_opt(name).await?;
            // The wire is JSON: bytes that are no text can't go along.
            let text = |data: BTreeMap<String, k8s_openapi::ByteString>| {
                data.into_iter().filter_map(|(key, bytes)| Some((key, String::from_utf8(bytes.0).ok()?))).collect()
            };
            object.map(|o| text(o.data.unwrap_or_default()))
        }
    };
    Ok(data.map_or(Referred::Missing, Referred::Data))
}
