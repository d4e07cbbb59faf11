//! Real questions to real servers, and the thread that asks them.

mod book;
mod grpc;

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
    assert!(text.contains("modulet_probes_total{kind=\"readiness\",result=\"success\"}"), "{text}");
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
