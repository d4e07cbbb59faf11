//! A person who releases modules all the time, whatever else happens.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    discovery::ApiResource,
};
use modulet_testkit::wait::eventually;
use tokio::time::{Instant, sleep, timeout};

use super::{
    seen::Seen,
    workload::{Kind, Workload},
    world::NAME,
};

/// Between two releases.
const PAUSE: std::ops::Range<u64> = 500..4_000;
/// After which a person tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// After which one gives up: a machine with too much to do may be slow for long.
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) struct Releases {
    rng: Rng,
    client: Client,
    pub(crate) workloads: Vec<Workload>,
}

impl Releases {
    /// What there is at the beginning. The first one never changes.
    pub(crate) fn new(seed: u64, client: Client) -> Self {
        let workload = |name, replicas| Workload { name, replicas, version: 1, kind: Kind::Good };
        let workloads = vec![
            workload("steady", None),
            workload("agent", None),
            workload("shop", Some(6)),
            workload("cart", Some(10)),
            workload("pay", Some(14)),
            workload("mail", Some(18)),
        ];
        Self { rng: Rng::with_seed(seed.wrapping_add(1)), client, workloads }
    }

    /// Sees to it that all are as they are to be, and none is broken.
    pub(crate) async fn put_right(&mut self, seen: &Seen) -> Result<()> {
        for at in 0..self.workloads.len() {
            let workload = &mut self.workloads[at];
            if workload.kind == Kind::Broken {
                (workload.kind, workload.version) = (Kind::Good, workload.version + 1);
            }
            self.apply(at, seen).await?;
        }
        Ok(())
    }

    /// Releases until then.
    pub(crate) async fn go_on(&mut self, seen: &Seen, until: Instant) -> Result<()> {
        loop {
            let pause = Duration::from_millis(self.rng.u64(PAUSE));
            if Instant::now() + pause >= until {
                return Ok(());
            }
            sleep(pause).await; // nobody releases without a pause
            let at = self.rng.usize(1..self.workloads.len());
            let kind = match self.rng.u8(..8) {
                0 => Kind::Broken,
                1 | 2 => Kind::Slow,
                _ => Kind::Good,
            };
            let choice = self.rng.u8(..10);
            let replicas = self.rng.usize(2..20);
            let workload = &mut self.workloads[at];
            match choice {
                0 | 1 if workload.replicas.is_some() => workload.replicas = Some(replicas),
                2 if workload.version > 1 => (workload.version, workload.kind) = (workload.version - 1, Kind::Good),
                3 | 4 => {
                    self.delete(at, seen).await?;
                    sleep(pause).await; // and nobody makes it anew without one
                }
                _ => (workload.version, workload.kind) = (workload.version + 1, kind),
            }
            self.apply(at, seen).await?;
        }
    }

    fn api(&self, workload: &Workload) -> Api<DynamicObject> {
        let plural = format!("{}s", workload.resource().to_lowercase());
        let resource = ApiResource {
            group: "apps".into(),
            version: "v1".into(),
            api_version: "apps/v1".into(),
            kind: workload.resource().into(),
            plural,
        };
        Api::namespaced_with(self.client.clone(), NAME, &resource)
    }

    async fn apply(&self, at: usize, seen: &Seen) -> Result<()> {
        let workload = &self.workloads[at];
        let (api, object) = (self.api(workload), workload.object());
        let text = format!("{} {:?} version {}", workload.name, workload.replicas, workload.version);
        eventually(&format!("apply {text}"), LIMIT, async || {
            let params = PatchParams::apply("person").force();
            let patched = timeout(PATIENCE, api.patch(workload.name, &params, &Patch::Apply(&object))).await;
            anyhow::Ok(patched.context("no answer")?.map(drop)?)
        })
        .await?;
        seen.note(&format!("applied {text}, {:?}", workload.kind));
        Ok(())
    }

    async fn delete(&self, at: usize, seen: &Seen) -> Result<()> {
        let workload = &self.workloads[at];
        let api = self.api(workload);
        eventually(&format!("delete {}", workload.name), LIMIT, async || {
            let deleted = timeout(PATIENCE, api.delete(workload.name, &DeleteParams::background())).await;
            match deleted.context("no answer")? {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => anyhow::Ok(other.map(drop)?),
            }
        })
        .await?;
        seen.note(&format!("deleted {}", workload.name));
        Ok(())
    }
}
