//! The part of a base that executes commands: a state machine without I/O.
//!
//! Time comes in from outside: [`Arklet::accept`] takes a command, [`Arklet::tick`] does what is
//! due and returns the answers, [`Arklet::next_wake`] says when to come again.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::answers::{Answer, Response};
use super::command::{Baseline, Command, Install, uninstall_fault};
use super::jobs::{Ending, Job, Lock, Part};
use super::module::{BizState, Module};
use super::options::{Activation, BaseOptions, Generation, UrlBehaviour};
use super::traces;
use super::urls::UrlRules;

/// Modules, workers and the queue before them.
#[derive(Debug)]
pub(super) struct Arklet {
    pub(super) activation: Activation,
    pub(super) keep_broken: bool,
    pub(super) web: bool,
    pub(super) plain: Vec<String>,
    pub(super) empty_records: bool,
    /// What every uninstall fails with.
    pub(super) stuck: Option<String>,
    workers: usize,
    latency: Duration,
    generation: Generation,
    epoch: (Instant, u64),
    pub(super) serial: u64,
    pub(super) modules: Vec<Module>,
    pub(super) urls: UrlRules,
    running: Vec<Job>,
    waiting: VecDeque<(Ticket, Command)>,
    /// The base itself, which is in no list.
    pub(super) master: (String, String),
    tickets: Ticket,
}

/// Tells the answer to a command from those to others.
pub(super) type Ticket = u64;

impl Arklet {
    pub(super) fn new(options: &BaseOptions, now: Instant, urls: UrlRules) -> Self {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
        Self {
            activation: options.activation,
            keep_broken: options.keep_broken,
            web: options.web,
            plain: options.plain.clone(),
            empty_records: options.empty_state_records,
            stuck: None,
            workers: options.workers.max(1),
            latency: options.latency,
            generation: options.generation,
            epoch: (now, u64::try_from(ms).unwrap_or(0)),
            serial: 0,
            modules: Vec::new(),
            urls,
            running: Vec::new(),
            waiting: VecDeque::new(),
            master: (options.master.as_ref().unwrap_or(&options.name).clone(), options.version.clone()),
            tickets: 0,
        }
    }

    pub(super) fn modules(&self) -> &[Module] {
        &self.modules
    }

    pub(super) fn urls(&mut self) -> &mut UrlRules {
        &mut self.urls
    }

    pub(super) fn urls_clone(&self) -> UrlRules {
        self.urls.clone()
    }

    /// The URL rules of tests outlive the JVM.
    pub(super) fn set_url(&mut self, pattern: &str, behaviour: UrlBehaviour) {
        self.urls().set(pattern, behaviour);
    }

    /// Puts a module into a state, or into the list, without any command.
    pub(super) fn set_state(&mut self, name: &str, version: &str, state: BizState, now: Instant) {
        let at_ms = self.epoch_ms(now);
        let at = self.modules.iter().position(|module| module.is(name, version)).unwrap_or_else(|| {
            self.serial += 1;
            self.modules.push(Module::new(self.serial, name.to_owned(), version.to_owned(), at_ms));
            self.modules.len() - 1
        });
        if state != BizState::Resolved {
            self.modules[at].turn(at_ms, state, "STARTED", String::new());
        }
    }

    pub(super) fn remove(&mut self, name: &str, version: &str) -> bool {
        let before = self.modules.len();
        self.modules.retain(|module| !module.is(name, version));
        self.modules.len() < before
    }

    pub(super) fn accept(&mut self, command: Command) -> Ticket {
        self.tickets += 1;
        self.waiting.push_back((self.tickets, command));
        self.tickets
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.running.iter().map(Job::next).min()
    }

