//! A real Kubernetes control plane: etcd, API server, controller manager and scheduler, without
//! containers and without kubelets. What Nodes it has, the program under test makes.

pub mod certificates;
mod parts;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use self::certificates::{Authority, write_kubeconfig};
use self::parts::Parts;
use crate::process::{Process, Program};
use crate::wait::eventually;

/// How long one part may take to become ready; it takes about a second, and longer on a machine
/// that compiles at the same time.
const PATIENCE: Duration = Duration::from_mins(1);

/// The kubelets that `kubectl logs` and `kubectl exec` lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kubelets {
    /// There are none.
    None,
    /// Whatever certificate they show.
    Any,
    /// The API server looks at their certificates, and the controller manager signs them once they are approved.
    Signed,
}

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// How many requests per second the controller manager and the scheduler may each send, `None`
    /// for what they come with (20 and 50, which would be the ceiling of any test with Deployments).
    pub requests_per_second: Option<u32>,
    /// Further arguments of the API server.
    pub api_server_args: Vec<String>,
    /// Further arguments of the controller manager.
    pub controller_manager_args: Vec<String>,
    /// Further arguments of the scheduler.
    pub scheduler_args: Vec<String>,
    /// What kubelets there will be.
    pub kubelets: Kubelets,
    /// Whether to use the cluster `KUBECONFIG` names, where it is set, and start nothing.
    pub accept_existing: bool,
    /// Whether to keep the directory with the logs; also `MODULET_KEEP_LOGS=1`.
    pub keep_logs: bool,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self {
            requests_per_second: Some(2000),
            api_server_args: Vec::new(),
            controller_manager_args: Vec::new(),
            scheduler_args: Vec::new(),
            kubelets: Kubelets::None,
            accept_existing: true,
            keep_logs: env::var_os("MODULET_KEEP_LOGS").is_some(),
        }
    }
}

/// A running control plane. Dropping it kills its programs; they also die with this process.
#[derive(Debug)]
pub struct ControlPlane {
    kubeconfig: PathBuf,
    /// For files that are ours; with an existing cluster it holds only those.
    directory: PathBuf,
    own: Option<Mutex<Own>>,
    /// Removes the directory if nothing else does, where there is no etcd to do it.
    _janitor: Option<Process>,
    /// After the programs, for they write into it until they are gone.
    _removed_last: Option<TempDir>,
}

/// The programs, in the order in which they are stopped (and, by the language's rules, dropped).
#[derive(Debug)]
struct Own {
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Option<Process>,
    etcd_program: Program,
    etcd_address: String,
    api_server_program: Program,
    controller_manager_program: Program,
    scheduler_program: Program,
    server: String,
    authority: Authority,
}

impl ControlPlane {
    /// Starts one and waits until Pods can be made in the namespace `default`; about 4 s.
    ///
    /// Uses the cluster `KUBECONFIG` names instead, where it is set (and the options accept it), and
    /// the programs in `KUBEBUILDER_ASSETS`, where they exist.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self> {
        let mut temp = tempfile::Builder::new().prefix("modulet-control-plane-").tempdir()?;
        temp.disable_cleanup(options.keep_logs);
        let directory = temp.path().to_owned();
        if let Some(kubeconfig) = env::var_os("KUBECONFIG").filter(|_| options.accept_existing) {
            let kubeconfig = PathBuf::from(kubeconfig);
            let janitor = Program::new("janitor", "/bin/sleep", directory.join("janitor.log"))
                .arg("100000000")
                .litter(&directory);
            let this =
                Self { kubeconfig, directory, own: None, _janitor: Some(janitor.start()?), _removed_last: Some(temp) };
            this.client().await?.apiserver_version().await.context("the cluster of KUBECONFIG")?;
            return Ok(this);
        }

