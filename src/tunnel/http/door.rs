//! Who gets in: from where, on how many connections, by which certificate, and with which secret. It is asked before
//! anything of a beat is read.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey};
use tokio_rustls::TlsAcceptor;

use super::secret::Secrets;
use crate::{
    renewed::Renewed,
    serving,
    tls::{TlsError, certificates, certified_key},
    tunnel::{AddressRanges, open},
};

/// Connections at a time from one address: bases need one for a moment, a proxy in front of all of them some more, and
/// nobody can take them all.
const CONNECTIONS_OF_ONE: usize = 256;

/// TLS that bases are served with. Files are read again for each connection.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file of our certificate.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities that may have signed bases' certificates; none: bases need not have one.
    pub clients: Option<PathBuf>,
}

/// Why somebody does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwelcome {
    #[error("it is in none of the ranges where bases are (MODULET_BASE_ADDRESSES): its connection is closed")]
    Elsewhere,
    #[error("it has {CONNECTIONS_OF_ONE} connections already: one more is closed")]
    TooMany,
    #[error("it carries no secret (HTTP_TUNNEL_SECRET_FILE)")]
    NoSecret,
    #[error("it carries another secret than those in the file (HTTP_TUNNEL_SECRET_FILE)")]
    WrongSecret,
}

impl Unwelcome {
    /// In the metric.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Elsewhere => "address",
            Self::TooMany => "connections",
            Self::NoSecret | Self::WrongSecret => "secret",
        }
    }
}

/// What stands between the port and who listens behind it.
#[derive(Debug)]
pub(super) struct Door {
    ranges: AddressRanges,
    secrets: Option<Renewed<Secrets>>,
    tls: Option<Renewed<ServerConfig>>,
    inside: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Door {
    pub(super) fn new(ranges: AddressRanges, secret: Option<PathBuf>, tls: Option<Tls>) -> Result<Self, TlsError> {
        let secrets = secret.map(|path| {
            Renewed::new("the secret of bases over HTTP", vec![path.clone()], move || Secrets::read(&path))
        });
        let tls = tls.map(|tls| {
            let files = [&tls.certificate, &tls.key].into_iter().chain(&tls.clients).cloned().collect();
            Renewed::new("the certificate for bases over HTTP", files, move || server(&tls))
        });
        Ok(Self { ranges, secrets: secrets.transpose()?, tls: tls.transpose()?, inside: Arc::default() })
    }

    /// A place for one more connection from there, until it is dropped.
    pub(super) fn place(&self, from: IpAddr) -> Result<Place, Unwelcome> {
        let from = from.to_canonical();
        if !self.ranges.allow(from) {
            return Err(Unwelcome::Elsewhere);
        }
        let mut inside = open(&self.inside);
        let count = inside.entry(from).or_default();
        if *count >= CONNECTIONS_OF_ONE {
            return Err(Unwelcome::TooMany);
        }
        *count = count.saturating_add(1);
        Ok(Place { of: from, inside: Arc::clone(&self.inside) })
    }

    /// What makes TLS of a connection, if it is to be.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.now()))
    }

    /// Whether a request with this head is read on.
    pub(super) fn admits(&self, headers: &HeaderMap) -> Result<(), Unwelcome> {
        let Some(secrets) = &self.secrets else { return Ok(()) };
        match headers.get(AUTHORIZATION) {
            None => Err(Unwelcome::NoSecret),
            given if secrets.now().admit(given) => Ok(()),
            Some(_) => Err(Unwelcome::WrongSecret),
        }
    }
}

/// A connection that is inside.
#[derive(Debug)]
pub(super) struct Place {
    of: IpAddr,
    inside: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = open(&self.inside).entry(self.of) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn server(tls: &Tls) -> Result<ServerConfig, TlsError> {
    let identity = SingleCertAndKey::from(certified_key(&tls.certificate, &tls.key)?);
    let verifier = match &tls.clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            verifier.map_err(|_| TlsError::NoCertificate { path: path.clone() })?
        }
    };
    Ok(serving::tls(Arc::new(identity), verifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_connections_and_others_outside_the_ranges_get_none() {
        let ranges = AddressRanges::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let door = Door::new(ranges, None, None).unwrap();
        let mut places: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| door.place(ip("10.0.0.1")).unwrap()).collect();
        assert_eq!(door.place(ip("10.0.0.1")).unwrap_err(), Unwelcome::TooMany);
        assert_eq!(door.place(ip("::ffff:10.0.0.1")).unwrap_err(), Unwelcome::TooMany, "the same one");
        assert!(door.place(ip("10.0.0.2")).is_ok());
        for outside in ["11.0.0.1", "127.0.0.1", "::1"] {
            assert_eq!(door.place(ip(outside)).unwrap_err(), Unwelcome::Elsewhere, "{outside}");
        }
        places.pop();
        places.push(door.place(ip("10.0.0.1")).unwrap());
        places.clear();
        assert!(open(&door.inside).is_empty(), "nothing is kept of who is gone");
        assert!(Door::new(AddressRanges::default(), None, None).unwrap().place(ip("11.0.0.1")).is_ok());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let fixture = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name);
        let with = |certificate: &str, key: &str, clients: Option<&str>| {
            let (certificate, key, clients) = (fixture(certificate), fixture(key), clients.map(fixture));
            Door::new(AddressRanges::default(), None, Some(Tls { certificate, key, clients }))
        };
        assert!(with("good.crt", "good.key", Some("authority.crt")).is_ok());
        for (certificate, key, clients, word) in [
            ("nowhere.crt", "good.key", None, "cannot read"),
            ("good.key", "good.key", None, "good.key"),
            ("good.crt", "good.crt", None, "good.crt"),
            ("good.crt", "self-signed.key", None, "self-signed.key"),
            ("good.crt", "good.key", Some("nowhere.crt"), "nowhere.crt"),
            ("good.crt", "good.key", Some("good.key"), "good.key"),
        ] {
            let error = with(certificate, key, clients).unwrap_err().to_string();
            assert!(error.contains(word), "{certificate} {key} {clients:?}: {error}");
        }
    }
}
