//! `DaemonSet`s whose Pods would come to bases, where nothing but modules can run.

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, NodeSelectorTerm, PodSpec, PodTemplateSpec},
};
use serde_json::{Value, json};

use super::{NodeWriter, Ready, admission::required_terms, admits, names, pod::component_in};
use crate::domain::{BaseInfo, Reachability};

/// Taints of states that pass: their controller has daemons tolerate these, or they are gone the next minute.
const PASSING: &str = "node.kubernetes.io/";

/// A `DaemonSet` that would put Pods on a base.
#[derive(Clone, Debug, PartialEq)]
pub struct Intruder {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A merge patch that keeps its Pods away from bases and changes nothing else.
    pub patch: Value,
}

impl Intruder {
    /// The command that keeps it away.
    pub fn command(&self) -> String {
        let patch = self.patch.to_string().replace('\'', r"'\''");
        let Self { namespace, name, .. } = self;
        format!("kubectl patch daemonset {name} --namespace {namespace} --type merge --patch '{patch}'")
    }
}

/// The Node of a base that says no more of itself than it must, as it would be made.
pub fn typical_base(env: &str, max_pods: u32, zone_per_base: bool, env_taint: bool) -> Option<Node> {
    let info = BaseInfo { name: "base".to_owned(), version: "1.0.0".to_owned(), ..BaseInfo::default() };
    let writer = NodeWriter {
        name: &format!("vnode.base.{env}"),
        env,
        info: &info,
        max_metaspace: None,
        pressure: None,
        java_version: None,
        kubelet_version: "",
        kubelet: None,
        max_pods,
        zone_per_base,
        env_taint,
        now: Timestamp::UNIX_EPOCH,
    };
    serde_json::from_value(writer.create(Ready::from(Reachability::Online)?)).ok()
}

/// The `DaemonSet` as one whose Pods would come to this base and are no modules.
pub fn intruder(set: &DaemonSet, base: &Node) -> Option<Intruder> {
    let spec = set.spec.as_ref()?;
    let template = spec.template.spec.as_ref()?;
    if is_module(&spec.template) || set.metadata.deletion_timestamp.is_some() || !admits(template, &settled(base)) {
        return None;
    }
    Some(Intruder {
        namespace: set.metadata.namespace.clone().unwrap_or_default(),
        name: set.metadata.name.clone().unwrap_or_default(),
        patch: keeps_away(template),
    })
}

/// Whether Pods of a template are modules.
pub fn is_module(template: &PodTemplateSpec) -> bool {
    template.metadata.as_ref().and_then(component_in) == Some("module")
}

/// The Node without what passes: a cordon and the taints of Kubernetes' own controllers keep no daemon out for long.
fn settled(node: &Node) -> Node {
    let mut node = node.clone();
    if let Some(spec) = &mut node.spec {
        spec.unschedulable = None;
        spec.taints.iter_mut().for_each(|taints| taints.retain(|taint| !taint.key.starts_with(PASSING)));
    }
    node
}

/// Terms are alternatives, so each of them has to say it. A merge patch replaces the list.
fn keeps_away(template: &PodSpec) -> Value {
    let no_base = || json!({ "key": names::TYPE, "operator": "NotIn", "values": [names::TYPE_VIRTUAL] });
    let with = |term: &NodeSelectorTerm| {
        let expressions = term.match_expressions.iter().flatten().map(|e| json!(e)).chain([no_base()]);
        let mut with = json!({ "matchExpressions": expressions.collect::<Vec<_>>() });
        if let (Some(fields), Some(object)) = (&term.match_fields, with.as_object_mut()) {
            object.insert("matchFields".to_owned(), json!(fields));
        }
        with
    };
    // An empty term matches no Node, and must not come to match all that are no bases (Kubernetes convention).
    let says = |term: &&NodeSelectorTerm| {
        term.match_expressions.iter().flatten().next().is_some() || term.match_fields.iter().flatten().next().is_some()
    };
    let terms: Vec<_> = required_terms(template).map_or_else(
        || vec![json!({ "matchExpressions": [no_base()] })],
        |terms| terms.iter().filter(says).map(with).collect(),
    );
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
    json!({ "spec": { "template": { "spec": { "affinity": { "nodeAffinity": required } } } } })
}

#[cfg(test)]
mod tests {
    use super::{super::merge::json_merge, *};

    const NAME: &str = "vnode.base.dev";

    fn base() -> Node {
        typical_base("dev", 1000, false, true).unwrap()
    }

    fn set(spec: Value) -> DaemonSet {
        let template = json!({ "metadata": { "labels": { "app": "agent" } }, "spec": spec });
        serde_json::from_value(json!({
            "metadata": { "namespace": "kube-system", "name": "agent" },
            "spec": { "selector": {}, "template": template },
        }))
        .unwrap()
    }

