use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::domain::{BaseId, Probe, ProbeAction, ProbeKind, ProbeSays, ProbeTarget, Probes};

fn get(port: u16, path: &str) -> ProbeAction {
    ProbeAction::HttpGet { tls: false, host: None, port, path: path.to_owned(), headers: Vec::new() }
}

fn probe(action: ProbeAction) -> Probe {
    Probe {
        action,
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(20),
        timeout: Duration::from_millis(300),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

fn target(probes: Probes) -> ProbeTarget {
    ProbeTarget {
        pod: "uid".into(),
        container: "biz1".to_owned(),
        run: 0,
        probes: Arc::new(probes),
        started: false,
        ready: false,
        active_for: Some(Duration::ZERO),
    }
}

fn order(base: &str, busy: bool, targets: Vec<ProbeTarget>) -> ProbeOrder {
    ProbeOrder { base: BaseId::new(base), address: "127.0.0.1".into(), busy, targets }
}

fn readiness(action: ProbeAction) -> Probes {
    Probes { readiness: Some(probe(action)), ..Probes::default() }
}

fn of(action: ProbeAction) -> Attempt {
    let mut book = Book::default();
    let now = Instant::now();
    book.set(order("base-1", false, vec![target(readiness(action))]), now);
    book.due(now).unwrap()
}

/// Answers each connection with what stands for its path; what it was sent is kept.
async fn server(answers: BTreeMap<&'static str, String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answers, sent) = (answers.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let count = socket.read(&mut bytes).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                sent.lock().unwrap().push(text);
                match answers.get(path.as_str()) {
                    Some(answer) => drop(socket.write_all(answer.as_bytes()).await),
                    None => std::future::pending().await,
                }
            });
        }
    });
    (port, heard)
}

fn answer(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n{more}\r\n")
}

#[tokio::test]
async fn answers_are_taken_as_a_kubelet_takes_them() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 50000\r\n\r\n{}", "x".repeat(50_000));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nabc".to_owned();
    let (port, heard) = server(BTreeMap::from([
        ("/ok?x=1", answer("200 OK", "")),
        ("/none", answer("204 No Content", "")),
        ("/unchanged", answer("304 Not Modified", "")),
        ("/broken", answer("500 Oops", "")),
        ("/missing", answer("404 Not Found", "")),
        ("/to-ok", answer("302 Found", "location: /ok?x=1\r\n")),
        ("/to-broken", answer("302 Found", "location: http://127.0.0.1:PORT/broken\r\n")),
        ("/to-another", answer("301 Moved", "location: https://example.com/\r\n")),
        ("/to-itself", answer("302 Found", "location: /to-itself\r\n")),
        ("/nowhere", answer("302 Found", "")),
        ("/long", long),
        ("/cut", cut),
        ("/garbage", "no HTTP at all\r\n\r\n".to_owned()),
    ]))
    .await;
    let asker = Asker::new().unwrap();
    let ask = async |path: &str| asker.ask(&of(get(port, path))).await;
    for path in ["/ok?x=1", "/none", "/unchanged", "/to-ok", "/nowhere", "/long"] {
        assert_eq!(ask(path).await, Outcome::Success, "{path}");
    }
    let first = heard.lock().unwrap()[0].to_lowercase();
    for line in
        ["get /ok?x=1 http/1.1", "user-agent: kube-probe/", "accept: */*", "connection: close", "host: 127.0.0.1:"]
    {
        assert!(first.contains(line), "{first}");
    }
    assert!(matches!(ask("/to-another").await, Outcome::Warning(what) if what.contains("another host")));
    for (path, words) in [
        ("/broken", "statuscode: 500"),
        ("/missing", "statuscode: 404"),
        ("/to-itself", "10 redirects"),
        ("/cut", ""),
        ("/garbage", ""),
        ("/silence", "no answer within"),
    ] {
        let outcome = ask(path).await;
        assert!(matches!(&outcome, Outcome::Failure(why) if why.contains(words)), "{path}: {outcome:?}");
    }
    let headers = vec![("Host".to_owned(), "shop.example.com".to_owned()), ("Accept".to_owned(), String::new())];
    let action = ProbeAction::HttpGet { tls: false, host: None, port, path: "/ok?x=1".to_owned(), headers };
    assert_eq!(asker.ask(&of(action)).await, Outcome::Success);
    let last = heard.lock().unwrap().last().unwrap().to_lowercase();
    assert!(last.contains("host: shop.example.com") && !last.contains("accept"), "{last}");
    // Nobody listens there: the port was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for action in [get(free, "/"), ProbeAction::TcpSocket { host: None, port: free }] {
        let outcome = asker.ask(&of(action)).await;
        assert!(matches!(&outcome, Outcome::Failure(why) if why.contains("refused")), "{outcome:?}");
    }
    let socket = ProbeAction::TcpSocket { host: None, port };
    assert_eq!(asker.ask(&of(socket)).await, Outcome::Success);
}

