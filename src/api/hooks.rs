//! Where failures are reported to. What such a URL has behind its host is a secret: nobody may read it in a log.

use std::{fmt, path::PathBuf};

use http::Uri;

use crate::tls::{self, TlsError};

/// So many are told.
const MOST: usize = 8;
/// The end of the path of `DingTalk`'s robots, also behind a proxy of one's own.
const DING_TALK: &str = "/robot/send";

/// What a hook understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object.
    Json,
    /// A message in Markdown, as `DingTalk`'s robots take it.
    DingTalk,
}

/// A URL that failures are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// Scheme and host.
    pub(super) origin: Uri,
    /// The rest.
    pub(super) path: String,
    pub(super) form: Form,
}

/// Without what is secret.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.origin)
    }
}

/// Why there is no hook.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The file.
    #[error(transparent)]
    File(#[from] TlsError),
    /// Something in the list; which, but not what.
    #[error("the hook number {number} of REPORT_HOOKS cannot be used: {why}")]
    Url {
        /// Counted from one.
        number: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// There are more than are told.
    #[error("REPORT_HOOKS has {0} hooks, at most {MOST} are told")]
    TooMany(usize),
}

/// The list of hooks.
#[derive(Clone)]
pub enum Hooks {
    /// As it was given, separated by `;` as the Go controller has them.
    Given(String),
    /// A file with such a list, also one a line. It is read again for each report.
    File(PathBuf),
}

/// Without what is secret.
impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Hooks {
    /// Those there are now.
    ///
    /// # Errors
    /// One of them, or the file, cannot be used.
    pub fn read(&self) -> Result<Vec<Hook>, HookError> {
        let text = match self {
            Self::Given(text) => text.clone(),
            Self::File(path) => String::from_utf8_lossy(&tls::read(path)?).into_owned(),
        };
        let entries = text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        let read = |(index, entry): (usize, &str)| {
            hook(entry).map_err(|why| HookError::Url { number: index.saturating_add(1), why })
        };
        let hooks = entries.enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        if hooks.len() > MOST { Err(HookError::TooMany(hooks.len())) } else { Ok(hooks) }
    }
}

fn hook(text: &str) -> Result<Hook, &'static str> {
    let url: Uri = text.parse().map_err(|_| "it is no URL")?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err("it does not begin with http:// or https://");
    };
    if authority.as_str().contains('@') {
        return Err("a user and a password in it are not sent; use a token in its path or query");
    }
    let origin = Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build();
    let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let form = if url.path().ends_with(DING_TALK) { Form::DingTalk } else { Form::Json };
    Ok(Hook { origin: origin.map_err(|_| "it is no URL")?, path, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Hook>, HookError> {
        Hooks::Given(text.to_owned()).read()
    }

    #[test]
    fn they_are_separated_as_the_go_controller_has_them_and_their_form_follows_their_path() {
        let all =
            read("https://oapi.dingtalk.com/robot/send?access_token=t; http://alerts.svc:8080/modulet;\n").unwrap();
        let of = |hook: &Hook| (hook.origin.to_string(), hook.path.clone(), hook.form);
        let ding = ("https://oapi.dingtalk.com/".into(), "/robot/send?access_token=t".into(), Form::DingTalk);
        let json = ("http://alerts.svc:8080/".into(), "/modulet".into(), Form::Json);
        assert_eq!(all.iter().map(of).collect::<Vec<_>>(), [ding, json]);
        assert!(read("").unwrap().is_empty() && read(" ; ").unwrap().is_empty());
    }

    #[test]
    fn what_is_secret_in_them_is_never_shown() {
        for bad in ["ftp://host/secret", "secret", "https://me:secret@host/", "https://host/\u{1b}secret"] {
            let error = read(&format!("https://host/;{bad}")).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("number 2") && !text.contains("secret"), "{text}");
        }
        let hooks = Hooks::Given("https://host/robot/send?access_token=secret".into());
        let text = format!("{hooks:?} {:?}", hooks.read().unwrap());
        assert!(text.contains("https://host/…") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn they_are_not_more_than_are_told() {
        assert_eq!(read(&"https://host/;".repeat(MOST)).unwrap().len(), MOST);
        assert!(read(&"https://host/;".repeat(MOST + 1)).unwrap_err().to_string().contains("at most 8"));
    }
}
