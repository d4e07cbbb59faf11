//! What a person asks of a release: annotations that are consumed.

use std::collections::BTreeMap;

/// A word that a person may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The next batch may begin.
    Confirm,
    /// All other batches may.
    ConfirmAll,
    /// The release is given up: back to the stable revision.
    Abort,
    /// What failed is tried again.
    Retry,
    /// What failed is passed over.
    Skip,
}

impl Word {
    /// All of them; what gives up comes before what goes on.
    const ALL: [Self; 5] = [Self::Abort, Self::Retry, Self::Skip, Self::ConfirmAll, Self::Confirm];

    /// Its annotation.
    pub(super) const fn annotation(self) -> &'static str {
        match self {
            Self::Confirm => "modulet.koupleless.io/confirm",
            Self::ConfirmAll => "modulet.koupleless.io/confirm-all",
            Self::Abort => "modulet.koupleless.io/abort",
            Self::Retry => "modulet.koupleless.io/retry",
            Self::Skip => "modulet.koupleless.io/skip",
        }
    }
}

/// A word, and the revision that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// What is asked for.
    pub(super) word: Word,
    /// Of which revision: one that is about another does nothing.
    pub(super) revision: String,
}

/// The first request among these annotations.
pub(super) fn first_request(annotations: Option<&BTreeMap<String, String>>) -> Option<Request> {
    let annotations = annotations?;
    Word::ALL.into_iter().find_map(|word| {
        annotations.get(word.annotation()).map(|revision| Request { word, revision: revision.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_is_heard_before_who_confirms() {
        let said = [Word::Confirm, Word::Abort].map(|word| (word.annotation().to_owned(), "abc".to_owned()));
        let found = first_request(Some(&said.into_iter().collect()));
        assert_eq!(found, Some(Request { word: Word::Abort, revision: "abc".to_owned() }));
        assert_eq!(first_request(Some(&BTreeMap::from([("other".to_owned(), "abc".to_owned())]))), None);
        assert_eq!(first_request(None), None);
    }
}
