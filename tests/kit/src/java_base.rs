//! The real thing: a JVM from `examples/java-base` that loads and unloads real modules.
//!
//! It takes some seconds to start and 130 MB; where a test needs many bases, or bases that
//! misbehave on demand, the simulated ones are the better choice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::broker::BrokerAddress;
use crate::http;
use crate::ports::free_port;
use crate::process::{Process, Program};
use crate::wait::eventually;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/java-base");

/// What the build makes: name and version of each module.
const MODULES: [(&str, &str); 11] = [
    ("biz1", "0.0.1"),
    ("biz1", "0.0.2"),
    ("biz1", "0.0.3"),
    ("biz1", "0.0.4"),
    ("biz2", "0.0.1"),
    ("bizbroken", "0.0.1"),
    ("bizslow", "0.0.1"),
    ("webbiz", "0.0.1"),
    ("webbiz", "0.0.2"),
    ("webbiz", "0.0.3"),
    ("webbiz", "0.0.4"),
];

/// A JVM that shares two cores with several others has been seen to take 12 s.
const START: Duration = Duration::from_secs(90);
const BUILD: Duration = Duration::from_mins(15);

/// Builds the base and its modules with Maven unless they are there and newer than their sources.
/// `progress` gets a line when there is something to do.
///
/// Processes that call it at the same time build once.
pub async fn ensure_built(mut progress: impl FnMut(&str)) -> Result<()> {
    let project = project()?;
    let target = project.join("target");
    if up_to_date(&project)? {
        return Ok(());
    }
    fs::create_dir_all(&target)?;
    let lock = File::create(target.join("lock"))?;
    eventually("another build of the example base", BUILD, async || lock.try_lock().is_ok()).await?;
    if up_to_date(&project)? {
        return Ok(());
    }

    check_tools().await?;
    progress("building the example base with Maven (the first time it downloads about 130 MB)");
    // As old as the start of the build: what is edited meanwhile is newer.
    let stamp = target.join("building");
    File::create(&stamp)?.set_modified(SystemTime::now())?;
    let build = Command::new("mvn")
        .args(["-q", "-B", "package"])
        .current_dir(&project)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BUILD, build).await.context("mvn package: not done in 15 min")??;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stdout);
        let mut errors = output.lines().filter_map(|line| line.split_once("[ERROR]")).map(|(_, error)| error.trim());
        let first = errors.next().unwrap_or("no reason given");
        // "COMPILATION ERROR :" and the like; what it is about is in the next line.
        let second = errors.next().filter(|_| first.ends_with(':'));
        bail!("mvn package in {}: {first} {}", project.display(), second.unwrap_or_default());
    }
    fs::rename(stamp, target.join("built"))?;
    Ok(())
}

/// Fails with what to install if there is no Maven or it has no Java that will do.
async fn check_tools() -> Result<()> {
    let output = Command::new("mvn").arg("--version").output().await;
    let output = output.context("the example base needs Maven (`mvn`) and a JDK 17 or newer")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("Java version: "))
        .and_then(|rest| rest.split(['.', ',', '-']).next())
        .and_then(|major| major.parse::<u32>().ok());
    match version {
        Some(major) if major >= 17 => Ok(()),
        Some(major) => bail!("the example base needs a JDK 17 or newer; Maven's is {major}"),
        None => bail!("`mvn --version` does not say which Java it has; is JAVA_HOME right?"),
    }
}

fn up_to_date(project: &Path) -> Result<bool> {
    let Ok(built) = fs::metadata(project.join("target/built")) else {
        return Ok(false);
    };
    let there = project.join("base/target/base.jar").is_file()
        && project.join("base/target/lib").is_dir()
        && project.join("web-base/target/web-base.jar").is_file()
        && project.join("web-base/target/lib").is_dir()
        && MODULES.iter().all(|(name, version)| jar(project, name, version).is_file());
    let built = built.modified()?;
    let mut sources = vec![project.join("pom.xml")];
    for part in ["base", "web-base", "modules", "web-modules"] {
        sources.extend([project.join(part).join("pom.xml"), project.join(part).join("src")]);
    }
    while let Some(path) = sources.pop() {
        let metadata = fs::metadata(&path).with_context(|| path.display().to_string())?;
        if metadata.modified()? >= built {
            return Ok(false);
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                sources.push(entry?.path());
            }
        }
    }
    Ok(there)
}

