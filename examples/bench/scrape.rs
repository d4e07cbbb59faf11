//! modulet's own metrics.

use std::collections::BTreeMap;

/// Values of one metric, by the values of its labels.
pub(crate) type Series = BTreeMap<String, f64>;

/// What modulet has counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    /// Writes to the API server by kind, and with `kind result` those that did not end well.
    pub(crate) writes: Series,
    /// Commands to bases.
    pub(crate) commands: Series,
    /// Messages from bases.
    pub(crate) messages: Series,
    /// Entries waiting in all queues.
    pub(crate) waiting: f64,
    /// Entries that found a queue full.
    pub(crate) overflows: f64,
}

impl Scrape {
    /// Reads the text format.
    pub(crate) fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let label = |key: &str| {
                let parts = labels.trim_end_matches('}').split(',');
                let found = parts.filter_map(|part| part.split_once('=')).find(|(k, _)| *k == key);
                found.map(|(_, v)| v.trim_matches('"').to_owned()).unwrap_or_default()
            };
            match name {
                "modulet_api_writes_total" => {
                    let (kind, result) = (label("kind"), label("result"));
                    if result != "ok" {
                        *scrape.writes.entry(format!("{kind} {result}")).or_default() += value;
                    }
                    *scrape.writes.entry(kind).or_default() += value;
                }
                "modulet_commands_total" => *scrape.commands.entry(label("name")).or_default() += value,
                "modulet_messages_total" => *scrape.messages.entry(label("name")).or_default() += value,
                "modulet_queue_depth" => scrape.waiting += value,
                "modulet_queue_overflows_total" => scrape.overflows += value,
                _ => {}
            }
        }
        scrape
    }

    /// What was added since.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let added = |now: &Series, before: &Series| {
            let all = now.iter().map(|(key, value)| (key.clone(), value - before.get(key).copied().unwrap_or(0.0)));
            all.filter(|(_, value)| *value > 0.0).collect()
        };
        Self {
            writes: added(&self.writes, &earlier.writes),
            commands: added(&self.commands, &earlier.commands),
            messages: added(&self.messages, &earlier.messages),
            waiting: self.waiting,
            overflows: self.overflows - earlier.overflows,
        }
    }

    /// Writes that come of doing something, unlike the renewal of Leases.
    pub(crate) fn busy_writes(&self) -> f64 {
        self.writes.iter().filter(|(kind, _)| kind.as_str() != "lease" && !kind.contains(' ')).map(|(_, n)| n).sum()
    }
}
