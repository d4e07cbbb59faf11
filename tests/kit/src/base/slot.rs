//! One base without its network: what it receives, says and when.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::arklet::Arklet;
use super::command::{self, Ignored};
use super::options::{BaseOptions, Generation};
use super::urls::UrlRules;
use super::wire::{self, Outgoing};

/// A command that reached a base.
#[derive(Clone, Debug)]
pub struct ReceivedCommand {
    /// When it came.
    pub at: Instant,
    /// Last level of its topic, `installBiz` or `baseline` for instance.
    pub command: String,
    /// Its payload; a text that is no JSON as a string, an empty one as null.
    pub payload: Value,
}

/// What a base counted since it was made (restarts do not reset it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands received, by name.
    pub received: BTreeMap<String, usize>,
    /// Heartbeats published.
    pub heartbeats: usize,
    /// Questions for a baseline published.
    pub baseline_questions: usize,
    /// Answers published, doubles included.
    pub answers: usize,
    /// Messages that found no connection, and muted answers.
    pub lost: usize,
    /// Starts of the base.
    pub starts: usize,
}

/// Where a JVM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Subscribed perhaps, but the first heartbeat is not out yet: commands wait.
    Booting,
    Up,
    /// Commands wait, nothing is said.
    Hung,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) options: BaseOptions,
    pub(super) identity: String,
    pub(super) arklet: Arklet,
    pub(super) commands: Vec<ReceivedCommand>,
    pub(super) counters: Counters,
    pub(super) mute: usize,
    pub(super) duplicate: bool,
    pub(super) delay: Duration,
    phase: Phase,
    held: Vec<(String, Vec<u8>)>,
    started: Instant,
    next_heart: Option<Instant>,
    outbox: VecDeque<(Instant, Outgoing)>,
}

impl Slot {
    /// A base that is not started yet.
    pub(super) fn new(options: BaseOptions, now: Instant) -> Self {
        Self {
            identity: options.id.clone(),
            arklet: Arklet::new(&options, now, UrlRules::default()),
            options,
            commands: Vec::new(),
            counters: Counters::default(),
            mute: 0,
            duplicate: false,
            delay: Duration::ZERO,
            phase: Phase::Down,
            held: Vec::new(),
            started: now,
            next_heart: None,
            outbox: VecDeque::new(),
        }
    }

    /// A new JVM: chooses the identity and forgets all modules. It speaks after [`Slot::connected`].
    pub(super) fn boot(&mut self, now: Instant) {
        if self.options.generation <= Generation::V2_1_6 {
            self.identity = random_identity();
        }
        self.arklet = Arklet::new(&self.options, now, self.arklet.urls_clone());
        self.started = now;
        self.next_heart = None;
        self.phase = Phase::Booting;
        self.held.clear();
        self.outbox.clear();
    }

    /// First connection of a new JVM: asks for the baseline and beats.
    pub(super) fn connected(&mut self, now: Instant) {
        self.phase = Phase::Up;
        self.counters.starts += 1;
        let question = wire::query_baseline(&self.identity, &self.options);
        self.outbox.extend(question.map(|question| (now, question)));
        self.next_heart = Some(now);
        self.serve_held(now);
    }

    pub(super) fn die(&mut self, now: Instant) {
        self.boot(now);
        self.phase = Phase::Down;
    }

    pub(super) fn hang(&mut self) {
        if self.phase == Phase::Up {
            self.phase = Phase::Hung;
        }
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if self.phase != Phase::Hung {
            return;
        }
        self.phase = Phase::Up;
        self.serve_held(now);
        // Beats that were due meanwhile are not made up for.
        self.next_heart = self.next_heart.map(|due| due.max(now));
    }

    /// Beats now, and then in the interval again.
    pub(super) fn beat_now(&mut self, now: Instant) {
        self.next_heart = Some(now);
    }

    /// The task that beats has ended; everything else goes on.
    pub(super) fn stop_beating(&mut self) {
        self.next_heart = None;
    }

    /// Says once that it goes away, and beats no more.
    pub(super) fn say_goodbye(&mut self, now: Instant) {
        let mut message = wire::heart(&self.identity, &self.options);
        message.data["state"] = "deactivated".into();
        self.outbox.push_back((now, message));
        self.next_heart = None;
    }

