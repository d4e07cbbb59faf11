//! Who asks, what for, and of which Node, as a request says it.

use axum::http::{HeaderMap, Method, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::UserInfo;
use rustls::pki_types::CertificateDer;

/// Kubernetes convention: the group of all whose name is known.
const AUTHENTICATED: &str = "system:authenticated";
/// Kubernetes convention: the API server's proxies to Nodes write there by which path they were asked, over whatever was there.
const FORWARDED_URI: &str = "x-forwarded-uri";

/// Who a connection is of, where its certificate says so.
#[derive(Clone, Debug)]
pub(super) struct ByCertificate(pub(super) Option<UserInfo>);

/// What is done to which part of a Node, in the words of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) verb: &'static str,
    pub(super) subresource: &'static str,
}

impl Action {
    /// What a request does, as a kubelet sees it. Where there are several, one is enough.
    pub(super) fn of(method: &Method, path: &str) -> Vec<Self> {
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let subresources: &[_] = match first {
            "stats" => &["stats"],
            "metrics" => &["metrics"],
            "logs" => &["log"],
            "checkpoint" => &["checkpoint"],
            "healthz" => &["healthz", "proxy"],
            "pods" | "runningpods" => &["pods", "proxy"],
            "configz" => &["configz", "proxy"],
            _ => &["proxy"],
        };
        subresources.iter().map(|subresource| Self { verb, subresource }).collect()
    }
}

/// Kubernetes convention: the common name is the user, the organizations are the groups.
pub(super) fn user_of(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned));
    let groups = groups.chain([AUTHENTICATED.to_owned()]).collect();
    (!name.is_empty()).then(|| UserInfo {
        username: Some(name.to_owned()),
        groups: Some(groups),
        ..UserInfo::default()
    })
}

/// The token that a request bears.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// The Node in `/api/v1/nodes/{node}/proxy/…`. Anybody who connects can write such a header, and gets what they may see of
/// that Node.
pub(super) fn node_of(headers: &HeaderMap) -> Option<&str> {
    let path = headers.get(FORWARDED_URI)?.to_str().ok()?.strip_prefix("/api/v1/nodes/")?;
    let (node, rest) = path.split_once('/')?;
    // A port may stand behind it, and then a scheme before it.
    let mut parts = node.split(':');
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    (rest == "proxy" || rest.starts_with("proxy/")).then(|| second.filter(|_| third.is_some()).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn what_is_asked_for_is_what_a_kubelets_roles_name() {
        let of = |method: Method, path: &str| -> Vec<_> {
            Action::of(&method, path).iter().map(|action| format!("{} {}", action.verb, action.subresource)).collect()
        };
        for path in ["/containerLogs/ns/pod/c", "/exec/ns/pod/c", "/attach/ns/p/c", "/portForward/ns/p", "/", "/x", ""]
        {
            assert_eq!(of(Method::GET, path), ["get proxy"], "{path}");
        }
        assert_eq!(of(Method::POST, "/exec/ns/pod/c"), ["create proxy"]);
        assert_eq!(of(Method::GET, "/stats/summary"), ["get stats"]);
        assert_eq!(of(Method::GET, "/metrics/resource"), ["get metrics"]);
        assert_eq!(of(Method::GET, "/logs/"), ["get log"]);
        assert_eq!(of(Method::GET, "/healthz"), ["get healthz", "get proxy"]);
        assert_eq!(of(Method::GET, "/runningpods/"), ["get pods", "get proxy"]);
        assert_eq!(of(Method::DELETE, "/metrics"), ["delete metrics"]);
        assert_eq!(of(Method::GET, "/metricsx"), ["get proxy"]);
    }

    #[test]
    fn a_certificates_common_name_is_the_user_and_its_organizations_are_the_groups() {
        let user = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
            user_of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        let known = user(&[(DnType::CommonName, "kube-apiserver"), (DnType::OrganizationName, "system:masters")]);
        let known = known.unwrap();
        assert_eq!(known.username.as_deref(), Some("kube-apiserver"));
        assert_eq!(known.groups.unwrap(), ["system:masters", AUTHENTICATED]);
        assert_eq!(user(&[(DnType::OrganizationName, "system:masters")]), None, "a group alone is nobody");
        assert_eq!(user(&[(DnType::CommonName, "")]), None);
        assert_eq!(user_of(&CertificateDer::from(vec![0x30, 0x80, 1])), None);
    }

    #[test]
    fn a_token_is_what_comes_behind_bearer() {
        let token = |value: &[u8]| {
            let value = axum::http::HeaderValue::from_bytes(value).unwrap();
            token_of(&HeaderMap::from_iter([(AUTHORIZATION, value)])).map(str::to_owned)
        };
        assert_eq!(token(b"Bearer abc.def").as_deref(), Some("abc.def"));
        assert_eq!(token(b"bearer  abc").as_deref(), Some("abc"));
        for none in [&b"Bearer"[..], b"Bearer ", b"Basic abc", b"abc", b"", b"Bearer \xff"] {
            assert_eq!(token(none), None, "{none:?}");
        }
        assert_eq!(token_of(&HeaderMap::new()), None);
    }

    #[test]
    fn the_node_is_the_one_that_the_api_servers_proxy_leads_to() {
        let of = |path: &str| {
            let headers = HeaderMap::from_iter([(FORWARDED_URI.parse().unwrap(), path.parse().unwrap())]);
            node_of(&headers).map(str::to_owned)
        };
        let node = Some("vnode.base-1.dev".to_owned());
        assert_eq!(of("/api/v1/nodes/vnode.base-1.dev/proxy/pods"), node);
        assert_eq!(of("/api/v1/nodes/vnode.base-1.dev/proxy"), node);
        assert_eq!(of("/api/v1/nodes/vnode.base-1.dev:10250/proxy/stats/summary"), node);
        assert_eq!(of("/api/v1/nodes/https:vnode.base-1.dev:10250/proxy/pods"), node);
        for other in [
            "",
            "/pods",
            "/api/v1/nodes/a",
            "/api/v1/nodes/a/status",
            "/api/v1/nodes/a/proxyx",
            "/api/v1/pods/a/proxy/",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(node_of(&HeaderMap::new()), None);
    }
}
