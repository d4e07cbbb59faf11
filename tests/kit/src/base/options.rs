//! What kind of base to simulate.

use std::time::Duration;

/// What a base does when a second version of a running module is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// The new version starts but stays deactivated (a base with default settings).
    #[default]
    Default,
    /// `activate.new.module=true`: the new version serves, the old one is switched off.
    ActivateNew,
    /// `sofa.ark.activate.multi.biz.version.enable=true`: both serve.
    MultiActive,
}

/// Protocol generation, named after the runtime version that speaks it.
///
/// Everything but [`Generation::V2_1_11`] follows the released source, not a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// Random identity, heartbeat every 120 s, lists on `base/biz`, no baseline.
    V2_1_5,
    /// Like 2.1.5, but failures are answered on `base/bizOperation` without name and version.
    V2_1_6,
    /// Heartbeat every 10 s, `base/simpleBiz`, an unasked list after each success.
    V2_1_7,
    /// As 2.1.11, but a baseline is installed one by one and never answered.
    V2_1_9,
    /// The recorded one.
    #[default]
    V2_1_11,
}

impl Generation {
    /// The heartbeat interval this generation has built in.
    pub fn heartbeat(self) -> Duration {
        Duration::from_secs(if self <= Self::V2_1_6 { 120 } else { 10 })
    }
}

/// What happens to a module that is installed from a certain URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlBehaviour {
    /// The jar is there, is the asked module and starts at once (no convention by file name applies).
    Ok,
    /// It starts, but stays `resolved` for that long.
    StartsSlowly(Duration),
    /// The download takes that long; until then the base lists nothing of it, and answers "conflict" to a repeat.
    FetchesSlowly(Duration),
    /// It fails to start; the text is the root cause's message.
    Broken {
        /// Message of the innermost exception, an `IllegalStateException`.
        cause: String,
    },
    /// The base cannot read a module from the URL.
    NotFetchable {
        /// The exception with its message, as in `java.io.FileNotFoundException: http://…`.
        message: String,
    },
    /// It starts at once, and is a web module that serves at this context path, whatever its name is.
    ServesAt(String),
    /// The jar is another module than its URL says.
    IsReally {
        /// Name in the jar.
        name: String,
        /// Version in the jar.
        version: String,
    },
}

/// Everything that can be chosen about a simulated base. `Default` is the recorded one.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the JVM")]
pub struct BaseOptions {
    /// Broker's host.
    pub host: String,
    /// Broker's port (plain TCP).
    pub port: u16,
    /// User name; with an empty one no credentials are sent at all.
    pub username: String,
    /// Password.
    pub password: String,
    /// Environment; lower-cased in topics, `dev` if empty.
    pub env: String,
    /// Identity. The two oldest generations ignore it and invent one for each start.
    pub id: String,
    /// Name of the base application.
    pub name: String,
    /// Name of the master biz (`spring.application.name`) if it is not `name`.
    pub master: Option<String>,
    /// Version of the base application.
    pub version: String,
    /// Cluster name.
    pub cluster: String,
    /// Address in the heartbeat.
    pub ip: String,
    /// Host name in the heartbeat.
    pub host_name: String,
    /// First part of the client id, `{prefix}@@@{identity}`.
    pub client_prefix: String,
    /// What a second version of a module does.
    pub activation: Activation,
    /// `sofa.ark.auto.uninstall.when.failed.enable=false`: a module that fails to start stays, `broken`.
    pub keep_broken: bool,
    /// Its modules are web modules: two with one context path cannot be loaded. It is the name, unless
    /// [`UrlBehaviour::ServesAt`] or an argument says another.
    pub web: bool,
    /// Names of modules that are none all the same.
    pub plain: Vec<String>,
    /// Heartbeat interval; see [`BaseOptions::of_generation`] for the older ones.
    pub heartbeat: Duration,
    /// Worker threads that serve commands.
    pub workers: usize,
    /// Protocol generation.
    pub generation: Generation,
    /// A heartbeat that falls into an outage is the last one (as recorded).
    pub heartbeat_dies_after_outage: bool,
    /// First back-off after a lost connection; doubles up to 128 times.
    pub reconnect: Duration,
    /// `java max metaspace` in health, bytes; -1 means unlimited.
    pub metaspace: i64,
    /// `java used metaspace` in health, bytes; none: it follows the number of modules.
    pub used_metaspace: Option<u64>,
    /// Time every command takes, a worker being busy with it.
    pub latency: Duration,
    /// State records are empty, as with `SOFAArk` 3.1.7.
    pub empty_state_records: bool,
    /// The JVM runs in a POSIX locale: every non-ASCII byte it reads becomes `?`.
    pub posix_locale: bool,
}

impl Default for BaseOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 1883,
            username: String::new(),
            password: String::new(),
            env: "dev".into(),
            id: "base-1".into(),
            name: "testbase".into(),
            master: None,
            version: "1.0.0".into(),
            cluster: "default".into(),
            ip: "192.0.2.10".into(),
            host_name: "base-host".into(),
            client_prefix: "koupleless".into(),
            activation: Activation::Default,
            keep_broken: false,
            web: false,
            plain: Vec::new(),
            heartbeat: Duration::from_secs(10),
            workers: 5,
            generation: Generation::V2_1_11,
            heartbeat_dies_after_outage: true,
            reconnect: Duration::from_secs(1),
            metaspace: -1,
            used_metaspace: None,
            latency: Duration::ZERO,
            empty_state_records: false,
            posix_locale: false,
        }
    }
}

impl BaseOptions {
    /// Options for a base on a local broker.
    pub fn new(id: &str, port: u16) -> Self {
        Self { id: id.into(), port, ..Self::default() }
    }

    /// The same base with another runtime, heartbeat interval included.
    #[must_use]
    pub fn of_generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self.heartbeat = generation.heartbeat();
        self
    }

    /// The env level of the topics.
    pub fn env_in_topics(&self) -> String {
        if self.env.is_empty() { "dev".into() } else { self.env.to_lowercase() }
    }
}
