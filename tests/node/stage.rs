//! The cluster, its machine, the broker and the bases.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::{Api, Client, api::ListParams};
use modulet_testkit::{
    base::{BaseOptions, SimulatedBase},
    broker::{BrokerAddress, Mosquitto},
    control_plane::{ControlPlane, ControlPlaneOptions, Kubelets, certificates::Authority},
    java_base::{JavaBase, JavaBaseOptions},
    node::{ADDRESS, Image, Node},
    ports::free_port,
    tools::Tool,
    wait::eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    try_join,
};

use crate::{base, gate::GATE};

/// Long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// The namespace of the modules and of the bases in the cluster.
pub(crate) const MODULES: &str = "shop";
/// The names of the simulated bases and of the real one, by which Pods select them.
pub(crate) const SIMULATED: &str = "simulated";
pub(crate) const REAL: &str = "real";
/// How many bases are Pods.
pub(crate) const IN_CLUSTER: usize = 2;
/// The image that a first release has, and the one that the release is upgraded to.
pub(crate) const IMAGE: &str = concat!("modulet:", env!("CARGO_PKG_VERSION"));
pub(crate) const NEXT_TAG: &str = "next";
/// Where the API server finds the kubelet of bases' Nodes; the machine's own has 10250.
pub(crate) const KUBELET_PORT: u16 = 10350;
const IMAGE_OF_BASES: &str = "simulated-base:test";
const IMAGE_OF_SANDBOXES: &str = "sandbox:test";

pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) outside: Vec<SimulatedBase>,
    pub(crate) real: JavaBase,
    broker: Mosquitto,
    port: u16,
    /// Where the broker speaks TLS, with the certificate of an authority that nobody knows.
    pub(crate) tls_port: u16,
    pub(crate) node: Node,
    pub(crate) cluster: ControlPlane,
    _images: TempDir,
}

