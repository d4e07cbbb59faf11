//! The report as Markdown.

use std::fmt::Write as _;

use crate::{
    batches::Batches,
    figures::{Phase, Report},
    probed::Probed,
    scrape::Series,
    soak::Soak,
    takeover::TakeOver,
};

/// All tables.
pub(crate) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    let m = &report.machine;
    let frozen = if report.controllers_frozen { "frozen" } else { "running" };
    let _ = writeln!(
        text,
        "{} bases over {:?}, {} writers; {} cores ({}), {:.0} GB, load {:.1} before; everything on this machine; \
         scheduler and controller manager {frozen}, with their limits raised\n",
        report.bases, report.tunnel, report.writers, m.cores, m.model, m.memory_gb, m.load_before
    );
    if !report.phases.is_empty() {
        for tables in [phases(report), latencies(report), writes(report), cpu(report)] {
            let _ = text.write_str(&tables);
        }
    }
    if !report.ceiling.0.is_empty() {
        let rates = report.ceiling.0.iter().map(|(kind, rate)| vec![(*kind).to_owned(), format!("{rate:.0}")]);
        table(&mut text, &["the API server's ceiling", "per second"], rates);
    }
    if !report.commands.is_empty() {
        let commands = report.commands.iter().map(|(name, n)| vec![name.clone(), format!("{n:.2}")]);
        table(&mut text, &["command", "received per module"], commands);
    }
    if let Some(soak) = &report.soak {
        soaked(&mut text, soak);
    }
    if let Some(batches) = &report.batches {
        in_batches(&mut text, batches);
    }
    if let Some(probed) = &report.probed {
        with_probes(&mut text, probed);
    }
    if let Some(takeover) = &report.takeover {
        taken_over(&mut text, takeover);
    }
    text
}

/// One table.
pub(crate) fn table(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<_> = head.iter().map(|h| (*h).to_owned()).collect();
    let _ = text.write_str(&line(&head));
    let _ = text.write_str(&line(&vec!["---".to_owned(); head.len()]));
    for row in rows {
        let _ = text.write_str(&line(&row));
    }
    text.push('\n');
}

#[expect(clippy::cast_precision_loss, reason = "a count of bases or Pods")]
fn per(phase: &Phase, value: f64) -> f64 {
    value / phase.count as f64
}

fn phases(report: &Report) -> String {
    let mut text = String::new();
    let head = [
        "phase",
        "",
        "s",
        "per s",
        "share of ceiling",
        "modulet's CPU, s",
        "ms each",
        "beyond idle",
        "µs per write",
        "% of a core",
        "RSS, MB",
        "peak",
        "sockets",
        "connections per s",
    ];
    let rows = report.phases.iter().map(|p| {
        let cpu = p.own_cpu();
        vec![
            p.name.to_owned(),
            format!("{} {}s", p.count, p.of),
            format!("{:.1}", p.wall),
            format!("{:.0}", 1.0 / per(p, p.wall)),
            p.share_of_ceiling().map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
            format!("{cpu:.2}"),
            format!("{:.2}", per(p, cpu) * 1000.0),
            p.cpu_beyond_idle.map_or_else(String::new, |cpu| format!("{:.2}", per(p, cpu) * 1000.0)),
            format!("{:.0}", cpu / p.writes.values().sum::<f64>() * 1e6),
            format!("{:.1}", cpu / p.lasted * 100.0),
            format!("{:.1}", p.usage.rss),
            format!("{:.1}", p.usage.peak_rss),
            p.usage.sockets.to_string(),
            format!("{:.0}", p.connections / p.lasted),
        ]
    });
    table(&mut text, &head, rows);
    text
}

fn latencies(report: &Report) -> String {
    let mut text = String::new();
    let measured = report.phases.iter().flat_map(|p| p.latencies.iter().map(|l| (p.name, l)));
    let alone = report.burst_ceiling.iter().map(|l| ("burst, without modulet", l));
    let rows = alone.chain(measured).map(|(phase, l)| {
        let ms = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        let figures = [l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms].map(ms);
        [phase.to_owned(), l.what.to_owned(), l.count.to_string()].into_iter().chain(figures).collect()
    });
    table(&mut text, &["phase", "latency", "count", "p50, ms", "p90", "p99", "max"], rows);
    text
}

