//! How modules come into a base: the jar, the start and what it does to the other versions.

use std::time::Instant;

use super::answers::Response;
use super::arklet::{Arklet, NOT_STOPPABLE};
use super::command::Install;
use super::jobs::Start;
use super::module::{BizState, Module};
use super::options::Activation;
use super::traces;
use super::urls::Jar;

impl Arklet {
    /// Why an element makes its whole baseline fail before anything is installed.
    pub(super) fn unfit(&self, element: &Install) -> Option<Response> {
        element.fault().map(Response::invalid).or_else(|| self.fetch(element).err())
    }

    fn fetch(&self, install: &Install) -> Result<Jar, Response> {
        let url = install.url.as_deref().unwrap_or_default();
        self.urls.fetch(url, install.asked(), &install.args).map_err(|exception| Response::thrown(&exception))
    }

    /// Removes what the strategy removes, reads the jar and lists the module as starting.
    pub(super) fn start(&mut self, install: &Install, now: Instant, earliest: Instant) -> Result<Start, Response> {
        if install.replace
            && let Some((name, _)) = install.asked()
        {
            // Removed before the download, whatever comes of it: so do the real ones.
            if self.modules.iter().any(|module| module.name == name && module.state() == BizState::Resolved) {
                return Err(Response::thrown(NOT_STOPPABLE));
            }
            self.modules.retain(|module| module.name != name);
        }
        let mut jar = self.fetch(install)?;
        if jar.fetch > std::time::Duration::ZERO {
            return Ok(Start {
                serial: 0,
                fetched: Some((jar.name, jar.version)),
                begun: now,
                ends: earliest + jar.fetch + jar.start,
                broken: jar.broken,
                replaced: install.replace,
            });
        }
        if self.modules.iter().any(|module| module.is(&jar.name, &jar.version)) {
            return Err(Response::repeated(&jar.name, &jar.version));
        }
        if self.web && !self.plain.contains(&jar.name) {
            let by_args = install.args.iter().find_map(|arg| arg.strip_prefix("--server.servlet.context-path="));
            let path = by_args.unwrap_or(&jar.name).to_owned();
            let held = |m: &Module| {
                let context = self.contexts.get(&(m.name.clone(), m.version.clone())).unwrap_or(&m.name);
                !self.plain.contains(&m.name) && *context == path
            };
            if self.modules.iter().any(held) {
                jar.broken = Some(format!("Child name [{path}] is not unique"));
            } else {
                self.contexts.insert((jar.name.clone(), jar.version.clone()), path);
            }
        }
        self.serial += 1;
        let at_ms = self.epoch_ms(now);
        self.modules.push(Module::new(self.serial, jar.name, jar.version, at_ms));
        Ok(Start {
            serial: self.serial,
            fetched: None,
            begun: now,
            ends: earliest + jar.start,
            broken: jar.broken,
            replaced: install.replace,
        })
    }

    pub(super) fn finish_start(&mut self, start: &Start) -> Response {
        let at_ms = self.epoch_ms(start.ends);
        let mut serial = start.serial;
        if let Some((name, version)) = &start.fetched {
            if self.modules.iter().any(|module| module.is(name, version)) {
                return Response::repeated(name, version);
            }
            self.serial += 1;
            serial = self.serial;
            self.modules.push(Module::new(serial, name.clone(), version.clone(), at_ms));
        }
        let Some(at) = self.modules.iter().position(|module| module.serial == serial) else {
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
        let (name, version) = (self.modules[at].name.clone(), self.modules[at].version.clone());
        let serving = |module: &&mut Module| module.name == name && module.state() == BizState::Activated;
        let other = self.modules.iter_mut().find(serving);
        let (state, message) = match (other, self.activation) {
            (Some(_), Activation::Default) => (BizState::Deactivated, "start but is deactivated".to_owned()),
            (Some(old), Activation::ActivateNew) => {
                old.turn(at_ms, BizState::Deactivated, "SWITCHED", format!("switch to new biz {name}:{version}"));
                (BizState::Activated, format!("switch from old biz: {name}:{}", old.version))
            }
            (_, _) => (BizState::Activated, String::new()),
        };
        self.modules[at].turn(at_ms, state, "STARTED", message);
        let cost = start.ends.duration_since(start.begun);
        Response::installed(&self.modules[at], cost, self.epoch_ms(start.begun), self.empty_records)
    }
}
