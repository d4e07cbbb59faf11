//! What every test stands on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use modulet_testkit::{
    base::{BaseOptions, Fleet, Generation, SimulatedBase},
    broker::Mosquitto,
    control_plane::ControlPlane,
    controller::{Controller, ControllerOptions},
    process::tail,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};

use crate::{turns::Turn, workloads::lock};

/// Long enough for a busy machine; what is promised to be quick is measured elsewhere.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// The same for that many bases or Pods, which a busy machine takes one after the other.
pub(crate) fn soon_for(count: usize) -> Duration {
    SOON + Duration::from_millis(500) * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Control plane and name of every stage there was.
static STAGES: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());

/// A namespace, an environment, a broker and a controller.
pub(crate) struct Stage {
    pub(crate) cluster: &'static ControlPlane,
    pub(crate) client: Client,
    /// Namespace and environment.
    pub(crate) name: String,
    pub(crate) broker: Mosquitto,
    pub(crate) controller: Controller,
    /// Whether the test has said how it ends, as all do (`quiet.rs`).
    pub(crate) ended: AtomicBool,
    _turn: Option<Turn>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // An error went past the end; for a panic the controller itself does it.
        if !self.ended.load(Ordering::Relaxed) && !std::thread::panicking() {
            eprintln!("--- the end of the controller's log:\n{}\n---", tail(self.controller.log_path(), 50));
        }
    }
}

impl Stage {
    /// Sets the stage with the controller running. `name` must be the test's own.
    pub(crate) async fn set(name: &str) -> Result<Self> {
        Self::set_with(name, |options| options).await
    }

    /// The same with other options for the controller.
    pub(crate) async fn set_with(
        name: &str,
        adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        Self::set_on(ControlPlane::shared().await?, name, adapt).await
    }

    /// The same on a control plane of the test's own.
    pub(crate) async fn set_on(
        cluster: &'static ControlPlane,
        name: &str,
        adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        Self::set_at(cluster, Mosquitto::start().await?, name, adapt).await
    }

    /// The same with a broker that is not like the others.
    pub(crate) async fn set_at(
        cluster: &'static ControlPlane,
        broker: Mosquitto,
        name: &str,
        adapt: impl FnOnce(ControllerOptions) -> ControllerOptions,
    ) -> Result<Self> {
        // Two with one name have one environment, and the lead goes from one to the other's modulet.
        let taken = (cluster.kubeconfig().to_owned(), name.to_owned());
        ensure!(lock(&STAGES).insert(taken), "another test has a stage called {name}");
        let turn = Turn::wait().await?;
        let client = cluster.client().await?;
        cluster.create_namespace(name).await?;
        let options = ControllerOptions::new(env!("CARGO_BIN_EXE_modulet"), cluster.kubeconfig(), broker.address())
            .env("ENV", name)
            // Real bases of tests have their modules from this machine.
            .env("MODULET_MODULE_URLS", "file:///,http://,https://");
        let controller = Controller::start(adapt(options)).await?;
        // It is ready before that: as a standby.
        eventually("modulet to lead", SOON, async || {
            ensure!(controller.metric("modulet_leads", &[]).await? > 0.0);
            Ok(())
        })
        .await?;
        Ok(Self {
            cluster,
            client,
            name: name.to_owned(),
            broker,
            controller,
            ended: AtomicBool::new(false),
            _turn: turn,
        })
    }

    /// Options of a base of this stage. Its name is the stage's too, so that only this stage's Pods select it.
    pub(crate) fn base_options(&self, id: &str) -> BaseOptions {
        BaseOptions {
            env: self.name.clone(),
            name: self.name.clone(),
            username: self.broker.address().username.clone(),
            password: self.broker.address().password.clone(),
            host: self.broker.address().host.clone(),
            ..BaseOptions::new(id, self.broker.address().port)
        }
    }

    /// Starts a base and waits for its Node to be Ready.
    pub(crate) async fn base(&self, options: BaseOptions) -> Result<SimulatedBase> {
        let (node, answers) = (self.node_name(&options.id), options.generation > Generation::V2_1_6);
        let base = SimulatedBase::start(options).await?;
        self.node_ready(&node, "True").await?;
        if answers {
            has_its_baseline(&base).await?;
        }
        Ok(base)
    }