    fn serve_held(&mut self, now: Instant) {
        for (word, payload) in std::mem::take(&mut self.held) {
            self.handle(&word, &payload, now);
        }
    }

    /// Beats for the second time after that time already, so that a fleet does not beat as one.
    pub(super) fn spread_hearts(&mut self, by: Duration) {
        if let Some(due) = self.next_heart {
            self.outbox.push_back((due, wire::heart(&self.identity, &self.options)));
            self.next_heart = Some(due + by.max(Duration::from_millis(1)));
        }
    }

    pub(super) fn receive(&mut self, word: &str, payload: &[u8], now: Instant) {
        if self.phase == Phase::Down {
            return;
        }
        let value = match serde_json::from_slice(payload) {
            Ok(value) => value,
            Err(_) if payload.is_empty() => Value::Null,
            Err(_) => String::from_utf8_lossy(payload).into(),
        };
        self.commands.push(ReceivedCommand { at: now, command: word.to_owned(), payload: value });
        *self.counters.received.entry(word.to_owned()).or_default() += 1;
        if self.phase == Phase::Up {
            self.handle(word, payload, now);
        } else {
            self.held.push((word.to_owned(), payload.to_vec()));
        }
    }

    fn handle(&mut self, word: &str, payload: &[u8], now: Instant) {
        if word == "baseline" && self.options.generation <= Generation::V2_1_6 {
            return;
        }
        let read = if matches!(word, "switchBiz" | "batchInstallBiz") {
            Err(Ignored::Unknown)
        } else if self.options.posix_locale {
            let ascii: Vec<u8> = payload.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
            command::read(word, &ascii)
        } else {
            command::read(word, payload)
        };
        match read {
            Ok(command) => drop(self.arklet.accept(command)),
            Err(Ignored::Malformed | Ignored::Unknown) => {
                if let Some(refusal) = wire::malformed(word, self.options.generation) {
                    self.answer(refusal, now);
                }
            }
        }
    }

    fn answer(&mut self, message: Outgoing, now: Instant) {
        if self.mute > 0 {
            self.mute -= 1;
            self.counters.lost += 1;
            return;
        }
        if self.duplicate {
            self.outbox.push_back((now + self.delay, message.clone()));
        }
        self.outbox.push_back((now + self.delay, message));
    }

    /// What is to be published now.
    pub(super) fn tick(&mut self, now: Instant, connected: bool) -> Vec<Outgoing> {
        if self.phase != Phase::Up {
            return Vec::new();
        }
        let answers = self.arklet.tick(now);
        let uptime = now.saturating_duration_since(self.started).as_secs_f64();
        for (_, answer) in answers {
            for message in wire::tell(answer, self.arklet.modules(), &self.options, uptime) {
                self.answer(message, now);
            }
        }
        let (due, later) = self.outbox.drain(..).partition(|(at, _)| *at <= now);
        self.outbox = later;
        let due: VecDeque<(Instant, Outgoing)> = due;
        let mut messages: Vec<_> = due.into_iter().map(|(_, message)| message).collect();
        self.beat(now, connected, &mut messages);
        if !connected {
            // A real base's publish throws and the message is gone for good.
            self.counters.lost += messages.len();
            return Vec::new();
        }
        for message in &messages {
            let counter = match message.tail {
                "base/heart" => &mut self.counters.heartbeats,
                "base/queryBaseline" => &mut self.counters.baseline_questions,
                _ => &mut self.counters.answers,
            };
            *counter += 1;
        }
        messages
    }

    fn beat(&mut self, now: Instant, connected: bool, messages: &mut Vec<Outgoing>) {
        let Some(due) = self.next_heart.filter(|due| *due <= now) else {
            return;
        };
        messages.push(wire::heart(&self.identity, &self.options));
        let next = due + self.options.heartbeat;
        // The failed publish throws inside the scheduled task, which then never runs again.
        let dead = !connected && self.options.heartbeat_dies_after_outage;
        self.next_heart = (!dead).then_some(if next <= now { now + self.options.heartbeat } else { next });
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        if self.phase != Phase::Up {
            return None;
        }
        let outbox = self.outbox.iter().map(|(at, _)| *at).min();
        [self.arklet.next_wake(), self.next_heart, outbox].into_iter().flatten().min()
    }
}

fn random_identity() -> String {
    let (high, low) = (RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