    fn with(more: Value) -> DaemonSet {
        let mut spec = json!({ "containers": [], "tolerations": [{ "operator": "Exists" }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set(spec)
    }

    fn affinity(terms: Value) -> Value {
        json!({ "affinity": { "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": { "matchExpressions": [
                { "key": "disk", "operator": "Exists" }] } }],
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
    }

    fn patched(mut set: DaemonSet) -> DaemonSet {
        let patch = intruder(&set, &base()).expect("it comes to bases").patch;
        let mut object = json!(set);
        json_merge(&mut object, &patch);
        set = serde_json::from_value(object).unwrap();
        set
    }

    #[test]
    fn who_tolerates_our_taints_and_selects_nothing_comes_to_bases_until_it_is_patched() {
        for comes in [
            json!({}),
            json!({ "nodeSelector": { "kubernetes.io/hostname": NAME } }),
            json!({ "tolerations": [{ "key": "schedule.koupleless.io/virtual-node", "operator": "Exists" }, { "key": "schedule.koupleless.io/node-env", "operator": "Exists" }] }),
            affinity(
                json!([{ "matchExpressions": [{ "key": "disk", "operator": "Exists" }] }, { "matchExpressions": [{ "key": "disk", "operator": "DoesNotExist" }] }, {}]),
            ),
            affinity(
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [NAME, "machine"] }] }]),
            ),
        ] {
            let set = with(comes.clone());
            let after = patched(set.clone());
            assert_eq!(intruder(&after, &base()), None, "{comes}");
            // All else of it is as it was, and ordinary Nodes have it as before.
            for machine in [json!({ "disk": "ssd" }), json!({})] {
                let mut labels = machine.clone();
                labels["kubernetes.io/hostname"] = json!(NAME);
                let machine: Node =
                    serde_json::from_value(json!({ "metadata": { "name": "machine", "labels": labels } })).unwrap();
                let admitted =
                    |set: &DaemonSet| admits(set.spec.as_ref().unwrap().template.spec.as_ref().unwrap(), &machine);
                assert_eq!(admitted(&set), admitted(&after), "{comes} {machine:?}");
            }
            assert!(!comes.to_string().contains("preferred") || json!(after).to_string().contains("preferred"));
        }
    }

    #[test]
    fn who_is_kept_out_or_is_a_module_is_no_intruder() {
        for away in [
            json!({ "tolerations": [] }),
            json!({ "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }] }),
            json!({ "tolerations": [{ "key": "schedule.koupleless.io/virtual-node", "operator": "Exists" }] }),
            json!({ "nodeSelector": { "disk": "ssd" } }),
            affinity(
                json!([{ "matchExpressions": [{ "key": "type", "operator": "NotIn", "values": ["virtual-kubelet"] }] }]),
            ),
            affinity(json!([{}])),
        ] {
            assert_eq!(intruder(&with(away.clone()), &base()), None, "{away}");
        }
        for label in [names::COMPONENT, names::COMPONENT_OLD] {
            let mut module = with(json!({}));
            let labels = &mut module.spec.as_mut().unwrap().template.metadata.as_mut().unwrap().labels;
            labels.as_mut().unwrap().insert(label.to_owned(), "module".to_owned());
            assert_eq!(intruder(&module, &base()), None, "{label}");
        }
        assert_eq!(intruder(&DaemonSet::default(), &base()), None);
    }

    #[test]
    fn what_passes_keeps_nobody_out() {
        let mut node = base();
        let spec = node.spec.as_mut().unwrap();
        spec.unschedulable = Some(true);
        let away = json!({ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" });
        spec.taints.as_mut().unwrap().push(serde_json::from_value(away).unwrap());
        let only_ours = json!({ "tolerations": [
            { "key": "schedule.koupleless.io/virtual-node", "operator": "Exists" },
            { "key": "schedule.koupleless.io/node-env", "operator": "Exists" }] });
        assert!(intruder(&with(only_ours.clone()), &node).is_some());
        let maintenance = json!({ "key": "maintenance", "effect": "NoSchedule" });
        node.spec.as_mut().unwrap().taints.as_mut().unwrap().push(serde_json::from_value(maintenance).unwrap());
        assert_eq!(intruder(&with(only_ours), &node), None);
    }

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let odd = json!([{ "matchExpressions": [{ "key": "k", "operator": "NotIn", "values": ["it's"] }] }]);
        let found = intruder(&with(affinity(odd)), &base()).unwrap();
        let command = found.command();
        assert!(command.starts_with("kubectl patch daemonset agent --namespace kube-system --type merge --patch '{"));
        assert!(command.contains(r"it'\''s"), "{command}");
        let labels = base().metadata.labels.unwrap();
        assert_eq!(labels.get(names::TYPE).map(String::as_str), Some(names::TYPE_VIRTUAL));
    }
}
