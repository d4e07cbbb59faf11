//! A base: what it said, what it was told, what is remembered about it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    conversation::Conversation,
    failures::Failures,
    health::JvmKnowledge,
    ledger::{Claim, Ledger},
    link::Link,
    liveness::{Liveness, Reachability},
    memory::PodMemory,
    needs::Took,
    operation::{Answer, Order, Reply},
    replacement::Replacement,
};
use crate::domain::{
    BaseId, BaseInfo, ListedModule, Metaspace, ModuleId, ModuleSpec, ModuleState, PodUid, Settings, times::Later,
};

/// A module that came with a baseline waits this long for its Pod.
const EXPECTED_FOR: Duration = Duration::from_secs(60);

/// One base and all that is known about it.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its identity.
    pub id: BaseId,
    /// What is known of its JVM.
    pub(in crate::domain) jvm: JvmKnowledge,
    /// Known since its first heartbeat, or from its Node.
    pub info: Option<BaseInfo>,
    /// Whether it can be reached.
    pub liveness: Liveness,
    /// The record that outlives Pods and restarts.
    pub ledger: Ledger,
    pub(in crate::domain) conversation: Conversation,
    pub(in crate::domain) failures: Failures,
    /// When the first command for an install that is under way was sent.
    pub(in crate::domain) installing_since: BTreeMap<ModuleId, Instant>,
    /// Modules of Pods that were evicted while the base could not be reached: they stay for a successor until then.
    pub(in crate::domain) handed_over: BTreeMap<ModuleId, Instant>,
    /// Installs that are on record where a death of this process does not reach them.
    pub(in crate::domain) recorded: HashSet<ModuleId>,
    pub(in crate::domain) pods: HashMap<PodUid, PodMemory>,
    /// Module name and claim: since when no Pod stands for it.
    pub(in crate::domain) claims_without_pod: Vec<(String, Claim, Instant)>,
    /// Modules that were part of a baseline before their Pods.
    pub(super) expected: Vec<ModuleSpec>,
    pub(in crate::domain) expected_until: Instant,
    /// Since when a module on record as installed is not listed.
    pub(super) absent: BTreeMap<ModuleId, Instant>,
    /// Updates that need the old version out of the way first, by module name.
    pub(in crate::domain) replacements: BTreeMap<String, Replacement>,
    /// It has a Node. Before it is told which modules belong on it: anybody can say a name.
    pub admitted: bool,
    pub(in crate::domain) settings: Arc<Settings>,
    /// Whether modules can have a context in a web server of the base, as far as it says.
    pub has_web_server: Option<bool>,
    /// Since when its JVM runs, as it says.
    pub(super) runs_since: Option<Instant>,
    /// What the way to it bears, see [`Link`].
    pub(in crate::domain) link: Link,
}

