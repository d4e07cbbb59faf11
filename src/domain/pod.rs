//! The parts of a Pod that decide what happens to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{metaspace::Lack, module::ModuleSpec, probe::Probes};

/// `metadata.uid`: names of Pods are used again, uids are not.
pub type PodUid = Arc<str>;

/// Whose Pod it is, and which revision of its template it was made from.
///
/// Two revisions of one workload are ordered: a rolling update and `kubectl rollout undo`
/// both give the template that should run now the highest revision (Kubernetes convention,
/// `deployment.kubernetes.io/revision` and `ControllerRevision.revision`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Uid of the outermost owner: Deployment, `DaemonSet`, `StatefulSet`, bare `ReplicaSet`, or the Pod itself.
    pub uid: Arc<str>,
    /// 0 where the workload has no revisions.
    pub revision: i64,
}

/// What a Pod is made of, for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Module containers, in the order of the Pod's spec.
    Modules(Vec<Container>),
    /// No modules of ours; the reason is for people.
    Foreign(String),
}

/// One container of a module Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// What it is to the base.
    pub role: Role,
    /// What the Pod's status tells of the container's past.
    pub history: ContainerHistory,
    /// What it is asked while its module is active.
    pub probes: Option<Arc<Probes>>,
}

/// What a container is to the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A module.
    Module(ModuleSpec),
    /// Meant as a module, but it can't be one, or not yet; the text says why.
    Unusable(String),
    /// Put into the Pod by an injector: it is left alone, and the Pod is Ready without it.
    SideCar,
}

impl Container {
    /// The module it stands for.
    pub fn module(&self) -> Option<&ModuleSpec> {
        match &self.role {
            Role::Module(spec) => Some(spec),
            Role::Unusable(_) | Role::SideCar => None,
        }
    }
}

/// A container's past as its Pod's status records it: the memory that survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ContainerHistory {
    /// The container has run at some time.
    pub has_run: bool,
    /// `restartCount`.
    pub restarts: u32,
    /// Failed starts, as far as `lastState` and the waiting reason tell.
    pub failed: bool,
    /// It waits because this context path is taken.
    pub kept_out: Option<String>,
    /// It waits because of this.
    pub lacks: Option<Lack>,
    /// It runs, and has started as far as its probe is concerned;
    pub started: bool,
    /// and it is ready.
    pub ready: bool,
}

/// A Pod bound to a base's Node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Pod {
    /// Its uid.
    pub uid: PodUid,
    /// `namespace/name`, for people.
    pub name: String,
    /// Its place among Pods by age: `creationTimestamp` (seconds, the API server's clock).
    pub created: i64,
    /// Its workload and revision.
    pub workload: Workload,
    /// Its modules.
    pub content: Content,
    /// Deletion was asked for; the delay is `lifecycle.preStop.sleep`.
    pub deleting: Option<Duration>,
    /// It was evicted because its Node could not be reached.
    pub evicted: bool,
    /// Phase Failed or Succeeded: nothing starts in it again.
    pub terminal: bool,
    /// Terminal because a newer version took over (reason `BizDeactivate`).
    pub superseded: bool,
    /// `terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// `lifecycle.preStop.sleep`: how long requests may go on after the Pod has left its Services.
    pub drain: Duration,
    /// What the base cannot load beside its modules is to make room for them (annotation
    /// `modulet.koupleless.io/update: replace`).
    pub replaces: bool,
    /// It is installed whatever metaspace is left (annotation `modulet.koupleless.io/metaspace: ignore`).
    pub ignores_metaspace: bool,
    /// The API says that it is Ready, so it may have requests.
    pub shown_ready: bool,
    /// Its base has not had its turn in a release of its workload: what it waits for, for people. No command is sent
    /// for it, and what serves in its place stays.
    pub held_back: Option<Arc<str>>,
    /// A release of its workload is under way: if it is deleted, what it ran stays for some time for its successor, and
    /// what it takes over from stays until it serves.
    pub lingers: bool,
    /// What it asks for and a base has not, for people: fields of its spec.
    pub not_done: Vec<String>,
    /// What whoever made it calls the work that it belongs to (label `trace.koupleless.io/id`).
    pub trace: Option<Arc<str>>,
}

impl Pod {
    /// Its module containers; none for foreign Pods.
    pub fn containers(&self) -> &[Container] {
        match &self.content {
            Content::Modules(containers) => containers,
            Content::Foreign(_) => &[],
        }
    }

    /// Its modules that are well-formed.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        self.containers().iter().filter_map(Container::module)
    }

    /// It wants its modules to run: neither finished nor being deleted.
    pub fn is_live(&self) -> bool {
        !self.terminal && self.deleting.is_none()
    }
}

/// Pods by the names of their modules.
pub(super) fn by_module_name<'a>(pods: &[&'a Pod]) -> BTreeMap<&'a str, Vec<&'a Pod>> {
    let mut by_name = BTreeMap::<_, Vec<_>>::new();
    for pod in pods {
        for module in pod.modules() {
            by_name.entry(module.id.name.as_str()).or_default().push(*pod);
        }
    }
    by_name
}