impl Stage {
    /// Everything but modulet and the bases in the cluster.
    pub(crate) async fn set() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("images-").tempdir()?;
        let at = |name: &str| -> Result<_> {
            let path = directory.path().join(name);
            std::fs::create_dir(&path)?;
            Ok(path)
        };
        let (of_modulet, of_bases, of_sandboxes) = (at("modulet")?, at("bases")?, at("sandboxes")?);
        let program = of_bases.join("simulated-base");
        std::fs::copy(std::env::current_exe()?, &program)?;
        let options =
            ControlPlaneOptions { accept_existing: false, kubelets: Kubelets::Any, ..ControlPlaneOptions::default() };
        let (port, tls_port) = (free_port()?, free_port()?);
        let authority = at("authority")?;
        Authority::create(&authority)?.server("broker")?;
        let certificate = authority.join("broker").display().to_string();
        let listeners = format!(
            "listener {port} {ADDRESS}\nlistener {tls_port} {ADDRESS}\ncertfile {certificate}.crt\nkeyfile {certificate}.key"
        );
        // By itself: a machine that does all at once may not have it ready in its time.
        let cluster = ControlPlane::start(options).await?;
        let ((modulet, said), bases, sandboxes, broker, ()) = try_join!(
            Image::of_modulet(Path::new(env!("CARGO_BIN_EXE_modulet")), IMAGE, &of_modulet),
            Image::of_program(&program, &[base::ARGUMENT], IMAGE_OF_BASES, &of_bases),
            Image::of_program(Path::new("/usr/bin/sleep"), &["infinity"], IMAGE_OF_SANDBOXES, &of_sandboxes),
            Mosquitto::start_configured(&listeners),
            modulet_testkit::java_base::ensure_built(|line| println!("{line}")),
        )?;
        println!("{said}");
        let images = [modulet, bases, sandboxes];
        let start_node = async {
            let node = Node::start(&cluster, &images, IMAGE_OF_SANDBOXES).await?;
            node.tag(IMAGE, &format!("modulet:{NEXT_TAG}")).await?;
            anyhow::Ok(node)
        };
        let real = JavaBaseOptions {
            name: REAL.to_owned(),
            ip: ADDRESS.to_owned(),
            ..JavaBaseOptions::new(broker.address(), REAL)
        };
        let (node, real, outside) = try_join!(start_node, JavaBase::start(real), start_outside(broker.address()))?;
        cluster.create_namespace(MODULES).await?;
        Ok(Self {
            client: cluster.client().await?,
            outside,
            real,
            broker,
            port,
            tls_port,
            node,
            cluster,
            _images: directory,
        })
    }

    /// How the chart's values say where all this is.
    pub(crate) fn values(&self) -> Value {
        let broker = self.broker.address();
        json!({
            "mqtt": { "host": ADDRESS, "port": self.port, "username": broker.username, "password": broker.password },
            // The real base loads its modules from this machine's files.
            "modules": { "urls": ["file:///", "https://"] },
            // Nobody makes addresses of Services reachable here.
            "kubelet": { "enabled": true, "address": ADDRESS, "port": KUBELET_PORT, "namespaces": [MODULES] },
            "basePods": { "namespaces": [MODULES] },
        })
    }

    /// The bases that are Pods of the cluster themselves.
    pub(crate) fn bases_in_the_cluster(&self) -> Value {
        let broker = self.broker.address();
        let variable = |name: &str, value: &str| json!({ "name": name, "value": value });
        let field =
            |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "bases" },
            "spec": {
                "replicas": IN_CLUSTER,
                "selector": { "matchLabels": { "app": "base" } },
                "template": {
                    "metadata": { "labels": { "app": "base" } },
                    "spec": {
                        "terminationGracePeriodSeconds": 2,
                        "readinessGates": [{ "conditionType": GATE }],
                        "containers": [{
                            "name": "base", "image": IMAGE_OF_BASES, "imagePullPolicy": "Never",
                            "env": [
                                variable("MQTT_BROKER", ADDRESS), variable("MQTT_PORT", &self.port.to_string()),
                                variable("MQTT_USERNAME", &broker.username), variable("MQTT_PASSWORD", &broker.password),
                                variable("ENV", "dev"), variable("BASE_NAME", SIMULATED),
                                field("BASE_ID", "metadata.name"), field("POD_IP", "status.podIP"),
                            ],
                        }],
                    },
                },
            },
        })
    }

    /// A kubectl that goes on.
    pub(crate) async fn kubectl_runs(&self, args: &[&str]) -> Result<Child> {
        let mut command = Command::new(Tool::ControlPlane.program("kubectl").await?);
        command.args(args).env("KUBECONFIG", self.cluster.kubeconfig()).stdout(Stdio::piped());
        Ok(command.kill_on_drop(true).spawn()?)
    }

    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let kubectl = Tool::ControlPlane.program("kubectl").await?;
        self.output(Command::new(kubectl).args(args)).await
    }

    /// A line for a shell, as pages have it.
    pub(crate) async fn shell(&self, line: &str) -> Result<String> {
        let directory = Tool::ControlPlane.directory().await?;
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
        self.output(Command::new("sh").args(["-euc", line]).env("PATH", path)).await
    }

    async fn output(&self, command: &mut Command) -> Result<String> {
        let output = command.env("KUBECONFIG", self.cluster.kubeconfig()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("{:?}: {}", command.as_std(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        self.kubectl(&["--namespace", MODULES, "apply", "--filename", &file.path().display().to_string()]).await?;
        Ok(())
    }

    pub(crate) fn nodes(&self) -> Api<NodeObject> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Nodes of bases that are Ready, by name.
    pub(crate) async fn ready_bases(&self) -> Result<BTreeSet<String>> {
        let bases = ListParams::default().labels("virtual-kubelet.koupleless.io/env=dev");
        let nodes = self.nodes().list(&bases).await?.items;
        let ready = nodes.into_iter().filter(|node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.clone().any(|one| one.type_ == "Ready" && one.status == "True")
        });
        Ok(ready.filter_map(|node| node.metadata.name).collect())
    }

    /// Waits until all Pods of modules with this label are Ready, and are so many.
    pub(crate) async fn modules_ready(&self, label: &str, count: usize) -> Result<()> {
        eventually(&format!("{count} Ready Pods with {label}"), SOON, async || {
            let pods = self.pods(MODULES).list(&ListParams::default().labels(label)).await?.items;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(ready == count && pods.len() == count, "{ready} of {}", pods.len());
            Ok(())
        })
        .await
    }

    /// What all simulated bases were told by such commands: the modules' names.
    pub(crate) fn told(&self, command: &str) -> Result<Vec<String>> {
        let outside = self.outside.iter().flat_map(SimulatedBase::commands);
        let mut payloads: Vec<Value> =
            outside.filter(|told| told.command == command).map(|told| told.payload).collect();
        for line in self.node.logs_of(MODULES, "bases-")?.lines() {
            if let Some((told, payload)) = line.split_once(' ')
                && told == command
            {
                payloads.push(serde_json::from_str(payload).with_context(|| line.to_owned())?);
            }
        }
        Ok(payloads.iter().filter_map(|payload| payload["bizName"].as_str()).map(str::to_owned).collect())
    }

    /// The modules of each simulated base, by base.
    pub(crate) async fn modules_of_bases(&self) -> Result<BTreeMap<String, String>> {
        let outside = self.outside.iter().map(|base| {
            let modules = base.modules();
            let list: Vec<_> = modules.iter().map(|(name, version, _)| format!("{name}:{version}")).collect();
            (base.identity(), list.join(" "))
        });
        let mut all: BTreeMap<_, _> = outside.collect();
        for pod in self.pods(MODULES).list(&ListParams::default().labels("app=base")).await?.items {
            let name = pod.metadata.name.unwrap_or_default();
            let log = self.node.logs_of(MODULES, &name)?;
            let last = log.lines().filter_map(|line| line.strip_prefix(base::LISTS)).next_back();
            all.insert(name, last.unwrap_or_default().to_owned());
        }
        Ok(all)
    }

    /// What helps to find out why something did not happen.
    pub(crate) async fn evidence(&self) -> String {
        let look = async |args: &[&str]| self.kubectl(args).await.unwrap_or_else(|error| format!("{error:#}"));
        let pods = look(&["get", "pods", "--all-namespaces", "--output", "wide"]).await;
        let nodes = look(&["get", "nodes"]).await;
        let events = look(&["get", "events", "--all-namespaces"]).await;
        let log = self.node.logs_of(crate::office::NAMESPACE, "modulet-").unwrap_or_default();
        let end = |text: &str, count: usize| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        };
        let machine = self.node.log_tail(15);
        format!("{nodes}\n{pods}\n{}\nmodulet: {}\n{machine}", end(&events, 30), end(&log, 40))
    }

    /// Takes all of it down, the last first.
    pub(crate) async fn strike(self) -> Result<()> {
        drop(self.outside);
        self.real.terminate().await?;
        self.node.stop().await?;
        self.broker.stop().await?;
        self.cluster.stop().await
    }
}

async fn start_outside(broker: &BrokerAddress) -> Result<Vec<SimulatedBase>> {
    let mut bases = Vec::new();
    for id in ["outside-1", "outside-2"] {
        let options = BaseOptions {
            host: broker.host.clone(),
            username: broker.username.clone(),
            password: broker.password.clone(),
            name: SIMULATED.to_owned(),
            ..BaseOptions::new(id, broker.port)
        };
        bases.push(SimulatedBase::start(options).await?);
    }
    Ok(bases)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.clone().any(|one| one.type_ == "Ready" && one.status == "True")
}