    /// Name of a base's Node.
    pub(crate) fn node_name(&self, id: &str) -> String {
        format!("vnode.{id}.{}", self.name)
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Waits until a Node is gone.
    pub(crate) async fn node_gone(&self, node: &str) -> Result<()> {
        eventually(&format!("Node {node} gone"), SOON, async || match self.nodes().get_opt(node).await? {
            None => Ok(()),
            Some(node) => bail!("it is there: {}", json!(node.status)),
        })
        .await
    }

    /// All that the controller keeps on record: orders, and the ledgers of bases, by the objects' names.
    pub(crate) async fn record(&self) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), "default");
        let ours = ListParams::default().labels(&format!("modulet.koupleless.io/record={}", self.name));
        let objects = api.list(&ours).await?.items;
        Ok(objects.into_iter().map(|o| (o.metadata.name.unwrap_or_default(), o.data.unwrap_or_default())).collect())
    }

    /// Waits until it is on record that this controller told the base to install the module.
    pub(crate) async fn recorded(&self, base: &str, module: &str, limit: Duration) -> Result<()> {
        eventually(&format!("{module} on record for {base}"), limit, async || {
            let record = self.record().await?;
            let entries = record.iter().flat_map(|(_, entries)| entries);
            let mut ours = entries.filter(|(key, text)| (*key == base || *key == "ordered") && text.contains(module));
            if ours.next().is_some() { Ok(()) } else { bail!("{record:?}") }
        })
        .await
    }

    /// Waits for a Node's Ready condition.
    pub(crate) async fn node_ready(&self, node: &str, status: &str) -> Result<Node> {
        eventually(&format!("Node {node} Ready={status}"), SOON, async || {
            let node = self.nodes().get(node).await?;
            let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let ready = conditions.clone().find(|c| c.type_ == "Ready").map(|c| c.status.clone());
            if ready.as_deref() == Some(status) { Ok(node) } else { bail!("it is {ready:?}") }
        })
        .await
    }

    /// The Pods that have this label.
    pub(crate) async fn pods_with(&self, label: &str) -> Result<Vec<Pod>> {
        Ok(self.pods().list(&ListParams::default().labels(label)).await?.items)
    }

    /// Waits until `condition` holds for a Pod.
    pub(crate) async fn pod_until(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Result<Pod> {
        eventually(&format!("Pod {name} {what}"), SOON, async || {
            let pod = self.pods().get(name).await?;
            if condition(&pod) { Ok(pod) } else { bail!("its status: {}", json!(pod.status)) }
        })
        .await
    }

    /// Waits until a Pod is Ready.
    pub(crate) async fn pod_ready(&self, name: &str) -> Result<Pod> {
        self.pod_until(name, "Ready", is_ready).await
    }

    /// Waits until a Pod is gone.
    pub(crate) async fn pod_gone(&self, name: &str) -> Result<()> {
        eventually(&format!("Pod {name} gone"), SOON, async || match self.pods().get_opt(name).await? {
            None => Ok(()),
            Some(pod) => bail!("it is there: {}", json!(pod.status)),
        })
        .await
    }

    /// Deletes a Pod and waits until it is gone.
    pub(crate) async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        self.pod_gone(name).await
    }

    /// Creates a Pod.
    pub(crate) async fn create_pod(&self, pod: Value) -> Result<Pod> {
        // Without it the API server calls us "unknown", as it would call a controller that does not say who it is.
        let params = PostParams { field_manager: Some("tests".to_owned()), ..PostParams::default() };
        Ok(self.pods().create(&params, &serde_json::from_value(pod)?).await?)
    }

    /// Reasons of the Events of an object, oldest first.
    pub(crate) async fn events(&self, of: &str) -> Result<Vec<String>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        let mut events = api.list(&ListParams::default().fields(&format!("involvedObject.name={of}"))).await?.items;
        events.sort_by_key(|e| e.metadata.creation_timestamp.clone());
        Ok(events.into_iter().filter_map(|e| e.reason).collect())
    }

    /// What the Events of an object say: type, reason and message.
    pub(crate) async fn told_about(&self, of: &str) -> Result<Vec<String>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        let mut events = api.list(&ListParams::default().fields(&format!("involvedObject.name={of}"))).await?.items;
        events.sort_by_key(|e| e.metadata.creation_timestamp.clone());
        let text = |e: Event| [e.type_, e.reason, e.message].map(Option::unwrap_or_default).join(" ");
        Ok(events.into_iter().map(text).collect())
    }

    /// Waits until an Event of an object has all these words in it, and returns what it says.
    pub(crate) async fn event_with(&self, of: &str, words: &[&str]) -> Result<String> {
        eventually(&format!("an Event of {of} with {words:?}"), SOON, async || {
            let told = self.told_about(of).await?;
            let found = told.iter().find(|text| words.iter().all(|word| text.contains(word))).cloned();
            found.with_context(|| format!("{told:?}"))
        })
        .await
    }

    /// Runs kubectl in the stage's namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let kubectl = Tool::ControlPlane.program("kubectl").await?;
        let output = tokio::process::Command::new(kubectl)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .args(["-n", &self.name])
            .args(args)
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Runs kubectl and reads the table it prints: for each row, what stands under each heading.
    pub(crate) async fn kubectl_table(&self, args: &[&str]) -> Result<Vec<BTreeMap<String, String>>> {
        let text = self.kubectl(args).await?;
        let mut lines = text.lines();
        let head = lines.next().context("kubectl printed nothing")?;
        // Headings may have one blank in them (NOMINATED NODE), and are at least two apart.
        let mut starts: Vec<usize> = head
            .char_indices()
            .filter(|(at, c)| *c != ' ' && (*at == 0 || head[..*at].ends_with("  ")))
            .map(|(at, _)| at)
            .collect();
        starts.push(usize::MAX);
        let cell = |line: &str, from: usize, to: usize| {
            line.get(from..to.min(line.len())).unwrap_or_default().trim().to_owned()
        };
        let columns: Vec<_> = starts.windows(2).map(|span| (cell(head, span[0], span[1]), span[0], span[1])).collect();
        let row = |line: &str| columns.iter().map(|(name, from, to)| (name.clone(), cell(line, *from, *to))).collect();
        Ok(lines.map(row).collect())
    }

    /// Waits until the controller's log has a line with all these words in it, and returns the first such line.
    pub(crate) async fn log_line(&self, words: &[&str]) -> Result<String> {
        eventually(&format!("{words:?} in the log"), SOON, async || log_line(&self.controller, words)).await
    }

    /// Applies an object.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        self.kubectl(&["apply", "-f", &file.path().display().to_string()]).await?;
        Ok(())
    }

    /// Applies an object in another namespace.
    pub(crate) async fn kubectl_at(&self, namespace: &str, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        self.kubectl(&["-n", namespace, "apply", "-f", &file.path().display().to_string()]).await?;
        Ok(())
    }

    /// Applies a file of `examples/` after changing some words in it.
    pub(crate) async fn apply_example(&self, file: &str, changes: &[(&str, &str)]) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (old, new) in changes {
            if !text.contains(old) {
                bail!("{file} has no {old:?} in it");
            }
            text = text.replace(old, new);
        }
        let copy = tempfile::NamedTempFile::new()?;
        std::fs::write(copy.path(), text)?;
        self.kubectl(&["apply", "-f", &copy.path().display().to_string()]).await?;
        Ok(())
    }
}

