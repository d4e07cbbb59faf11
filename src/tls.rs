//! Certificates and keys in PEM files, as both edges use them.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustls::{
    Error, InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// Files are read up to so many bytes: a bundle of all public authorities has 250 KiB.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It can't be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is there, but it is not what it should be.
    #[error("{path} has no PEM certificate in it that can be used")]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The same for a key.
    #[error("{path} has no PEM key in it that can be used: {why}")]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
    /// Two files that do not belong together.
    #[error("the key in {key} is not that of the certificate in {certificate}")]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A file that should hold a secret. What is in it is not said.
    #[error("no secret can be taken from {path}: {why}")]
    NoSecret {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// No file was given, and there is nothing else.
    #[error("this system knows no certificate authorities ({why}): name a file with the broker's (MQTT_CA_PATH)")]
    NoAuthorities {
        /// What the library says.
        why: String,
    },
}

/// What is in a file.
///
/// # Errors
/// It can't be read, is no regular file, or is far too large for what it should be.
pub fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let error = |source| TlsError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // A pipe would be waited for, and could be read once only.
    if !path.metadata().map_err(error)?.is_file() {
        return Err(error(io::Error::other("it is not a regular file")));
    }
    File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes)).map_err(error)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(error(io::Error::other(format!("it has more than {FILE_MAX} bytes"))));
    }
    Ok(bytes)
}

/// The certificates in a file.
///
/// # Errors
/// There is none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?).flatten().collect();
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

/// A certificate, what signed it, and its key. Also one of X.509 version 1, which the library does not read, but which
/// is the other side's to judge.
///
/// # Errors
/// A file can't be used, or they do not belong together.
pub fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let no_key = |why: &dyn std::fmt::Display| TlsError::NoKey { path: key.to_owned(), why: why.to_string() };
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| no_key(&error))?;
    let provider = CryptoProvider::get_default().ok_or_else(|| no_key(&"no cryptography is chosen"))?;
    let secret = provider.key_provider.load_private_key(secret).map_err(|error| no_key(&error))?;
    let both = CertifiedKey::new(chain, secret);
    match both.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::OtherKey { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        _ => Ok(both),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_far_too_large_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let error = read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
        let large = directory.path().join("large");
        File::create(&large).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("more than 4194304 bytes"));
    }
}
