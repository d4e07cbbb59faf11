//! What a module URL leads to: chosen behaviours first, conventions of the file name second.

use std::time::Duration;

use super::options::UrlBehaviour;

/// A jar the base could read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jar {
    pub(super) name: String,
    pub(super) version: String,
    /// The web context path in its manifest.
    pub(super) context: String,
    /// The one that it serves at.
    pub(super) serves_at: String,
    pub(super) start: Duration,
    /// How long the download takes.
    pub(super) fetch: Duration,
    /// Message of the root cause, if the module cannot start.
    pub(super) broken: Option<String>,
}

/// The chosen behaviours, the latest first.
#[derive(Clone, Debug, Default)]
pub(super) struct UrlRules(Vec<(String, UrlBehaviour)>);

impl UrlRules {
    pub(super) fn set(&mut self, pattern: &str, behaviour: UrlBehaviour) {
        self.0.retain(|(known, _)| known != pattern);
        self.0.insert(0, (pattern.to_owned(), behaviour));
    }

    /// The jar behind the URL, or the exception that a base reports.
    pub(super) fn fetch(&self, url: &str, asked: Option<(&str, &str)>, args: &[String]) -> Result<Jar, String> {
        let chosen = self.0.iter().find(|(pattern, _)| url.contains(pattern.as_str())).map(|(_, behaviour)| behaviour);
        let mut jar = identify(url, asked);
        match chosen {
            Some(UrlBehaviour::NotFetchable { message }) => return Err(message.clone()),
            Some(UrlBehaviour::Ok) => {
                if let Some((name, version)) = asked {
                    jar = Some((name.to_owned(), version.to_owned()));
                }
            }
            Some(UrlBehaviour::IsReally { name, version }) => {
                jar = Some((name.clone(), version.clone()));
            }
            Some(
                UrlBehaviour::StartsSlowly(_)
                | UrlBehaviour::FetchesSlowly(_)
                | UrlBehaviour::Broken { .. }
                | UrlBehaviour::ServesAt(_),
            ) => {}
            None => unreadable(url)?,
        }
        let (name, version) = jar.ok_or("java.lang.IllegalArgumentException: Biz Name must not be empty!")?;
        let (start, broken) = match chosen {
            Some(UrlBehaviour::StartsSlowly(time)) => (*time, None),
            Some(UrlBehaviour::Broken { cause }) => (Duration::ZERO, Some(cause.clone())),
            Some(_) => (Duration::ZERO, None),
            None => {
                (slowness(file_name(url)), file_name(url).contains("broken").then(|| "broken on purpose".to_owned()))
            }
        };
        let fetch = if let Some(UrlBehaviour::FetchesSlowly(time)) = chosen { *time } else { Duration::ZERO };
        let context = match chosen {
            Some(UrlBehaviour::ServesAt(context)) => context.clone(),
            _ => name.clone(),
        };
        let asked_path = args.iter().find_map(|arg| arg.strip_prefix("--server.servlet.context-path="));
        let serves_at = asked_path.unwrap_or(&context).to_owned();
        Ok(Jar { name, version, context, serves_at, start: start.max(asked_sleep(args)), fetch, broken })
    }
}

fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// Exceptions as Java's URL class and its streams throw them.
fn unreadable(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) else {
        return Err(format!("java.net.MalformedURLException: no protocol: {url}"));
    };
    if !matches!(scheme, "http" | "https" | "file" | "jar" | "ftp") {
        return Err(format!("java.net.MalformedURLException: unknown protocol: {scheme}"));
    }
    let host = rest.trim_start_matches('/').split(['/', ':']).next().unwrap_or_default();
    if scheme != "file" && host.ends_with(".invalid") {
        return Err(format!("java.net.UnknownHostException: {host}"));
    }
    let name = file_name(url);
    if name.contains("missing") || name == "nope.jar" {
        return Err(if scheme == "file" {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            format!("java.io.FileNotFoundException: {path} (No such file or directory)")
        } else {
            format!("java.io.FileNotFoundException: {url}")
        });
    }
    Ok(())
}

/// Name and version that the file name tells, else what was asked for.
fn identify(url: &str, asked: Option<(&str, &str)>) -> Option<(String, String)> {
    let asked = asked.map(|(name, version)| (name.to_owned(), version.to_owned()));
    let Some(stem) = file_name(url).strip_suffix("-ark-biz.jar") else {
        return asked;
    };
    let plain = without_marks(stem);
    if asked.is_some() && (split(stem) == asked || split(&plain) == asked) {
        return asked;
    }
    split(&plain).or(asked)
}

/// `a-b-1.0-SNAPSHOT` is `a-b` in version `1.0-SNAPSHOT`: versions start with a digit.
fn split(stem: &str) -> Option<(String, String)> {
    let at = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| stem[at + 1..].starts_with(|first: char| first.is_ascii_digit()))?;
    (at > 0).then(|| (stem[..at].to_owned(), stem[at + 1..].to_owned()))
}

/// The marks `slow-<ms>` and `broken` are no part of the name if they stand between dashes.
fn without_marks(stem: &str) -> String {
    let mut words = Vec::new();
    let mut parts = stem.split('-').peekable();
    while let Some(part) = parts.next() {
        let number = parts.peek().is_some_and(|next| next.parse::<u64>().is_ok());
        match part {
            "slow" if number => {
                parts.next();
            }
            "broken" => {}
            _ => words.push(part),
        }
    }
    words.join("-")
}

fn slowness(file: &str) -> Duration {
    let digits = file.split_once("slow-").map_or("", |(_, rest)| rest);
    let digits = &digits[..digits.find(|mark: char| !mark.is_ascii_digit()).unwrap_or(digits.len())];
    Duration::from_millis(digits.parse().unwrap_or(0))
}

/// `--sleep=MS` makes the modules of the recordings start slowly.
fn asked_sleep(args: &[String]) -> Duration {
    let asked = args.iter().filter_map(|arg| arg.strip_prefix("--sleep=")).filter_map(|ms| ms.parse().ok());
    Duration::from_millis(asked.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(url: &str) -> Result<Jar, String> {
        UrlRules::default().fetch(url, Some(("biz1", "0.0.1")), &[])
    }

    #[test]
    fn file_names_tell_the_module() {
        let jar = |url| fetch(url).map(|jar| format!("{}:{}", jar.name, jar.version));
        assert_eq!(jar("http://h/biz1-0.0.1-ark-biz.jar"), Ok("biz1:0.0.1".into()));
        assert_eq!(jar("http://h/biz1-slow-20-0.0.1-ark-biz.jar"), Ok("biz1:0.0.1".into()));
        assert_eq!(jar("http://h/a-b-1.0-SNAPSHOT-ark-biz.jar?x=1"), Ok("a-b:1.0-SNAPSHOT".into()));
        assert_eq!(jar("http://h/whatever.jar"), Ok("biz1:0.0.1".into()));
    }

    #[test]
    fn marks_tell_the_behaviour() {
        assert_eq!(fetch("http://h/slow-250-x.jar").map(|jar| jar.start), Ok(Duration::from_millis(250)));
        assert!(fetch("file:///m/bizbroken-0.0.1-ark-biz.jar").is_ok_and(|jar| jar.broken.is_some()));
        assert_eq!(fetch("http://h/missing.jar"), Err("java.io.FileNotFoundException: http://h/missing.jar".into()));
        assert_eq!(fetch("/m/x.jar"), Err("java.net.MalformedURLException: no protocol: /m/x.jar".into()));
    }
}
