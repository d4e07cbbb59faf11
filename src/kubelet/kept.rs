//! What is kept of a certificate that the cluster's own signer makes, in a Secret: the pair that is shown, and the key of the
//! next one with the request that was made with it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Secret;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;

/// The pair that is shown: entries of the Secret (Kubernetes convention).
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The next one's, while it is asked for.
const NEXT_KEY: &str = "next.key";
const NEXT_REQUEST: &str = "next.csr";
/// Whose addresses are in that request.
const NEXT_ADDRESS: &str = "next.address";

/// Where it is due to be renewed, in fifths of the time for which a certificate is good; a kubelet's is between 0.7 and 0.9.
const RENEWED_AFTER: i64 = 4;

/// A certificate that can be shown.
#[derive(Debug)]
pub(super) struct Usable {
    pub(super) pair: CertifiedKey,
    /// From when on another one is asked for, in seconds since 1970.
    pub(super) renewed_at: i64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Next {
    key: String,
    /// As PEM.
    pub(super) request: String,
    address: String,
}

/// What is kept.
pub(super) struct Kept(pub(super) Secret);

impl Kept {
    fn text(&self, entry: &str) -> Option<&str> {
        std::str::from_utf8(&self.0.data.as_ref()?.get(entry)?.0).ok()
    }

    /// What can be shown now at this address.
    pub(super) fn usable(&self, address: IpAddr, now: i64) -> Option<Usable> {
        usable(self.text(CERTIFICATE)?, self.text(KEY)?, address, now)
    }

    /// What was asked for, for this address.
    pub(super) fn next(&self, address: IpAddr) -> Option<Next> {
        let text = |entry| self.text(entry).map(str::to_owned);
        let next = Next { key: text(NEXT_KEY)?, request: text(NEXT_REQUEST)?, address: text(NEXT_ADDRESS)? };
        (next.address == address.to_string()).then_some(next)
    }

    /// Keeps what is asked for. Nothing is written over what somebody else has written meanwhile.
    pub(super) fn patch_for(&self, next: &Next) -> Value {
        let Next { key, request, address } = next;
        self.patch(json!({ NEXT_KEY: key, NEXT_REQUEST: request, NEXT_ADDRESS: address }), &json!({}))
    }

    /// Has what was signed take the place of what was shown.
    pub(super) fn patch_to(&self, next: &Next, certificate: &str) -> Value {
        let nothing = json!({ NEXT_KEY: null, NEXT_REQUEST: null, NEXT_ADDRESS: null });
        self.patch(json!({ CERTIFICATE: certificate, KEY: next.key }), &nothing)
    }

