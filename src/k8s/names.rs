//! Labels, taints and annotations that users rely on.

/// Taint that every base's Node has: `=True:NoExecute`.
pub const TAINT_VIRTUAL_NODE: &str = "schedule.koupleless.io/virtual-node";
/// Second taint of newer Go controllers: `={env}:NoExecute`, only when switched on.
pub const TAINT_ENV: &str = "schedule.koupleless.io/node-env";

/// Application name of the base.
pub const BASE_NAME: &str = "base.koupleless.io/name";
/// Application version of the base.
pub const BASE_VERSION: &str = "base.koupleless.io/version";
/// Cluster of the base.
pub const BASE_CLUSTER: &str = "base.koupleless.io/cluster-name";
/// Host name of the base.
pub const BASE_HOST: &str = "base.koupleless.io/host-name";
/// Label of a base's own Pod: which of its containers is the base.
pub const BASE_CONTAINER: &str = "base.koupleless.io/container-name";
/// Annotation of a base's own Pod: a regular expression for the line with which an entry of its log begins.
pub const LOG_ENTRIES: &str = "modulet.koupleless.io/log-entries";
/// Readiness gate and condition of a base's own Pod: all module Pods of the base are Ready.
pub const MODULES_READY: &str = "modulet.koupleless.io/modules-ready";
/// Annotation of a Node whose address is that of modulet's kubelet API: the base's own.
pub const BASE_ADDRESS: &str = "base.koupleless.io/address";
/// What the base is written in: `java`.
pub const BASE_STACK: &str = "base.koupleless.io/stack";
/// How the base is reached.
pub const BASE_TUNNEL: &str = "base.koupleless.io/tunnel";
/// The port to which commands for the base go, where that is over HTTP.
pub const BASE_TUNNEL_PORT: &str = "base.koupleless.io/tunnel-port";
/// [`BASE_NAME`] in the first documents.
pub const BASE_NAME_OLD: &str = "vnode.koupleless.io/name";
/// [`BASE_VERSION`] in the first documents.
pub const BASE_VERSION_OLD: &str = "vnode.koupleless.io/version";
/// [`BASE_TUNNEL`] in the first documents.
pub const BASE_TUNNEL_OLD: &str = "vnode.koupleless.io/tunnel";

/// Component label of the newer documents: `vnode` on Nodes, `module` on Pods.
pub const COMPONENT: &str = "virtual-kubelet.koupleless.io/component";
/// Component label of the older documents, for the same.
pub const COMPONENT_OLD: &str = "module-controller.koupleless.io/component";
/// On the Pod of the replica that leads, where bases are reached over HTTP.
pub const LEADER: &str = "modulet.koupleless.io/leader";
/// Environment of a Node.
pub const ENV: &str = "virtual-kubelet.koupleless.io/env";
/// `peer` on a Deployment: its replicas follow the number of bases.
pub const STRATEGY: &str = "virtual-kubelet.koupleless.io/strategy";
/// `true` on a Deployment: its replicas are left alone (the Go controller's opt-out).
pub const REPLICAS_CONTROL: &str = "virtual-kubelet.koupleless.io/replicas-control";
/// [`ENV`] in the older documents.
pub const ENV_OLD: &str = "module-controller.koupleless.io/env";
/// [`STRATEGY`] in the older documents.
pub const STRATEGY_OLD: &str = "module-controller.koupleless.io/strategy";
/// [`REPLICAS_CONTROL`] in the older documents.
pub const REPLICAS_CONTROL_OLD: &str = "module-controller.koupleless.io/replicas-control";
/// Version of a Pod's module, where a container has no `BIZ_VERSION`.
pub const MODULE_VERSION: &str = "module.koupleless.io/version";
/// Environment variable that gives a container's module version.
pub const BIZ_VERSION: &str = "BIZ_VERSION";

/// Unique per base where no ordinary Node has one: the documented way to spread modules is anti-affinity over it.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Well-known label.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Well-known label.
pub const OS: &str = "kubernetes.io/os";
/// Its value. None that Kubernetes knows: what selects `linux` (kube-proxy, CNI and log agents) has no use for a Node
/// without processes, though it tolerates every taint.
pub const OS_OF_BASES: &str = "jvm";
/// Well-known label: cloud controllers send no traffic of load balancers to such a Node.
pub const NO_LOAD_BALANCER: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// `kubectl get nodes` shows what comes behind the slash as the role.
pub const ROLE_BASE: &str = "node-role.kubernetes.io/base";
/// Label of virtual Nodes, as virtual-kubelets set it.
pub const TYPE: &str = "type";
/// Its value, which others' virtual Nodes have too.
pub const TYPE_VIRTUAL: &str = "virtual-kubelet";

/// Label of modulet's own record (`ConfigMap`s); its value is the environment.
pub const RECORD: &str = "modulet.koupleless.io/record";
/// Annotation of an object of the record: how it is written.
pub const RECORD_FORMAT: &str = "modulet.koupleless.io/record-format";
/// Annotation of a Node that had the ledger of its base; it is taken away.
pub const LEDGER: &str = "modulet.koupleless.io/ledger";

/// Annotation of a Pod: `replace` has the version before make room where the base cannot load both.
pub const UPDATE: &str = "modulet.koupleless.io/update";
/// Annotation of a Pod: `ignore` has its modules installed whatever metaspace is left.
pub const METASPACE: &str = "modulet.koupleless.io/metaspace";
/// Annotation of a Pod: `required` has it wait where no `ModuleRollout` releases its workload.
pub const ROLLOUT: &str = "modulet.koupleless.io/rollout";
/// Finalizer of a `ModuleRollout`: what it holds is released in order before it goes.
pub const ROLLOUT_FINALIZER: &str = "modulet.koupleless.io/release";
/// Label of a Pod and its `ReplicaSet`: which template they are from (Kubernetes convention).
pub const TEMPLATE_HASH: &str = "pod-template-hash";
/// The same of `DaemonSet`s.
pub const REVISION_HASH: &str = "controller-revision-hash";
/// Annotation of a Pod: the lower, the earlier its `ReplicaSet` deletes it (Kubernetes convention).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The cost that we set: below what people set, which is left alone.
pub const GOES_FIRST: &str = "-2147483647";

/// Label of a Pod, and annotation of its Events: what whoever made it calls the work that it belongs to.
pub const TRACE: &str = "trace.koupleless.io/id";

/// Reason of a superseded Pod and its containers.
pub const BIZ_DEACTIVATE: &str = "BizDeactivate";

/// Whether `value` can be a label's value: at most 63 of `[A-Za-z0-9._-]`, alphanumeric at both ends, or empty.
pub fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.len() <= 63
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether an object can have this name: at most 253 of `[a-z0-9.-]`, alphanumeric at both ends (a DNS subdomain).
pub fn is_object_name(name: &str) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    name.len() <= 253
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|b| alphanumeric(Some(b)) || matches!(b, b'.' | b'-'))
}
