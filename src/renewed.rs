//! What is made of files that are renewed while the process runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tracing::{info, warn};

use crate::{
    said::Said,
    tls::{TlsError, certified_key, read},
};

/// What is in the files.
type Contents = Vec<Vec<u8>>;
type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// Something that is made of files, and made anew when they have changed. While they can't be used, what was good last
/// is.
pub struct Renewed<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    made: Arc<T>,
    of: Contents,
    /// Why the files can't be used at present.
    said: Said,
}

impl<T> fmt::Debug for Renewed<T> {
    /// What is in the files may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Renewed").field(&self.files).finish()
    }
}

impl<T> Renewed<T> {
    /// Makes it a first time. `what` is its name in the log.
    ///
    /// # Errors
    /// The files can't be used.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let of = contents(&files)?;
        let last = Mutex::new(Last { made: Arc::new(make()?), of, said: Said::default() });
        Ok(Self { what, files, make: Box::new(make), last })
    }

    /// As the files are now.
    pub fn now(&self) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.changed(&last.of) {
            Ok(changed) => {
                last.said.clear();
                if let Some((of, made)) = changed {
                    info!("{} was renewed", self.what);
                    (last.of, last.made) = (of, Arc::new(made));
                }
            }
            Err(error) => {
                if last.said.is_new(&error.to_string()) {
                    warn!(%error, "going on with {} as it was", self.what);
                }
            }
        }
        Arc::clone(&last.made)
    }

    /// What the files are, if that is something else. They are read before it is made: should they change between the
    /// two, that is seen the next time.
    fn changed(&self, before: &Contents) -> Result<Option<(Contents, T)>, TlsError> {
        let of = contents(&self.files)?;
        if of == *before { Ok(None) } else { Ok(Some((of, (self.make)()?))) }
    }
}

fn contents(files: &[PathBuf]) -> Result<Contents, TlsError> {
    files.iter().map(|file| read(file)).collect()
}

impl<T: From<CertifiedKey>> Renewed<T> {
    /// The certificate and key of two files.
    ///
    /// # Errors
    /// They can't be used.
    pub fn pair(what: &'static str, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let files = vec![certificate.clone(), key.clone()];
        Self::new(what, files, move || certified_key(&certificate, &key).map(T::from))
    }
}

impl ResolvesClientCert for Renewed<CertifiedKey> {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::certificates;

    fn numbers(file: &Path) -> Result<Renewed<u64>, TlsError> {
        let path = file.to_owned();
        Renewed::new("a number", vec![path.clone()], move || {
            let text = String::from_utf8(read(&path)?).unwrap_or_default();
            text.trim().parse().map_err(|_| TlsError::NoCertificate { path: path.clone() })
        })
    }

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates").join(name)
    }

    #[test]
    fn a_client_certificate_that_is_renewed_is_shown_and_a_broken_one_is_not() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("crt"), directory.path().join("key"));
        let put = |name: &str| {
            fs::copy(fixture(&format!("{name}.crt")), &certificate).unwrap();
            fs::copy(fixture(&format!("{name}.key")), &key).unwrap();
        };
        put("good");
        let pair = || Renewed::<CertifiedKey>::pair("the client certificate", &certificate, &key);
        let renewed = pair().unwrap();
        let shown = || renewed.resolve(&[], &[]).unwrap().cert.clone();
        let of = |name: &str| certificates(&fixture(name)).unwrap();
        assert_eq!(shown(), of("good.crt"));
        put("version-1-client");
        assert_eq!(shown(), of("version-1-client.crt"));
        // In the midst of being renewed.
        fs::copy(fixture("good.crt"), &certificate).unwrap();
        assert_eq!(shown(), of("version-1-client.crt"));
        fs::remove_file(&key).unwrap();
        assert_eq!(shown(), of("version-1-client.crt"));
        put("good");
        assert_eq!(shown(), of("good.crt"));
        fs::remove_file(&certificate).unwrap();
        assert!(matches!(pair(), Err(TlsError::File { .. })));
    }

    #[test]
    fn it_is_made_anew_when_a_file_changed_and_stays_as_it_was_while_one_is_no_good() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        assert!(numbers(&file).is_err(), "not there");
        fs::write(&file, "x").unwrap();
        assert!(numbers(&file).is_err(), "no number");
        fs::write(&file, "1").unwrap();
        let renewed = numbers(&file).unwrap();
        let first = renewed.now();
        assert!(Arc::ptr_eq(&first, &renewed.now()), "made once");
        fs::write(&file, "2").unwrap();
        assert_eq!(*renewed.now(), 2);
        fs::write(&file, "x").unwrap();
        assert_eq!(*renewed.now(), 2);
        fs::remove_file(&file).unwrap();
        assert_eq!(*renewed.now(), 2);
        fs::write(&file, "3").unwrap();
        assert_eq!(*renewed.now(), 3);
        assert_eq!(format!("{renewed:?}"), format!("Renewed({:?})", [&file]), "not what is in it");
    }
}