/// Waits until a base has the answer to its question at the start, which comes once it has a Node, and until all that
/// follows is said: Pods that come earlier would be part of it, and lists that are delayed from then on would be of a
/// time before what the test does.
pub(crate) async fn has_its_baseline(base: &SimulatedBase) -> Result<()> {
    eventually("the baseline, and the list after it", SOON, async || {
        let commands = base.commands();
        let baseline = commands.iter().position(|command| command.command == "baseline").context("no baseline")?;
        let listed = commands.iter().skip(baseline).any(|command| command.command == "queryAllBiz");
        let answers = base.counters().answers;
        ensure!(listed && answers >= commands.len(), "{answers} answers to {commands:?}");
        Ok(())
    })
    .await
}

/// The same for all bases of a fleet.
pub(crate) async fn have_their_baselines(fleet: &Fleet) -> Result<()> {
    eventually("a baseline for each base", soon_for(fleet.len()), async || {
        let answered = fleet.received("baseline");
        ensure!(answered >= fleet.len(), "{answered} of {}", fleet.len());
        Ok(())
    })
    .await
}

/// The first line of a controller's log with all these words in it.
pub(crate) fn log_line(controller: &Controller, words: &[&str]) -> Option<String> {
    let text = controller.log_text();
    text.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
}

/// The Ready condition.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.clone().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The phase.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Reason of the first container's state, waiting or terminated.
pub(crate) fn container_reason(pod: &Pod) -> Option<&str> {
    let state = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?;
    let waiting = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
    waiting.or_else(|| state.terminated.as_ref().and_then(|t| t.reason.as_deref()))
}

/// Message of the first container's state, waiting or terminated.
pub(crate) fn container_message(pod: &Pod) -> Option<&str> {
    let state = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?;
    let waiting = state.waiting.as_ref().and_then(|w| w.message.as_deref());
    waiting.or_else(|| state.terminated.as_ref().and_then(|t| t.message.as_deref()))
}

/// A module's URL as its file is usually named.
pub(crate) fn url(name: &str, version: &str) -> String {
    format!("https://modules.example.com/{name}-{version}-ark-biz.jar")
}

/// A bare module Pod for the bases of the stage called `stage`.
pub(crate) fn module_pod(stage: &str, pod: &str, modules: &[(&str, &str)]) -> Value {
    let mut template = module_template(stage, modules);
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!(pod);
    template
}

/// Metadata and spec of a module Pod.
pub(crate) fn module_template(stage: &str, modules: &[(&str, &str)]) -> Value {
    let containers: Vec<_> = modules
        .iter()
        .map(|(name, version)| {
            json!({
                "name": name,
                "image": url(name, version),
                "env": [{ "name": "BIZ_VERSION", "value": version }],
            })
        })
        .collect();
    json!({
        "metadata": { "labels": {
            "module-controller.koupleless.io/component": "module",
            "module.koupleless.io/name": modules[0].0,
            "module.koupleless.io/version": modules[0].1,
        } },
        "spec": {
            "containers": containers,
            "nodeSelector": { "base.koupleless.io/name": stage },
            "tolerations": [{
                "key": "schedule.koupleless.io/virtual-node",
                "operator": "Equal", "value": "True", "effect": "NoExecute",
            }],
        },
    })
}
