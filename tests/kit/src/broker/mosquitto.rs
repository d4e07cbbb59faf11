//! Mosquitto as a child process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::BrokerAddress;
use crate::control_plane::certificates::Authority;
use crate::ports::free_port;
use crate::process::{Process, Program};

const PATIENCE: Duration = Duration::from_secs(20);

/// A Mosquitto of our own on a free loopback port, with a user and a password. It keeps nothing on
/// disk: a restart loses sessions and queued messages. Dropping it kills it.
#[derive(Debug)]
pub struct Mosquitto {
    address: BrokerAddress,
    program: Program,
    process: Mutex<Option<Process>>,
    tls: Option<Tls>,
    directory: TempDir,
}

/// A second listener, with TLS, and what clients need for it.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its TCP port.
    pub port: u16,
    /// The authority that signed the broker's certificate.
    pub ca: PathBuf,
    /// A client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What a second listener asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// User and password.
    Passwords,
    /// These and a certificate.
    Certificates,
}

impl Tls {
    fn create(directory: &Path) -> Result<Self> {
        let authority = Authority::create(directory)?;
        authority.server("broker")?;
        authority.client("client")?;
        let file = |name: &str| directory.join(name);
        Ok(Self { port: free_port()?, ca: file("ca.crt"), certificate: file("client.crt"), key: file("client.key") })
    }
}

impl Mosquitto {
    /// Starts one and waits until it takes clients.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, "").await
    }

    /// The same with further lines in its configuration.
    pub async fn start_configured(lines: &str) -> Result<Self> {
        Self::start_with(None, lines).await
    }

    /// The same with a second listener that speaks TLS.
    pub async fn start_tls(clients: Clients) -> Result<Self> {
        Self::start_with(Some(clients), "").await
    }

    /// Starts one with a configuration that is there already, beside which its log is kept; `address` is a login with
    /// which it is asked whether it takes clients.
    pub async fn start_as(config: &Path, address: BrokerAddress) -> Result<Self> {
        Self::run(tempfile::Builder::new().prefix("modulet-mosquitto-").tempdir()?, config, address, None).await
    }

    async fn run(directory: TempDir, config: &Path, address: BrokerAddress, tls: Option<Tls>) -> Result<Self> {
        let path = find("mosquitto").context("mosquitto is not installed: run `make setup`")?;
        let program = Program::new("mosquitto", path, directory.path().join("log"))
            .arg("-c")
            .arg(config)
            .litter(directory.path());
        let this = Self { address, program, process: Mutex::default(), tls, directory };
        this.start_again().await?;
        Ok(this)
    }

    /// Adds a login to a file of them, which is made if there is none.
    pub async fn add_login(file: &Path, user: &str, password: &str) -> Result<()> {
        let flags: &[&str] = if file.exists() { &["-b"] } else { &["-b", "-c"] };
        write_password(file, flags, user, password).await
    }

    async fn start_with(clients: Option<Clients>, lines: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("modulet-mosquitto-").tempdir()?;
        let address = BrokerAddress::local(free_port()?);
        let tls = clients.map(|_| Tls::create(directory.path())).transpose()?;
        let config = write_config(directory.path(), &address).await?;
        if !lines.is_empty() {
            fs::write(&config, format!("{}{lines}\n", fs::read_to_string(&config)?))?;
        }
        if let Some(tls) = &tls {
            add_tls(&config, directory.path(), tls, clients == Some(Clients::Certificates))?;
        }
        Self::run(directory, &config, address, tls).await
    }

    /// Where it is and how to log in; stays the same over [`Self::start_again`].
    pub fn address(&self) -> &BrokerAddress {
        &self.address
    }

    /// The second listener, if it has one.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Ends it in order: clients lose their connections and find nobody at its port.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process.lock().await.take();
        process.context("mosquitto is not running")?.terminate().await?;
        Ok(())
    }

    /// `kill -9`, until [`Self::start_again`].
    pub async fn kill9(&self) -> Result<()> {
        let process = self.process.lock().await.take();
        process.context("mosquitto is not running")?.kill9().await?;
        Ok(())
    }

    /// Starts it again on its old port, and waits until it takes clients.
    pub async fn start_again(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        if process.is_some() {
            bail!("mosquitto is running");
        }
        let started = self.program.start()?;
        started.wait_ready(PATIENCE, async || self.address.probe().await).await?;
        *process = Some(started);
        Ok(())
    }

    /// Another user, or another password of one; in force from the next [`Self::start_again`] on.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<()> {
        write_password(&self.directory.path().join("passwords"), &["-b"], user, password).await
    }

    /// Freezes it: connections stay open, nothing goes through.
    pub async fn pause(&self) -> Result<()> {
        self.process.lock().await.as_ref().context("mosquitto is not running")?.pause()
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<()> {
        self.process.lock().await.as_ref().context("mosquitto is not running")?.resume()
    }

    /// The process id, to measure it.
    pub async fn pid(&self) -> Result<u32> {
        Ok(self.process.lock().await.as_ref().context("mosquitto is not running")?.pid())
    }

    /// Where its log is, over restarts.
    pub fn log_path(&self) -> &Path {
        self.program.log()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, count: usize) -> String {
        crate::process::tail(self.program.log(), count)
    }
}

async fn write_password(file: &Path, flags: &[&str], user: &str, password: &str) -> Result<()> {
    let tool = find("mosquitto_passwd").context("mosquitto_passwd is not installed: run `make setup`")?;
    let made = Command::new(tool).args(flags).arg(file).args([user, password]).output().await?;
    if !made.status.success() {
        bail!("mosquitto_passwd: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

async fn write_config(directory: &Path, address: &BrokerAddress) -> Result<PathBuf> {
    let passwords = directory.join("passwords");
    write_password(&passwords, &["-b", "-c"], &address.username, &address.password).await?;
    // `user root`: started by root it would otherwise become a user who may not read this
    // directory. Not root's business otherwise: it is ignored for everybody else.
    let config = format!(
        "listener {port} {host}\n\
         user root\n\
         allow_anonymous false\n\
         password_file {passwords}\n\
         persistence false\n\
         max_queued_messages 1000000\n\
         max_inflight_messages 0\n\
         set_tcp_nodelay true\n\
         log_dest stderr\n\
         log_type error\n\
         log_type warning\n\
         log_type notice\n",
        port = address.port,
        host = address.host,
        passwords = passwords.display(),
    );
    let path = directory.join("mosquitto.conf");
    fs::write(&path, config)?;
    Ok(path)
}

fn add_tls(config: &Path, directory: &Path, tls: &Tls, certificates: bool) -> Result<()> {
    let file = |name: &str| directory.join(name).display().to_string();
    let text = fs::read_to_string(config)?;
    let listener = format!(
        "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate {certificates}\n",
        port = tls.port,
        ca = file("ca.crt"),
        certificate = file("broker.crt"),
        key = file("broker.key"),
    );
    fs::write(config, text + &listener)?;
    Ok(())
}

/// Looks on the path, and where Debian puts servers, which is not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from);
    let mut paths = std::env::split_paths(&path).chain(places).map(|place| place.join(program));
    paths.find(|path| path.is_file())
}