#[tokio::test]
async fn over_tls_no_certificate_is_looked_at() {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut bytes = [0; 4096];
            let _ = socket.read(&mut bytes).await;
            let _ = socket.write_all(answer("200 OK", "").as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    let path = "/".to_owned();
    let action = ProbeAction::HttpGet { tls: true, host: None, port, path, headers: Vec::new() };
    let asker = Asker::new().unwrap();
    assert_eq!(asker.ask(&of(action)).await, Outcome::Success);
    let plain = asker.ask(&of(get(port, "/"))).await;
    assert!(matches!(plain, Outcome::Failure(_)), "{plain:?}");
}

/// A book with one order, and how its facts read.
struct Desk {
    book: Book,
    now: Instant,
}

impl Desk {
    fn of(target: ProbeTarget) -> Self {
        let mut desk = Self { book: Book::default(), now: Instant::now() };
        desk.book.set(order("base-1", false, vec![target]), desk.now);
        desk
    }

    /// All that is due ends like that, once.
    fn round(&mut self, ends: &Outcome) -> Vec<String> {
        self.now = self.book.next().unwrap_or(self.now).max(self.now);
        let due: Vec<_> = std::iter::from_fn(|| self.book.due(self.now)).collect();
        let facts = due.iter().flat_map(|attempt| self.book.ended(attempt, ends.clone(), self.now));
        facts
            .map(|fact| {
                let says = match fact.says {
                    ProbeSays::Succeeds => "succeeds",
                    ProbeSays::Fails(_) => "fails",
                    ProbeSays::Failed(_) => "failed",
                    ProbeSays::Warns(_) => "warns",
                };
                format!("{} {says}", fact.kind.word())
            })
            .collect()
    }

    fn order(&mut self, busy: bool, targets: Vec<ProbeTarget>) {
        self.book.set(order("base-1", busy, targets), self.now);
    }
}

fn failure() -> Outcome {
    Outcome::Failure("503".to_owned())
}

fn all() -> Probes {
    let one = || Some(probe(get(1, "/")));
    Probes { startup: one(), readiness: one(), liveness: one() }
}

#[test]
fn only_what_changes_is_told() {
    let mut desk = Desk::of(target(readiness(get(1, "/"))));
    assert_eq!(desk.round(&failure()), ["readiness failed"], "not Ready is what it is thought to be");
    for _ in 0..10 {
        assert_eq!(desk.round(&failure()), [""; 0]);
    }
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
    for _ in 0..10 {
        assert_eq!(desk.round(&Outcome::Success), [""; 0]);
        assert_eq!(desk.round(&failure()), [""; 0], "said a moment ago");
        assert_eq!(desk.round(&Outcome::Unknown), [""; 0]);
    }
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&Outcome::Success), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness failed"]);
    assert_eq!(desk.round(&failure()), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness fails"]);
    assert_eq!(desk.round(&Outcome::Warning("w".to_owned())), ["readiness succeeds"]);
}

const SAID_AGAIN: Duration = Duration::from_secs(61);

#[test]
fn after_the_start_both_others_are_asked_and_what_fails_is_asked_no_more() {
    let mut desk = Desk::of(target(all()));
    assert_eq!(desk.round(&failure()), ["startup failed"]);
    assert_eq!(desk.round(&Outcome::Success), ["startup succeeds"]);
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&failure()), ["readiness failed", "liveness failed"]);
    assert_eq!(desk.round(&failure()), [""; 0]);
    assert_eq!(desk.round(&failure()), ["readiness fails", "liveness fails"]);
    desk.now += SAID_AGAIN;
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"], "liveness is not asked any more");
    // The next start of it.
    desk.order(false, vec![ProbeTarget { run: 1, ..target(all()) }]);
    assert_eq!(desk.round(&failure()), ["startup failed"]);
    desk.round(&failure());
    assert_eq!(desk.round(&failure()), ["startup fails"]);
    assert_eq!(desk.book.next(), None, "nothing is asked until it is started anew");
    desk.order(false, Vec::new());
    assert_eq!(desk.book.next(), None);
}

#[test]
fn while_a_base_is_at_work_for_us_its_failures_do_not_count_and_its_successes_do() {
    let mut desk = Desk::of(target(readiness(get(1, "/"))));
    let known = || vec![target(readiness(get(1, "/")))];
    desk.round(&Outcome::Success);
    desk.order(true, known());
    for _ in 0..10 {
        assert_eq!(desk.round(&failure()), [""; 0]);
    }
    desk.order(false, known());
    desk.round(&failure());
    desk.round(&failure());
    // What began while it was at work does not count either, nor does it begin anew.
    desk.order(true, known());
    let now = desk.book.next().unwrap();
    let attempt = desk.book.due(now).unwrap();
    desk.order(false, known());
    assert_eq!(desk.book.ended(&attempt, failure(), now), []);
    assert_eq!(desk.round(&failure()), ["readiness fails"]);
    desk.order(true, known());
    assert_eq!(desk.round(&Outcome::Success), ["readiness succeeds"]);
}

