//! What bases say, and the connection to them.

use super::{Scene, id};
use crate::{
    domain::{Answer, BaseId, BaseInfo, ListedModule, ModuleState, Reply},
    tunnel::{AddressError, Event, Health, Heartbeat, Message, Via},
};

impl Scene {
    pub(crate) fn say(&mut self, base: &str, message: Message) {
        self.state.tunnel(Event::Message(Via::Mqtt, BaseId::new(base), message), self.now);
    }

    fn heart(&mut self, base: &str, ip: Option<&str>, no_address: Option<AddressError>, going_away: bool) {
        let (name, version, ip) = ("app".to_owned(), "1".to_owned(), ip.map(str::to_owned));
        let info = BaseInfo { name, version, ip, ..BaseInfo::default() };
        self.say(base, Message::Heartbeat(Heartbeat { info, no_address, going_away, out_of_turn: false }));
    }

    pub(crate) fn beats(&mut self, base: &str) {
        self.beats_from(base, "192.0.2.1", false);
    }

    /// The base says another address, or what is none.
    pub(crate) fn beats_at(&mut self, base: &str, address: Result<String, AddressError>) {
        self.heart(base, address.as_deref().ok(), address.as_ref().err().cloned(), false);
    }

    pub(crate) fn beats_from(&mut self, base: &str, ip: &str, going_away: bool) {
        self.heart(base, Some(ip), None, going_away);
    }

    /// The base says that it goes away.
    pub(crate) fn says_goodbye(&mut self, base: &str) {
        self.heart(base, None, None, true);
    }

    /// The connection to the broker proves alive, is lost or comes back.
    pub(crate) fn link(&mut self, event: Event) {
        self.state.tunnel(event, self.now);
    }

    pub(crate) fn registers(&mut self, base: &str) {
        self.beats(base);
        self.say(base, Message::Health(Health::default()));
        self.lists(base, &[]);
    }

    /// The base answers an install or uninstall.
    pub(crate) fn done(&mut self, base: &str, command: &'static str, module: &str) {
        let answer = Answer::Done { actual: None };
        self.say(base, Message::Reply(Reply { command, module: Some(id(module)), answer, space: None }));
    }

    /// The base says which modules it has.
    pub(crate) fn lists(&mut self, base: &str, modules: &[(&str, ModuleState)]) {
        let listed = modules.iter().map(|(module, state)| ListedModule {
            id: id(module),
            state: *state,
            context_path: None,
            message: None,
        });
        self.say(base, Message::Modules(listed.collect()));
    }
}
