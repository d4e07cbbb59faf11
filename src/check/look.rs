//! Reads what the API server shows. Nothing is written: access reviews are questions that are not stored.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    authentication::v1::SelfSubjectReview,
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
        SubjectAccessReviewSpec,
    },
    coordination::v1::Lease,
    core::v1::{ConfigMap, LimitRange, Node, Pod},
};
use kube::{
    Api, Client, Error,
    api::{ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    args::Account,
    facts::{Blind, Facts, Look},
    rights::{self, Right, Scope},
};
use crate::{
    api::{Clients, Lean, Proxies, chain, lease_name, replica_of},
    app,
    config::{Config, ZonePerBase},
    domain::printable,
    k8s::{self, Reference, is_module, names},
    kubelet::Source,
};

/// A question takes no longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Objects of a page, and pages that are read of a kind.
const PAGE: u32 = 500;
const PAGES: usize = 200;
/// Questions for rights at a time.
const AT_ONCE: usize = 8;
/// Namespaces and kinds whose reading is asked for.
const REFERRED: usize = 100;
/// Where the Leases of Nodes are.
const NODE_LEASES: &str = "kube-node-lease";
/// Where the API server says who signs the certificates of clients.
const SYSTEM: &str = "kube-system";
/// Characters of what the API server says.
const TEXT_MAX: usize = 500;

/// Looks at the cluster.
pub(super) async fn look(config: &Config, account: Option<&Account>) -> Facts {
    let has_zone = config.zone_per_base != ZonePerBase::False;
    let mut facts = Facts {
        env: config.env.clone(),
        client_id: config.client_id.clone(),
        leader: None,
        zone_per_base: config.zone_per_base,
        base: k8s::typical_base(&config.env, config.max_pods, has_zone, config.env_taint),
        version: Err(String::new()),
        who: None,
        rights: Vec::new(),
        nodes: not_looked(),
        daemon_sets: not_looked(),
        deployments: not_looked(),
        module_namespaces: not_looked(),
        limit_ranges: not_looked(),
        referred: Vec::new(),
        leases: not_looked(),
        writer: not_looked(),
        broker: None,
        heartbeats: None,
    };
    match connect(config).await {
        Ok((client, version)) => {
            facts.version = Ok(version);
            see(&client, config, account, &mut facts).await;
        }
        Err(why) => facts.version = Err(why),
    }
    facts
}

fn not_looked<T>() -> Look<T> {
    Err(Blind::Failed("the API server cannot be asked".to_owned()))
}

/// A client that works, and the API server's version.
async fn connect(config: &Config) -> Result<(Client, String), String> {
    let cluster = app::cluster(config).await.map_err(|error| text(&format!("{error:#}")))?;
    let at = cluster.cluster_url.to_string();
    let clients = Clients::new(cluster, &Proxies::from_env()).map_err(|error| text(&error))?;
    let version = timeout(ANSWERS_WITHIN, clients.requests.apiserver_version()).await;
    let version = match version {
        Ok(Ok(info)) => info.git_version,
        // Whoever may not ask that is known there all the same.
        Ok(Err(Error::Api(status))) if status.code == 403 => "of an unknown version".to_owned(),
        Ok(Err(error)) => return Err(text(&format!("{at}: {}", chain(&error)))),
        Err(_) => return Err(format!("{at}: no answer within {ANSWERS_WITHIN:?}")),
    };
    Ok((clients.requests, text(&version)))
}

async fn see(client: &Client, config: &Config, account: Option<&Account>, facts: &mut Facts) {
    facts.who = match account {
        Some(account) => Some(user(account)),
        None => whoami(client).await,
    };
    let asks = config.kubelet.as_ref().is_some_and(|kubelet| matches!(kubelet.certificate, Source::Asked(_)));
    facts.rights = futures::stream::iter(rights::all(config.http_tunnel.is_some(), config.kubelet.is_some(), asks))
        .map(|right| async move { (right, granted(client, config, account, right).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    facts.nodes = list::<Node>(Api::all(client.clone()), "list nodes", "").await;
    let all = list::<Lean<DaemonSet>>(Api::all(client.clone()), "list daemonsets.apps", "").await;
    facts.daemon_sets = all.map(|all| all.into_iter().map(|Lean(set)| set).collect());
    let all = list::<Lean<Deployment>>(Api::all(client.clone()), "list deployments.apps", "").await;
    let of_modules = |d: &Deployment| d.spec.as_ref().is_some_and(|spec| is_module(&spec.template));
    facts.deployments = all.map(|all| all.into_iter().map(|Lean(object)| object).filter(of_modules).collect());
    let (namespaces, read) = match module_pods(client).await {
        Ok((namespaces, read)) => (Ok(namespaces), read),
        Err(blind) => (Err(blind), BTreeSet::new()),
    };
    facts.module_namespaces = namespaces;
    for (namespace, resource) in read.into_iter().take(REFERRED) {
        let attributes = ResourceAttributes {
            verb: Some("get".to_owned()),
            resource: Some(resource.to_owned()),
            namespace: Some(namespace.clone()),
            ..ResourceAttributes::default()
        };
        facts.referred.push((namespace, resource, allowed(client, account, attributes).await));
    }
    facts.limit_ranges = list::<LimitRange>(Api::all(client.clone()), "list limitranges", "").await;
    let in_leases = format!("list leases.coordination.k8s.io in {NODE_LEASES}");
    facts.leases = list::<Lease>(Api::namespaced(client.clone(), NODE_LEASES), &in_leases, "").await;
    let leads = Api::<Lease>::namespaced(client.clone(), &config.namespace);
    let leads = timeout(ANSWERS_WITHIN, leads.get_opt(&lease_name(&config.env))).await;
    let holder = leads.ok().and_then(Result::ok).flatten().and_then(|lease| lease.spec?.holder_identity);
    facts.leader = holder.filter(|holder| !holder.is_empty()).map(|holder| replica_of(&holder).to_owned());
    let ours = format!("{}={}", names::RECORD, config.env);
    let in_own = format!("list configmaps in {}", config.namespace);
    let record = list::<ConfigMap>(Api::namespaced(client.clone(), &config.namespace), &in_own, &ours).await;
    facts.writer = record.map(|all| all.iter().find_map(k8s::writer_of).map(str::to_owned));
}

/// Namespaces with module Pods, and what is to be read there for their environments.
async fn module_pods(client: &Client) -> Look<(BTreeSet<String>, BTreeSet<(String, &'static str)>)> {
    let (mut namespaces, mut read) = (BTreeSet::new(), BTreeSet::new());
    for label in [names::COMPONENT, names::COMPONENT_OLD] {
        let pods = list::<Lean<Pod>>(Api::all(client.clone()), "list pods", &format!("{label}=module")).await?;
        for Lean(pod) in pods {
            read.extend(k8s::references(&pod).into_keys().map(|reference| match reference {
                Reference::ConfigMap(namespace, _) => (namespace, "configmaps"),
                Reference::Secret(namespace, _) => (namespace, "secrets"),
                Reference::Template(namespace, _) => (namespace, "replicasets"),
            }));
            namespaces.extend(pod.metadata.namespace);
        }
    }
    Ok((namespaces, read))
}

/// All objects, page by page.
async fn list<K>(api: Api<K>, needs: &str, labels: &str) -> Look<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE).labels(labels);
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let page = match timeout(ANSWERS_WITHIN, api.list(&params)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => return Err(blind(&error, needs)),
            Err(_) => return Err(Blind::Failed(format!("{needs}: no answer within {ANSWERS_WITHIN:?}"))),
        };
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
    Err(Blind::Failed(format!("{needs}: there are more than {}", PAGES.saturating_mul(PAGE as usize))))
}

fn blind(error: &Error, needs: &str) -> Blind {
    match error {
        Error::Api(status) if status.code == 403 => Blind::Needs(needs.to_owned()),
        other => Blind::Failed(text(&format!("{needs}: {}", chain(other)))),
    }
}

async fn whoami(client: &Client) -> Option<String> {
    let api = Api::<SelfSubjectReview>::all(client.clone());
    let asked = timeout(ANSWERS_WITHIN, api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let user = asked.ok()?.ok()?.status?.user_info?.username?;
    Some(text(&user))
}

/// Whether modulet has that right.
async fn granted(client: &Client, config: &Config, account: Option<&Account>, right: Right) -> Look<bool> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (right.resource, None),
    };
    let attributes = ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(right.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: match right.scope {
            Scope::Cluster => None,
            Scope::Leases => Some(NODE_LEASES.to_owned()),
            Scope::Own => Some(config.namespace.clone()),
            Scope::System => Some(SYSTEM.to_owned()),
        },
        ..ResourceAttributes::default()
    };
    allowed(client, account, attributes).await
}

/// The API server's word on it.
async fn allowed(client: &Client, account: Option<&Account>, attributes: ResourceAttributes) -> Look<bool> {
    let post = PostParams::default();
    let asked = async {
        let Some(account) = account else {
            let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
            let review = SelfSubjectAccessReview { spec, ..Default::default() };
            return Api::<SelfSubjectAccessReview>::all(client.clone()).create(&post, &review).await.map(|r| r.status);
        };
        let namespace = &account.namespace;
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(user(account)),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            ..Default::default()
        };
        let review = SubjectAccessReview { spec, ..Default::default() };
        Api::<SubjectAccessReview>::all(client.clone()).create(&post, &review).await.map(|r| r.status)
    };
    let needs = if account.is_some() { "create subjectaccessreviews" } else { "create selfsubjectaccessreviews" };
    match timeout(ANSWERS_WITHIN, asked).await {
        Ok(Ok(status)) => Ok(status.is_some_and(|status| status.allowed)),
        Ok(Err(error)) => Err(blind(&error, &format!("{needs}.authorization.k8s.io"))),
        Err(_) => Err(Blind::Failed(format!("{needs}: no answer within {ANSWERS_WITHIN:?}"))),
    }
}

fn user(account: &Account) -> String {
    format!("system:serviceaccount:{}:{}", account.namespace, account.name)
}

fn text(said: &dyn std::fmt::Display) -> String {
    printable(&said.to_string(), TEXT_MAX).into_owned()
}