#[test]
fn what_is_known_before_is_asked_at_any_moment_of_the_period_and_stays_until_enough_say_no() {
    let now = Instant::now();
    let mut book = Book::default();
    let period = Duration::from_secs(10);
    let slow = Probe { period, ..probe(get(1, "/")) };
    for base in 0..1000 {
        let probes = Probes { readiness: Some(slow.clone()), ..Probes::default() };
        let known = ProbeTarget { ready: true, active_for: None, ..target(probes) };
        book.set(order(&format!("base-{base}"), false, vec![known]), now);
    }
    let mut at_once = 0;
    for tenth in 1..=10 {
        let until = now + period * tenth / 10;
        let due: Vec<_> = std::iter::from_fn(|| book.due(until)).collect();
        assert!((50..200).contains(&due.len()), "{} in one tenth of the period", due.len());
        at_once += due.len();
        for attempt in due {
            assert!(book.ended(&attempt, Outcome::Success, until).is_empty(), "that is known");
        }
    }
    assert_eq!(at_once, 1000);
    // A fresh one waits for its initial delay, as far as it is not over.
    let delayed = Probe { initial_delay: Duration::from_secs(30), ..slow };
    let probes = Probes { liveness: Some(delayed), ..Probes::default() };
    let mut book = Book::default();
    let active_for = Some(Duration::from_secs(5));
    book.set(order("base-1", false, vec![ProbeTarget { active_for, ..target(probes) }]), now);
    assert_eq!(book.next(), Some(now + Duration::from_secs(25)));
}

#[test]
fn one_base_does_not_take_all_connections() {
    let now = Instant::now();
    let mut book = Book::default();
    let many = (0..50).map(|n| ProbeTarget { container: format!("biz{n}"), ..target(readiness(get(1, "/"))) });
    book.set(order("base-1", false, many.collect()), now);
    book.set(order("base-2", false, vec![target(readiness(get(1, "/")))]), now);
    let due: Vec<_> = std::iter::from_fn(|| book.due(now)).collect();
    assert_eq!(due.len(), 8 + 1);
    for attempt in &due {
        book.ended(attempt, Outcome::Success, now);
    }
    let mut asked = due.len();
    let mut at = now;
    while asked < 51 {
        at = book.next().unwrap().max(at);
        assert!(at < now + Duration::from_secs(5), "{asked} were asked");
        let due: Vec<_> = std::iter::from_fn(|| book.due(at)).collect();
        asked += due.len();
        due.iter().for_each(|attempt| drop(book.ended(attempt, Outcome::Success, at)));
    }
    // Another address is another base.
    book.set(ProbeOrder { address: "127.0.0.2".into(), ..order("base-2", false, vec![target(all())]) }, at);
    let due: Vec<_> = std::iter::from_fn(|| book.due(at)).collect();
    assert!(due.iter().any(|attempt| &*attempt.address == "127.0.0.2"));
}

#[tokio::test]
async fn a_thread_asks_and_tells_and_ends_with_the_tasks() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (to, mut facts) = mpsc::channel(16);
    let mut tasks = Tasks::default();
    let metrics = Arc::new(Metrics::new());
    let prober = Prober::start(&mut tasks, to, Arc::clone(&metrics), Lead::alone()).unwrap();
    let socket = ProbeAction::TcpSocket { host: None, port };
    assert!(prober.send(order("base-1", false, vec![target(readiness(socket.clone()))])));
    let fact = timeout(Duration::from_secs(10), facts.recv()).await.unwrap().unwrap();
    assert_eq!((fact.kind, fact.says, &*fact.container), (ProbeKind::Readiness, ProbeSays::Succeeds, "biz1"));
    while asked.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    assert!(facts.try_recv().is_err(), "it is told once");
    let text = metrics.render();
    assert!(text.contains("modulet_probes_total{probe=\"readiness\",result=\"success\"}"), "{text}");
    drop(tasks);
    assert_eq!(timeout(Duration::from_secs(10), facts.recv()).await.unwrap(), None, "its thread is gone");

    // A replica that may not act asks nothing.
    let (to, mut facts) = mpsc::channel(16);
    let mut tasks = Tasks::default();
    let prober = Prober::start(&mut tasks, to, metrics, Lead::standby()).unwrap();
    let before = asked.load(Ordering::Relaxed);
    assert!(prober.send(order("base-1", false, vec![target(readiness(socket))])));
    assert!(timeout(Duration::from_millis(100), facts.recv()).await.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), before);
}
