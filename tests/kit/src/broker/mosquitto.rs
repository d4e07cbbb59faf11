//! Mosquitto as a child process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::BrokerAddress;
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
    _directory: TempDir,
}

impl Mosquitto {
    /// Starts one and waits until it takes clients.
    pub async fn start() -> Result<Self> {
        let path = find("mosquitto").context("mosquitto is not installed: run `make setup`")?;
        let directory = tempfile::Builder::new()
            .prefix("modulet-mosquitto-")
            .tempdir()?;
        let address = BrokerAddress::local(free_port()?);
        let config = write_config(directory.path(), &address).await?;
        let program = Program::new("mosquitto", path, directory.path().join("log"))
            .arg("-c")
            .arg(config)
            .litter(directory.path());
        let this = Self {
            address,
            program,
            process: Mutex::default(),
            _directory: directory,
        };
        this.start_again().await?;
        Ok(this)
    }

    /// Where it is and how to log in; stays the same over [`Self::start_again`].
    pub fn address(&self) -> &BrokerAddress {
        &self.address
    }

    /// Ends it in order: clients lose their connections and find nobody at its port.
    pub async fn stop(&self) -> Result<()> {
        let process = self.process.lock().await.take();
        process
            .context("mosquitto is not running")?
            .terminate()
            .await?;
        Ok(())
    }

    /// Starts it again on its old port, and waits until it takes clients.
    pub async fn start_again(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        if process.is_some() {
            bail!("mosquitto is running");
        }
        let started = self.program.start()?;
        started
            .wait_ready(PATIENCE, async || self.address.probe().await)
            .await?;
        *process = Some(started);
        Ok(())
    }

    /// Freezes it: connections stay open, nothing goes through.
    pub async fn pause(&self) -> Result<()> {
        self.process
            .lock()
            .await
            .as_ref()
            .context("mosquitto is not running")?
            .pause()
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<()> {
        self.process
            .lock()
            .await
            .as_ref()
            .context("mosquitto is not running")?
            .resume()
    }

    /// The process id, to measure it.
    pub async fn pid(&self) -> Result<u32> {
        Ok(self
            .process
            .lock()
            .await
            .as_ref()
            .context("mosquitto is not running")?
            .pid())
    }

    /// The last lines of its log.
    pub fn log_tail(&self, count: usize) -> String {
        crate::process::tail(self.program.log(), count)
    }
}

async fn write_config(directory: &Path, address: &BrokerAddress) -> Result<PathBuf> {
    let passwords = directory.join("passwords");
    let tool = find("mosquitto_passwd").context("mosquitto_passwd is not installed")?;
    let made = Command::new(tool)
        .args(["-b", "-c"])
        .arg(&passwords)
        .args([&address.username, &address.password])
        .output()
        .await?;
    if !made.status.success() {
        bail!(
            "mosquitto_passwd: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
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

/// Looks on the path, and where Debian puts servers, which is not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from);
    let mut paths = std::env::split_paths(&path)
        .chain(places)
        .map(|place| place.join(program));
    paths.find(|path| path.is_file())
}
