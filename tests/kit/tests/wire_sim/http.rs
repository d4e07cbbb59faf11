//! The simulated base over HTTP against the recordings of a real one: one story of all scenarios, for what one leaves
//! behind the next one finds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use modulet_testkit::{
    base::{BaseOptions, HttpBase, HttpOptions, UrlBehaviour},
    office::Office,
    recorded::{Dir, Line, scenarios},
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use crate::normal::{health, sorted, walk};

/// How many times faster than recorded commands are played;
const SPEED: u32 = 8;
/// and heartbeats, of which all that were recorded are waited for.
const BEATS_SPEED: u32 = 40;

/// Scenarios that are not replayed, each with its reason.
const LEFT_OUT: &[(&str, &str)] = &[(
    "async",
    "modulet sends no asynchronous commands: one that conflicts takes the lock of the one that runs, and records of \
     requests are never thrown away",
)];

/// Steps of which only that they are answered alike counts, each with its reason.
const LOOSE: &[(&str, &str, &str)] = &[
    ("busy-threads", "meanwhile", "which of six installs has ended when a question's thread is free is left to chance"),
    ("error-uncut", "main class missing, reply uncut", "here what cannot be read has no further causes behind it"),
];

fn options() -> (BaseOptions, HttpOptions) {
    let base = BaseOptions {
        id: "192.0.2.2".to_owned(),
        name: "TO_BE_IMPLEMENTED".to_owned(),
        master: Some("base".to_owned()),
        ip: "192.0.2.2".to_owned(),
        host_name: "192.0.2.2".to_owned(),
        web: true,
        ..BaseOptions::default()
    };
    let scaled = |seconds| Duration::from_secs(seconds) / BEATS_SPEED;
    (base, HttpOptions { threads: 4, heartbeat: scaled(12), patience: scaled(10), ..HttpOptions::new(0) })
}

/// The recording's modules that no convention of URLs tells.
fn prepare(base: &HttpBase, scenario: &[Line]) {
    let unfit = |message: &str| UrlBehaviour::NotFetchable { message: message.to_owned() };
    let from = "http://127.0.0.1:9300";
    base.set_url_behaviour("biz1-web-single-host-0.0.", UrlBehaviour::ServesAt("biz1".to_owned()));
    base.set_url_behaviour("ctx1-0.0.1", UrlBehaviour::ServesAt("ctx1-v1".to_owned()));
    base.set_url_behaviour("ctx1-0.0.2", UrlBehaviour::ServesAt("ctx1-v2".to_owned()));
    for ms in [3000, 4000, 5000] {
        let slow = UrlBehaviour::FetchesSlowly(Duration::from_millis(ms) / SPEED);
        base.set_url_behaviour(&format!("/slow/{ms}/"), slow);
    }
    base.set_url_behaviour("nosuch.jar", unfit(&format!("java.io.FileNotFoundException: {from}/nosuch.jar")));
    base.set_url_behaviour(
        "file:///nosuch.jar",
        unfit("java.io.FileNotFoundException: /nosuch.jar (No such file or directory)"),
    );
    base.set_url_behaviour(
        "/status/500/",
        unfit(&format!("java.io.IOException: Server returned HTTP response code: 500 for URL: {from}/status/500/x")),
    );
    base.set_url_behaviour("127.0.0.1:1/", unfit("java.net.ConnectException: Connection refused"));
    base.set_url_behaviour("/index.html", unfit("java.util.zip.ZipException: zip END header not found"));
    // A module whose main class is missing: the loader's words have an address of an object in them.
    let message = scenario.iter().filter(|line| line.body["bizVersion"] == "0.0.9-SNAPSHOT").find_map(|line| {
        line.response.body["message"].as_str().and_then(|message| message.strip_prefix("Internal Error: "))
    });
    let broken = UrlBehaviour::Broken { cause: "no main class".to_owned() };
    base.set_url_behaviour("-0.0.9-SNAPSHOT", message.map_or(broken, unfit));
}

/// What must be equal in two answers.
fn normal(line: &Line, body: &Value) -> Value {
    let mut body = body.clone();
    if body["data"].is_array() {
        body["data"] = sorted(body["data"].take(), "bizName", "bizVersion");
    }
    if body["data"]["healthData"].is_object() {
        body = health(body);
        let plugins = body["data"]["healthData"]["pluginListInfo"].take();
        body["data"]["healthData"]["pluginListInfo"] = sorted(plugins, "artifactId", "groupId");
    }
    let recorded = line.response.body["errorStackTrace"].as_str().unwrap_or_default();
    let loose = LOOSE.iter().any(|(scenario, step, _)| line.scenario == *scenario && line.step.ends_with(step));
    let whole = !recorded.contains("characters cut") && !loose;
    if let Some(trace) = body["errorStackTrace"].as_str() {
        let cause = trace.rsplit("Caused by: ").next().and_then(|cause| cause.lines().next()).filter(|_| whole);
        body["errorStackTrace"] = json!([trace.lines().next(), cause]);
    }
    for entry in body["data"].as_array_mut().into_iter().flatten() {
        if entry["mainClass"].is_string() {
            entry["mainClass"] = json!("…");
        }
    }
    let parts = body.pointer_mut("/data/bizUrlToResponse").and_then(Value::as_object_mut);
    for (_, part) in parts.into_iter().flatten() {
        if part["message"].as_str().is_some_and(|message| message.starts_with("internal exception: ")) {
            part["message"] = json!("internal exception: …");
        }
    }
    if loose {
        body["data"] = json!(body["data"].is_array());
    }
    walk("", body)
}

