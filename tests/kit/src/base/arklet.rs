//! The part of a base that executes commands: a state machine without I/O.
//!
//! Time comes in from outside: [`Arklet::accept`] takes a command, [`Arklet::tick`] does what is
//! due and returns the answers, [`Arklet::next_wake`] says when to come again.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::answers::{Answer, Response};
use super::command::{Baseline, Command, Install, uninstall_fault};
use super::module::{BizState, Module};
use super::options::{Activation, BaseOptions, Generation, UrlBehaviour};
use super::traces;
use super::urls::{Jar, UrlRules};

const NOT_STOPPABLE: &str =
    "java.lang.IllegalArgumentException: BizState must be ACTIVATED, DEACTIVATED or BROKEN.";

/// Modules, workers and the queue before them.
#[derive(Debug)]
pub(super) struct Arklet {
    activation: Activation,
    keep_broken: bool,
    workers: usize,
    latency: Duration,
    generation: Generation,
    epoch: (Instant, u64),
    serial: u64,
    modules: Vec<Module>,
    urls: UrlRules,
    running: Vec<Job>,
    waiting: VecDeque<Command>,
}

/// A command that occupies a worker.
#[derive(Debug)]
struct Job {
    ends: Instant,
    lock: Option<Lock>,
    ending: Ending,
}

/// A name and version that is being worked on.
#[derive(Debug)]
struct Lock {
    word: &'static str,
    name: String,
    version: String,
}

#[derive(Debug)]
enum Ending {
    Said(Answer),
    Install(Install, Start),
    Uninstall(String, String),
    Batch(Vec<(String, Part)>),
    List,
    Health,
}

/// One element of a baseline.
#[derive(Debug)]
enum Part {
    Starting(Start),
    Done(Response),
}

/// A module that is being started.
#[derive(Debug)]
struct Start {
    serial: u64,
    begun: Instant,
    ends: Instant,
    broken: Option<String>,
    replaced: bool,
}

