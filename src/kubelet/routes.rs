//! What can be asked for, by whom, and how it is answered.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, Method, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::Value;

use super::{
    access::{Action, ByCertificate, node_of, token_of},
    answer::Refused,
    base::OwnPod,
    logs, pods,
    service::{Kubelet, Target},
};
use crate::k8s::names;

/// All of it. Whoever asks has a name before anything else is looked at.
pub(super) fn router(kubelet: Arc<Kubelet>) -> Router {
    let with_container = |path: &str| format!("/{path}/{{namespace}}/{{pod}}/{{container}}");
    let with_uid = |path: &str| format!("/{path}/{{namespace}}/{{pod}}/{{uid}}/{{container}}");
    let mut router = Router::new()
        .route(&with_container("containerLogs"), get(container_log))
        .route("/portForward/{namespace}/{pod}", any(port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(port_forward))
        .route("/healthz", get(healthz))
        .route("/pods", get(pods_of))
        .route("/pods/", get(pods_of))
        .route("/runningpods", get(pods_of))
        .route("/runningpods/", get(pods_of))
        .route("/stats/summary", get(summary));
    for path in ["exec", "attach", "run"] {
        router = router.route(&with_container(path), any(in_process)).route(&with_uid(path), any(in_process));
    }
    router.fallback(others).layer(middleware::from_fn_with_state(Arc::clone(&kubelet), known_only)).with_state(kubelet)
}

async fn known_only(State(kubelet): State<Arc<Kubelet>>, mut request: Request, next: Next) -> Response {
    let endpoint = endpoint(request.uri().path());
    let certified = request.extensions().get().and_then(|ByCertificate(user)| user.clone());
    let user = kubelet.user(certified, token_of(request.headers())).await;
    let response = match user {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    kubelet.metrics.kubelet.answered(endpoint, result(response.status().as_u16()));
    response
}

/// The name of what is asked for, in metrics: whatever people ask for, there are so many only.
fn endpoint(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let known =
        ["containerLogs", "exec", "attach", "run", "portForward", "healthz", "pods", "runningpods", "stats", "metrics"];
    known.into_iter().find(|known| *known == first).unwrap_or("other")
}

/// How it ended, for metrics.
fn result(status: u16) -> &'static str {
    match status {
        ..400 => "ok",
        401 => "unauthorized",
        403 => "forbidden",
        400..=499 | 501 => "refused",
        _ => "failed",
    }
}

type Answer = Result<Response, Refused>;
type State_ = State<Arc<Kubelet>>;

async fn container_log(
    State(kubelet): State_,
    Extension(user): Extension<UserInfo>,
    method: Method,
    Path(target): Path<Target>,
    RawQuery(query): RawQuery,
) -> Answer {
    let options = logs::options(query.as_deref().unwrap_or_default())?;
    let own = kubelet.base_of(&user, &method, &target).await?;
    let own = own.map_err(|elsewhere| {
        let why = "a module writes into its base's log, and modulet reads that where the base is a Pod of the module's \
                   namespace that has the base's host name and address";
        Refused::NotPossible(format!("{why}; {elsewhere}: look there"))
    })?;
    let container = own.container.clone().map_err(|why| {
        Refused::NotPossible(format!("the log of its base, Pod {}/{}: {why}", own.namespace, own.name))
    })?;
    let module = target.container.unwrap_or_default();
    Ok(kubelet.logs.of(&own, &container, &module, &options).await?.into_response())
}

/// exec, attach and run: how it is done with the base.
async fn in_process(
    State(kubelet): State_,
    Extension(user): Extension<UserInfo>,
    Path(target): Path<Target>,
    request: Request,
) -> Response {
    let verb = if endpoint(request.uri().path()) == "attach" { "attach -it" } else { "exec -it" };
    let own = kubelet.base_of(&user, request.method(), &target).await;
    own.map_or_else(|refused| refused, |own| Refused::NotPossible(no_process(verb, &own))).as_object()
}

/// Modules listen on ports of their base. In another namespace people may read logs, and no more.
async fn port_forward(
    State(kubelet): State_,
    Extension(user): Extension<UserInfo>,
    Path(target): Path<Target>,
    request: Request,
) -> Response {
    let forwarded = async {
        match kubelet.base_of(&user, request.method(), &target).await? {
            Ok(own) if own.namespace == target.namespace => kubelet.forwards.to(&own, request).await,
            other => Err(Refused::NotPossible(no_port(&other))),
        }
    };
    forwarded.await.unwrap_or_else(|refused| refused.as_object())
}

fn no_port(own: &Result<OwnPod, String>) -> String {
    match own {
        Ok(OwnPod { namespace, name, .. }) => {
            format!("a module listens on its base's ports: kubectl -n {namespace} port-forward pod/{name} LOCAL:PORT")
        }
        Err(elsewhere) => format!("a module listens on its base's ports, and {elsewhere}: connect to it there"),
    }
}

fn no_process(verb: &str, own: &Result<OwnPod, String>) -> String {
    let why = "a module has no process of its own, it runs inside its base";
    match own {
        Ok(OwnPod { namespace, name, container, .. }) => {
            let container = container.as_deref().map(|name| format!(" -c {name}")).unwrap_or_default();
            let command = if verb.starts_with("exec") { " -- sh" } else { "" };
            format!("{why}: kubectl -n {namespace} {verb} {name}{container}{command}")
        }
        Err(elsewhere) => format!("{why}; {elsewhere}: log in there"),
    }
}

async fn healthz(State(kubelet): State_, Extension(user): Extension<UserInfo>, request: Request) -> Answer {
    kubelet.authorize(&user, &Action::of(request.method(), request.uri().path()), "").await?;
    Ok("ok".into_response())
}

async fn pods_of(State(kubelet): State_, Extension(user): Extension<UserInfo>, request: Request) -> Answer {
    let path = request.uri().path();
    let node = node_for(&kubelet, &user, path, request.headers()).await?;
    pods::list(&kubelet.cluster, node, endpoint(path) == "runningpods").await.map(as_json)
}

async fn summary(State(kubelet): State_, Extension(user): Extension<UserInfo>, request: Request) -> Answer {
    let node = node_for(&kubelet, &user, request.uri().path(), request.headers()).await?;
    pods::summary(&kubelet.cluster, node.ok_or(Refused::NotHere(NO_FIGURES))?).await.map(as_json)
}

/// Which of our Nodes is meant, for somebody who may; none: all, for somebody who may see all.
async fn node_for<'h>(
    kubelet: &Kubelet,
    user: &UserInfo,
    path: &str,
    headers: &'h HeaderMap,
) -> Result<Option<&'h str>, Refused> {
    let node = node_of(headers).filter(|node| names::is_object_name(node) && kubelet.cluster.is_ours(node));
    kubelet.authorize(user, &Action::of(&Method::GET, path), node.unwrap_or_default()).await?;
    Ok(node)
}

