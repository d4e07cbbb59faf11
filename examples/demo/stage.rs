//! What has been started, in the order in which it is taken down again.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;
use modulet_testkit::controller::Controller;
use tokio::time::Instant;

use crate::{Options, bases::Base, cluster::Cluster, scene::Scene, screen::Screen, way::Way};

/// Environment: part of the topics and of the Nodes' names.
pub(crate) const ENV: &str = "demo";
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(100);
/// One part may take that long to end.
const FAREWELL: Duration = Duration::from_secs(15);

/// The parts, as far as they have been started.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) way: Option<Way>,
    pub(crate) controller: Option<Controller>,
    pub(crate) bases: Vec<Base>,
    /// What was seen last.
    pub(crate) scene: Scene,
}

impl Stage {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, cluster: None, way: None, controller: None, bases: Vec::new(), scene: Scene::default() }
    }

    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("no cluster")
    }

    pub(crate) fn way(&self) -> Result<&Way> {
        self.way.as_ref().context("no way")
    }

    pub(crate) fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("no modulet")
    }

    /// Looks again, and prints what changed.
    pub(crate) async fn look(&mut self, screen: &Screen) -> Result<()> {
        let client = &self.cluster()?.client;
        let scene = Scene::observe(client, &self.bases).await?;
        scene.print_changes(&self.scene, screen);
        self.scene = scene;
        Ok(())
    }

    /// Looks until `missing` finds nothing more to wait for.
    pub(crate) async fn watch(
        &mut self,
        screen: &Screen,
        what: &str,
        limit: Duration,
        missing: impl Fn(&Scene) -> Option<String>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut last = "nothing has been seen yet".to_owned();
        loop {
            let look = tokio::time::timeout_at(start + limit, self.look(screen)).await;
            let lacks = match look {
                Ok(Ok(())) => missing(&self.scene),
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some(last.clone()),
            };
            let Some(lacks) = lacks else {
                screen.clear_status();
                return Ok(());
            };
            if start.elapsed() >= limit {
                let log = self.controller.as_ref().map(crate::controller::last_words).unwrap_or_default();
                bail!("waited {} s for {what}, but {lacks}{log}", limit.as_secs());
            }
            if self.controller.as_ref().is_some_and(|c| c.process().is_ok_and(|p| p.exit().is_some())) {
                let log = self.controller.as_ref().map(crate::controller::last_words).unwrap_or_default();
                bail!("modulet ended while {what} was awaited{log}");
            }
            last.clone_from(&lacks);
            screen.status(&format!("waiting for {what}: {lacks} ({} s)", start.elapsed().as_secs()));
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Ends everything in order. Goes on after a failure, so that nothing is left, and reports it.
    pub(crate) async fn take_down(mut self, screen: &Screen) -> Result<()> {
        if self.way.is_none() && self.cluster.is_none() {
            return Ok(());
        }
        let start = Instant::now();
        screen.line("");
        let mut failures = Vec::new();
        let mut note = |result: Result<()>, what: &str| {
            if let Err(error) = result {
                failures.push(format!("{what}: {error:#}"));
            }
        };
        if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.is_given()) {
            screen.say("Taking it down: modules and namespace, modulet, bases, Nodes.");
            note(cluster.clear().await, "namespace");
        } else {
            screen.say("Taking it down: modulet, bases, control plane.");
        }
        screen.status("what was started last ends first");
        if let Some(mut controller) = self.controller.take() {
            note(bounded(async { controller.terminate().await.map(drop) }).await, "modulet");
        }
        for ended in join_all(self.bases.drain(..).map(|base| bounded(base.stop()))).await {
            note(ended, "base");
        }
        if let Some(cluster) = self.cluster.take() {
            note(cluster.clear_nodes().await, "Nodes");
            note(Box::pin(bounded(cluster.stop())).await, "control plane");
        }
        if !failures.is_empty() {
            bail!("not everything ended in order: {}", failures.join("; "));
        }
        screen.say(&format!("Everything is gone, after {:.1} s.", start.elapsed().as_secs_f64()));
        Ok(())
    }
}

/// With a deadline; what it belongs to is dropped then, and that kills.
async fn bounded(end: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(FAREWELL, end).await.with_context(|| format!("not within {FAREWELL:?}"))?
}
