//! What came of it.

use std::{fmt::Write as _, path::Path, time::Duration};

use super::{event::At, options::Options, seen::Seen};

/// Of the time around a promise that was not kept this much is told.
const BEFORE: At = At::from_secs(60);
const AFTER: At = At::from_secs(5);
/// So many of them are told at length.
const MOST: usize = 5;

/// How one round ended.
#[derive(Debug, Default)]
pub(crate) struct Healing {
    pub(crate) rounds: u32,
    /// Without the time in which the API server took too long for anything.
    pub(crate) longest: Duration,
    pub(crate) longest_in_all: Duration,
}

/// The report, and whether all promises were kept.
pub(crate) fn report(options: &Options, seen: &Seen, healing: &Healing, directory: &Path) -> (String, bool) {
    let mut text = format!(
        "chaos: seed {}, {} rounds, {:.1} minutes\n",
        options.seed,
        healing.rounds,
        seen.now().as_secs_f64() / 60.0
    );
    text += "faults by kind:\n";
    for (kind, count) in seen.kinds() {
        let _ = writeln!(text, "  {count:5} {kind}");
    }
    let (checked, broken, longest) =
        seen.checker(|checker| (checker.all_checked().clone(), checker.all_broken().to_vec(), checker.longest()));
    text += "promises, and how often they were looked at:\n";
    for (promise, count) in checked {
        let _ = writeln!(text, "  {count:5} {promise}");
    }
    text += "longest moments:\n";
    let _ = writeln!(text, "  {:8.3} s from the last fault until all was well", healing.longest.as_secs_f64());
    let _ = writeln!(text, "  {:8.3} s the same on the clock on the wall", healing.longest_in_all.as_secs_f64());
    for (what, time) in longest {
        let _ = writeln!(text, "  {:8.3} s {what}", time.as_secs_f64());
    }
    for broken in broken.iter().take(MOST) {
        let _ = writeln!(text, "\nNOT KEPT: {}, at {:.3}: {}", broken.promise, broken.at.as_secs_f64(), broken.text);
        for (at, fault) in seen.faults_around(broken.at, BEFORE, AFTER) {
            let _ = writeln!(text, "  {:9.3} {fault}", at.as_secs_f64());
        }
    }
    if !broken.is_empty() {
        let _ = writeln!(
            text,
            "\n{} times a promise was not kept. Seed {}; all that was seen, and all logs: {}",
            broken.len(),
            options.seed,
            directory.display()
        );
    }
    (text, broken.is_empty())
}
