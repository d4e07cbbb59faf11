//! Which Node is meant, where one address serves all and the path does not say it: the API server's proxy to a Node says by
//! which path it was asked.

use axum::http::HeaderMap;

/// Kubernetes convention: the API server's proxies write it, over whatever was there.
const HEADER: &str = "x-forwarded-uri";

/// The Node in `/api/v1/nodes/{node}/proxy/…`. Anybody who connects can write such a header, and gets what they may see of
/// that Node.
pub(super) fn node_of(headers: &HeaderMap) -> Option<&str> {
    let path = headers.get(HEADER)?.to_str().ok()?.strip_prefix("/api/v1/nodes/")?;
    let (node, rest) = path.split_once('/')?;
    // A port may stand behind it, and then a scheme before it.
    let mut parts = node.split(':');
    let (first, second, third) = (parts.next()?, parts.next(), parts.next());
    (rest == "proxy" || rest.starts_with("proxy/")).then(|| second.filter(|_| third.is_some()).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_the_one_that_the_api_servers_proxy_leads_to() {
        let of = |path: &str| {
            let headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), path.parse().unwrap())]);
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
