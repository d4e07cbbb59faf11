//! Where modules may come from: decided in the one place where a container becomes a module, so for Pods and for
//! baselines alike.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use super::limits;
use crate::domain::{printable, without_credentials};

/// Schemes of Java that name something on the base's own machine.
const LOCAL: [&str; 6] = ["file", "jar", "jrt", "nested", "netdoc", "url"];
/// Names under which clouds answer with credentials of the machine that asks.
const METADATA_HOSTS: [&str; 4] =
    ["metadata.google.internal", "metadata.azure.internal", "metadata.tencentyun.com", "instance-data"];
/// Addresses of the same beyond the link-local ones.
const METADATA_ADDRESSES: [&str; 3] = ["100.100.100.200", "192.0.0.192", "fd00:ec2::254"];

/// What a module's URL must begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPrefix(String);

/// Why a text is no such prefix.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no beginning of a URL: write a scheme and what must follow it, as in https://repository.example.com/"
)]
pub struct UrlPrefixError(String);

impl FromStr for UrlPrefix {
    type Err = UrlPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = Parts::of(text).filter(|parts| !parts.scheme.is_empty() && parts.user.is_empty());
        parts.map(|parts| Self(parts.comparable())).ok_or_else(|| UrlPrefixError(printable(text, 100).into_owned()))
    }
}

/// Where modules may come from. The default: from everywhere but the base's own machine and its cloud's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleUrls(Vec<UrlPrefix>);

impl ModuleUrls {
    /// From these alone. None: the default.
    pub fn new(allowed: Vec<UrlPrefix>) -> Self {
        Self(allowed)
    }

    /// Refuses a URL, and says why.
    pub(super) fn check(&self, url: &str) -> Result<(), String> {
        let shown = without_credentials(url);
        let shown = printable(&shown, limits::QUOTE_MAX);
        let refused = |why: &str| format!("{shown} is not fetched: {why} (MODULET_MODULE_URLS)");
        let Some(parts) = Parts::of(url) else { return Err(refused("it is no URL")) };
        let comparable = parts.comparable();
        let metadata = is_metadata(parts.host());
        let allows = |prefix: &UrlPrefix| {
            // A prefix without a host is not meant for these.
            let names_host = Parts::of(&prefix.0).is_some_and(|prefix| !prefix.authority.is_empty());
            begins_with(&comparable, &prefix.0) && (names_host || !metadata)
        };
        if self.0.is_empty() && LOCAL.contains(&parts.scheme.to_ascii_lowercase().as_str()) {
            return Err(refused("it would be read from the base's own machine"));
        }
        if self.0.is_empty() {
            return if metadata { Err(refused("it is an address of a cloud's metadata")) } else { Ok(()) };
        }
        if has_dots(parts.rest) {
            return Err(refused("it has a path with . or .. in it"));
        }
        if self.0.iter().any(allows) { Ok(()) } else { Err(refused("modules may come from other places only")) }
    }
}

/// Whether the prefix ends where a part of the URL ends: `https://example.com` is no beginning of
/// `https://example.com.attacker.example`.
fn begins_with(url: &str, prefix: &str) -> bool {
    let Some(rest) = url.strip_prefix(prefix) else { return false };
    prefix.ends_with(['/', ':']) || rest.is_empty() || rest.starts_with(['/', '?', '#'])
}

/// A path that leads somewhere else than it says; also in disguise.
fn has_dots(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    path.split(['/', ';', '?', '#']).any(|segment| segment == "." || segment == "..")
}

fn is_metadata(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    let address = bare.parse().ok().or_else(|| numeric(bare).map(IpAddr::V4)).map(|ip: IpAddr| ip.to_canonical());
    let link_local = match address {
        Some(IpAddr::V4(v4)) => v4.is_link_local(),
        Some(IpAddr::V6(v6)) => v6.is_unicast_link_local(),
        None => false,
    };
    let listed = METADATA_ADDRESSES.iter().any(|known| known.parse().ok() == address && address.is_some());
    link_local || listed || METADATA_HOSTS.contains(&host.as_str())
}

/// An IPv4 address as C and Java read it too: one to four numbers, the last one for all that is left.
fn numeric(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let (digits, radix) = match part.strip_prefix("0x") {
            Some(hex) => (hex, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        u32::from_str_radix(digits, radix).ok()
    };
    let numbers = host.split('.').map(number).collect::<Option<Vec<_>>>()?;
    let (last, first) = numbers.split_last().filter(|(_, first)| first.len() < 4)?;
    let mut address = *last;
    for (index, byte) in first.iter().enumerate() {
        let shift = 24_u32.saturating_sub(u32::try_from(index).ok()?.saturating_mul(8));
        address |= u32::from(u8::try_from(*byte).ok()?) << shift;
    }
    Some(Ipv4Addr::from_bits(address))
}

/// The parts of a URL as Java's `URL` takes them apart.
struct Parts<'u> {
    scheme: &'u str,
    user: &'u str,
    authority: &'u str,
    rest: &'u str,
}

impl<'u> Parts<'u> {
    fn of(url: &'u str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let is_scheme = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let (user, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        (is_scheme && !scheme.is_empty()).then_some(Self { scheme, user, authority, rest })
    }

