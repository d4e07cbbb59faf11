//! The bases: simulated ones, or JVMs.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use modulet_testkit::{
    base::{Activation, BaseOptions, HttpBase, HttpOptions, ModuleState, SimulatedBase, UrlBehaviour},
    java_base::{self, JavaBase, JavaBaseOptions},
};

use crate::{screen::Screen, stage::ENV, way::Way};

/// As many as the example has replicas.
pub(crate) const COUNT: usize = 3;
/// What the example's node affinity wants.
pub(crate) const NAME: &str = "base";
const VERSION: &str = "1.0.0";
/// A simulated module starts at once; slowed down, one can watch it.
const START: Duration = Duration::from_millis(1200);

/// One base.
pub(crate) enum Base {
    Simulated(SimulatedBase),
    SimulatedHttp(HttpBase),
    Java(JavaBase),
}

/// The base's identities.
pub(crate) fn ids() -> impl Iterator<Item = String> {
    (1..=COUNT).map(|number| format!("base-{number}"))
}

/// Builds the JVM bases, and fails before anything is started if that cannot be.
pub(crate) async fn prepare_java(screen: &Screen) -> Result<()> {
    // The same choice as run-base.sh makes.
    let java = std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map_or_else(|| PathBuf::from("java"), |home| PathBuf::from(home).join("bin/java"));
    let run = tokio::process::Command::new(&java).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runs = run.await.is_ok_and(|status| status.success());
    ensure!(runs, "--real needs a JDK 17 or newer, and {} does not run", java.display());
    java_base::ensure_built(|line| screen.progress(line)).await
}

impl Base {
    /// Starts all of them at the same time.
    pub(crate) async fn start_all(real: bool, way: &Way) -> Result<Vec<Self>> {
        let starts = ids().enumerate().map(async |(index, id)| {
            if real { Self::java(&id, way).await } else { Self::simulated(index, &id, way).await }
        });
        try_join_all(starts).await
    }

    async fn simulated(index: usize, id: &str, way: &Way) -> Result<Self> {
        let options = BaseOptions {
            env: ENV.to_owned(),
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            // From the range that is kept for examples.
            ip: format!("192.0.2.{}", 11 + index),
            host_name: id.to_owned(),
            activation: Activation::ActivateNew,
            ..BaseOptions::new(id, 0)
        };
        match way {
            Way::Http { port } => {
                let base = HttpBase::start(options, HttpOptions::new(*port)).await?;
                Ok(Self::SimulatedHttp(base))
            }
            Way::Mqtt { broker, .. } => {
                let broker = broker.address().clone();
                let (host, port, username, password) = (broker.host, broker.port, broker.username, broker.password);
                let base = SimulatedBase::start(BaseOptions { host, port, username, password, ..options }).await?;
                base.set_url_behaviour("biz1-", UrlBehaviour::StartsSlowly(START));
                Ok(Self::Simulated(base))
            }
        }
    }

    async fn java(id: &str, way: &Way) -> Result<Self> {
        let options = match way {
            Way::Mqtt { broker, .. } => JavaBaseOptions::new(broker.address(), id),
            Way::Http { port } => JavaBaseOptions::over_http(&format!("http://localhost:{port}"), id),
        };
        let options = JavaBaseOptions {
            env: ENV.to_owned(),
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            activate_new_module: true,
            ..options
        };
        Ok(Self::Java(JavaBase::start(options).await.with_context(|| format!("the JVM of {id}"))?))
    }

    /// What becomes of modules whose URL has this in it.
    pub(crate) fn set_url_behaviour(&self, pattern: &str, behaviour: UrlBehaviour) {
        match self {
            Self::Simulated(base) => base.set_url_behaviour(pattern, behaviour),
            Self::SimulatedHttp(base) => base.set_url_behaviour(pattern, behaviour),
            Self::Java(_) => {}
        }
    }

    /// Its identity.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Simulated(base) => base.identity(),
            Self::SimulatedHttp(base) => base.identity().to_owned(),
            Self::Java(base) => base.id().to_owned(),
        }
    }

    /// Its modules as name, version and state; none if it does not answer.
    pub(crate) async fn modules(&self) -> Vec<[String; 3]> {
        match self {
            Self::Simulated(base) => in_words(base.modules()),
            Self::SimulatedHttp(base) => in_words(base.modules()),
            Self::Java(base) => {
                let list = base.ask("").await.ok().flatten().unwrap_or_default();
                let mut modules: Vec<_> = list.lines().filter_map(parse).collect();
                modules.sort();
                modules
            }
        }
    }

    /// What a module answers over HTTP; none where there is no code to ask.
    pub(crate) async fn answer(&self, module: &str) -> Option<String> {
        match self {
            Self::Simulated(_) | Self::SimulatedHttp(_) => None,
            Self::Java(base) => {
                Some(base.ask(module).await.ok().flatten().unwrap_or_else(|| format!("no active {module}")))
            }
        }
    }

    /// Where it can be asked.
    pub(crate) fn url(&self) -> Option<String> {
        match self {
            Self::Simulated(_) | Self::SimulatedHttp(_) => None,
            Self::Java(base) => Some(base.http_url()),
        }
    }

    /// Ends it, and waits until it has.
    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Self::Simulated(base) => base.kill(),
            Self::SimulatedHttp(base) => base.kill(),
            Self::Java(base) => drop(base.terminate().await?),
        }
        Ok(())
    }
}

fn in_words(modules: Vec<ModuleState>) -> Vec<[String; 3]> {
    modules.into_iter().map(|(name, version, state)| [name, version, state.lower().to_owned()]).collect()
}

/// `biz1:0.0.1 activated`, the way a JVM base lists its modules.
fn parse(line: &str) -> Option<[String; 3]> {
    let (identity, state) = line.split_once(' ')?;
    let (name, version) = identity.split_once(':')?;
    Some([name, version, state].map(str::to_owned))
}
