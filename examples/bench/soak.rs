//! Churn for a long time: does memory grow, and does everything come out right?

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::base::BizState;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    objects::{self, Module, create, delete},
    progress::say,
    stage::{MODULET, Stage},
};

/// Memory is compared with what it was by then: the first rounds fill what stays filled.
const BASELINE: Duration = Duration::from_mins(2);
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(15);
/// One change may take that long at the API server.
const LIMIT: Duration = Duration::from_secs(30);
/// Pods that were replaced stay for a minute.
const END_LIMIT: Duration = Duration::from_mins(3);

const NAME: &str = "churn";

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Soak {
    pub(crate) minutes: u64,
    pub(crate) per_second: u32,
    pub(crate) installs: u64,
    pub(crate) updates: u64,
    pub(crate) uninstalls: u64,
    /// Seconds since the beginning, and MB then.
    pub(crate) rss: Vec<(f64, f64)>,
    pub(crate) rss_baseline: f64,
    pub(crate) rss_end: f64,
    /// The second by the first.
    pub(crate) ratio: f64,
    /// Percent of a core.
    pub(crate) cpu: f64,
    /// Install and uninstall commands for each change.
    pub(crate) commands_per_change: f64,
}

/// Installs, updates and uninstalls on random bases, then waits until everything is as it should be.
pub(crate) async fn run(stage: &Stage, minutes: u64, rate: u32) -> Result<Soak> {
    say(&format!("{minutes} min of churn, {rate} changes per second"));
    let mut soak = Soak { minutes, per_second: rate, ..Soak::default() };
    let mut churn = Churn::new(stage.options.bases());
    let before = stage.snapshot().await?;
    let length = Duration::from_secs(60 * minutes);
    let baseline_at = BASELINE.min(length / 3);
    let (start, mut sample_at) = (Instant::now(), Duration::ZERO);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut writes = JoinSet::new();
    while start.elapsed() < length {
        ticks.tick().await;
        let client = stage.client.clone();
        let change = churn.next(&mut soak);
        writes.spawn(tokio::time::timeout(LIMIT, async move {
            match change {
                Change::Create(module) => create(&client, &objects::pods(), &module.pod()).await.map(drop),
                Change::Delete(module) => delete(&client, &format!("{}/{}", objects::pods(), module.pod_name())).await,
            }
        }));
        while let Some(ended) = writes.try_join_next() {
            ended?.with_context(|| format!("waited {LIMIT:?} for one write of a Pod"))??;
        }
        if start.elapsed() >= sample_at {
            sample_at += SAMPLE;
            stage.sight.forget_gone();
            let rss = stage.usage()?.rss;
            soak.rss.push((start.elapsed().as_secs_f64(), rss));
            if start.elapsed() <= baseline_at + SAMPLE {
                soak.rss_baseline = rss;
            }
        }
    }
    while let Some(ended) = writes.join_next().await {
        ended?.with_context(|| format!("waited {LIMIT:?} for one write of a Pod"))??;
    }
    let after = stage.snapshot().await?;
    soak.rss_end = after.usage.get(MODULET).map_or(0.0, |u| u.rss);
    soak.ratio = soak.rss_end / soak.rss_baseline;
    let cpu = after.cpu_since(&before).get(MODULET).copied().unwrap_or_default();
    soak.cpu = cpu / (after.at - before.at).as_secs_f64() * 100.0;

    churn.settled(stage).await?;
    let commands = stage.scrape().await?.since(&before.scrape).commands;
    let sent: f64 = ["installBiz", "uninstallBiz"].iter().filter_map(|kind| commands.get(*kind)).sum();
    #[expect(clippy::cast_precision_loss, reason = "counts of changes")]
    let changes = (soak.installs + soak.updates + soak.uninstalls) as f64;
    soak.commands_per_change = sent / changes;
    say(&format!("{:.1} MB, then {:.1} MB: {:.3} times as much", soak.rss_baseline, soak.rss_end, soak.ratio));
    Ok(soak)
}

enum Change {
    Create(Module),
    Delete(Module),
}

/// What is wanted on each base.
struct Churn {
    wanted: Vec<Option<Module>>,
    last: u32,
    random: u64,
}

impl Churn {
    fn new(bases: usize) -> Self {
        Self { wanted: vec![None; bases], last: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The same sequence in each run (xorshift).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn next(&mut self, soak: &mut Soak) -> Change {
        let base = usize::try_from(self.random() % self.wanted.len() as u64).unwrap_or(0);
        let update = self.random().is_multiple_of(2);
        self.last += 1;
        let newer = Module::new(base, NAME, format!("1.0.{}", self.last));
        match self.wanted[base].take() {
            Some(module) if !update => {
                soak.uninstalls += 1;
                Change::Delete(module)
            }
            there => {
                *(if there.is_some() { &mut soak.updates } else { &mut soak.installs }) += 1;
                self.wanted[base] = Some(newer.clone());
                Change::Create(newer)
            }
        }
    }

    /// Waits until every base has what is wanted on it, and nothing else.
    async fn settled(&self, stage: &Stage) -> Result<()> {
        let bases = stage.bases()?;
        let as_wanted = |base: usize| {
            let wanted = self.wanted[base].iter();
            let wanted: Vec<_> = wanted.map(|m| (m.name.to_owned(), m.version.clone(), BizState::Activated)).collect();
            bases.modules(base) == wanted
        };
        let count = || Ok((0..bases.len()).filter(|base| as_wanted(*base)).count());
        stage.wait("all bases to have what is wanted", END_LIMIT, bases.len(), count).await?;
        let names: Vec<_> = self.wanted.iter().flatten().map(Module::pod_name).collect();
        let ready = || Ok(stage.sight.count(&names, |pod| pod.ready.is_some()));
        stage.wait("all Pods to be Ready", END_LIMIT, names.len(), ready).await?;
        let pods = || {
            stage.sight.forget_gone();
            Ok(usize::from(stage.sight.len() == names.len()))
        };
        stage.wait("all other Pods to be gone", END_LIMIT, 1, pods).await?;
        ensure!(stage.sight.len() == names.len(), "Pods came back");
        Ok(())
    }
}