/// Sends what was sent to the real base, on a connection that is made already, and compares what comes.
async fn exchange(stream: TcpStream, line: Line) -> Result<()> {
    let place = format!("{}, {}", line.scenario, line.step);
    spoken(stream, &line).await.context(place)
}

async fn spoken(mut stream: TcpStream, line: &Line) -> Result<()> {
    let begun = Instant::now();
    let mut body = line.bytes();
    // A page instead of a jar; "…:9300/" would be the beginning of all URLs.
    if line.body["bizUrl"] == "http://127.0.0.1:9300/" {
        body = line.body.to_string().replace(":9300/", ":9300/index.html").into_bytes();
    }
    let head =
        format!("{} {} HTTP/1.1\r\nHost: base\r\nContent-Length: {}\r\n\r\n", line.method, line.path, body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    let mut answer = Vec::new();
    if let Some(open) = line.end.strip_prefix("still open after ").and_then(|rest| rest.strip_suffix(" s")) {
        let patience = Duration::from_secs(open.parse()?).min(Duration::from_secs(3)) / SPEED;
        let read = timeout(patience, stream.read_to_end(&mut answer)).await;
        ensure!(read.is_err(), "it was answered: {}", String::from_utf8_lossy(&answer));
        return Ok(());
    }
    ensure!(line.end == "closed by the base", "an end that is not known: {}", line.end);
    timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.context("no answer")??;
    let took = begun.elapsed();
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let mut head = head.lines();
    let status = head.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: Vec<_> = head.map(str::to_owned).collect();
    ensure!(status == line.response.status && headers == line.response.headers, "{status:?} {headers:?}");
    let body = serde_json::from_str(body).unwrap_or_else(|_| json!({ "raw": body }));
    let (came, wanted) = (normal(line, &body), normal(line, &line.response.body));
    ensure!(came == wanted, "not the recorded answer:\n{wanted}\nbut\n{came}");
    // What waited for others, or for a download, waits here too.
    let waits = line.ms > 3000.0 && (line.step.contains("meanwhile") || line.body.to_string().contains("/slow/"));
    let least = Duration::from_secs_f64(line.ms / 1000.0) / SPEED * 6 / 10;
    ensure!(!waits || took >= least, "after {took:?} already, not {least:?}");
    Ok(())
}

struct Story {
    base: HttpBase,
    /// A second base of the same identity, with the next port.
    second: Option<HttpBase>,
    office: Office,
    alive: bool,
    answered: usize,
    beaten: usize,
}

impl Story {
    async fn begin() -> Result<Self> {
        let office = Office::open().await?;
        let (base, http) = options();
        let http = HttpOptions { endpoint: format!("127.0.0.1:{}", office.port), ..http };
        let base = HttpBase::start(base, http).await?;
        Ok(Self { base, second: None, office, alive: true, answered: 0, beaten: 0 })
    }

    async fn play(&mut self, scenario: &[Line]) -> Result<()> {
        prepare(&self.base, scenario);
        if scenario[0].scenario == "second-base-port-taken" {
            let (base, http) = options();
            let http = HttpOptions { endpoint: format!("127.0.0.1:{}", self.office.port), ..http };
            self.second = Some(HttpBase::start(base, http).await?);
        }
        for chapter in scenario.chunk_by(|one, other| one.dir != Dir::Note && other.dir != Dir::Note) {
            let (commands, rest): (Vec<_>, Vec<_>) = chapter.iter().partition(|line| line.dir == Dir::ToBase);
            self.command(commands).await?;
            for line in rest {
                match line.dir {
                    Dir::FromBase => self.beats(line).await.with_context(|| line.scenario.clone())?,
                    _ => self.note(line, scenario).await?,
                }
            }
        }
        Ok(())
    }

    /// What the tester did.
    async fn note(&mut self, line: &Line, scenario: &[Line]) -> Result<()> {
        let beaten_before = scenario.iter().take_while(|other| other.note != line.note).any(|l| l.dir == Dir::FromBase);
        match line.note.as_str() {
            note if note.starts_with("JVM started") => {
                // Where it beat before, it has been started for that.
                if !beaten_before {
                    self.base.restart().await?;
                }
            }
            "kill -9 of the base" => {
                self.base.kill();
                self.alive = false;
                // Its tasks end one after the other.
                let port = self.base.port();
                let refuses = async || TcpStream::connect(("127.0.0.1", port)).await.is_err();
                eventually("its port closed", Duration::from_secs(5), refuses).await?;
            }
            "the controller is killed" => self.office.close(),
            note if note.starts_with("the controller is back") => self.office.reopen().await?,
            "SIGTERM to the second base" => self.second.as_ref().context("no second base")?.kill(),
            "nothing more came" => {
                let port = self.second.as_ref().context("no second base")?.port();
                let beats = self.office.beats_within(port, options().1.heartbeat * 3).await;
                ensure!(beats == 0, "{beats} beats of a base that is gone");
            }
            // What the web server answered, and what the recording stand-in could not do.
            note if note.starts_with("GET /") || note.starts_with("ms of 404") || note.starts_with("HTTP answers") => {}
            note if note.starts_with("answering failed") || note.starts_with("1238 takes connections") => {}
            note => bail!("a note that is not known: {note}"),
        }
        Ok(())
    }

    async fn beats(&mut self, line: &Line) -> Result<()> {
        if !self.alive {
            self.base.restart().await?;
            self.alive = true;
        }
        let port = match line.body["port"].as_u64() {
            Some(1238) => self.base.port(),
            Some(1239) => self.second.as_ref().context("no second base")?.port(),
            other => bail!("port {other:?}"),
        };
        let hangs = Duration::from_secs_f64(line.ms / 1000.0) / BEATS_SPEED;
        let mut beat = self.office.beat(Some(port), line.answer.status, hangs).await?;
        beat["port"] = line.body["port"].clone();
        ensure!(beat == line.body, "{beat}, not {}", line.body);
        self.beaten += 1;
        Ok(())
    }

    /// Each command begins after those that had ended before it in the recording, and that much after the others.
    async fn command(&mut self, mut lines: Vec<&Line>) -> Result<()> {
        lines.sort_by_key(|line| line.t_ms);
        let mut open: Vec<(&Line, tokio::time::Instant, JoinHandle<Result<()>>)> = Vec::new();
        let mut given_up: Option<(&Line, tokio::time::Instant)> = None;
        for line in lines {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of minutes")]
            let ended = |other: &Line| other.t_ms as f64 + other.ms <= line.t_ms as f64;
            while let Some(at) = open.iter().position(|(other, ..)| ended(other)) {
                open.remove(at).2.await??;
            }
            if let Some((first, begun, _)) = open.first() {
                sleep_until(*begun + Duration::from_millis(line.t_ms - first.t_ms) / SPEED).await;
            }
            // What the base does for a client that went away goes on meanwhile.
            if let Some((last, begun)) = given_up.take() {
                let pause = Duration::from_millis(line.t_ms - last.t_ms).min(Duration::from_secs(5));
                sleep_until(begun + pause / SPEED).await;
            }
            let second = line.step.ends_with("at 1239").then_some(self.second.as_ref()).flatten();
            let port = second.unwrap_or(&self.base).port();
            let connected = TcpStream::connect(("127.0.0.1", port)).await;
            self.answered += 1;
            if line.end.starts_with("ConnectionRefusedError") {
                ensure!(connected.is_err(), "{}: it takes connections", line.step);
                continue;
            }
            let stream = connected.with_context(|| line.step.clone())?;
            let now = tokio::time::Instant::now();
            given_up = line.end.starts_with("still open").then_some((line, now));
            open.push((line, now, tokio::spawn(exchange(stream, line.clone()))));
        }
        for (_, _, open) in open {
            open.await??;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_http_scenarios() -> Result<()> {
    let all = scenarios()?;
    for (left_out, _) in LEFT_OUT {
        assert!(all.iter().any(|lines| lines[0].scenario == *left_out), "{left_out} is no recorded scenario");
    }
    let mut story = Story::begin().await?;
    let mut played = 0;
    for scenario in &all {
        let name = &scenario[0].scenario;
        if !LEFT_OUT.iter().any(|(left_out, _)| left_out == name) {
            story.play(scenario).await?;
            played += 1;
        }
    }
    assert_eq!((played, all.len()), (30, 31), "scenarios");
    assert_eq!((story.answered, story.beaten), (175, 33), "commands and heartbeats");
    Ok(())
}

/// A connection that is made right after the first beat is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_beats_before_it_takes_connections() -> Result<()> {
    let mut office = Office::open().await?;
    let (base, http) = options();
    let opens_after = Duration::from_secs(2);
    let http = HttpOptions { endpoint: format!("127.0.0.1:{}", office.port), opens_after, ..http };
    let starts = tokio::spawn(HttpBase::start(base, http));
    let beat = office.beat(None, 200, Duration::ZERO).await?;
    let port = beat["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("port")?;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    let base = starts.await??;
    assert!(TcpStream::connect(("127.0.0.1", base.port())).await.is_ok());
    Ok(())
}