impl Arklet {
    pub(super) fn new(options: &BaseOptions, now: Instant, urls: UrlRules) -> Self {
        let ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_millis());
        Self {
            activation: options.activation,
            keep_broken: options.keep_broken,
            workers: options.workers.max(1),
            latency: options.latency,
            generation: options.generation,
            epoch: (now, u64::try_from(ms).unwrap_or(0)),
            serial: 0,
            modules: Vec::new(),
            urls,
            running: Vec::new(),
            waiting: VecDeque::new(),
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
        let at = self
            .modules
            .iter()
            .position(|module| module.is(name, version))
            .unwrap_or_else(|| {
                self.serial += 1;
                self.modules.push(Module::new(
                    self.serial,
                    name.to_owned(),
                    version.to_owned(),
                    at_ms,
                ));
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

    pub(super) fn accept(&mut self, command: Command) {
        self.waiting.push_back(command);
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.running.iter().map(Job::next).min()
    }

    /// Does everything that is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            while self.running.len() < self.workers
                && let Some(command) = self.waiting.pop_front()
            {
                let job = self.begin(command, now);
                self.running.push(job);
            }
            let due = self
                .running
                .iter()
                .enumerate()
                .filter(|(_, job)| job.next() <= now);
            let Some(at) = due
                .min_by_key(|(at, job)| (job.next(), *at))
                .map(|(at, _)| at)
            else {
                break;
            };
            let mut job = self.running.remove(at);
            if self.finish_part(&mut job.ending, now) {
                self.running.insert(at, job);
            } else {
                answers.extend(self.finish(job.ending));
            }
        }
        answers
    }

    fn epoch_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch.0).as_millis();
        self.epoch.1 + u64::try_from(since).unwrap_or(0)
    }

    fn begin(&mut self, command: Command, now: Instant) -> Job {
        let mut job = Job {
            ends: now + self.latency,
            lock: None,
            ending: Ending::List,
        };
        match command {
            Command::List => {}
            Command::Health => job.ending = Ending::Health,
            Command::Uninstall { name, version } => self.begin_uninstall(&mut job, name, version),
            Command::Install(install) => self.begin_install(&mut job, install, now),
            Command::Baseline(Baseline::Elements(elements)) => {
                self.begin_batch(&mut job, &elements, now)
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
    fn conflict(&self, word: &str, name: &str, version: &str) -> Option<Response> {
        let mut locks = self.running.iter().filter_map(|job| job.lock.as_ref());
        let lock = locks.find(|lock| lock.name == name && lock.version == version)?;
        Some(Response::bare_failure(format!(
            "FAILED:{name}:{version} {word} conflict, exist unfinished command({}) for this biz",
            lock.word
        )))
    }

    fn begin_uninstall(&self, job: &mut Job, name: Option<String>, version: Option<String>) {
        let fault = uninstall_fault(name.as_ref(), version.as_ref()).map(Response::invalid);
        let conflict = || self.conflict("uninstallBiz", name.as_deref()?, version.as_deref()?);
        match (fault.or_else(conflict), name, version) {
            (None, Some(name), Some(version)) => {
                job.lock = Some(Lock {
                    word: "uninstallBiz",
                    name: name.clone(),
                    version: version.clone(),
                });
                job.ending = Ending::Uninstall(name, version);
            }
            (refusal, name, version) => {
                let response =
                    refusal.unwrap_or_else(|| Response::invalid("bizName should not be blank"));
                job.ending = Ending::Said(Answer::Operation {
                    word: "uninstallBiz",
                    name,
                    version,
                    response,
                });
            }
        }
    }

    fn begin_install(&mut self, job: &mut Job, install: Install, now: Instant) {
        let asked = install.asked();
        let fault = install.fault().map(Response::invalid);
        let conflict =
            || asked.and_then(|(name, version)| self.conflict("installBiz", name, version));
        let begun = fault
            .or_else(conflict)
            .map_or_else(|| self.start(&install, now, now + self.latency), Err);
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
                job.ending = Ending::Said(Answer::Operation {
                    word: "installBiz",
                    name,
                    version,
                    response,
                });
            }
        }
    }

    fn begin_batch(&mut self, job: &mut Job, elements: &[Install], now: Instant) {
        let one_by_one = self.generation < Generation::V2_1_11;
        if !one_by_one
            && let Some(response) = elements.iter().find_map(|element| self.unfit(element))
        {
            job.ending = Ending::Said(Answer::Batch(response));
            return;
        }
        let mut parts: Vec<(String, Part)> = Vec::new();
        for element in elements {
            let earliest = if one_by_one {
                job.ends
            } else {
                now + self.latency
            };
            let part = match element.fault() {
                Some(fault) => Part::Done(Response::invalid(fault)),
                None => self
                    .start(element, now, earliest)
                    .map_or_else(Part::Done, Part::Starting),
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

    /// Why an element makes its whole baseline fail before anything is installed.
    fn unfit(&self, element: &Install) -> Option<Response> {
        element
            .fault()
            .map(Response::invalid)
            .or_else(|| self.fetch(element).err())
    }

    fn fetch(&self, install: &Install) -> Result<Jar, Response> {
        let url = install.url.as_deref().unwrap_or_default();
        self.urls
            .fetch(url, install.asked(), &install.args)
            .map_err(|exception| Response::thrown(&exception))
    }

    /// Removes what the strategy removes, reads the jar and lists the module as starting.
    fn start(
        &mut self,
        install: &Install,
        now: Instant,
        earliest: Instant,
    ) -> Result<Start, Response> {
        if install.replace
            && let Some((name, _)) = install.asked()
        {
            // Removed before the download, whatever comes of it: so do the real ones.
            if self
                .modules
                .iter()
                .any(|module| module.name == name && module.state() == BizState::Resolved)
            {
                return Err(Response::thrown(NOT_STOPPABLE));
            }
            self.modules.retain(|module| module.name != name);
        }
        let jar = self.fetch(install)?;
        if self
            .modules
            .iter()
            .any(|module| module.is(&jar.name, &jar.version))
        {
            return Err(Response::repeated(&jar.name, &jar.version));
        }
        self.serial += 1;
        let at_ms = self.epoch_ms(now);
        self.modules
            .push(Module::new(self.serial, jar.name, jar.version, at_ms));
        Ok(Start {
            serial: self.serial,
            begun: now,
            ends: earliest + jar.start,
            broken: jar.broken,
            replaced: install.replace,
        })
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

    fn finish(&mut self, ending: Ending) -> Option<Answer> {
        Some(match ending {
            Ending::Said(answer) => answer,
            Ending::List => Answer::List(self.modules.clone()),
            Ending::Health => Answer::Health(self.modules.clone()),
            Ending::Install(Install { name, version, .. }, start) => {
                let response = self.finish_start(&start);
                Answer::Operation {
                    word: "installBiz",
                    name,
                    version,
                    response,
                }
            }
            Ending::Uninstall(name, version) => {
                let response = self.uninstall(&name, &version);
                Answer::Operation {
                    word: "uninstallBiz",
                    name: Some(name),
                    version: Some(version),
                    response,
                }
            }
            Ending::Batch(parts) => {
                let done = parts.into_iter().filter_map(|(url, part)| match part {
                    Part::Done(response) => Some((url, response)),
                    Part::Starting(_) => None,
                });
                Answer::Batch(Response::batch(done.collect()))
            }
        })
    }

    fn uninstall(&mut self, name: &str, version: &str) -> Response {
        match self
            .modules
            .iter()
            .find(|module| module.is(name, version))
            .map(Module::state)
        {
            None => Response::not_found(name, version),
            Some(BizState::Resolved) => Response::thrown(NOT_STOPPABLE),
            Some(_) => {
                self.remove(name, version);
                Response::uninstalled(name, version)
            }
        }
    }

    fn finish_start(&mut self, start: &Start) -> Response {
        let at_ms = self.epoch_ms(start.ends);
        let Some(at) = self
            .modules
            .iter()
            .position(|module| module.serial == start.serial)
        else {
            // Taken out by hand meanwhile.
            return Response::thrown("java.lang.IllegalStateException: module is gone");
        };
        if let Some(cause) = &start.broken {
            if self.keep_broken {
                let record = traces::broken_record(cause, start.replaced);
                self.modules[at].turn(at_ms, BizState::Broken, "INSTALL_FAILED", record);
            } else {
                self.modules.remove(at);
            }
            return Response::broken(cause, start.replaced);
        }
        let (name, version) = (
            self.modules[at].name.clone(),
            self.modules[at].version.clone(),
        );
        let serving =
            |module: &&mut Module| module.name == name && module.state() == BizState::Activated;
        let other = self.modules.iter_mut().find(serving);
        let (state, message) = match (other, self.activation) {
            (Some(_), Activation::Default) => {
                (BizState::Deactivated, "start but is deactivated".to_owned())
            }
            (Some(old), Activation::ActivateNew) => {
                old.turn(
                    at_ms,
                    BizState::Deactivated,
                    "SWITCHED",
                    format!("switch to new biz {name}:{version}"),
                );
                (
                    BizState::Activated,
                    format!("switch from old biz: {name}:{}", old.version),
                )
            }
            (_, _) => (BizState::Activated, String::new()),
        };
        self.modules[at].turn(at_ms, state, "STARTED", message);
        let cost = start.ends.duration_since(start.begun);
        Response::installed(&self.modules[at], cost, self.epoch_ms(start.begun))
    }
}

impl Job {
    /// When this job wants to be looked at.
    fn next(&self) -> Instant {
        let Ending::Batch(parts) = &self.ending else {
            return self.ends;
        };
        let starting = parts.iter().filter_map(|(_, part)| match part {
            Part::Starting(start) => Some(start.ends),
            Part::Done(_) => None,
        });
        starting.min().unwrap_or(self.ends)
    }
}
