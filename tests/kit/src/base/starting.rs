//! How modules come into a base: the jar, the start and what it does to the other versions.

use std::time::Instant;

use super::answers::Response;
use super::arklet::Arklet;
use super::command::Install;
use super::jobs::Start;
use super::leaving::NOT_STOPPABLE;
use super::module::{BizState, Module};
use super::options::Activation;
use super::traces;
use super::urls::Jar;

impl Arklet {
    /// Why an element makes its whole baseline fail before anything is installed.
    pub(super) fn unfit(&self, element: &Install) -> Option<Response> {
        element.fault().map(Response::invalid).or_else(|| self.fetch(element).err())
    }

    pub(super) fn fetch(&self, install: &Install) -> Result<Jar, Response> {
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
        let jar = self.fetch(install)?;
        if jar.fetch > std::time::Duration::ZERO {
            return Ok(Start {
                serial: 0,
                begun: now,
                ends: earliest + jar.fetch + jar.start,
                broken: None,
                fetched: Some(jar),
                replaced: install.replace,
            });
        }
        let at_ms = self.epoch_ms(now);
        let ends = earliest + jar.start;
        let (serial, broken) = self.list(jar, at_ms)?;
        Ok(Start { serial, fetched: None, begun: now, ends, broken, replaced: install.replace })
    }

    /// Lists the module as starting, and says why that will fail if it will.
    fn list(&mut self, jar: Jar, at_ms: u64) -> Result<(u64, Option<String>), Response> {
        if self.modules.iter().any(|module| module.is(&jar.name, &jar.version)) {
            return Err(Response::repeated(&jar.name, &jar.version));
        }
        let is_web = |name: &String| self.web && !self.plain.contains(name);
        let holds = |module: &Module| is_web(&module.name) && module.serves_at == jar.serves_at;
        let taken = is_web(&jar.name) && self.modules.iter().any(holds);
        let broken = if taken { Some(format!("Child name [{}] is not unique", jar.serves_at)) } else { jar.broken };
        self.serial += 1;
        let module = Module::new(self.serial, jar.name, jar.version, at_ms);
        self.modules.push(Module { context: jar.context, serves_at: jar.serves_at, ..module });
        Ok((self.serial, broken))
    }

    pub(super) fn finish_start(&mut self, start: &Start) -> Response {
        let at_ms = self.epoch_ms(start.ends);
        let (mut serial, mut broken) = (start.serial, start.broken.clone());
        if let Some(jar) = &start.fetched {
            (serial, broken) = match self.list(jar.clone(), at_ms) {
                Ok(listed) => listed,
                Err(repeated) => return repeated,
            };
        }
        let Some(at) = self.modules.iter().position(|module| module.serial == serial) else {
            // Taken out by hand meanwhile.
            return Response::thrown("java.lang.IllegalStateException: module is gone");
        };
        if let Some(cause) = &broken {
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