fn series(phase: &Phase, series: &Series) -> String {
    let all = series.iter().map(|(name, n)| format!("{name} {:.2}", per(phase, *n)));
    all.collect::<Vec<_>>().join(", ")
}

fn writes(report: &Report) -> String {
    let mut text = String::new();
    let rows = report.phases.iter().map(|p| {
        let each = format!("{} / {}", p.name, p.of);
        vec![each, series(p, &p.writes), series(p, &p.commands), series(p, &p.messages)]
    });
    let head = ["phase / for each", "writes to the API server", "commands to bases", "messages from bases"];
    table(&mut text, &head, rows);
    text
}

fn cpu(report: &Report) -> String {
    let mut text = String::new();
    let names: Vec<_> = report.phases.iter().flat_map(|p| p.cpu.keys().cloned()).collect();
    let names: std::collections::BTreeSet<_> = names.into_iter().collect();
    let head: Vec<_> = std::iter::once("CPU, s").chain(names.iter().map(String::as_str)).collect();
    let rows = report.phases.iter().map(|p| {
        let cells = names.iter().map(|name| p.cpu.get(name).map_or_else(String::new, |cpu| format!("{cpu:.1}")));
        std::iter::once(p.name.to_owned()).chain(cells).collect()
    });
    table(&mut text, &head, rows);
    text
}

fn soaked(text: &mut String, soak: &Soak) {
    let rows = [
        ("changes per second", soak.per_second.to_string()),
        ("minutes", soak.minutes.to_string()),
        ("installs, updates, uninstalls", format!("{}, {}, {}", soak.installs, soak.updates, soak.uninstalls)),
        ("modulet's CPU, % of a core", format!("{:.1}", soak.cpu)),
        ("RSS at the beginning, MB", format!("{:.1}", soak.rss_baseline)),
        ("RSS at the end, MB", format!("{:.1}", soak.rss_end)),
        ("end / beginning", format!("{:.3}", soak.ratio)),
        ("commands per change", format!("{:.3}", soak.commands_per_change)),
    ];
    table(text, &["churn", ""], rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]));
}

fn taken_over(text: &mut String, takeover: &TakeOver) {
    let seconds = |value: f64| format!("{value:.1} s");
    let rows = [
        ("SIGKILL → the standby leads", seconds(takeover.leads)),
        ("→ a Pod that came with it has its install command", seconds(takeover.first_command)),
        ("→ the last base was asked for its list", seconds(takeover.all_asked)),
        ("→ the last Node's Lease is renewed", seconds(takeover.all_renewed)),
        ("Nodes and Pods whose conditions changed", takeover.conditions_changed.to_string()),
        ("installs and uninstalls that nobody asked for", takeover.needless_commands.to_string()),
        ("leader with nothing to do, % of a core", format!("{:.1}", takeover.leader_idle)),
        ("standby, % of a core", format!("{:.1}", takeover.standby_idle)),
        ("leader, MB", format!("{:.0}", takeover.leader_rss)),
        ("standby, MB", format!("{:.0}", takeover.standby_rss)),
        ("the new leader, MB", format!("{:.0}", takeover.new_leader_rss)),
        ("CPU of the new leader meanwhile", seconds(takeover.cpu)),
    ];
    table(text, &["take-over", ""], rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]));
}

fn in_batches(text: &mut String, batches: &Batches) {
    let ended: Vec<_> = batches.ended.iter().map(|seconds| format!("{seconds:.1}")).collect();
    let rows = [
        ("bases with an active version, at the fewest", batches.fewest.to_string()),
        ("Pods during the release", batches.pods.to_string()),
        ("last command of each batch, s after the first of all", ended.join(", ")),
    ];
    let head = format!("{} batches", batches.count);
    table(text, &[&head, ""], rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]));
}

fn with_probes(text: &mut String, probed: &Probed) {
    let rows = [
        ("probes per second", format!("{:.1}", probed.per_second)),
        ("CPU of modulet for each, beyond idle, µs", format!("{:.0}", probed.cpu_each_us)),
    ];
    let head = format!("a readiness probe each {} s", probed.period);
    table(text, &[&head, ""], rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]));
}
