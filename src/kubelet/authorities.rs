//! Who may have signed the certificates of those who ask: the cluster's own authorities for clients.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::questions::{self, answered};
use crate::said::Said;

/// Where the API server says it (Kubernetes convention).
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";

/// Authorities change once in years; one that is taken away counts no more after this time.
const EVERY: Duration = Duration::from_secs(60);
/// While they are not known.
const AGAIN: Duration = Duration::from_secs(5);

/// The authorities as they were read last.
pub(super) struct Authorities(watch::Receiver<Arc<dyn ClientCertVerifier>>);

/// Why they cannot be known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("cannot read ConfigMap {NAMESPACE}/{NAME}: {0}")]
    Read(String),
    #[error("ConfigMap {NAMESPACE}/{NAME} has no certificate in {KEY:?}")]
    Missing,
}

impl Authorities {
    /// Nothing is known yet, and while it is not no certificate is asked for. The future reads them, for ever.
    pub(super) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = watch::channel(WebPkiClientVerifier::no_client_auth());
        (Self(receiver), read_again_and_again(client, sender))
    }

    /// What looks at a client's certificate, if it shows one.
    pub(super) fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.borrow())
    }
}

async fn read_again_and_again(client: Client, to: watch::Sender<Arc<dyn ClientCertVerifier>>) {
    let (mut said, mut last) = (Said::default(), String::new());
    loop {
        let changed = read(&client)
            .await
            .and_then(|text| if text == last { Ok(None) } else { Ok(Some((verifier(&text)?, text))) });
        match changed {
            Ok(changed) => {
                said.clear();
                if let Some((verifier, text)) = changed {
                    info!("the authorities of clients of the kubelet API are known");
                    last = text;
                    to.send_replace(verifier);
                }
            }
            Err(error) => {
                if said.is_new(&error.to_string()) {
                    warn!(%error, "who shows a client certificate to the kubelet API, as the API server does, cannot be known");
                }
            }
        }
        sleep(if last.is_empty() { AGAIN } else { EVERY }).await;
    }
}

async fn read(client: &Client) -> Result<String, Unknown> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let map = answered(questions::WITHIN, maps.get(NAME)).await.map_err(Unknown::Read)?;
    map.data.unwrap_or_default().remove(KEY).ok_or(Unknown::Missing)
}

fn verifier(text: &str) -> Result<Arc<dyn ClientCertVerifier>, Unknown> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text.as_bytes()).flatten());
    // Who has none may show a token.
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
    verifier.map_err(|_| Unknown::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_taken_from_text_with_others_between_them_and_none_is_no_authority() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = include_str!("../../tests/data/certificates/authority.crt");
        let two = format!(
            "# of the old cluster\n{authority}\n-----BEGIN NOTHING-----\nAA==\n-----END NOTHING-----\n{authority}"
        );
        let verifier = verifier(&two).unwrap();
        assert!(verifier.offer_client_auth() && !verifier.client_auth_mandatory());
        for none in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(super::verifier(none), Err(Unknown::Missing)), "{none:?}");
        }
    }
}