fn as_json(value: Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Nothing in the JVM meters one module; and only the API server's proxy to a Node says which one is meant.
const NO_FIGURES: &str = "modulet has no such figures: modules share their base's JVM, which meters none of them, and one address \
                          serves the Nodes of all bases. What there is, by base, is in modulet's own metrics; which Pods run \
                          on a Node is in kubectl get --raw /api/v1/nodes/NODE/proxy/stats/summary. Keep scrapers of kubelets \
                          away from Nodes with the label type=virtual-kubelet";
const NO_SUCH_PART: &str = "this part of a kubelet does not exist for bases: see docs/kubelet.md";

async fn others(State(kubelet): State_, Extension(user): Extension<UserInfo>, request: Request) -> Refused {
    let (method, path) = (request.method(), request.uri().path());
    if let Err(refused) = kubelet.authorize(&user, &Action::of(method, path), "").await {
        return refused;
    }
    match endpoint(path) {
        "stats" | "metrics" => Refused::NotHere(NO_FIGURES),
        _ => Refused::NotHere(NO_SUCH_PART),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_has_not_is_said_with_the_line_that_does_it_for_its_base() {
        let own = |container: Result<&str, &str>| {
            Ok(OwnPod {
                namespace: "shop".to_owned(),
                name: "base-1".to_owned(),
                container: container.map(str::to_owned).map_err(str::to_owned),
                entries: None,
            })
        };
        let words = no_process("exec -it", &own(Ok("java")));
        assert!(words.ends_with("kubectl -n shop exec -it base-1 -c java -- sh"), "{words}");
        let words = no_process("attach -it", &own(Err("which?")));
        assert!(words.ends_with("kubectl -n shop attach -it base-1"), "{words}");
        let words = no_process("exec -it", &Err("its base (vnode.b.dev) is on host h at address a".to_owned()));
        assert!(words.ends_with("its base (vnode.b.dev) is on host h at address a: log in there"), "{words}");
    }

    #[test]
    fn metrics_have_so_many_endpoints_only() {
        assert_eq!(endpoint("/containerLogs/a/b/c"), "containerLogs");
        assert_eq!(endpoint("/metrics/resource"), "metrics");
        for other in ["/", "", "/configz", "/execute/a", "/%2e%2e/pods"] {
            assert_eq!(endpoint(other), "other", "{other}");
        }
    }
}
