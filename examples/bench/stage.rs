//! The parts, and how they are looked at.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use modulet_testkit::{
    base::{Activation, BaseOptions, Fleet},
    broker::Mosquitto,
    control_plane::{ControlPlane, ControlPlaneOptions},
    controller::{Controller, ControllerOptions},
    ports::free_port,
    process::{Process, tail},
    tools::Tool,
};

use crate::{
    Options,
    bases::{Bases, Tunnel},
    objects::{ENV, NAMESPACE},
    probed::Answers,
    progress::say,
    scrape::Scrape,
    sight::Sight,
    usage::{Usage, child, children, connections_opened},
};

/// The name of the program that is measured.
pub(crate) const MODULET: &str = "modulet";
/// How one is called that stands by.
pub(crate) const STANDBY: &str = "standby";
/// How CPU that is used by ourselves is called: the bases, the writers and the watch.
const OURSELVES: &str = "bases and bench";
/// Between two looks. What is measured is not rounded to it: all times are taken when something happens.
const GLANCE: Duration = Duration::from_millis(25);
/// Nothing written for that long: it is quiet. Ledgers wait for 10 s before they are written.
const QUIET: Duration = Duration::from_secs(11);
/// It must become quiet within this: 5,000 updates alone are 15,000 Events.
const QUIET_LIMIT: Duration = Duration::from_mins(10);

/// All parts.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) client: Client,
    pub(crate) sight: Sight,
    plane: ControlPlane,
    broker: Mosquitto,
    controller: Option<Controller>,
    standby: Option<Controller>,
    bases: Option<Bases>,
    /// Where bases over HTTP beat.
    heartbeats: u16,
    /// What answers probes of all bases.
    pub(crate) answers: Option<Answers>,
    /// modulet's CPU with nothing to do, as a part of a core; none before that is known.
    pub(crate) idle_cpu: Option<f64>,
}

/// All counters at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    pub(crate) usage: BTreeMap<String, Usage>,
    /// TCP connections that were ever opened on this machine.
    pub(crate) connections: f64,
    pub(crate) scrape: Scrape,
}

impl Snapshot {
    /// CPU seconds of each program since.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let spent = self.usage.iter().map(|(name, usage)| {
            let before = earlier.usage.get(name).map_or(0.0, |u| u.cpu);
            (name.clone(), usage.cpu - before)
        });
        spent.collect()
    }
}

impl Stage {
    /// Starts control plane and broker.
    pub(crate) async fn start(options: Options) -> Result<Self> {
        if Tool::ControlPlane.program("kube-apiserver").await.is_err() {
            Tool::ControlPlane.ensure_built(say).await?;
        }
        say("starting a control plane and a broker");
        let plane = ControlPlaneOptions { accept_existing: false, ..ControlPlaneOptions::default() };
        let plane = ControlPlane::start(plane).await?;
        plane.create_namespace(NAMESPACE).await?;
        let broker = Mosquitto::start().await?;
        if options.no_controllers {
            freeze(&["kube-scheduler", "kube-controller-manager"]).await?;
        }
        let client = plane.client().await?;
        let sight = Sight::start(&client, NAMESPACE);
        Ok(Self {
            options,
            client,
            sight,
            plane,
            broker,
            controller: None,
            standby: None,
            bases: None,
            heartbeats: free_port()?,
            answers: None,
            idle_cpu: None,
        })
    }

    /// Starts modulet, which has no bases yet.
    pub(crate) async fn start_modulet(&mut self) -> Result<()> {
        self.controller = Some(self.start_replica(MODULET).await?);
        Ok(())
    }

    /// Starts another one that stands by.
    pub(crate) async fn start_standby(&mut self) -> Result<()> {
        self.standby = Some(self.start_replica(STANDBY).await?);
        Ok(())
    }

    /// Kills the leader; from now on the one that stood by is what is measured.
    pub(crate) async fn kill_leader(&mut self) -> Result<Instant> {
        let standby = self.standby.take().context("nobody stands by")?;
        let mut leader = self.controller.replace(standby).context("no modulet")?;
        let at = Instant::now();
        leader.kill9().await?;
        Ok(at)
    }

    /// Whether the one that is measured leads.
    pub(crate) async fn leads(&self) -> Result<bool> {
        Ok(self.controller()?.metric("modulet_leads", &[]).await? > 0.0)
    }

