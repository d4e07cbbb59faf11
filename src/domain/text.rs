//! Text from strangers, made fit for terminals, logs and statuses.

use std::borrow::Cow;

/// The text without anything that a terminal would act on, cut to `max_chars` characters and an ellipsis.
///
/// White space other than blanks becomes a blank. Control characters (ANSI escapes begin with one), what
/// turns the direction of text around, and what is invisible become U+FFFD.
pub fn printable(text: &str, max_chars: usize) -> Cow<'_, str> {
    let cut = text.char_indices().nth(max_chars).map(|(end, _)| end);
    let kept = cut.and_then(|end| text.get(..end)).unwrap_or(text);
    if cut.is_none() && kept.chars().all(|c| replacement(c).is_none()) {
        return Cow::Borrowed(text);
    }
    let mut fit: String = kept.chars().map(|c| replacement(c).unwrap_or(c)).collect();
    if cut.is_some() {
        fit.push('…');
    }
    Cow::Owned(fit)
}

/// The text without user names and passwords in its URLs: `https://user:password@host/` becomes `https://host/`.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("://") {
        let end = behind.find(|c: char| "/?#\"'<>".contains(c) || c.is_whitespace()).unwrap_or(behind.len());
        let authority = behind.get(..end).unwrap_or(behind);
        let from = authority.rfind('@').map_or(0, |at| at.saturating_add(1));
        kept.push_str(before);
        kept.push_str("://");
        rest = behind.get(from..).unwrap_or_default();
    }
    if kept.len().saturating_add(rest.len()) == text.len() {
        return Cow::Borrowed(text);
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// [`printable`], cut to `max_bytes` bytes with the ellipsis, between characters: APIs count bytes.
pub fn printable_bytes(text: &str, max_bytes: usize) -> Cow<'_, str> {
    // No more characters than bytes are kept, whatever they are replaced by.
    let fit = printable(text, max_bytes);
    if fit.len() <= max_bytes {
        return fit;
    }
    let end = fit.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", fit.get(..end).unwrap_or_default()))
}

/// What stands for a character that must not be shown.
fn replacement(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        _ if c.is_control() || is_invisible(c) => Some(char::REPLACEMENT_CHARACTER),
        _ => None,
    }
}

/// Format characters (Unicode category Cf) but for the two joiners, which scripts and emoji need.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_and_turned_directions_are_made_visible() {
        for (given, expected) in [
            ("biz1", "biz1"),
            ("", ""),
            ("模块 bizä 👩‍💻", "模块 bizä 👩‍💻"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\u{fffd}[2J\u{fffd}]0;title\u{fffd}"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("safe\u{202e}gpj.exe", "safe\u{fffd}gpj.exe"),
            ("a\nb\r\nc\td", "a b  c d"),
            ("\u{0}\u{7f}\u{2066}\u{feff}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(printable(given, 100), expected, "{given:?}");
        }
    }

    #[test]
    fn user_and_password_are_taken_out_of_urls() {
        for (given, expected) in [
            ("https://user:pass@host:8/a@b?c=d@e", "https://host:8/a@b?c=d@e"),
            ("https://token@host", "https://host"),
            ("https://a@b:c@host/x", "https://host/x"),
            ("401 for URL: \"https://u:p@h/x\", then ftp://v:w@i", "401 for URL: \"https://h/x\", then ftp://i"),
            ("jar:https://u:p@h/x!/", "jar:https://h/x!/"),
            ("https://host/path mail@example.com", "https://host/path mail@example.com"),
            ("://u:p@", "://"),
            ("no url", "no url"),
        ] {
            assert_eq!(without_credentials(given), expected, "{given}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_with_an_ellipsis() {
        assert_eq!(printable("äöü", 3), "äöü");
        assert_eq!(printable("äöüß", 3), "äöü…");
        assert_eq!(printable("a\u{1b}bc", 2), "a\u{fffd}…");
        assert_eq!(printable("x", 0), "…");
    }

    #[test]
    fn what_has_too_many_bytes_is_cut_between_characters() {
        assert_eq!(printable_bytes("äöü", 6), "äöü");
        assert_eq!(printable_bytes("äöü", 5), "ä…");
        assert_eq!(printable_bytes("äöü", 4), "…");
        assert_eq!(printable_bytes("\u{1b}\u{1b}", 5), "…", "what it is replaced by has three bytes");
        assert_eq!(printable_bytes(&"模".repeat(1000), 1024).len(), 1023);
        assert_eq!(printable_bytes(&"x".repeat(1025), 1024), format!("{}…", "x".repeat(1021)));
    }

    proptest! {
        #[test]
        fn no_credentials_are_left_wherever_they_stood(before in "[ -~]{0,12}", user in "[a-z:%]{0,6}", after in "[ -~]{0,12}") {
            let text = format!("{before}x://{user}SECRET@host/{after}");
            prop_assert!(!without_credentials(&text).contains("SECRET"));
        }

        #[test]
        fn bytes_are_bounded_for_any_text(text in any::<String>(), max in 3_usize..40) {
            let fit = printable_bytes(&text, max);
            prop_assert!(fit.len() <= max, "{:?}", fit);
            prop_assert!(!fit.chars().any(|c| replacement(c).is_some()));
        }

        #[test]
        fn nothing_that_acts_is_left_of_any_text(text in any::<String>(), max in 0_usize..40) {
            let fit = printable(&text, max);
            prop_assert!(!fit.chars().any(|c| c.is_control() || is_invisible(c)), "{:?}", fit);
            prop_assert!(fit.chars().count() <= max + 1);
            prop_assert_eq!(printable(&fit, max + 1), fit.as_ref());
        }
    }
}
