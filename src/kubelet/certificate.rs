//! What the kubelet API shows of itself.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    crypto::CryptoProvider,
    pki_types::PrivateKeyDer,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::sync::watch;

use super::asked::{Pair, Place};
use crate::renewed::Renewed;

/// Where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is made at the start.
    Made,
    /// PEM files of it and its key.
    Files(PathBuf, PathBuf),
    /// The cluster's own signer, which is asked; and where it is kept.
    Asked(Place),
}

/// The certificate, and where it comes from.
#[derive(Debug)]
pub(super) enum Certificate {
    /// Made at the start, by nobody that anybody knows: most API servers do not look.
    Made(Arc<SingleCertAndKey>),
    /// Of files, which are read again when they change.
    Files(Renewed<SingleCertAndKey>),
    /// Signed by the cluster's signer for this address; until then made at the start.
    Asked(watch::Sender<Pair>, Place, IpAddr),
}

impl Certificate {
    pub(super) fn new(address: IpAddr, source: &Source) -> anyhow::Result<Self> {
        let made = || make(address).with_context(|| format!("cannot make a certificate for {address}"));
        Ok(match source {
            Source::Made => Self::Made(Arc::new(made()?.into())),
            Source::Asked(place) => Self::Asked(watch::Sender::new(made()?.into()), place.clone(), address),
            Source::Files(certificate, key) => {
                Self::Files(Renewed::pair("the certificate of the kubelet API", certificate, key)?)
            }
        })
    }

    /// As it is now.
    pub(super) fn now(&self) -> Arc<dyn ResolvesServerCert> {
        match self {
            Self::Made(made) => Arc::<SingleCertAndKey>::clone(made),
            Self::Files(files) => files.now(),
            Self::Asked(pair, ..) => Arc::<SingleCertAndKey>::clone(&pair.borrow().resolver),
        }
    }
}

fn make(address: IpAddr) -> anyhow::Result<CertifiedKey> {
    let mut params = CertificateParams::new([address.to_string()])?;
    params.distinguished_name.push(DnType::CommonName, "modulet");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = CryptoProvider::get_default().context("no cryptography is chosen")?;
    Ok(CertifiedKey::from_der(vec![certificate], key, provider)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_made_for_addresses_of_both_kinds_and_files_that_are_no_good_are_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for address in ["10.96.0.7", "fd00::7"] {
            let address = address.parse().unwrap();
            let Certificate::Made(_) = Certificate::new(address, &Source::Made).unwrap() else { panic!("of files") };
            let made = make(address).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(&made.cert[0]).unwrap();
            let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
            let bytes: Vec<u8> = match address {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            assert_eq!(names, [x509_parser::extensions::GeneralName::IPAddress(&bytes)]);
            assert_eq!(made.keys_match(), Ok(()));
        }
        let fixture = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name);
        let files =
            |key: &str| Certificate::new([10, 96, 0, 7].into(), &Source::Files(fixture("good.crt"), fixture(key)));
        assert!(files("good.key").is_ok());
        let error = files("self-signed.key").unwrap_err();
        assert!(error.to_string().contains("self-signed.key"), "{error}");
    }
}