impl Base {
    /// A base of which nothing is known yet.
    pub fn new(id: BaseId, settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            id,
            info: None,
            jvm: JvmKnowledge::default(),
            liveness: Liveness::new(now),
            ledger: Ledger::default(),
            conversation: Conversation::default(),
            failures: Failures::default(),
            installing_since: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            recorded: HashSet::new(),
            pods: HashMap::new(),
            claims_without_pod: Vec::new(),
            expected: Vec::new(),
            expected_until: now,
            absent: BTreeMap::new(),
            replacements: BTreeMap::new(),
            admitted: true,
            settings,
            has_web_server: None,
            runs_since: None,
            link: Link::default(),
        }
    }

    /// Whether it can be reached.
    pub fn reachability(&self, now: Instant) -> Reachability {
        self.liveness.at(&self.settings, now)
    }

    /// All its workers are occupied by our own commands.
    pub(in crate::domain) fn is_busy(&self) -> bool {
        self.conversation.in_flight() >= self.commands_at_a_time()
    }

    fn commands_at_a_time(&self) -> usize {
        self.settings.commands_in_flight.min(self.link.commands_at_a_time)
    }

    /// How many more commands may be on their way.
    pub(in crate::domain) fn free_places(&self, now: Instant) -> usize {
        let occupied = self.conversation.in_flight().saturating_sub(self.conversation.hanging(now));
        self.commands_at_a_time().saturating_sub(occupied)
    }

    /// It is at work on commands that have not been under way for very long: what it fails to answer says nothing.
    pub fn is_at_work(&self, now: Instant) -> bool {
        self.conversation.in_flight() > self.conversation.hanging(now)
    }

    /// It was asked, and is silent over a link that has proven alive, for so long that it would be given up if we did
    /// not suspect ourselves.
    pub fn is_overdue(&self, link: &Link, now: Instant) -> bool {
        self.liveness.is_overdue(&self.settings, self.is_busy(), link, now)
    }

    /// It was asked some seconds ago and has not answered.
    pub fn is_unanswered(&self, now: Instant) -> bool {
        self.liveness.is_unanswered(&self.settings, now)
    }

    /// It has been asked in vain for so long that what is remembered of it can go.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.liveness.is_forgotten(&self.settings, now)
    }

    /// Health came; `complete`: it names the JVM.
    pub fn health_answered(&mut self, complete: bool) {
        self.jvm.answered(complete);
    }

    /// Its health tells of its metaspace: none where there is no limit. Says whether that is about this JVM, and not a
    /// late word of the one before.
    pub fn measured(&mut self, metaspace: Option<Metaspace>, now: Instant) -> bool {
        let counts = self.jvm.is_complete();
        if counts {
            self.jvm.measured(metaspace, now);
        }
        counts
    }

    /// Whether health that leaves the JVM out may be completed by what was known before.
    pub fn knows_its_jvm(&self) -> bool {
        self.jvm.is_complete()
    }

    /// The modules it listed last, if it has since we started.
    pub fn modules(&self) -> Option<impl Iterator<Item = &ListedModule>> {
        self.conversation.last_list().map(|list| list.values())
    }

    /// Whether it does not serve a module, or may not any more once the command under way has ended: what the API shows of
    /// the module's Pod may be older.
    pub fn lacks(&self, id: &ModuleId) -> bool {
        let takes_it_away =
            |order: &Order| matches!(order, Order::Uninstall(gone) if gone == id) || order.is_to_load_another(id);
        let listed = self.conversation.last_list();
        let serves = listed.is_none_or(|list| list.get(id).is_some_and(|m| m.state == ModuleState::Activated));
        !serves || self.conversation.operation(&id.name).is_some_and(|operation| takes_it_away(&operation.order))
    }

    /// Commands the base has not answered yet.
    pub fn in_flight(&self) -> usize {
        self.conversation.in_flight()
    }

    /// What it said last of its metaspace, if that has a limit, and what the last module left behind that went.
    pub fn metaspace(&self) -> (Option<Metaspace>, Option<u64>) {
        self.jvm.metaspace()
    }

    /// It answered a command. Returns what that tells of the module's need.
    pub fn replied(&mut self, reply: Reply) -> Option<Took> {
        if let Answer::Done { actual: Some(actual) } = &reply.answer
            && reply.module.as_ref().is_some_and(|asked| asked != actual)
            && self.conversation.ends_an_install(&reply)
        {
            // The jar is another module than the Pod says. It came by our command, since what had been
            // there before would have been refused as repeated (protocol fact): ours to remove.
            self.ledger.install(actual);
        }
        let (took, alone) = self.conversation.replied(reply)?;
        self.jvm.took(&took, alone);
        alone.then_some(took)
    }

    /// These installs are on record now, so they can be ordered.
    pub fn recorded(&mut self, installs: impl IntoIterator<Item = ModuleId>) {
        self.recorded.extend(installs);
    }

    /// It asked which modules belong on it: a fresh JVM, or one that was never answered. `expected`
    /// are modules whose Pods will come to this base but are not bound to it yet.
    pub fn asked_for_baseline(&mut self, expected: Vec<ModuleSpec>, now: Instant) {
        self.liveness.beat(now);
        self.jvm.is_new();
        self.expects(expected, now);
        self.replacements.clear();
        self.installing_since.clear();
        self.conversation.asked_for_baseline(now);
    }

    /// Modules whose Pods will come to it are known later than its question.
    pub fn expects(&mut self, expected: Vec<ModuleSpec>, now: Instant) {
        self.expected = expected;
        self.expected_until = now.later(EXPECTED_FOR);
    }

    /// A module that is to wait on the base for its Pod.
    pub(in crate::domain) fn expected(&self, now: Instant) -> &[ModuleSpec] {
        if now < self.expected_until { &self.expected } else { &[] }
    }

    /// A tree that was used once keeps room for eleven entries when it is empty again, and a table what it ever had:
    /// that is given back.
    pub(in crate::domain) fn give_back_room(&mut self) {
        let trees = [&mut self.installing_since, &mut self.handed_over, &mut self.absent];
        trees.into_iter().filter(|tree| tree.is_empty()).for_each(BTreeMap::clear);
        self.recorded.shrink_to_fit();
        self.pods.shrink_to_fit();
        self.conversation.give_back_room();
        self.failures.give_back_room();
    }

    /// Our connection to the broker was lost: what was sent may not have arrived.
    pub fn connection_lost(&mut self, now: Instant) {
        self.liveness.deaf(now);
        self.conversation.connection_lost();
    }

    /// Commands could not be handed over: ask, and send again what the list does not show.
    pub fn commands_lost(&mut self) {
        self.conversation.connection_lost();
        self.liveness.not_asked();
    }

    /// Another process commanded it until now: what it listed then is old, and it may be at work.
    pub fn taken_over(&mut self, now: Instant) {
        self.conversation.taken_over(now);
    }

    /// Another process, which commands it, gave it its baseline.
    pub fn baseline_given(&mut self) {
        self.conversation.baseline_given();
    }

    /// Our connection to the broker is there again.
    pub fn connection_back(&mut self, now: Instant) {
        self.liveness.listening(now);
        self.conversation.ask_now();
    }

    /// When it is to be asked for its list, and when for its health.
    pub(in crate::domain) fn asks_at(&self, now: Instant) -> (Option<Instant>, Option<Instant>) {
        if self.liveness.is_deaf() || self.liveness.is_stopped() {
            return (None, None);
        }
        let alive = self.liveness.ask_at(&self.settings);
        if self.liveness.is_lost() {
            // One that is away is asked for a sign of life only: its JVM may be another one when it is back.
            return (None, alive);
        }
        let jvm = self.jvm.ask_at(&self.settings.metaspace, now);
        (Some(self.conversation.ask_at(&self.settings, now)), alive.into_iter().chain(jvm).min())
    }
}
