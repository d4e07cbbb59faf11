//! The connection against a broker that does what a test says.

mod broker;
mod http;
mod http_base;
mod probe;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    Event, Sender, Topics, elsewhere,
    mqtt::{MqttConfig, Secret, Way, start},
    traffic::Books,
};
use crate::{
    domain::{BaseId, Command, ModuleId, ModuleSpec, Origin, Strategy},
    lead::{Lead, Moment},
    metrics::Metrics,
    tasks::Tasks,
};
use broker::{Broker, Rules};

/// Each wait is over long before.
const DEADLINE: Duration = Duration::from_secs(30);

fn config(port: u16) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".to_owned(),
        port,
        username: Secret::Text(String::new()),
        password: Secret::Text(String::new()),
        client_id: "modulet".to_owned(),
        commands_id: "commands".to_owned(),
        tls: None,
    }
}

struct Scene {
    broker: Broker,
    commands: Sender,
    events: mpsc::Receiver<Event>,
    _tasks: Tasks,
}

impl Scene {
    /// Connected.
    async fn set(rules: Rules) -> Self {
        Self::led(rules, Lead::alone()).await
    }

    /// The same for a replica that leads or not.
    async fn led(rules: Rules, lead: Lead) -> Self {
        let broker = Broker::start(rules).await.unwrap();
        let config = config(broker.port);
        let (events_to, events) = mpsc::channel(4096);
        let mut tasks = Tasks::default();
        let way = Way { lead, broker: watch::Sender::new(false) };
        let commands =
            start(&mut tasks, &config, Topics::new("dev"), events_to, Arc::new(Metrics::new()), way).unwrap();
        let mut scene = Self { broker, commands, events, _tasks: tasks };
        scene.next(|event| matches!(event, Event::Connected)).await;
        scene
    }

    /// The next event of that kind.
    async fn next(&mut self, kind: impl Fn(&Event) -> bool) -> Event {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the tunnel runs");
                if kind(&event) {
                    return event;
                }
            }
        };
        timeout(DEADLINE, found).await.expect("such an event")
    }

    async fn sees(&self, what: impl Fn(&broker::Seen) -> bool) {
        let seen = timeout(DEADLINE, self.broker.sees(what)).await;
        assert!(seen.is_ok(), "{:?}", self.broker.look(|seen| (seen.subscribed, seen.closed, seen.published.len())));
    }
}

fn base(name: &str) -> BaseId {
    BaseId::new(name)
}

fn install(module: &str, environment: usize) -> Command {
    let spec = ModuleSpec {
        id: ModuleId::new(module, "1"),
        origin: Origin::default(),
        url: "https://modules.example.com/biz.jar".to_owned(),
        args: Vec::new(),
        envs: BTreeMap::from([("LARGE".to_owned(), "x".repeat(environment))]),
        unresolved: None,
    };
    Command::Install(spec, Strategy::InstallOnly)
}

/// The library waits for one acknowledgement that never comes, and takes no further command: its packet ids collide.
#[tokio::test]
async fn an_acknowledgement_that_is_withheld_ends_in_a_new_connection_with_its_subscriptions() {
    let mut scene = Scene::set(Rules { withholds: Some(7), ..Rules::default() }).await;
    for number in 0..1500 {
        assert!(scene.commands.send(base(&format!("base-{number}")), Command::QueryHealth));
    }
    scene.next(|event| matches!(event, Event::Disconnected)).await;
    scene.next(|event| matches!(event, Event::Connected)).await;
    assert_eq!(scene.broker.look(|seen| seen.subscribed), 2);
    // And it works: what is sent now arrives. What waited meanwhile is not sent beside it.
    let before = scene.broker.look(|seen| seen.published.len());
    assert!(before >= 1000, "{before}");
    assert!(scene.commands.send(base("base-1"), install("after", 10)));
    scene.sees(|seen| seen.published.len() > before).await;
    let after = scene.broker.look(|seen| seen.published[before..].to_vec());
    assert_eq!(after[0].0, "koupleless_dev/base-1/installBiz");
    // A restart on top of that.
    scene.broker.cut();
    scene.next(|event| matches!(event, Event::Connected)).await;
    assert_eq!(scene.broker.look(|seen| seen.subscribed), 3);
}

