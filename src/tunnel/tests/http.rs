//! The HTTP tunnel against a base that answers as a test says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    DEADLINE, base,
    http_base::{Base, free_port, posts},
    install,
};
use crate::{
    domain::{Answer, Command, ModuleId},
    lead::Lead,
    metrics::Metrics,
    tasks::Tasks,
    tunnel::{AddressRanges, Event, Message, Sender, Topics, Via, http},
};

const LIST: &str = "HTTP/1.1 200 OK\r\n\r\n{\"code\":\"SUCCESS\",\"data\":[],\"baseIdentity\":\"base-1\"}";
const HEALTH: &str =
    "HTTP/1.1 200 OK\r\n\r\n{\"code\":\"SUCCESS\",\"data\":{\"healthData\":{}},\"baseIdentity\":\"base-1\"}";
const INSTALLED: &str = "HTTP/1.1 200 OK\r\n\r\n{\"code\":\"SUCCESS\",\"data\":{\"code\":\"SUCCESS\",\"message\":\"done\"},\"baseIdentity\":\"base-1\"}";

struct Scene {
    /// Where bases beat.
    port: u16,
    commands: Sender,
    events: mpsc::Receiver<Event>,
    _tasks: Tasks,
}

fn beat(identity: &str, port: u16) -> String {
    format!(
        "{{\"baseMetadata\":{{\"identity\":\"{identity}\",\"name\":\"app\",\"version\":\"1\",\"clusterName\":\"c\"}},\
         \"localIP\":\"127.0.0.1\",\"localHostName\":\"h\",\"port\":{port},\"state\":\"activated\"}}"
    )
}

impl Scene {
    async fn set() -> Self {
        let port = free_port().unwrap();
        let config = http::HttpConfig { port, ranges: AddressRanges::default(), secret: None, tls: None };
        let listener = http::listen(&config).await.unwrap();
        let (events_to, events) = mpsc::channel(4096);
        let mut tasks = Tasks::default();
        let commands =
            http::start(&mut tasks, listener, Topics::new("dev"), events_to, Arc::new(Metrics::new()), Lead::alone());
        Self { port, commands, events, _tasks: tasks }
    }

    /// With a base that has beaten.
    async fn with_base() -> (Self, Base) {
        let mut scene = Self::set().await;
        let base = Base::start(free_port().unwrap()).await.unwrap();
        scene.hears("base-1", base.port).await;
        (scene, base)
    }

    async fn hears(&mut self, identity: &str, port: u16) {
        let (status, _) = posts(self.port, "/heartbeat", &beat(identity, port)).await.unwrap();
        assert_eq!(status, 200);
        let event = self.next().await;
        assert!(matches!(event, Event::Message(Via::Http, _, Message::Heartbeat(_))), "{event:?}");
    }

    async fn next(&mut self) -> Event {
        timeout(DEADLINE, self.events.recv()).await.expect("an event").expect("the tunnel runs")
    }

    fn sends(&self, command: Command) {
        assert!(self.commands.send(base("base-1"), command));
    }

