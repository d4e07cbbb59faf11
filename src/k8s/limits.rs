//! What a Pod may say: the numbers, and the checks that tell its author which one was passed.
//!
//! A Pod is written by whoever may create Pods, and one of them must not cost the others anything: what it
//! says goes into commands, into its base's ledger, into statuses and Events.

use std::time::Duration;

/// Longest version of a module, in characters; each of them printable ASCII and no blank. It is in the ledger of
/// every base that has the module.
pub const VERSION_MAX: usize = 128;
/// Longest name of a module, in characters: a container's name is a DNS label (Kubernetes convention).
pub const NAME_MAX: usize = 63;
/// Longest URL of a jar, in bytes; no blanks and no control characters.
pub const URL_MAX: usize = 2048;
/// Containers of one Pod.
pub const CONTAINERS_MAX: usize = 256;
/// Longest value of a variable or argument after `$(NAME)` has been replaced, in bytes. An operating system
/// takes no longer one either (`MAX_ARG_STRLEN` of Linux).
pub const VALUE_MAX: usize = 128 * 1024;
/// All variables and arguments of one module together as JSON, in bytes, so that the command with them fits into
/// a message. A control character counts six times there, and so does a variable that is set again.
pub const ENVIRONMENT_MAX: usize = 256 * 1024;
/// Longest part of a text that somebody else has said, in characters.
pub const QUOTE_MAX: usize = 200;
/// Longest id of the work that a Pod belongs to: as long as a label's value.
pub const TRACE_MAX: usize = 63;
/// Longest `terminationGracePeriodSeconds` and `lifecycle.preStop.sleep`; what is longer counts as this.
pub const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest `timeoutSeconds` of a probe; what is longer counts as this. Its connection is taken from the others.
pub const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// All headers of a probe together, in bytes.
pub const PROBE_HEADERS_MAX: usize = 8 * 1024;

/// Seconds of a Pod's spec as a time to wait: none below zero, and never longer than [`WAIT_MAX`].
pub(super) fn wait(seconds: i64) -> Duration {
    u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs).min(WAIT_MAX)
}

/// Refuses what can't be a module's name, version or URL, and says why.
pub(super) fn check(name: &str, version: &str, url: &str) -> Result<(), String> {
    let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_label) {
        return Err(format!(
            "the name of a module has 1 to {NAME_MAX} of the characters a-z, 0-9 and -; this one has {} bytes",
            name.len()
        ));
    }
    if version.len() > VERSION_MAX {
        return Err(format!(
            "the module version (BIZ_VERSION) of container {name} has {} characters; at most {VERSION_MAX} are allowed",
            version.len()
        ));
    }
    if !version.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "the module version of container {name} has blanks or other characters in it than printable ASCII"
        ));
    }
    if url.len() > URL_MAX {
        return Err(format!("the image of container {name} has {} bytes; a URL may have {URL_MAX}", url.len()));
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("the image of container {name} has blanks or control characters in it: write them as %20"));
    }
    Ok(())
}

/// Bytes of `text` as a JSON string, quotes included.
pub(super) fn json_len(text: &str) -> usize {
    let escapes = text.bytes().map(|b| match b {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..0x20 => 5,
        _ => 0,
    });
    text.len().saturating_add(escapes.sum()).saturating_add(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_long_or_has_other_characters_is_refused_with_the_number() {
        let url = "https://modules.example.com/biz1.jar";
        let long = |n| "x".repeat(n);
        for (name, version, url, expected) in [
            ("biz1", "0.0.1-SNAPSHOT+2026:a/b_c", url, None),
            (&long(63), &long(128), &format!("https://{}", long(2040)), None),
            ("biz1", "1", "file:///srv/模块.jar", None),
            (&long(64), "1", url, Some("64 bytes")),
            ("Biz1", "1", url, Some("1 to 63")),
            ("", "1", url, Some("0 bytes")),
            ("biz1", &long(129), url, Some("129 characters; at most 128")),
            ("biz1", &long(300_000), url, Some("300000 characters; at most 128")),
            ("biz1", "1 2", url, Some("blanks")),
            ("biz1", "1\u{1b}[2J", url, Some("printable ASCII")),
            ("biz1", "一", url, Some("printable ASCII")),
            ("biz1", "1", &format!("https://{}", long(2041)), Some("2049 bytes; a URL may have 2048")),
            ("biz1", "1", "https://modules.example.com/a b.jar", Some("%20")),
            ("biz1", "1", "https://modules.example.com/a\u{7f}.jar", Some("control characters")),
        ] {
            let said = check(name, version, url).err();
            match expected {
                None => assert_eq!(said, None),
                Some(part) => {
                    let said = said.unwrap();
                    assert!(said.contains(part) && said.len() < 200, "{said:?} should contain {part:?}");
                    assert!(!said.contains('\u{1b}'), "{said:?}");
                }
            }
        }
    }

    #[test]
    fn a_wait_has_an_end() {
        for (seconds, expected) in [(i64::MIN, 0), (-1, 0), (30, 30), (2_592_001, 2_592_000), (i64::MAX, 2_592_000)] {
            assert_eq!(wait(seconds), Duration::from_secs(expected), "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn the_length_as_json_is_the_one_that_is_sent(text in any::<String>()) {
            prop_assert_eq!(json_len(&text), serde_json::to_string(&text).unwrap().len());
        }
    }
}