fn project() -> Result<PathBuf> {
    fs::canonicalize(PROJECT).with_context(|| format!("{PROJECT} is missing"))
}

fn jar(project: &Path, name: &str, version: &str) -> PathBuf {
    let part = if name == "webbiz" { "web-modules" } else { "modules" };
    project.join(format!("{part}/target/{name}-{version}-ark-biz.jar"))
}

/// The `file://` URL of a module that [`ensure_built`] makes: `biz1` 0.0.1 to 0.0.4 (the last one
/// cannot start), `biz2` 0.0.1, `bizbroken` 0.0.1 and `bizslow` 0.0.1 (5 s, or what `--sleep=MS`
/// among its args says; the argument works with every module that can start). For a base with
/// [`JavaBaseOptions::web`]: `webbiz` 0.0.1 to 0.0.4 (the last one cannot start).
///
/// Other names give the URL of a file that is not there.
pub fn module_url(name: &str, version: &str) -> String {
    let project = project().unwrap_or_else(|_| PathBuf::from(PROJECT));
    let path = jar(&project, name, version).display().to_string();
    // The rest of what a URL may not have is not in anybody's path.
    let path = path.replace('%', "%25").replace(' ', "%20").replace('#', "%23");
    format!("file://{path}")
}

/// How a base and its controller reach each other.
#[derive(Debug, Clone)]
pub enum JavaTunnel {
    /// By this broker; an empty user name means none.
    Mqtt(BrokerAddress),
    /// By heartbeats posted to this endpoint (`http://localhost:7777`), and commands posted to the base.
    Http(String),
}

/// How to start a base. Begin with [`JavaBaseOptions::new`] or [`JavaBaseOptions::over_http`] and change what matters.
#[derive(Debug, Clone)]
pub struct JavaBaseOptions {
    /// How it and its controller reach each other.
    pub tunnel: JavaTunnel,
    /// The environment, part of all topics (`dev`).
    pub env: String,
    /// The base's identity, part of all topics.
    pub id: String,
    /// The application's name (`java-base`).
    pub name: String,
    /// The application's version (`1.0.0`).
    pub version: String,
    /// The cluster it says it belongs to (`default`).
    pub cluster: String,
    /// The IP it reports (`127.0.0.1`, where its modules really answer; empty: this machine's own address).
    pub ip: String,
    /// Seconds between two heartbeats (10; over HTTP 12, as stock bases have it).
    pub heart_seconds: u32,
    /// A module's newest version serves as soon as it has started (off, as in `SOFAArk`).
    pub activate_new_module: bool,
    /// A module that cannot start stays in the list as `broken` (off, as in `SOFAArk`).
    pub keep_broken: bool,
    /// Its modules are web applications, each a context of the base's Tomcat (off). `webbiz` is
    /// for such bases; the other modules are for those without.
    pub web: bool,
    /// More options for the JVM.
    pub java_opts: Vec<String>,
    /// Where its log and its unpacked modules go; a temporary directory if none.
    pub directory: Option<PathBuf>,
}

impl JavaBaseOptions {
    /// A base called `id` at this broker, all else as `SOFAArk` has it by default.
    pub fn new(broker: &BrokerAddress, id: &str) -> Self {
        Self::through(JavaTunnel::Mqtt(broker.clone()), id, 10)
    }

    /// A base called `id` that posts its heartbeats to `endpoint`, all else as `SOFAArk` has it by default.
    pub fn over_http(endpoint: &str, id: &str) -> Self {
        Self::through(JavaTunnel::Http(endpoint.to_owned()), id, 12)
    }

    fn through(tunnel: JavaTunnel, id: &str, heart_seconds: u32) -> Self {
        Self {
            tunnel,
            env: "dev".to_owned(),
            id: id.to_owned(),
            name: "java-base".to_owned(),
            version: "1.0.0".to_owned(),
            cluster: "default".to_owned(),
            ip: "127.0.0.1".to_owned(),
            heart_seconds,
            activate_new_module: false,
            keep_broken: false,
            web: false,
            java_opts: Vec::new(),
            directory: None,
        }
    }
}

/// A running base. Dropping it kills the JVM.
#[derive(Debug)]
pub struct JavaBase {
    options: JavaBaseOptions,
    program: Program,
    process: Process,
    http_port: u16,
    log: PathBuf,
    // After the process, so that it is removed when nobody writes to it any more.
    _directory: Option<TempDir>,
}

