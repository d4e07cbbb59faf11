//! Which lines of a base's log are a module's, where the base's own Pod says how an entry of its log begins.

use axum::body::{Body, Bytes};
use futures::stream;
use http_body_util::BodyExt;
use regex::bytes::{Regex, RegexBuilder};

use crate::k8s::names;

/// The group of the pattern that is the module's name.
const MODULE: &str = "module";
/// Bytes of a pattern, and of what it becomes.
const PATTERN_MAX: usize = 1024;
const COMPILED_MAX: usize = 256 * 1024;
/// Bytes of a line by which it is known whose it is.
const LINE_MAX: usize = 64 * 1024;

/// Those of one module.
pub(super) struct Entries {
    begins: Regex,
    module: String,
    /// A time stands before each line.
    timestamps: bool,
    /// The line that has not ended, while it is not known whose it is.
    line: Vec<u8>,
    is_known: bool,
    is_shown: bool,
}

impl Entries {
    /// An entry begins with a line that matches; lines that do not go with the entry before them.
    pub(super) fn new(pattern: &str, module: &str, timestamps: bool) -> Result<Self, String> {
        let annotation = names::LOG_ENTRIES;
        if pattern.len() > PATTERN_MAX {
            return Err(format!("its annotation {annotation} has more than {PATTERN_MAX} bytes"));
        }
        let begins = RegexBuilder::new(pattern).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build();
        let begins =
            begins.map_err(|error| format!("its annotation {annotation} is no regular expression: {error}"))?;
        if !begins.capture_names().flatten().any(|name| name == MODULE) {
            return Err(format!("its annotation {annotation} has no group (?<{MODULE}>…), the module's name"));
        }
        let (line, module) = (Vec::new(), module.to_owned());
        Ok(Self { begins, module, timestamps, line, is_known: false, is_shown: false })
    }

    /// What there is of the module in a log.
    pub(super) fn of(self, log: Body) -> Body {
        let shown = stream::unfold((log, Some(self)), |(mut log, entries): (Body, Option<Self>)| async move {
            let mut entries = entries?;
            loop {
                let shown = match log.frame().await {
                    Some(Ok(frame)) => frame.into_data().map(|data| entries.takes(&data)).unwrap_or_default(),
                    Some(Err(error)) => return Some((Err(error), (log, None))),
                    None => return Some((Ok(entries.ends()), (log, None))),
                };
                if !shown.is_empty() {
                    return Some((Ok(shown), (log, Some(entries))));
                }
            }
        });
        Body::from_stream(shown)
    }

    /// What is shown of these bytes, and of those before them.
    fn takes(&mut self, bytes: &[u8]) -> Bytes {
        let mut shown = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            if self.is_known {
                if self.is_shown {
                    shown.extend_from_slice(part);
                }
            } else {
                self.line.extend_from_slice(part);
                if ends || self.line.len() >= LINE_MAX {
                    self.knows(&mut shown);
                }
            }
            self.is_known = !ends && (self.is_known || self.line.is_empty());
        }
        shown.into()
    }

    /// The last line, where nothing ends it.
    fn ends(&mut self) -> Bytes {
        let mut shown = Vec::new();
        if !self.line.is_empty() {
            self.knows(&mut shown);
        }
        shown.into()
    }

    /// Now it is known whose the line is.
    fn knows(&mut self, shown: &mut Vec<u8>) {
        let mut text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if self.timestamps {
            text = text.iter().position(|byte| *byte == b' ').and_then(|at| text.get(at + 1..)).unwrap_or_default();
        }
        if let Some(begins) = self.begins.captures(text) {
            self.is_shown = begins.name(MODULE).is_some_and(|name| name.as_bytes() == self.module.as_bytes());
        }
        if self.is_shown {
            shown.append(&mut self.line);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, prop_assert_eq, proptest};

    use super::*;

    const PATTERN: &str = r"^\d\d:\d\d \[(?<module>[^\]]*)\]";
    const LOG: &str = "\tat the.end.of.something(Before.java:1)\n\
                       09:00 [base] started\n\
                       09:01 [biz1] failed\n\
                       java.lang.IllegalStateException: [biz2] is no name here\n\
                       \tat biz1.Main.main(Main.java:7)\n\
                       \n\
                       09:02 [biz2] works\n\
                       \tat no.error(Here.java)\n\
                       09:03 [biz1] works";
    const OF_BIZ1: &str = "09:01 [biz1] failed\n\
                           java.lang.IllegalStateException: [biz2] is no name here\n\
                           \tat biz1.Main.main(Main.java:7)\n\
                           \n\
                           09:03 [biz1] works";

    fn shown(entries: Entries, parts: Vec<Vec<u8>>) -> String {
        let parts = stream::iter(parts.into_iter().map(Ok::<_, std::convert::Infallible>));
        let body = entries.of(Body::from_stream(parts));
        let bytes = futures::executor::block_on(body.collect()).unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_entry_is_the_line_that_begins_it_and_all_until_the_next_one() {
        let of = |module| shown(Entries::new(PATTERN, module, false).unwrap(), vec![LOG.into()]);
        assert_eq!(of("biz1"), OF_BIZ1);
        assert_eq!(of("biz2"), "09:02 [biz2] works\n\tat no.error(Here.java)\n");
        assert_eq!(of("biz"), "", "a part of a name is none");
        let dated = |text: &str| -> String {
            text.split_inclusive('\n').flat_map(|line| ["2026-01-01T09:00:00.1Z ", line]).collect()
        };
        let with_times = Entries::new(PATTERN, "biz1", true).unwrap();
        assert_eq!(shown(with_times, vec![dated(LOG).into()]), dated(OF_BIZ1));
    }

    #[test]
    fn a_line_without_an_end_takes_so_much_memory_only_and_goes_with_its_beginning() {
        for (module, is_shown) in [("biz1", true), ("biz2", false)] {
            let mut entries = Entries::new(PATTERN, module, false).unwrap();
            let mut seen = entries.takes(b"09:00 [biz1] ").len();
            for _ in 0..64 {
                seen += entries.takes(&[b'x'; 16 * 1024]).len();
                assert!(entries.line.len() <= LINE_MAX + 16 * 1024);
            }
            seen += entries.takes(b"\n09:01 [biz3] y\nz").len() + entries.ends().len();
            assert_eq!(seen, if is_shown { 13 + 64 * 16 * 1024 + 1 } else { 0 });
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_used_says_why() {
        for (pattern, word) in [
            ("(?<module>", "no regular expression"),
            (r"^\[(\w+)\]", "no group"),
            (r"(?<module>\w{1000}){1000}", "no regular expression"),
            (&format!("(?<module>{})", "x".repeat(PATTERN_MAX)), "more than 1024 bytes"),
        ] {
            let error = Entries::new(pattern, "biz1", false).err().unwrap_or_default();
            assert!(error.contains(word) && error.contains(names::LOG_ENTRIES), "{pattern:.40}: {error:.200}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_parts_a_log_comes(cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(LOG.len() + 1)).collect();
            cuts.extend([0, LOG.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|part| LOG.as_bytes()[part[0]..part[1]].to_vec()).collect();
            prop_assert_eq!(shown(Entries::new(PATTERN, "biz1", false).unwrap(), parts), OF_BIZ1);
        }
    }
}