        let parts = Parts::prepare(&directory, &options).await?;
        if options.keep_logs {
            tracing::info!(directory = %directory.display(), "logs of the control plane");
        }
        let mut own = Own {
            scheduler: None,
            controller_manager: None,
            api_server: None,
            etcd: None,
            etcd_program: parts.etcd,
            etcd_address: format!("127.0.0.1:{}", parts.etcd_port),
            api_server_program: parts.api_server,
            controller_manager_program: parts.controller_manager,
            scheduler_program: parts.scheduler,
            server: parts.server,
            authority: parts.authority,
        };
        own.start_etcd().await?;
        own.start_api_server(&parts.kubeconfig).await?;
        let controller_manager = own.controller_manager_program.start()?;
        own.scheduler = Some(own.scheduler_program.start()?);
        let client = client_with(&parts.kubeconfig).await?;
        // The controller manager makes these, so it is at work; the scheduler needs no longer.
        let accounts = Api::<ServiceAccount>::namespaced(client, "default");
        controller_manager.wait_ready(PATIENCE, async || anyhow::Ok(accounts.get("default").await?)).await?;
        own.controller_manager = Some(controller_manager);
        Ok(Self {
            kubeconfig: parts.kubeconfig,
            directory,
            own: Some(Mutex::new(own)),
            _janitor: None,
            _removed_last: Some(temp),
        })
    }

    /// The control plane that all tests of this process share, started by the first who asks. Each
    /// test takes its own namespace in it, and names of its own for Nodes. It ends with the process.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(ControlPlaneOptions::default())).await
    }

    /// The kubeconfig of a user that may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// One of a test's own, also where there is a cluster already. It ends with the process.
    pub async fn start_own(options: ControlPlaneOptions) -> Result<&'static Self> {
        let options = ControlPlaneOptions { accept_existing: false, ..options };
        Ok(Box::leak(Box::new(Self::start(options).await?)))
    }

    /// Whether this is a cluster that was there before us, so that nothing of it can be stopped.
    pub fn is_existing(&self) -> bool {
        self.own.is_none()
    }

    /// Where the programs' logs and files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new client of a user that may do everything. New for each caller, because a client lives on
    /// the runtime that made it, and each test has its own.
    pub async fn client(&self) -> Result<Client> {
        client_with(&self.kubeconfig).await
    }

    /// The kubeconfig of a service account (made if missing), to run a program with its rights only.
    /// Its token is good for a day.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let account = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        created(accounts.create(&PostParams::default(), &account).await)?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(86_400), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let request = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        let token = request.status.context("the API server gave no token")?.token;
        let admin = Kubeconfig::read_from(&self.kubeconfig)?;
        let cluster = admin.clusters.first().and_then(|named| named.cluster.as_ref());
        let cluster = serde_json::to_value(cluster.context("a kubeconfig without a cluster")?)?;
        let path = self.directory.join(format!("{namespace}-{name}.kubeconfig"));
        write_kubeconfig(&path, &cluster, &json!({ "token": token }))?;
        Ok(path)
    }

    /// The same in the namespace `default`, with all rights: one of several that are to be told apart.
    pub async fn kubeconfig_for_administrator(&self, name: &str) -> Result<PathBuf> {
        let path = self.kubeconfig_for_service_account("default", name).await?;
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
        });
        let binding: ClusterRoleBinding = serde_json::from_value(binding)?;
        created(Api::all(self.client().await?).create(&PostParams::default(), &binding).await)?;
        Ok(path)
    }

    /// The kubeconfig of the kubelet of a machine with this name.
    pub async fn kubeconfig_for_kubelet(&self, machine: &str) -> Result<PathBuf> {
        let own = self.own()?.lock().await;
        let user = format!("system:node:{machine}");
        own.authority.kubeconfig(machine, &user, Some("system:nodes"), &own.server)
    }

    /// Host and port of the API server.
    pub async fn api_server_address(&self) -> Result<String> {
        let own = self.own()?.lock().await;
        Ok(own.server.trim_start_matches("https://").to_owned())
    }

    /// Makes a namespace, and waits until Pods can be made in it.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let client = self.client().await?;
        let namespace = Namespace { metadata: named(name), ..Namespace::default() };
        let namespaces = Api::<Namespace>::all(client.clone());
        created(namespaces.create(&PostParams::default(), &namespace).await)?;
        let accounts = Api::<ServiceAccount>::namespaced(client, name);
        let what = format!("the default service account of namespace {name}");
        eventually(&what, PATIENCE, async || anyhow::Ok(accounts.get("default").await?)).await?;
        Ok(())
    }

    /// Freezes the API server: connections stay open, nothing is answered.
    pub async fn pause_api_server(&self) -> Result<()> {
        self.own()?.lock().await.api_server()?.pause()
    }

    /// Lets it go on.
    pub async fn resume_api_server(&self) -> Result<()> {
        self.own()?.lock().await.api_server()?.resume()
    }

    /// Stops the API server: connections are refused until [`Self::start_api_server`].
    pub async fn stop_api_server(&self) -> Result<()> {
        let api_server = self.own()?.lock().await.api_server.take();
        api_server.context("the API server is not running")?.terminate().await?;
        Ok(())
    }

    /// `kill -9` of the API server, until [`Self::start_api_server`].
    pub async fn kill_api_server(&self) -> Result<()> {
        let api_server = self.own()?.lock().await.api_server.take();
        api_server.context("the API server is not running")?.kill9().await?;
        Ok(())
    }

    /// Freezes etcd: the API server answers only what it has in its own memory.
    pub async fn pause_etcd(&self) -> Result<()> {
        self.own()?.lock().await.etcd.as_ref().context("etcd is not running")?.pause()
    }

    /// Lets it go on.
    pub async fn resume_etcd(&self) -> Result<()> {
        self.own()?.lock().await.etcd.as_ref().context("etcd is not running")?.resume()
    }

    /// `kill -9` of etcd, until [`Self::start_etcd`]; what it said it has it keeps.
    pub async fn kill_etcd(&self) -> Result<()> {
        let etcd = self.own()?.lock().await.etcd.take();
        etcd.context("etcd is not running")?.kill9().await?;
        Ok(())
    }

    /// Starts etcd again with its old data, and waits until it takes connections.
    pub async fn start_etcd(&self) -> Result<()> {
        let mut own = self.own()?.lock().await;
        if own.etcd.is_some() {
            bail!("etcd is running");
        }
        own.start_etcd().await
    }

    /// Starts the API server again at its old address, and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let mut own = self.own()?.lock().await;
        if own.api_server.is_some() {
            bail!("the API server is running");
        }
        own.start_api_server(&self.kubeconfig).await
    }

    /// Starts the controller manager and the scheduler anew. After the API server was away for half a
    /// minute they ask for it only every half a minute, and a test may not want to wait that long.
    pub async fn restart_controllers(&self) -> Result<()> {
        let mut own = self.own()?.lock().await;
        for old in [own.scheduler.take(), own.controller_manager.take()].into_iter().flatten() {
            old.terminate().await?;
        }
        own.controller_manager = Some(own.controller_manager_program.start()?);
        own.scheduler = Some(own.scheduler_program.start()?);
        Ok(())
    }

    /// The API server's process id, to measure it.
    pub async fn api_server_pid(&self) -> Result<u32> {
        Ok(self.own()?.lock().await.api_server()?.pid())
    }

    /// Stops everything in order, and waits for each: the last one to start is the first to go.
    pub async fn stop(self) -> Result<()> {
        let Some(own) = self.own else { return Ok(()) };
        let own = own.into_inner();
        let last_first = [own.scheduler, own.controller_manager, own.api_server, own.etcd];
        for process in last_first.into_iter().flatten() {
            process.terminate().await?;
        }
        Ok(())
    }

    fn own(&self) -> Result<&Mutex<Own>> {
        self.own.as_ref().context("not with the cluster of KUBECONFIG: it is not ours")
    }
}