    /// A command is told of as one that may not have arrived.
    async fn is_uncertain(&mut self) {
        let event = self.next().await;
        assert!(matches!(&event, Event::Uncertain(id) if *id == base("base-1")), "{event:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_header_ends_with_its_connection() {
    let (mut scene, base) = Scene::with_base().await;
    base.answers("queryAllBiz", LIST);
    base.answers("installBiz", INSTALLED);
    scene.sends(Command::QueryModules);
    let event = scene.next().await;
    assert!(matches!(&event, Event::Message(Via::Http, _, Message::Modules(list)) if list.is_empty()), "{event:?}");
    scene.sends(install("biz1", 1));
    let event = scene.next().await;
    let Event::Message(Via::Http, _, Message::Reply(reply)) = event else { panic!("{event:?}") };
    assert_eq!((reply.module, reply.answer), (Some(ModuleId::new("biz1", "1")), Answer::Done { actual: None }));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_says_nothing_but_that_the_list_is_to_be_asked() {
    let (mut scene, base) = Scene::with_base().await;
    for cut in [INSTALLED.len() / 2, INSTALLED.len() - 1, "HTTP/1.1 200 OK\r\n\r\n".len(), 20, 0] {
        base.answers("installBiz", &INSTALLED.as_bytes()[..cut]);
        scene.sends(install("biz1", 1));
        scene.is_uncertain().await;
        // The next event is of the next command: half a list is no list.
        base.answers("queryAllBiz", &LIST.as_bytes()[..cut.min(LIST.len() - 1)]);
        scene.sends(Command::QueryModules);
        base.is_asked("queryAllBiz", 1).await;
    }
    // More than half a thing is refused too: text behind it, and another base's words.
    for odd in
        [format!("{INSTALLED} x"), INSTALLED.replace("base-1", "base-2"), "HTTP/1.1 200 OK\r\n\r\n[1]".to_owned()]
    {
        base.answers("installBiz", odd);
        scene.sends(install("biz1", 1));
        scene.is_uncertain().await;
    }
}

#[tokio::test]
async fn a_base_that_refuses_right_after_its_first_beat_is_tried_again() {
    let mut scene = Scene::set().await;
    let port = free_port().unwrap();
    scene.hears("base-1", port).await;
    scene.sends(Command::QueryModules);
    sleep(Duration::from_millis(400)).await; // it starts
    let base = Base::start(port).await.unwrap();
    base.answers("queryAllBiz", LIST);
    let event = scene.next().await;
    assert!(matches!(event, Event::Message(..)), "{event:?}");
    // One that goes on refusing is told of, and not for ever.
    drop(base);
    let begun = Instant::now();
    scene.sends(install("biz1", 1));
    scene.is_uncertain().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_redirect_is_followed_nowhere() {
    let (mut scene, base) = Scene::with_base().await;
    let elsewhere = Base::start(free_port().unwrap()).await.unwrap();
    elsewhere.answers("installBiz", INSTALLED);
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let to = format!("Location: http://127.0.0.1:{}/installBiz", elsewhere.port);
        base.answers("installBiz", format!("HTTP/1.1 {status}\r\n{to}\r\nContent-Length: 0\r\n\r\n"));
        scene.sends(install("biz1", 1));
        scene.is_uncertain().await;
    }
    assert_eq!((base.asked("installBiz"), elsewhere.asked("installBiz")), (4, 0));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_not_read_to_its_end() {
    let (mut scene, base) = Scene::with_base().await;
    let mut large = INSTALLED.as_bytes().to_vec();
    large.resize(5 * 1024 * 1024, b' ');
    base.answers("installBiz", large);
    scene.sends(install("biz1", 1));
    scene.is_uncertain().await;
}

/// Bases build their health in one place.
#[tokio::test]
async fn health_is_asked_once_at_a_time() {
    let (mut scene, base) = Scene::with_base().await;
    base.answers("queryAllBiz", LIST);
    for _ in 0..3 {
        scene.sends(Command::QueryHealth);
    }
    // Commands begin in their order: when the list is there, the questions before it have been sent, or not.
    scene.sends(Command::QueryModules);
    let event = scene.next().await;
    assert!(matches!(event, Event::Message(_, _, Message::Modules(_))), "{event:?}");
    timeout(DEADLINE, base.is_asked("health", 1)).await.unwrap();
    assert_eq!(base.asked("health"), 1);
    // Another base is asked meanwhile.
    let other = Base::start(free_port().unwrap()).await.unwrap();
    scene.hears("base-2", other.port).await;
    assert!(scene.commands.send(super::base("base-2"), Command::QueryHealth));
    timeout(DEADLINE, other.is_asked("health", 1)).await.unwrap();
}

/// A question that is not answered is given up and can be asked again; a command is waited for: the base is at work on it.
#[tokio::test]
async fn a_question_without_an_answer_ends_and_a_command_is_waited_for() {
    let (mut scene, base) = Scene::with_base().await;
    scene.sends(install("biz1", 1));
    scene.sends(Command::QueryHealth);
    timeout(DEADLINE, base.is_asked("installBiz", 1)).await.unwrap();
    timeout(DEADLINE, base.is_asked("health", 1)).await.unwrap();
    base.answers("health", HEALTH);
    timeout(DEADLINE, base.is_asked("health given up", 1)).await.unwrap();
    assert_eq!(base.asked("installBiz given up"), 0);
    scene.sends(Command::QueryHealth);
    // Of the first question nobody hears: it changed nothing.
    let event = scene.next().await;
    assert!(matches!(event, Event::Message(_, _, Message::Health(_))), "{event:?}");
    // A connection that breaks is another thing.
    drop(base);
    scene.is_uncertain().await;
}

#[tokio::test]
async fn a_base_that_beats_too_often_is_told_so_and_others_are_heard() {
    let mut scene = Scene::set().await;
    let mut refused = 0;
    for _ in 0..100 {
        let (status, _) = posts(scene.port, "/heartbeat", &beat("base-1", 1)).await.unwrap();
        assert!(matches!(status, 200 | 429), "{status}");
        refused += usize::from(status == 429);
    }
    assert!((20..=40).contains(&refused), "{refused}");
    while scene.events.try_recv().is_ok() {}
    scene.hears("base-2", 1).await;
}

/// Heads that never end, and bodies that come a byte at a time, keep no place for long, and nobody waits for them.
#[tokio::test]
async fn who_speaks_slowly_keeps_nobody_waiting_and_is_cut_off() {
    let mut scene = Scene::set().await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.port)).await.unwrap();
        stream.write_all(b"POST /heartbeat HTTP/1.1\r\nHost: modulet\r\n").await.unwrap();
        if number == 0 {
            stream.write_all(b"Content-Type: application/json\r\nContent-Length: 200\r\n\r\n{").await.unwrap();
        }
        slow.push(stream);
    }
    let begun = Instant::now();
    scene.hears("base-1", 1).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let body = slow.remove(0);
    // The heads are given up after 10 s.
    for mut stream in slow {
        let ends = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(DEADLINE, ends).await.expect("the connection ends");
    }
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(body);
}
