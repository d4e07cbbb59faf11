//! How a version gives way: to another one of the same module, and for good.

use std::time::Instant;

use super::answers::Response;
use super::arklet::Arklet;
use super::command::uninstall_fault;
use super::module::{BizState, Module};

pub(super) const NOT_STOPPABLE: &str =
    "java.lang.IllegalArgumentException: BizState must be ACTIVATED, DEACTIVATED or BROKEN.";

impl Arklet {
    fn is_master(&self, name: &str, version: &str) -> bool {
        self.master.0 == name && self.master.1 == version
    }

    pub(super) fn switch(&mut self, name: Option<&str>, version: Option<&str>, now: Instant) -> Response {
        let fault = uninstall_fault(name, version);
        let (Some(name), Some(version), None) = (name, version, fault) else {
            return Response::invalid(fault.unwrap_or_default());
        };
        if let Some(conflict) = self.conflict("switchBiz", name, version) {
            return conflict;
        }
        if self.is_master(name, version) {
            return Response::switched(name, version);
        }
        let at_ms = self.epoch_ms(now);
        let Some(at) = self.modules.iter().position(|module| module.is(name, version)) else {
            return Response::not_found_to_switch(name, version);
        };
        if self.modules[at].state() == BizState::Activated {
            return Response::switched(name, version);
        }
        let mut message = String::new();
        for module in self.modules.iter_mut().filter(|m| m.name == name && m.version != version) {
            if module.state() == BizState::Activated {
                message = format!("switch from old version: {name}:{}", module.version);
                module.turn(
                    at_ms,
                    BizState::Deactivated,
                    "SWITCHED",
                    format!("switch to new version {name}:{version}"),
                );
            }
        }
        self.modules[at].turn(at_ms, BizState::Activated, "SWITCHED", message);
        Response::switched(name, version)
    }

    pub(super) fn uninstall(&mut self, name: &str, version: &str) -> Response {
        match self.modules.iter().find(|module| module.is(name, version)).map(Module::state) {
            None if self.is_master(name, version) => Response::not_without_master(),
            None => Response::not_found(name, version),
            Some(BizState::Resolved) => Response::thrown(NOT_STOPPABLE),
            Some(_) if self.stuck.is_some() => Response::thrown(self.stuck.as_deref().unwrap_or_default()),
            Some(_) => {
                self.remove(name, version);
                Response::uninstalled(name, version)
            }
        }
    }
}