    async fn start_replica(&self, name: &str) -> Result<Controller> {
        let binary = match &self.options.binary {
            Some(binary) => binary.clone(),
            None => {
                let this = std::env::current_exe()?;
                // {target}/{profile}/examples/bench
                this.ancestors().nth(2).context("run it by cargo: `make bench`")?.join(MODULET)
            }
        };
        let options = ControllerOptions::new(binary, self.plane.kubeconfig(), self.broker.address());
        let options = options.env("ENV", ENV).env("CLIENT_ID", format!("{name}-bench"));
        let options = match &self.answers {
            Some(answers) => options.env("MODULET_PROBE_HOSTS", answers.address.to_string()),
            None => options,
        };
        let options = match self.options.tunnel {
            Tunnel::Mqtt => options,
            Tunnel::Http => options
                .env("ENABLE_MQTT_TUNNEL", "false")
                .env("ENABLE_HTTP_TUNNEL", "true")
                .env("HTTP_TUNNEL_LISTEN_PORT", self.heartbeats.to_string()),
        };
        let controller = Controller::start(options).await?;
        say(&format!("{name} runs, process {}", controller.process()?.pid()));
        Ok(controller)
    }

    /// Starts all bases at once.
    pub(crate) async fn start_bases(&mut self) -> Result<()> {
        let broker = self.broker.address();
        let options = BaseOptions {
            host: broker.host.clone(),
            username: broker.username.clone(),
            password: broker.password.clone(),
            env: ENV.to_owned(),
            activation: Activation::ActivateNew,
            ..BaseOptions::new("base", broker.port)
        };
        let count = self.options.bases();
        self.bases = Some(match self.options.tunnel {
            Tunnel::Mqtt => Bases::Mqtt(Fleet::start(options, count).await?),
            Tunnel::Http => Bases::over_http(&options, self.heartbeats, count).await?,
        });
        Ok(())
    }

    pub(crate) fn bases(&self) -> Result<&Bases> {
        self.bases.as_ref().context("no bases")
    }

    fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("no modulet")
    }

    /// What modulet has counted.
    pub(crate) async fn scrape(&self) -> Result<Scrape> {
        Ok(Scrape::read(&self.controller()?.metrics().await?))
    }

    /// What modulet has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.controller()?.process()?.pid())
    }

    /// All counters.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot> {
        let scrape = self.scrape().await?;
        let mut usage = BTreeMap::from([(OURSELVES.to_owned(), Usage::of(std::process::id())?)]);
        let modulet = self.controller()?.process()?.pid();
        let standby = self.standby.as_ref().and_then(|standby| standby.process().ok()).map(Process::pid);
        for (name, pid) in children()? {
            // It may run below another program, which measures it in its own way.
            let name = match pid {
                pid if pid == modulet => MODULET.to_owned(),
                pid if Some(pid) == standby => STANDBY.to_owned(),
                _ => name,
            };
            usage.insert(name, Usage::of(pid)?);
        }
        Ok(Snapshot { at: Instant::now(), usage, connections: connections_opened()?, scrape })
    }

    /// Waits until all of `total` are done.
    pub(crate) async fn wait(
        &self,
        what: &str,
        limit: Duration,
        total: usize,
        done: impl Fn() -> Result<usize>,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = done()?;
            if now >= total {
                return Ok(());
            }
            ensure!(
                start.elapsed() < limit,
                "waited {} s for {what}: {now} of {total}{}",
                limit.as_secs(),
                self.last_words()
            );
            self.alive(what)?;
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn alive(&self, what: &str) -> Result<()> {
        if let Some(exit) = self.controller()?.process()?.exit() {
            bail!("modulet ended while {what} was awaited: {exit}{}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = self.controller.as_ref().map(|c| tail(c.log_path(), 10)).unwrap_or_default();
        if log.is_empty() { log } else { format!("\nthe last lines of modulet's log:\n{log}") }
    }

    /// Waits until modulet writes nothing any more but Leases.
    pub(crate) async fn quiet(&self) -> Result<()> {
        let start = Instant::now();
        let mut last = self.scrape().await?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            ensure!(
                start.elapsed() < QUIET_LIMIT,
                "waited {} s for modulet to be quiet: {} entries wait",
                QUIET_LIMIT.as_secs(),
                last.waiting
            );
            tokio::time::sleep(4 * GLANCE).await;
            let now = self.scrape().await?;
            if now.busy_writes() > last.busy_writes() {
                since = Instant::now();
            }
            last = now;
        }
        Ok(())
    }

    /// A deadline that grows with the number of objects: 50 a second is a tenth of what can be.
    pub(crate) fn patience(count: usize) -> Duration {
        Duration::from_secs(30) + Duration::from_millis(20) * u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Ends everything in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        // The standby first: it has nothing to hand over.
        for mut controller in self.standby.take().into_iter().chain(self.controller.take()) {
            controller.terminate().await?;
        }
        drop(self.bases);
        drop(self.sight);
        self.broker.stop().await?;
        self.plane.stop().await
    }
}

/// Stops programs that we have started; they go on when they are told to end.
async fn freeze(names: &[&str]) -> Result<()> {
    for name in names {
        let pid = child(name)?.to_string();
        let status = tokio::process::Command::new("sh").args(["-c", "kill -STOP \"$1\"", "sh", &pid]).status().await?;
        ensure!(status.success(), "cannot freeze {name}");
    }
    Ok(())
}
