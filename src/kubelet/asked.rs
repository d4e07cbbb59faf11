//! A certificate that the cluster's own signer makes: asked for by a `CertificateSigningRequest`, which a person or a policy
//! approves.
//!
//! There is one for all replicas, in a Secret: one that starts anew needs no new approval, and whichever replica the API
//! server reaches shows the same. The one that leads asks and writes; the others read. There is one request at a time, for it
//! has always the same name.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use rustls::{
    pki_types::CertificateDer,
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde_json::Value;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    kept::{Kept, Next, Usable},
    questions::{self, answered},
};
use crate::{
    api::{EventSink, Note, Subject},
    domain::{Backoff, printable},
    lead::Lead,
    said::Said,
};

/// Kubernetes' own signer of kubelets' certificates.
const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// What such a one is for, where the key is no RSA key.
const USAGES: [&str; 2] = ["digital signature", "server auth"];
/// How often it is looked whether what is shown is still what is kept.
const EVERY: Duration = Duration::from_secs(60);
/// The same while something is missing.
const MISSING: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) };
/// Characters of what others say.
const QUOTE: usize = 300;

/// Where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// modulet's own namespace.
    pub namespace: String,
    /// A Secret there, which is there already.
    pub secret: String,
}

impl Place {
    /// Of the request, and of whom it is for: no other modulet of the cluster has it.
    fn name(&self) -> String {
        format!("{}.{}", self.namespace, self.secret)
    }
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Pair {
    certificate: Option<CertificateDer<'static>>,
    pub(super) resolver: Arc<SingleCertAndKey>,
}

impl From<CertifiedKey> for Pair {
    fn from(pair: CertifiedKey) -> Self {
        Self { certificate: pair.cert.first().cloned(), resolver: Arc::new(pair.into()) }
    }
}

/// Why there is none, or no new one.
#[derive(Debug, thiserror::Error)]
enum Waits {
    #[error("cannot {0}: {1}")]
    Failed(&'static str, String),
    #[error("Secret {0} does not exist, in which it is to be kept: make an empty one")]
    NoSecret(String),
    #[error("CertificateSigningRequest {0} waits for somebody to approve it: kubectl certificate approve {0}")]
    Pending(String),
    #[error("CertificateSigningRequest {0} is approved and not signed yet: does this control plane sign for {SIGNER}?")]
    Unsigned(String),
    #[error(
        "CertificateSigningRequest {0} was refused ({1}); it is made anew when it is deleted, as Kubernetes does after an hour"
    )]
    Refused(String, String),
    #[error("what was signed for CertificateSigningRequest {0} is for another key or address")]
    Unsuited(String),
    #[error("the replica that leads asks for it")]
    NotLeading,
}

/// Asks.
pub(super) struct Asking {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) address: IpAddr,
    pub(super) lead: Lead,
    pub(super) events: EventSink,
    pub(super) shown: watch::Sender<Pair>,
}

impl Asking {
    /// For ever.
    pub(super) async fn run(self) {
        let (mut said, mut tries) = (Said::default(), 0_u32);
        loop {
            let wait = match self.look().await {
                Ok(()) => {
                    (said, tries) = (Said::default(), 0);
                    EVERY
                }
                Err(waits) => {
                    self.say(&waits, &mut said);
                    tries = tries.saturating_add(1);
                    MISSING.delay(tries)
                }
            };
            sleep(wait).await;
        }
    }

    /// Each cause once.
    fn say(&self, waits: &Waits, said: &mut Said) {
        let text = format!("the certificate of the kubelet API: {waits}");
        if matches!(waits, Waits::NotLeading) || !said.is_new(&text) {
            return;
        }
        warn!("{text}");
        if matches!(waits, Waits::Pending(_) | Waits::Unsigned(_) | Waits::Refused(..) | Waits::Unsuited(_)) {
            let subject = Subject::CertificateSigningRequest(self.place.name());
            self.events.note(Note::of(subject, true, "KubeletCertificateMissing", text));
        }
    }