    /// Does everything that is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<(Ticket, Answer)> {
        let mut answers = Vec::new();
        loop {
            while self.running.len() < self.workers
                && let Some((ticket, command)) = self.waiting.pop_front()
            {
                let job = self.begin(ticket, command, now);
                self.running.push(job);
            }
            let due = self.running.iter().enumerate().filter(|(_, job)| job.next() <= now);
            let Some(at) = due.min_by_key(|(at, job)| (job.next(), *at)).map(|(at, _)| at) else {
                break;
            };
            let mut job = self.running.remove(at);
            if self.finish_part(&mut job.ending, now) {
                self.running.insert(at, job);
            } else {
                answers.push((job.ticket, self.finish(job.ending)));
            }
        }
        answers
    }

    pub(super) fn epoch_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch.0).as_millis();
        self.epoch.1 + u64::try_from(since).unwrap_or(0)
    }

    fn begin(&mut self, ticket: Ticket, command: Command, now: Instant) -> Job {
        let mut job = Job { ticket, ends: now + self.latency, lock: None, ending: Ending::List };
        match command {
            Command::List => {}
            Command::Health => job.ending = Ending::Health,
            Command::Uninstall { name, version } => self.begin_uninstall(&mut job, name, version),
            Command::Switch { name, version } => {
                let response = self.switch(name.as_deref(), version.as_deref(), now);
                job.ending = Ending::Said(Answer::Operation { word: "switchBiz", name, version, response });
            }
            Command::Install(install) => self.begin_install(&mut job, install, now),
            Command::Baseline(Baseline::Elements(elements)) => {
                self.begin_batch(&mut job, &elements, now);
            }
            Command::Baseline(odd) => {
                let response = if odd == Baseline::Nothing {
                    Response::invalid("bizList is null")
                } else {
                    let message = "Cannot invoke \"com.alipay.sofa.koupleless.arklet.core.command.builtin.handler.\
                                   BatchInstallBizHandler$BatchInstallInput.getBizList()\" because \
                                   \"batchInstallInput\" is null";
                    let trace = traces::bare(&format!("java.lang.NullPointerException: {message}"));
                    Response::failed(message, &trace)
                };
                job.ending = Ending::Said(Answer::Batch(response));
            }
        }
        job
    }

    /// The refusal of a command whose name and version another worker has in hand.
    pub(super) fn conflict(&self, word: &str, name: &str, version: &str) -> Option<Response> {
        let mut locks = self.running.iter().filter_map(|job| job.lock.as_ref());
        let lock = locks.find(|lock| lock.name == name && lock.version == version)?;
        Some(Response::bare_failure(format!(
            "FAILED:{name}:{version} {word} conflict, exist unfinished command({}) for this biz",
            lock.word
        )))
    }

    fn begin_uninstall(&self, job: &mut Job, name: Option<String>, version: Option<String>) {
        let fault = uninstall_fault(name.as_deref(), version.as_deref()).map(Response::invalid);
        let conflict = || self.conflict("uninstallBiz", name.as_deref()?, version.as_deref()?);
        match (fault.or_else(conflict), name, version) {
            (None, Some(name), Some(version)) => {
                job.lock = Some(Lock { word: "uninstallBiz", name: name.clone(), version: version.clone() });
                job.ending = Ending::Uninstall(name, version);
            }
            (refusal, name, version) => {
                let response = refusal.unwrap_or_else(|| Response::invalid("bizName should not be blank"));
                job.ending = Ending::Said(Answer::Operation { word: "uninstallBiz", name, version, response });
            }
        }
    }

    fn begin_install(&mut self, job: &mut Job, install: Install, now: Instant) {
        let asked = install.asked();
        let fault = install.fault().map(Response::invalid);
        let conflict = || asked.and_then(|(name, version)| self.conflict("installBiz", name, version));
        let begun = fault.or_else(conflict).map_or_else(|| self.start(&install, now, now + self.latency), Err);
        match begun {
            Ok(start) => {
                job.ends = start.ends;
                job.lock = install.asked().map(|(name, version)| Lock {
                    word: "installBiz",
                    name: name.to_owned(),
                    version: version.to_owned(),
                });
                job.ending = Ending::Install(install, start);
            }
            Err(response) => {
                let Install { name, version, .. } = install;
                job.ending = Ending::Said(Answer::Operation { word: "installBiz", name, version, response });
            }
        }
    }

    fn begin_batch(&mut self, job: &mut Job, elements: &[Install], now: Instant) {
        let one_by_one = self.generation < Generation::V2_1_11;
        // A batch locks no module of its own, only other batches.
        if let Some(conflict) = self.conflict("batchInstallBiz", "null", "null") {
            job.ending = Ending::Said(Answer::Batch(conflict));
            return;
        }
        // Each jar is fetched twice: the first time for its priority, one after the other.
        let looks: Duration = elements.iter().filter_map(|element| self.fetch(element).ok()).map(|jar| jar.fetch).sum();
        job.lock = Some(Lock { word: "batchInstallBiz", name: "null".to_owned(), version: "null".to_owned() });
        if !one_by_one && let Some(response) = elements.iter().find_map(|element| self.unfit(element)) {
            job.ending = Ending::Said(Answer::Batch(response));
            return;
        }
        let mut parts: Vec<(String, Part)> = Vec::new();
        for element in elements {
            let earliest = if one_by_one { job.ends } else { now + self.latency + looks };
            let part = match element.fault() {
                Some(fault) => Part::Done(Response::invalid(fault)),
                None => self.start(element, now, earliest).map_or_else(Part::Done, Part::Starting),
            };
            let threw = match &part {
                Part::Starting(start) => {
                    job.ends = job.ends.max(start.ends);
                    start.broken.is_some()
                }
                Part::Done(response) => response.threw,
            };
            parts.push((element.url.clone().unwrap_or_default(), part));
            if threw && self.generation <= Generation::V2_1_7 {
                break;
            }
        }
        job.ending = Ending::Batch(parts);
    }

    /// Ends the parts of a baseline that are due; true while some are left.
    fn finish_part(&mut self, ending: &mut Ending, now: Instant) -> bool {
        let Ending::Batch(parts) = ending else {
            return false;
        };
        let mut left = false;
        for (_, part) in parts {
            if let Part::Starting(start) = part {
                if start.ends <= now {
                    *part = Part::Done(self.finish_start(start));
                } else {
                    left = true;
                }
            }
        }
        left
    }

    fn finish(&mut self, ending: Ending) -> Answer {
        match ending {
            Ending::Said(answer) => answer,
            Ending::List => Answer::List(self.modules.clone()),
            Ending::Health => Answer::Health(self.modules.clone()),
            Ending::Install(Install { name, version, .. }, start) => {
                let response = self.finish_start(&start);
                Answer::Operation { word: "installBiz", name, version, response }
            }
            Ending::Uninstall(name, version) => {
                let response = self.uninstall(&name, &version);
                Answer::Operation { word: "uninstallBiz", name: Some(name), version: Some(version), response }
            }
            Ending::Batch(parts) => {
                let done = parts.into_iter().filter_map(|(url, part)| match part {
                    Part::Done(response) => Some((url, response)),
                    Part::Starting(_) => None,
                });
                Answer::Batch(Response::batch(done.collect()))
            }
        }
    }
}