#[tokio::test]
async fn a_command_that_ends_the_connection_is_sent_twice_at_most_and_others_arrive() {
    let mut scene = Scene::set(Rules { largest: Some(20_000), ..Rules::default() }).await;
    for losses in 1..=2 {
        assert!(scene.commands.send(base("base-1"), install("large", 30_000)));
        scene.next(|event| matches!(event, Event::Disconnected)).await;
        scene.next(|event| matches!(event, Event::Connected)).await;
        assert_eq!(scene.broker.look(|seen| (seen.subscribed, seen.closed)), (losses + 1, losses));
    }
    // Nor is anything as large, as a baseline of many.
    let specs = (0..6).map(|n| match install(&format!("biz{n}"), 6_000) {
        Command::Install(spec, _) => spec,
        other => panic!("{other:?}"),
    });
    for command in [install("large", 30_000), Command::Baseline(specs.collect())] {
        assert!(scene.commands.send(base("base-1"), command.clone()));
        let refused = scene.next(|event| matches!(event, Event::Undeliverable { .. })).await;
        let Event::Undeliverable { command: refused, why, .. } = refused else { return };
        assert_eq!(refused, command);
        assert!(why.contains(" bytes, and the broker closes the connection at one of 30"), "{why}");
    }
    for (number, size) in [6_000, 15_000, 19_000].into_iter().enumerate() {
        assert!(scene.commands.send(base("base-1"), install(&format!("small{number}"), size)));
        scene.sees(|seen| seen.published.iter().any(|(_, bytes)| *bytes > size)).await;
    }
    assert_eq!(scene.broker.look(|seen| seen.closed), 2);
}

#[tokio::test]
async fn a_command_beyond_our_own_limit_is_not_sent_at_all() {
    let mut scene = Scene::set(Rules::default()).await;
    // A control character is six bytes in JSON.
    let mut spec = match install("escaped", 10) {
        Command::Install(spec, _) => spec,
        other => panic!("{other:?}"),
    };
    spec.envs.insert("ESCAPED".to_owned(), "\u{1}".repeat(200 * 1024));
    let many = (0..20).map(|n| match install(&format!("biz{n}"), 60 * 1024) {
        Command::Install(spec, _) => spec,
        other => panic!("{other:?}"),
    });
    for command in [
        install("large", 1024 * 1024),
        Command::Install(spec, Strategy::UninstallThenInstall),
        Command::Baseline(many.collect()),
    ] {
        assert!(scene.commands.send(base("base-1"), command));
        let refused = scene.next(|event| matches!(event, Event::Undeliverable { .. })).await;
        let Event::Undeliverable { why, .. } = refused else { return };
        assert!(why.contains("bytes, more than the 1048576 that are sent"), "{why}");
    }
    assert!(scene.commands.send(base("base-1"), install("fits", 1000 * 1024)));
    scene.sees(|seen| seen.published.len() == 1).await;
    assert_eq!(scene.broker.look(|seen| seen.closed), 0);
}

/// The engine takes what it sent as lost with the connection, and orders anew: what waited must not come beside that.
#[tokio::test]
async fn what_waited_for_a_lost_connection_is_not_sent_over_the_next_one() {
    let mut scene = Scene::set(Rules::default()).await;
    scene.broker.cut();
    scene.next(|event| matches!(event, Event::Disconnected)).await;
    for number in 0..100 {
        assert!(scene.commands.send(base("base-1"), install(&format!("old{number}"), 10)));
    }
    scene.next(|event| matches!(event, Event::Connected)).await;
    assert!(scene.commands.send(base("base-1"), install("new", 100)));
    scene.sees(|seen| !seen.published.is_empty()).await;
    assert!(scene.broker.look(|seen| seen.published.iter().all(|(_, bytes)| *bytes > 200)), "old ones came");
}