    /// Shows what is kept, and does the next thing where that is nothing, or ends soon.
    async fn look(&self) -> Result<(), Waits> {
        let Place { namespace, secret: name } = &self.place;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let secret = in_time("read the Secret", secrets.get_opt(name)).await?;
        let kept = Kept(secret.ok_or_else(|| Waits::NoSecret(format!("{namespace}/{name}")))?);
        let now = jiff::Timestamp::now().as_second();
        if let Some(Usable { pair, renewed_at }) = kept.usable(self.address, now) {
            self.show(pair);
            if now < renewed_at {
                return Ok(());
            }
        }
        if !self.lead.may_act() {
            return Err(Waits::NotLeading);
        }
        let (kept, next) = match kept.next(self.address) {
            Some(next) => (kept, next),
            None => {
                let made = Next::new(&self.place.name(), self.address);
                let made = made.map_err(|error| Waits::Failed("make a key", error.to_string()))?;
                (self.write(kept.patch_for(&made)).await?, made)
            }
        };
        self.ask(&next, &kept, now).await
    }

    async fn write(&self, patch: Value) -> Result<Kept, Waits> {
        let Place { namespace, secret: name } = &self.place;
        let (secrets, patch) = (Api::<Secret>::namespaced(self.client.clone(), namespace), Patch::Merge(patch));
        in_time("write the Secret", secrets.patch(name, &PatchParams::default(), &patch)).await.map(Kept)
    }

    async fn ask(&self, next: &Next, kept: &Kept, now: i64) -> Result<(), Waits> {
        let name = self.place.name();
        let requests = Api::<CertificateSigningRequest>::all(self.client.clone());
        let Some(request) = in_time("read the CertificateSigningRequest", requests.get_opt(&name)).await? else {
            let request = request(name.clone(), next);
            in_time("ask for it", requests.create(&PostParams::default(), &request)).await?;
            return Err(Waits::Pending(name));
        };
        if request.spec.request.0 != next.request.as_bytes() {
            // Of an earlier key.
            let this = Preconditions { uid: request.metadata.uid, resource_version: None };
            let this = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
            in_time("delete an earlier CertificateSigningRequest", requests.delete(&name, &this)).await?;
            return Err(Waits::Pending(name));
        }
        let status = request.status.unwrap_or_default();
        let Some(certificate) = status.certificate.and_then(|signed| String::from_utf8(signed.0).ok()) else {
            let conditions = status.conditions.unwrap_or_default();
            let refused = conditions.iter().find(|condition| matches!(&*condition.type_, "Denied" | "Failed"));
            return Err(match refused {
                Some(condition) => {
                    let why =
                        [condition.reason.as_deref(), condition.message.as_deref()].map(Option::unwrap_or_default);
                    Waits::Refused(name, printable(&why.join(": "), QUOTE).into_owned())
                }
                None if conditions.iter().any(|condition| condition.type_ == "Approved") => Waits::Unsigned(name),
                None => Waits::Pending(name),
            });
        };
        let Usable { pair, .. } = next.usable(&certificate, now).ok_or(Waits::Unsuited(name))?;
        self.write(kept.patch_to(next, &certificate)).await?;
        info!("the certificate of the kubelet API was signed");
        self.show(pair);
        Ok(())
    }

    fn show(&self, pair: CertifiedKey) {
        self.shown.send_if_modified(|shown| {
            let is_new = shown.certificate.as_ref() != pair.cert.first();
            if is_new {
                *shown = pair.into();
            }
            is_new
        });
    }
}

fn request(name: String, next: &Next) -> CertificateSigningRequest {
    CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(next.request.clone().into_bytes()),
            signer_name: SIGNER.to_owned(),
            usages: Some(USAGES.map(str::to_owned).into()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    }
}

async fn in_time<T>(what: &'static str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Waits> {
    answered(questions::WITHIN, asked).await.map_err(|why| Waits::Failed(what, why))
}

#[cfg(test)]
mod tests;