impl Own {
    fn api_server(&self) -> Result<&Process> {
        self.api_server.as_ref().context("the API server is not running")
    }

    async fn start_etcd(&mut self) -> Result<()> {
        let (process, address) = (self.etcd_program.start()?, self.etcd_address.clone());
        process.wait_ready(PATIENCE, async || anyhow::Ok(tokio::net::TcpStream::connect(&address).await?)).await?;
        self.etcd = Some(process);
        Ok(())
    }

    async fn start_api_server(&mut self, kubeconfig: &Path) -> Result<()> {
        let process = self.api_server_program.start()?;
        let client = client_with(kubeconfig).await?;
        process
            .wait_ready(PATIENCE, async || {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                anyhow::Ok(client.request_text(request).await?)
            })
            .await?;
        self.api_server = Some(process);
        Ok(())
    }
}

/// A client of the user that a kubeconfig names.
pub async fn client_with(kubeconfig: &Path) -> Result<Client> {
    let name = kubeconfig.display();
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("{name}"))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    // No proxy leads back to this machine, whatever HTTPS_PROXY says: so with kubectl and Helm.
    config.proxy_url =
        config.proxy_url.filter(|_| !matches!(config.cluster_url.host(), Some("127.0.0.1" | "localhost")));
    Ok(Client::try_from(config)?)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A thing that was there already is as good as one made now.
fn created<T>(result: kube::Result<T>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
