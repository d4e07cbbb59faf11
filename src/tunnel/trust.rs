//! Whom we take for the broker: TLS, and what to do where a certificate is no good.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};
use rustls_platform_verifier::Verifier;

use crate::tls::{TlsError, certificates, certified_key};

/// TLS to the broker. Files are read again for each connection.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file of the authorities that may have signed the broker's certificate; none: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What the files say now.
    ///
    /// # Errors
    /// One of them can't be used.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.ca {
            Some(path) => Arc::new(Given::new(path.clone())?),
            None => Arc::new(system().map_err(|error| TlsError::NoAuthorities { why: error.to_string() })?),
        };
        let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
        Ok(match &self.identity {
            Some((certificate, key)) => {
                let identity = SingleCertAndKey::from(certified_key(certificate, key)?);
                builder.with_client_cert_resolver(Arc::new(identity))
            }
            None => builder.with_no_client_auth(),
        })
    }
}

fn system() -> Result<Verifier, Error> {
    let provider = CryptoProvider::get_default().ok_or(Error::General("no cryptography is chosen".to_owned()))?;
    Verifier::new(Arc::clone(provider))
}

/// The authorities of a file. A certificate that is itself in it is trusted as it is, whatever else it says of itself
/// and by whatever name the broker is reached: whoever put it there meant that one.
#[derive(Debug)]
struct Given {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl Given {
    fn new(path: PathBuf) -> Result<Self, TlsError> {
        let certificates = certificates(&path)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let authorities = WebPkiServerVerifier::builder(Arc::new(roots)).build();
        let authorities = authorities.map_err(|_| TlsError::NoCertificate { path })?;
        Ok(Self { certificates, authorities })
    }
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        verified.or_else(|error| {
            // The library looks at the time first.
            let in_time = !matches!(&error, Error::InvalidCertificate(why) if is_out_of_time(why));
            let given = self.certificates.iter().any(|given| given == certificate);
            if given && in_time { Ok(ServerCertVerified::assertion()) } else { Err(error) }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

fn is_out_of_time(why: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(why, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

/// What to do about it, where one can say.
pub(super) fn advice(error: &Error) -> Option<&'static str> {
    let text = error.to_string();
    Some(match error {
        // The library says these by name only.
        Error::InvalidCertificate(_) if text.contains("UnsupportedCertVersion") => {
            "the broker's certificate is of X.509 version 1: issue it anew as version 3, with a subjectAltName \
             (openssl x509 -req with -extfile)"
        }
        Error::InvalidCertificate(_) if text.contains("CaUsedAsEndEntity") => {
            "the broker shows the certificate of an authority: put this very certificate into the file of MQTT_CA_PATH, \
             or issue one for the broker"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the broker's certificate is not signed by an authority in the file of MQTT_CA_PATH (without that file: one \
             that this system trusts)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the broker's certificate must have the name of MQTT_BROKER as a subjectAltName; the common name does not count"
        }
        Error::InvalidCertificate(why) if is_out_of_time(why) => {
            "renew the broker's certificate, or set this machine's clock"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the broker wants a client certificate: MQTT_CLIENT_CRT_PATH and MQTT_CLIENT_KEY_PATH"
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate,
        ) => "the broker does not take our client certificate: MQTT_CLIENT_CRT_PATH",
        Error::InvalidMessage(_) => "what answers there speaks no TLS: is MQTT_PORT the one for TLS?",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name)
    }

    /// Whether `shown` is taken for the broker `name`, so many days from now.
    fn judged(ca: &str, shown: &str, name: &str, days: u64) -> Result<(), Error> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let given = Given::new(file(ca)).unwrap();
        let shown = certificates(&file(shown)).unwrap().remove(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days * 86_400));
        given.verify_server_cert(&shown, &[], &name.to_owned().try_into().unwrap(), &[], now).map(drop)
    }

    fn advised(judged: Result<(), Error>) -> &'static str {
        advice(&judged.unwrap_err()).expect("something can be done")
    }

    #[test]
    fn what_an_authority_signed_for_that_name_is_taken() {
        assert_eq!(judged("authority.crt", "good.crt", "127.0.0.1", 1), Ok(()));
        assert_eq!(judged("authority.crt", "good.crt", "localhost", 1), Ok(()));
        let other = judged("authority.crt", "good.crt", "broker.example.com", 1);
        assert!(advised(other).contains("subjectAltName"));
        assert!(advised(judged("self-signed.crt", "good.crt", "127.0.0.1", 1)).contains("not signed by"));
    }

    #[test]
    fn a_certificate_that_is_itself_in_the_file_is_taken_by_whatever_name_and_while_it_is_valid() {
        for name in ["127.0.0.1", "broker.example.com"] {
            assert_eq!(judged("self-signed.crt", "self-signed.crt", name, 1), Ok(()));
            assert_eq!(judged("common-name.crt", "common-name.crt", name, 1), Ok(()));
        }
        for days in [40_000, 100_000] {
            assert!(advised(judged("self-signed.crt", "self-signed.crt", "broker", days)).contains("clock"));
        }
        assert!(judged("authority.crt", "self-signed.crt", "broker", 1).is_err());
    }

    #[test]
    fn what_cannot_be_taken_is_told_with_what_to_do() {
        assert!(advised(judged("authority.crt", "version-1-broker.crt", "broker", 1)).contains("version 3"));
        assert!(advised(judged("authority.crt", "common-name.crt", "127.0.0.1", 1)).contains("common name"));
        assert!(advised(judged("authority.crt", "good.crt", "127.0.0.1", 40_000)).contains("renew"));
        let authority = Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(
            std::io::Error::other("CaUsedAsEndEntity"),
        ))));
        assert!(advice(&authority).unwrap().contains("put this very certificate"));
        assert_eq!(advice(&Error::General("else".to_owned())), None);
    }

    #[test]
    fn files_that_are_no_good_are_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = |ca: &str, identity: Option<(&str, &str)>| Tls {
            ca: Some(file(ca)),
            identity: identity.map(|(certificate, key)| (file(certificate), file(key))),
        };
        assert!(tls("authority.crt", Some(("version-1-client.crt", "version-1-client.key"))).config().is_ok());
        assert!(tls("authority.crt", Some(("good.crt", "good.key"))).config().is_ok());
        for (tls, words) in [
            (tls("missing", None), ["missing", "No such file"]),
            (tls("good.key", None), ["good.key", "no PEM certificate"]),
            (tls("authority.crt", Some(("good.key", "good.key"))), ["good.key", "no PEM certificate"]),
            (tls("authority.crt", Some(("good.crt", "good.crt"))), ["good.crt", "no PEM key"]),
            (tls("authority.crt", Some(("good.crt", "self-signed.key"))), ["self-signed.key", "is not that of"]),
        ] {
            let error = tls.config().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
