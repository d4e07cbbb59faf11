//! The secret that bases carry, where one is asked for.

use std::path::Path;

use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use subtle::{Choice, ConstantTimeEq as _};

use crate::tls::{TlsError, read};

/// Nobody guesses one of so many characters.
const SHORTEST: usize = 16;
/// The present one, the next one, and some for bases that are late.
const MOST: usize = 8;

/// Those that are good, one a line of the file: a new one stands beside the old one until all bases have it. There is no
/// way to print them.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those in the file.
    pub(super) fn read(path: &Path) -> Result<Self, TlsError> {
        let no_secret = |why| TlsError::NoSecret { path: path.to_owned(), why };
        let text = String::from_utf8(read(path)?).map_err(|_| no_secret("it is not text (UTF-8)"))?;
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        match lines.as_slice() {
            [] => Err(no_secret("it is empty")),
            all if all.len() > MOST => Err(no_secret("it has more than 8 lines")),
            all if all.iter().any(|line| line.len() < SHORTEST) => {
                Err(no_secret("a secret in it has less than 16 characters"))
            }
            all if !all.iter().all(|line| line.bytes().all(|b| b.is_ascii_graphic())) => {
                Err(no_secret("a secret in it has characters that no header can carry (blanks, or others than ASCII)"))
            }
            _ => Ok(Self(lines)),
        }
    }

    /// Whether a header `Authorization` carries one of them.
    pub(super) fn admit(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(carried) = authorization.and_then(carried) else { return false };
        // All are compared, and each to its end: how long it takes tells nothing of them.
        let one = |good: &String| good.as_bytes().ct_eq(&carried);
        self.0.iter().map(one).fold(Choice::from(0), |any, one| any | one).into()
    }
}

/// What proxies and meshes add (`Bearer`), and what a JVM says by itself when it is asked (`Basic`, with any user).
fn carried(authorization: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = STANDARD.decode(rest).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some(login.into_iter().skip(colon).skip(1).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OLD: &str = "the-secret-of-before";
    const NEW: &str = "the-secret-of-now:+/=";

    fn secrets(text: &[u8]) -> Result<Secrets, TlsError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, text).unwrap();
        Secrets::read(&file)
    }

    fn basic(login: &str) -> String {
        format!("Basic {}", STANDARD.encode(login))
    }

    #[test]
    fn only_who_carries_one_of_them_is_admitted() {
        let secrets = secrets(format!("{NEW}\n\n  {OLD}\r\n").as_bytes()).unwrap();
        let admits = |header: &str| secrets.admit(Some(&HeaderValue::from_str(header).unwrap()));
        for good in [
            format!("Bearer {OLD}"),
            format!("bearer  {NEW}"),
            basic(&format!("base-1:{NEW}")),
            basic(&format!(":{OLD}")),
            basic(&format!("any:{OLD}")).replace("Basic", "BASIC"),
        ] {
            assert!(admits(&good), "{good}");
        }
        for bad in [
            String::new(),
            OLD.to_owned(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Bearer {OLD}x"),
            format!("Bearer {}", &OLD[..OLD.len() - 1]),
            format!("Bearer {OLD} {NEW}"),
            format!("Bearer {OLD}\u{e9}"),
            format!("Digest {OLD}"),
            format!("Basic {OLD}"),
            basic(OLD),
            basic(&format!("{OLD}:")),
            basic("base-1:wrong"),
        ] {
            assert!(!admits(&bad), "{bad}");
        }
        assert!(!secrets.admit(None));
        assert!(!secrets.admit(Some(&HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap())));
    }

    #[test]
    fn files_without_a_secret_are_refused_with_the_reason_and_without_what_is_in_them() {
        let many = format!("{OLD}\n").repeat(9);
        for (text, why) in [
            (&b""[..], "empty"),
            (b" \n\n", "empty"),
            (b"hunter-2\n", "less than 16"),
            (b"the-secret-of-before\nhunter-2\n", "less than 16"),
            (b"a secret with blanks", "blanks"),
            ("ein-schl\u{fc}ssel-lang-genug".as_bytes(), "ASCII"),
            (b"\xff\xfe-not-text-at-all", "UTF-8"),
            (many.as_bytes(), "8 lines"),
        ] {
            let error = secrets(text).err().unwrap().to_string();
            assert!(error.contains(why) && error.contains("/secret"), "{error}");
            assert!(!error.contains("hunter") && !error.contains("with blanks"), "{error}");
        }
        assert!(Secrets::read(Path::new("/nowhere/secret")).is_err());
    }
}
