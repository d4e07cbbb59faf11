//! Which proxy leads to the API server, by the variables that all Kubernetes clients know.
//!
//! Not the client library's own reading: it compares `NO_PROXY` with the proxy's address instead of the API server's,
//! ends at a comma too much, and does not look in a Pod at all.

use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kube::Config;

/// What the variables say.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: String,
    https: String,
    no: String,
}

impl Proxies {
    /// As they are set. Of the two ways to write them the upper case comes first.
    pub fn from_env() -> Self {
        let first = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(|name| std::env::var(name).ok());
            values.map(|value| value.trim().to_owned()).find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self {
            http: first(["HTTP_PROXY", "http_proxy"]),
            https: first(["HTTPS_PROXY", "https_proxy"]),
            no: first(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The one to this cluster, if there is one. User and password are not in its URI.
    pub(super) fn to(&self, cluster: &Config) -> Option<Intercept> {
        let server = &cluster.cluster_url;
        // What the library read from the variable is looked at again; what stands in the kubeconfig holds in any case.
        let of_kubeconfig =
            cluster.proxy_url.as_ref().filter(|url| self.https.parse::<Uri>().ok().as_ref() != Some(url));
        let matcher = Matcher::builder();
        let matcher = match of_kubeconfig {
            Some(url) => matcher.all(url.to_string()),
            None if is_this_machine(server.host()?) => return None,
            None => matcher.http(self.http.clone()).https(self.https.clone()).no(self.exceptions_for(server)),
        };
        matcher.build().intercept(server)
    }

    /// `NO_PROXY` as the library reads it: without `*.` and ports, where the port is the server's.
    fn exceptions_for(&self, server: &Uri) -> String {
        let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
        let entry = |entry: &str| {
            let entry = entry.trim();
            let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
            match entry.rsplit_once(':') {
                Some((host, other)) if !host.contains(':') || host.ends_with(']') => {
                    let host = host.trim_start_matches('[').trim_end_matches(']');
                    (other.parse() == Ok(port)).then(|| host.to_owned())
                }
                _ => Some(entry.trim_start_matches('[').trim_end_matches(']').to_owned()),
            }
        };
        self.no.split([',', ' ']).filter_map(entry).collect::<Vec<_>>().join(",")
    }
}

/// As with all clients written in Go: no proxy leads back to where one is.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://proxy.example.com:3128/";

    fn proxies(https: &str, no: &str) -> Proxies {
        Proxies { http: String::new(), https: https.to_owned(), no: no.to_owned() }
    }

    fn cluster(url: &str) -> Config {
        Config::new(url.parse().unwrap())
    }

    #[test]
    fn the_variable_for_the_scheme_of_the_api_server_counts() {
        for (https, at) in [
            ("http://proxy.example.com:3128", Some(PROXY)),
            ("proxy.example.com:3128", Some(PROXY)),
            ("https://proxy.example.com:3128", Some("https://proxy.example.com:3128/")),
            ("socks5://proxy.example.com:1080", Some("socks5://proxy.example.com:1080/")),
            ("", None),
            ("gopher://proxy.example.com", None),
            ("::", None),
        ] {
            let found = proxies(https, "").to(&cluster("https://10.96.0.1"));
            assert_eq!(found.map(|proxy| proxy.uri().to_string()).as_deref(), at, "{https}");
            assert!(proxies(https, "").to(&cluster("http://10.96.0.1")).is_none(), "{https} is not for http");
        }
    }

    #[test]
    fn exceptions_are_read_as_other_clients_read_them() {
        for (no, server, through) in [
            ("", "https://api.example.com:6443", true),
            ("example.com", "https://api.example.com:6443", false),
            (".example.com", "https://api.example.com:6443", false),
            ("*.example.com", "https://api.example.com:6443", false),
            ("other.com,,api.example.com,", "https://api.example.com:6443", false),
            ("other.com api.example.com", "https://api.example.com:6443", false),
            ("api.example.com:6443", "https://api.example.com:6443", false),
            ("api.example.com:443", "https://api.example.com:6443", true),
            ("api.example.com:443", "https://api.example.com", false),
            ("ample.com", "https://api.example.com", true),
            ("proxy.example.com", "https://api.other.com", true),
            ("*", "https://api.example.com", false),
            ("10.0.0.0/8", "https://10.96.0.1", false),
            ("10.96.0.1", "https://10.96.0.1:443", false),
            ("10.96.0.1:443", "https://10.96.0.1", false),
            ("10.0.0.0/8", "https://172.16.0.1", true),
            ("fd00::/8", "https://[fd00::1]:6443", false),
            ("[fd00::1]:6443", "https://[fd00::1]:6443", false),
            ("fd00::1", "https://[fd00::1]:6443", false),
            ("", "https://localhost:6443", false),
            ("", "https://127.0.0.1:6443", false),
            ("", "https://[::1]:6443", false),
            ("::,?//,:,[", "https://api.example.com", true),
        ] {
            assert_eq!(proxies(PROXY, no).to(&cluster(server)).is_some(), through, "{no} {server}");
        }
    }

    #[test]
    fn the_proxy_of_the_kubeconfig_holds_in_any_case_and_that_of_the_variable_is_looked_at_again() {
        let mut config = cluster("https://127.0.0.1:6443");
        config.proxy_url = Some("http://other.example.com:8080".parse().unwrap());
        let found = proxies(PROXY, "*").to(&config).unwrap();
        assert_eq!(found.uri(), "http://other.example.com:8080/");
        config.proxy_url = Some(PROXY.parse().unwrap());
        assert!(proxies(PROXY, "*").to(&config).is_none());
    }

    #[test]
    fn user_and_password_are_kept_apart_from_what_is_logged() {
        let found = proxies("http://me:p%40ss@proxy.example.com:3128", "").to(&cluster("https://10.96.0.1")).unwrap();
        assert_eq!(found.uri(), PROXY);
        assert_eq!(found.basic_auth().unwrap(), "Basic bWU6cEBzcw==");
        let found = proxies("socks5://me:p%40ss@proxy.example.com", "").to(&cluster("https://10.96.0.1")).unwrap();
        assert_eq!(found.raw_auth(), Some(("me", "p@ss")));
        assert_eq!(found.uri().authority().unwrap(), "proxy.example.com");
    }
}