impl JavaBase {
    /// Starts a base and waits until Spring says that it has started. If the broker is up, the base
    /// is connected by then; if not, it goes on trying, as it does over HTTP. Call [`ensure_built`] first.
    pub async fn start(options: JavaBaseOptions) -> Result<Self> {
        let temporary =
            options.directory.is_none().then(|| tempfile::Builder::new().prefix("java-base-").tempdir()).transpose()?;
        let directory = match (&options.directory, &temporary) {
            (Some(given), _) => given.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("no directory"),
        };
        fs::create_dir_all(&directory)?;
        let http_port = free_port()?;
        let log = directory.join("base.log");
        let program = program(&options, &directory, &log, http_port)?;
        let from = length(&log);
        let process = program.start()?;
        let base = Self { options, program, process, http_port, log, _directory: temporary };
        base.wait_started(from).await?;
        Ok(base)
    }

    async fn wait_started(&self, from: u64) -> Result<()> {
        self.process
            .wait_ready(START, async || -> Result<()> {
                ensure!(self.log_since(from)?.contains("BASE STARTED"), "no report");
                Ok(())
            })
            .await
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill9(&self) -> Result<ExitStatus> {
        self.process.kill9().await
    }

    /// SIGTERM, and waits until it is gone (some 2 s).
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.process.terminate().await
    }

    /// Starts it again, with the same identity and ports and without modules. Terminates it first
    /// if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.exit().is_none() {
            self.terminate().await?;
        }
        let from = length(&self.log);
        self.process = self.program.start()?;
        self.wait_started(from).await
    }

    /// Its process, to pause it, for its id and its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its identity.
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// What it was started with.
    pub fn options(&self) -> &JavaBaseOptions {
        &self.options
    }

    /// The port of its web server, on all addresses of this machine.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Where its modules answer: `{http_url}/biz1`.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The `file://` URL of a module, see [`module_url`].
    pub fn module_url(&self, name: &str, version: &str) -> String {
        module_url(name, version)
    }

    /// Asks a module over HTTP: its answer (`biz1 0.0.2 on base-1`), or nothing if no version of it
    /// is active. A web module answers at `webbiz/version`; the base itself, if its name is empty, says
    /// what modules there are.
    pub async fn ask(&self, module: &str) -> Result<Option<String>> {
        let (status, body) = http::get(&format!("127.0.0.1:{}", self.http_port), &format!("/{module}")).await?;
        match status {
            200 => Ok(Some(body)),
            503 | 404 => Ok(None),
            _ => bail!("{module}: {status} {body}"),
        }
    }

    /// Its output so far, of all its lives.
    pub fn log(&self) -> Result<String> {
        self.log_since(0)
    }

    fn log_since(&self, from: u64) -> Result<String> {
        let bytes = fs::read(&self.log)?;
        let from = usize::try_from(from)?.min(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[from..]).into_owned())
    }
}

fn program(options: &JavaBaseOptions, directory: &Path, log: &Path, http_port: u16) -> Result<Program> {
    let on = |flag: bool| if flag { "true" } else { "" };
    let program = Program::new(&options.id, project()?.join("run-base.sh"), log)
        .env("BASE_DATA_DIR", directory)
        .env("ENV", &options.env)
        .env("BASE_ID", &options.id)
        .env("BASE_NAME", &options.name)
        .env("BASE_VERSION", &options.version)
        .env("BASE_CLUSTER", &options.cluster)
        .env("BASE_IP", &options.ip)
        .env("BASE_HTTP_PORT", http_port.to_string())
        .env("BASE_HEART_SECONDS", options.heart_seconds.to_string())
        .env("ARKLET_HTTP_PORT", free_port()?.to_string())
        .env("ACTIVATE_NEW_MODULE", on(options.activate_new_module))
        .env("KEEP_BROKEN", on(options.keep_broken))
        .env("BASE_WEB", on(options.web))
        .env("JAVA_OPTS", options.java_opts.join(" "));
    Ok(match &options.tunnel {
        JavaTunnel::Http(endpoint) => program.env("BASE_ENDPOINT", endpoint),
        JavaTunnel::Mqtt(broker) => program
            .env("MQTT_BROKER", &broker.host)
            .env("MQTT_PORT", broker.port.to_string())
            .env("MQTT_USERNAME", &broker.username)
            .env("MQTT_PASSWORD", &broker.password),
    })
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}
