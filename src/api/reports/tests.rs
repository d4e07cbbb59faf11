use axum::{Router, body::Bytes, extract::State, http::Uri as RequestUri, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use super::*;

type Answers = Arc<Mutex<VecDeque<(StatusCode, &'static str)>>>;
type Told = mpsc::UnboundedReceiver<(String, Value)>;

/// A server that gives one answer after the other, and then 200. Hands out what it is told, and where.
async fn server(answers: &[(StatusCode, &'static str)]) -> (String, Told) {
    let (to, told) = mpsc::unbounded_channel();
    let answers: Answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
    let take =
        async |State((answers, to)): State<(Answers, mpsc::UnboundedSender<_>)>, uri: RequestUri, body: Bytes| {
            to.send((uri.to_string(), serde_json::from_slice(&body).unwrap())).unwrap();
            open(&answers).pop_front().unwrap_or((StatusCode::OK, "{\"errcode\":0}"))
        };
    let router = Router::new().fallback(post(take)).with_state((answers, to));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, told)
}

fn reporter(hooks: String, lead: Lead) -> Reporter {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Reporter {
        hooks: Hooks::Given(hooks),
        patience: TIMEOUT,
        env: "dev".into(),
        proxies: Proxies::default(),
        lead,
        metrics: Arc::new(Metrics::new()),
        clients: Mutex::default(),
        said: Mutex::default(),
    }
}

fn report(message: &str) -> Report {
    Report {
        node: "vnode.base-1.dev".into(),
        pod: "shop/cart-1".into(),
        module: "cart:1.0".into(),
        reason: "InstallFailed",
        message: message.into(),
        trace: Some("run-42".into()),
    }
}

/// Tells one report, and returns how many a hook took, and did not take.
async fn tell(reporter: Reporter, report: Report) -> (f64, f64) {
    let metrics = Arc::clone(&reporter.metrics);
    let (queue, reports) = mpsc::channel(1);
    queue.send(report).await.unwrap();
    drop(queue);
    reporter.run(reports).await;
    let counted = |result: &str| {
        let text = metrics.render();
        let of = format!("modulet_reports_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&of)).unwrap().parse().unwrap()
    };
    (counted("ok"), counted("failed"))
}

#[tokio::test]
async fn each_hook_is_told_in_its_form_with_the_words_of_the_go_controller() {
    let (address, mut told) = server(&[]).await;
    let hooks = format!("{address}/alerts?a=1;{address}/robot/send?access_token=t");
    let failure = report("cannot fetch https://me:s3cret@repo/cart.jar \u{1b}[31m");
    assert_eq!(tell(reporter(hooks, Lead::alone()), failure).await, (2.0, 0.0));
    let mut both = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    both.sort_by(|a, b| a.0.cmp(&b.0));
    let [(json_at, json), (robot_at, robot)] = both;
    assert_eq!((json_at.as_str(), robot_at.as_str()), ("/alerts?a=1", "/robot/send?access_token=t"));
    assert_eq!(
        json,
        json!({
            "traceID": "run-42", "scene": "vpod_deploy", "event": "ContainerStart", "result": "fail", "code": "01002",
            "message": "InstallFailed: cannot fetch https://repo/cart.jar \u{fffd}[31m",
            "labels": {
                "env": "dev", "node": "vnode.base-1.dev", "namespace": "shop", "pod": "cart-1", "module": "cart:1.0",
                "reason": "InstallFailed",
            },
        })
    );
    assert_eq!((&robot["msgtype"], &robot["markdown"]["title"]), (&json!("markdown"), &json!("Log Notification")));
    let text = robot["markdown"]["text"].as_str().unwrap();
    for words in ["## MC告警", "**Trace ID**: run-42", "**失败信息**: InstallFailed: cannot", "pod: cart-1\n"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn what_may_pass_is_told_again_and_what_does_not_is_not() {
    const BUSY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "");
    const REFUSED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "");
    const ROBOT: (StatusCode, &str) = (StatusCode::OK, r#"{"errcode":310000,"errmsg":"keywords not in content"}"#);
    for (path, answers, expected, times) in [
        ("/", &[BUSY][..], (1.0, 0.0), 2),
        ("/", &[BUSY, BUSY, BUSY], (0.0, 1.0), 3),
        ("/", &[REFUSED], (0.0, 1.0), 1),
        ("/", &[ROBOT], (1.0, 0.0), 1),
        ("/robot/send", &[ROBOT], (0.0, 1.0), 1),
    ] {
        let (address, mut told) = server(answers).await;
        assert_eq!(
            tell(reporter(format!("{address}{path}"), Lead::alone()), report("m")).await,
            expected,
            "{answers:?}"
        );
        let mut bodies = Vec::new();
        while let Ok(body) = told.try_recv() {
            bodies.push(body);
        }
        assert_eq!(bodies.len(), times, "{answers:?}");
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
}

#[tokio::test]
async fn one_that_does_not_answer_costs_no_more_than_its_deadline_and_the_others_are_told() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, mut told) = server(&[]).await;
    let hooks = format!("http://{}/;{address}/", silent.local_addr().unwrap());
    let reporter = Reporter { patience: Duration::from_millis(100), ..reporter(hooks, Lead::alone()) };
    let task = tokio::spawn(tell(reporter, report("m")));
    timeout(Duration::from_secs(5), told.recv()).await.expect("at once").unwrap();
    assert_eq!(timeout(Duration::from_secs(20), task).await.expect("it is given up").unwrap(), (1.0, 1.0));
}

#[tokio::test]
async fn a_replica_that_does_not_lead_tells_nobody() {
    let (address, mut told) = server(&[]).await;
    assert_eq!(tell(reporter(address, Lead::standby()), report("m")).await, (0.0, 0.0));
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn whoever_reports_never_waits() {
    let (queue, _reports) = mpsc::channel(QUEUE);
    let sink = ReportSink { queue, metrics: Arc::new(Metrics::new()) };
    (0..QUEUE + 7).for_each(|_| sink.report(report("m")));
    assert_eq!(sink.depth(), QUEUE);
    assert!(sink.metrics.render().contains("modulet_queue_overflows_total{name=\"reports\"} 7"));
}

#[tokio::test]
async fn the_secret_in_a_hook_is_in_no_error_and_a_file_is_read_again() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reporter = reporter(format!("http://{free}/robot/send?access_token=s3cret"), Lead::alone());
    let hook = reporter.hooks.read().unwrap().remove(0);
    let error = reporter.post(&hook, "{}".into()).await.unwrap_err();
    assert!(error.may_pass() && !format!("{error} {error:?}").contains("s3cret"), "{error:?}");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hooks");
    let (address, mut told) = server(&[]).await;
    std::fs::write(&file, "https://elsewhere.example.com/\n").unwrap();
    let reporter = Reporter { hooks: Hooks::File(file.clone()), ..reporter };
    std::fs::write(&file, format!("{address}/one\n{address}/two\n")).unwrap();
    assert_eq!(tell(reporter, report("m")).await, (2.0, 0.0));
    assert!(told.recv().await.is_some());
}

#[test]
fn they_are_not_more_than_a_robot_takes() {
    let (start, mut pace) = (Instant::now(), Paced::default());
    let mut now = start;
    let mut times = Vec::new();
    for _ in 0..100 {
        now = pace.next(now);
        times.push(now);
    }
    assert_eq!(times[AT_ONCE - 1], start, "a burst is told at once");
    for window in times.windows(AT_ONCE + 1) {
        assert!(window[AT_ONCE] - window[0] >= IN);
    }
    assert_eq!(times[99], start + IN * 4);
}
