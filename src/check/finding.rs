//! What is to be said, and with which exit code.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It will not work.
    Problem,
    /// Nobody could look, for want of a right or an answer.
    CannotLook,
    /// The same of all there is to see of a cluster.
    NoCluster,
}

impl Level {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
            Self::CannotLook => "cannot look",
            Self::NoCluster => "CANNOT LOOK",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) section: &'static str,
    /// How bad it is.
    pub(super) level: Level,
    /// In one line.
    pub(super) text: String,
    /// What to do about it: commands and words, a line each.
    #[serde(rename = "do", skip_serializing_if = "Vec::is_empty")]
    pub(super) advice: Vec<String>,
}

impl Finding {
    pub(super) fn new(section: &'static str, level: Level, text: impl Into<String>) -> Self {
        Self { section, level, text: text.into(), advice: Vec::new() }
    }

    /// With what to do about it.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

/// All findings.
#[derive(Debug)]
pub(super) struct Report(pub(super) Vec<Finding>);

impl Report {
    /// 0: all well. 1: something will not work. 2: could not look.
    pub(super) fn exit_code(&self, strict: bool) -> u8 {
        let any = |level| self.0.iter().any(|finding| finding.level == level);
        if any(Level::NoCluster) { 2 } else { u8::from(any(Level::Problem) || (strict && any(Level::Warning))) }
    }

    /// For people.
    pub(super) fn text(&self, strict: bool) -> String {
        let (mut text, mut section) = (String::new(), "");
        for finding in &self.0 {
            if finding.section != section {
                section = finding.section;
                let _ = writeln!(text, "{section}");
            }
            let _ = writeln!(text, "  [{}] {}", finding.level.mark(), finding.text);
            for line in &finding.advice {
                let _ = writeln!(text, "      {line}");
            }
        }
        let _ = writeln!(text, "\n{}", self.conclusion(strict));
        text
    }

    /// For programs.
    pub(super) fn json(&self, strict: bool) -> String {
        json!({ "exitCode": self.exit_code(strict), "conclusion": self.conclusion(strict), "findings": self.0 })
            .to_string()
    }

    fn conclusion(&self, strict: bool) -> String {
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        let verdict = match self.exit_code(strict) {
            0 => "All well",
            1 => "Not well",
            _ => "Could not look at the cluster",
        };
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        let blind = count(Level::CannotLook).saturating_add(count(Level::NoCluster));
        format!("{verdict}: problems {problems}, warnings {warnings}, could not be looked at {blind}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[Level]) -> Report {
        Report(levels.iter().map(|level| Finding::new("broker", *level, "text").advise("do")).collect())
    }

    #[test]
    fn the_exit_code_says_how_it_is() {
        for (levels, code, strict) in [
            (&[][..], 0, 0),
            (&[Level::Ok, Level::CannotLook], 0, 0),
            (&[Level::Ok, Level::Warning], 0, 1),
            (&[Level::Warning, Level::Problem, Level::CannotLook], 1, 1),
            (&[Level::Problem, Level::NoCluster], 2, 2),
        ] {
            assert_eq!(report(levels).exit_code(false), code, "{levels:?}");
            assert_eq!(report(levels).exit_code(true), strict, "{levels:?}");
        }
    }

    #[test]
    fn each_section_is_named_once_and_each_finding_has_a_line() {
        let text = report(&[Level::Ok, Level::Warning]).text(true);
        let lines: Vec<_> = text.lines().collect();
        let expected = ["broker", "  [ok] text", "      do", "  [warning] text", "      do", ""];
        assert_eq!(lines[..6], expected);
        assert_eq!(lines[6], "Not well: problems 0, warnings 1, could not be looked at 0.");
    }

    #[test]
    fn programs_get_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report(&[Level::CannotLook]).json(false)).unwrap();
        assert_eq!(json["exitCode"], 0);
        let finding = json!({ "section": "broker", "level": "cannotLook", "text": "text", "do": ["do"] });
        assert_eq!(json["findings"], json!([finding]));
    }
}