/// What one look at a broker finds.
async fn looked(rules: Rules) -> (Broker, Result<(), String>, String) {
    let broker = Broker::start(rules).await.unwrap();
    let (topics, metrics, books, mut looks) =
        (Topics::new("dev"), Metrics::new(), Books::default(), elsewhere::Looks::default());
    let options = config(broker.port).options().unwrap();
    let mut found = elsewhere::Found::default();
    let elsewhere =
        elsewhere::Elsewhere { topics: &topics, metrics: &metrics, books: &books, options, looks: &mut looks };
    let end = timeout(DEADLINE, elsewhere.listen(&mut found)).await.expect("it ends");
    assert!(!books.heard(), "it was taken for ours");
    (broker, end, found.text(None))
}

fn beats(environment: &str, retained: bool, size: usize) -> (String, bool, usize) {
    (format!("koupleless_{environment}/base-1/base/heart"), retained, size)
}

#[tokio::test]
async fn a_broker_that_does_not_let_us_listen_elsewhere_is_left_at_once() {
    let (broker, end, _) = looked(Rules { refuses: true, ..Rules::default() }).await;
    assert!(end.unwrap_err().contains("refuses the subscription to +/+/base/heart"));
    timeout(DEADLINE, broker.sees(|seen| seen.closed == 1)).await.unwrap();
}

#[tokio::test]
async fn who_beats_elsewhere_is_found_and_not_what_is_retained_and_then_it_goes() {
    let says = vec![beats("default", false, 10), beats("old", true, 10), beats("test", false, 30_000)];
    let (broker, end, found) = looked(Rules { says, ..Rules::default() }).await;
    assert_eq!((end, &*found), (Ok(()), "default (1 base), test (1 base)"));
    timeout(DEADLINE, broker.sees(|seen| seen.closed == 1)).await.unwrap();
}

#[tokio::test]
async fn however_much_is_said_elsewhere_a_look_ends() {
    let says = (0..5000).map(|number| beats(&format!("env{number}"), false, 10)).collect();
    let (_, end, found) = looked(Rules { says, ..Rules::default() }).await;
    assert_eq!((end, found.split(", ").count()), (Ok(()), 8), "{found}");
    let says = vec![beats("large", false, 1_000_000), beats("after", false, 10)];
    let (broker, end, _) = looked(Rules { says, ..Rules::default() }).await;
    assert!(end.unwrap_err().contains("payload size limit exceeded"));
    timeout(DEADLINE, broker.sees(|seen| seen.closed == 1)).await.unwrap();
}

#[tokio::test]
async fn a_standby_hears_and_commands_over_a_session_of_its_own_once_it_leads() {
    let lead = Lead::standby();
    let scene = Scene::led(Rules::default(), lead.clone()).await;
    assert_eq!(
        scene.broker.look(|seen| seen.names.clone()),
        ["modulet"],
        "it does not take the session of whoever leads"
    );
    assert!(scene.commands.send(base("base-1"), install("early", 10)));
    lead.renew(Moment::now());
    scene.sees(|seen| seen.published.len() == 1).await;
    assert_eq!(scene.broker.look(|seen| seen.names.clone()), ["modulet", "commands"]);
    assert_eq!(scene.broker.look(|seen| seen.closed), 0, "and still hears");
}

/// What waits for the broker waits in vain: another may have the session by then.
#[tokio::test]
async fn a_leader_that_cannot_renew_does_not_take_the_session_back() {
    let lead = Lead::standby();
    lead.renew(Moment::now());
    let mut scene = Scene::led(Rules::default(), lead.clone()).await;
    lead.close();
    scene.broker.cut();
    scene.next(|event| matches!(event, Event::Disconnected)).await;
    assert!(scene.commands.send(base("base-1"), install("late", 10)));
    let connected = timeout(Duration::from_secs(3), scene.broker.sees(|seen| seen.names.len() > 2)).await;
    assert!(connected.is_err(), "{:?}", scene.broker.look(|seen| seen.names.clone()));
    lead.renew(Moment::now());
    scene.next(|event| matches!(event, Event::Connected)).await;
    assert_eq!(scene.broker.look(|seen| seen.names.clone()), ["modulet", "commands", "modulet", "commands"]);
    assert!(scene.broker.look(|seen| seen.published.is_empty()), "what waited meanwhile was meant for another time");
}