    fn patch(&self, texts: Value, nothing: &Value) -> Value {
        json!({ "metadata": { "resourceVersion": self.0.metadata.resource_version }, "stringData": texts, "data": nothing })
    }
}

impl Next {
    /// Makes a key, and a request as the signer of serving certificates wants it: the subject of a Node, by this name.
    pub(super) fn new(name: &str, address: IpAddr) -> Result<Self, rcgen::Error> {
        let address = address.to_string();
        let mut params = CertificateParams::new([address.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
        let key = KeyPair::generate()?;
        let request = params.serialize_request(&key)?.pem()?;
        Ok(Self { key: key.serialize_pem(), request, address })
    }

    /// With the key that is kept.
    #[cfg(test)]
    pub(super) fn kept(key: &str, address: &str) -> Self {
        Self { key: key.to_owned(), request: String::new(), address: address.to_owned() }
    }

    /// As a signer does, for a time in seconds since 1970.
    #[cfg(test)]
    pub(super) fn signed(&self, from: u64, to: u64) -> String {
        let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
        let key = KeyPair::generate().unwrap();
        let issuer = rcgen::CertifiedIssuer::self_signed(CertificateParams::default(), key).unwrap();
        let mut params = CertificateParams::new([self.address.clone()]).unwrap();
        (params.not_before, params.not_after) = (at(from), at(to));
        params.signed_by(&KeyPair::from_pem(&self.key).unwrap(), &issuer).unwrap().pem()
    }

    /// What was signed, if it is for this key and address.
    pub(super) fn usable(&self, certificate: &str, now: i64) -> Option<Usable> {
        usable(certificate, &self.key, self.address.parse().ok()?, now)
    }
}

fn usable(certificate: &str, key: &str, address: IpAddr, now: i64) -> Option<Usable> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let own = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let names = parsed.subject_alternative_name().ok().flatten()?;
    let is_for_us = names.value.general_names.contains(&GeneralName::IPAddress(&own));
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let fifth = to.saturating_sub(from) / 5;
    let renewed_at = from.saturating_add(fifth.saturating_mul(RENEWED_AFTER));
    if !is_for_us || now >= to {
        return None;
    }
    // It looks whether they belong together.
    let pair = CertifiedKey::from_der(chain, key, CryptoProvider::get_default()?).ok()?;
    Some(Usable { pair, renewed_at })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    use super::*;

    const ADDRESS: &str = "10.96.0.7";

    /// As an API server has it after a patch.
    fn patched(kept: &Kept, patch: &Value) -> Kept {
        let mut entries = kept.0.data.clone().unwrap_or_default();
        for (name, text) in patch["stringData"].as_object().unwrap() {
            entries.insert(name.clone(), ByteString(text.as_str().unwrap().as_bytes().to_vec()));
        }
        for (name, nothing) in patch["data"].as_object().unwrap() {
            assert!(nothing.is_null());
            entries.remove(name);
        }
        Kept(Secret { data: Some(entries), ..kept.0.clone() })
    }

    #[test]
    fn what_was_signed_is_shown_until_its_end_for_its_address_and_renewed_before() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let address = ADDRESS.parse().unwrap();
        let empty = Kept(Secret::default());
        assert!(empty.usable(address, 0).is_none() && empty.next(address).is_none());
        let next = Next::new("modulet.modulet-kubelet", address).unwrap();
        let asked = patched(&empty, &empty.patch_for(&next));
        assert_eq!(asked.next(address), Some(next.clone()), "whoever comes later goes on with it");
        assert_eq!(asked.next("10.96.0.8".parse().unwrap()), None, "another address, another request");
        assert!(asked.usable(address, 0).is_none());

        let certificate = next.signed(1_000, 2_000);
        let shown = patched(&asked, &asked.patch_to(&next, &certificate));
        assert_eq!(shown.next(address), None);
        assert_eq!(shown.usable(address, 1_999).unwrap().renewed_at, 1_800);
        assert!(shown.usable(address, 2_000).is_none(), "it is over");
        assert!(shown.usable("10.96.0.8".parse().unwrap(), 1_500).is_none(), "of another address");
        assert!(next.usable(&certificate, 1_500).is_some());
        let other = Next::new("modulet.modulet-kubelet", address).unwrap();
        assert!(other.usable(&certificate, 1_500).is_none(), "of another key");
        for none in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(next.usable(none, 1_500).is_none(), "{none:?}");
        }
    }

    #[test]
    fn the_request_is_one_that_the_signer_of_serving_certificates_takes() {
        for address in [ADDRESS, "fd00::7"] {
            let next = Next::new("modulet.modulet-kubelet", address.parse().unwrap()).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(next.request.as_bytes()).unwrap();
            assert_eq!(pem.label, "CERTIFICATE REQUEST");
            let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
            let subject = request.certification_request_info.subject.to_string();
            assert_eq!(subject, "O=system:nodes, CN=system:node:modulet.modulet-kubelet");
            let names = request.requested_extensions().unwrap().map(|extension| format!("{extension:?}"));
            assert_eq!(names.filter(|name| name.contains("IPAddress")).count(), 1);
        }
    }
}