    /// Without the port.
    fn host(&self) -> &'u str {
        let end = match self.authority.rfind(']') {
            Some(bracket) => bracket.saturating_add(1),
            None => self.authority.find(':').unwrap_or(self.authority.len()),
        };
        self.authority.get(..end).unwrap_or(self.authority)
    }

    /// Without credentials; scheme and host in lower case.
    fn comparable(&self) -> String {
        let (scheme, authority) = (self.scheme.to_ascii_lowercase(), self.authority.to_ascii_lowercase());
        // file:/x and file:///x are the same.
        let slashes = if authority.is_empty() && self.rest.is_empty() { "" } else { "//" };
        format!("{scheme}:{slashes}{authority}{}", self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(prefixes: &[&str]) -> ModuleUrls {
        ModuleUrls::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect())
    }

    #[test]
    fn by_default_all_but_the_bases_machine_and_metadata_is_fetched() {
        let urls = ModuleUrls::default();
        for fine in [
            "https://modules.example.com/biz1.jar",
            "http://user:secret@10.0.0.7:8081/a/../biz1.jar?x=file:///etc",
            "HTTP://localhost/biz1.jar",
            "ftp://files.example.com/biz1.jar",
            "oss://bucket/biz1.jar",
            "http://[2001:db8::1]:80/biz1.jar",
            "http://169.254.example.com/biz1.jar",
            "http://1.1/biz1.jar",
        ] {
            assert_eq!(urls.check(fine), Ok(()), "{fine}");
        }
        for (refused, why) in [
            ("file:///srv/biz1.jar", "own machine"),
            ("FILE:///srv/biz1.jar", "own machine"),
            ("jar:https://example.com/biz1.jar!/", "own machine"),
            ("url:file:///srv/biz1.jar", "own machine"),
            ("jrt://java.base/", "own machine"),
            ("http://169.254.169.254/latest", "metadata"),
            ("http://169.254.169.254:80/latest", "metadata"),
            ("http://user:secret@169.254.169.254/latest", "metadata"),
            ("http://2852039166/latest", "metadata"),
            ("http://0xa9fea9fe/latest", "metadata"),
            ("http://0251.0376.0251.0376/", "metadata"),
            ("http://169.254.43518/", "metadata"),
            ("http://[::ffff:169.254.169.254]/", "metadata"),
            ("http://[fe80::1%25eth0]:8080/", "metadata"),
            ("http://[fd00:ec2::254]/", "metadata"),
            ("http://100.100.100.200/latest", "metadata"),
            ("https://Metadata.Google.Internal./computeMetadata", "metadata"),
            ("://example.com/biz1.jar", "no URL"),
        ] {
            let said = urls.check(refused).unwrap_err();
            assert!(said.contains(why) && !said.contains("secret"), "{refused}: {said}");
        }
    }

    #[test]
    fn with_prefixes_nothing_else_is_fetched() {
        let urls = allowed(&["https://repo.example.com", "http://files.example.com/team-a/", "file:///mnt/modules/"]);
        for fine in [
            "https://repo.example.com/biz1.jar",
            "https://user:secret@REPO.example.com/biz1.jar",
            "https://repo.example.com?file=biz1.jar",
            "http://files.example.com/team-a/biz1.jar",
            "file:///mnt/modules/biz1.jar",
        ] {
            assert_eq!(urls.check(fine), Ok(()), "{fine}");
        }
        for refused in [
            "https://repo.example.com.attacker.example/biz1.jar",
            "https://repo.example.com@attacker.example/biz1.jar",
            "https://repo.example.com:secret@attacker.example/biz1.jar",
            "https://repo.example.com:8443/biz1.jar",
            "https://repo.example.com\\@attacker.example/biz1.jar",
            "http://repo.example.com/biz1.jar",
            "http://files.example.com/team-b/biz1.jar",
            "http://files.example.com/team-a/../team-b/biz1.jar",
            "http://files.example.com/team-a/%2e%2E/team-b/biz1.jar",
            "http://files.example.com/team-a/..%2fteam-b/biz1.jar",
            "file:///etc/passwd",
            "jar:file:///mnt/modules/biz1.jar!/",
        ] {
            let said = urls.check(refused).unwrap_err();
            assert!(said.contains("MODULET_MODULE_URLS") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn metadata_is_fetched_only_where_it_is_named() {
        let url = "http://169.254.169.254/latest";
        assert!(allowed(&["http://", "https://"]).check(url).is_err());
        assert!(allowed(&["http:"]).check(url).is_err());
        assert_eq!(allowed(&["http://", "https://"]).check("http://a.example.com/b.jar"), Ok(()));
        assert_eq!(allowed(&["http:"]).check("http://a.example.com/b.jar"), Ok(()));
        assert_eq!(allowed(&["file:"]).check("file:///srv/b.jar"), Ok(()));
        assert_eq!(allowed(&["http://169.254.169.254/"]).check(url), Ok(()));
    }

    #[test]
    fn what_is_no_beginning_of_a_url_is_refused_at_start() {
        for bad in ["", "repo.example.com", "/srv", "https://user:secret@repo.example.com/", "://x", "a b://x"] {
            assert!(bad.parse::<UrlPrefix>().is_err(), "{bad:?}");
        }
    }
}
