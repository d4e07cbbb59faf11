//! Who may beat over HTTP, and who may not.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::{
    base::{HttpBase, HttpOptions},
    control_plane::{ControlPlane, certificates::Authority},
    controller::Controller,
    http::{get, post_with},
    ports::free_port,
    wait::eventually,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::stage::{SOON, Stage, log_line, module_pod};

/// Made up: no words of a log, and no other.
const FIRST: &str = "Zq7-first-secret-of-all";
const SECOND: &str = "Zq7-second-secret-of-all";
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another address of this machine.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn set(name: &str, more: &[(&str, String)]) -> Result<(Stage, u16)> {
    let port = free_port()?;
    let stage = Stage::set_with(name, |options| {
        let options = options
            .env("ENABLE_MQTT_TUNNEL", "false")
            .env("ENABLE_HTTP_TUNNEL", "true")
            .env("HTTP_TUNNEL_LISTEN_PORT", port.to_string());
        more.iter().fold(options, |options, (name, value)| options.env(name, value.clone()))
    });
    Ok((stage.await?, port))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn heartbeat(stage: &Stage, identity: &str) -> Value {
    heartbeat_of(stage, identity, "192.0.2.1", 1)
}

fn heartbeat_of(stage: &Stage, identity: &str, address: &str, port: u16) -> Value {
    json!({
        "baseMetadata": { "identity": identity, "name": stage.name, "version": "1", "clusterName": "default" },
        "localIP": address, "localHostName": "h", "port": port, "state": "activated",
    })
}

async fn connect(from: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    Ok(socket.connect((LOCALHOST, port).into()).await?)
}

/// Status of what is answered to a post; an error if nothing is.
async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, body: &Value) -> Result<u16> {
    let body = body.to_string();
    let head =
        format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let exchange = async {
        stream.write_all((head + &body).as_bytes()).await?;
        let mut answer = Vec::new();
        // TLS connections are not always closed in order.
        let read = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.with_context(|| format!("no answer: {read:?} {answer}"))
    };
    timeout(SOON, exchange).await?
}

async fn refused(stage: &Stage, reason: &str) -> Result<f64> {
    stage.controller.metric("modulet_messages_refused_total", &[("name", reason)]).await
}

/// So many were refused for that reason, and the log says so.
async fn told(stage: &Stage, reason: &str, count: f64, words: &[&str]) -> Result<()> {
    let now = refused(stage, reason).await?;
    ensure!((now - count).abs() < f64::EPSILON, "{now} were refused for {reason}, not {count}");
    eventually(&format!("{words:?} in the log"), SOON, async || {
        let words = [&["WARN", "message refused"], words].concat();
        log_line(&stage.controller, &words).with_context(|| stage.controller.log_text())
    })
    .await
    .map(drop)
}

async fn has_no_node(stage: &Stage, identity: &str) -> Result<()> {
    ensure!(stage.nodes().get_opt(&stage.node_name(identity)).await?.is_none(), "{identity} has a Node");
    Ok(())
}

async fn base(stage: &Stage, id: &str, http: HttpOptions) -> Result<HttpBase> {
    let base = HttpBase::start(stage.base_options(id), http).await?;
    stage.node_ready(&stage.node_name(id), "True").await?;
    Ok(base)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_carries_the_secret_may_beat_and_a_new_one_needs_no_restart() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("secret");
    fs::write(&file, format!("{FIRST}\n"))?;
    let (stage, port) = set("http-secret", &[("HTTP_TUNNEL_SECRET_FILE", text(&file))]).await?;
    let carries = |secret: &str| Some(format!("Bearer {secret}"));
    let http = HttpOptions { authorization: carries(FIRST), ..HttpOptions::new(port) };
    let base = base(&stage, "base-1", http).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;

    let address = format!("127.0.0.1:{port}");
    let beat = async |authorization: Option<&str>, identity: &str| {
        anyhow::Ok(post_with(&address, "/heartbeat", authorization, &heartbeat(&stage, identity)).await?.0)
    };
    assert_eq!(beat(None, "no-secret").await?, 401);
    told(&stage, "secret", 1.0, &["carries no secret", "HTTP_TUNNEL_SECRET_FILE"]).await?;
    for wrong in ["Bearer Zq7-wrong-secret-of-all", "Bearer", FIRST, "Basic Zm9vOmJhcg==", "Negotiate abc"] {
        assert_eq!(beat(Some(wrong), "wrong-secret").await?, 401, "{wrong}");
    }
    told(&stage, "secret", 6.0, &["carries another secret"]).await?;
    // For the base that is there, it is no more; and its baseline is nobody else's.
    assert_eq!(beat(None, "base-1").await?, 401);
    let metadata = json!({ "identity": "base-1", "name": stage.name, "version": "1" });
    assert_eq!(post_with(&address, "/queryBaseline", None, &metadata).await?.0, 401);
    assert_eq!(post_with(&address, "/queryBaseline", carries(FIRST).as_deref(), &metadata).await?.0, 200);
    // It is asked for before the body is read.
    let mut slow = connect(STRANGER, port).await?;
    slow.write_all(b"POST /heartbeat HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(SOON, slow.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Basic realm="), "{answer}");

    // Both, then the new one alone.
    let (old, new) = (carries(FIRST), carries(SECOND));
    fs::write(&file, format!("{SECOND}\n{FIRST}\n"))?;
    assert_eq!((beat(new.as_deref(), "base-2").await?, beat(old.as_deref(), "base-3").await?), (200, 200));
    fs::write(&file, SECOND)?;
    assert_eq!((beat(new.as_deref(), "base-2").await?, beat(old.as_deref(), "base-3").await?), (200, 401));
    // A file that is no good changes nothing.
    for bad in ["", "short"] {
        fs::write(&file, bad)?;
        assert_eq!((beat(new.as_deref(), "base-2").await?, beat(old.as_deref(), "base-3").await?), (200, 401), "{bad}");
        assert_eq!(beat(Some(&format!("Bearer {bad}")), "base-3").await?, 401);
    }
    let broken = ["WARN", "no secret can be taken from", "it is empty", "going on with the secret"];
    eventually("a word about the file", SOON, async || {
        log_line(&stage.controller, &broken).with_context(|| stage.controller.log_text())
    })
    .await?;

    for identity in ["no-secret", "wrong-secret"] {
        has_no_node(&stage, identity).await?;
    }
    let everything = stage.controller.log_text()
        + &stage.controller.metrics().await?
        + &get(stage.controller.http_address(), "/debug/bases").await?.1;
    assert!(!everything.contains("Zq7"), "a secret is in {everything}");
    assert_eq!(base.received("installBiz"), 1);
    stage.delete_pod("biz1").await?;
    stage.ends_without_quiet("some of its bases beat once only");
    Ok(())
}

/// Certificates of one authority: of the server and of a client.
struct Issued {
    directory: tempfile::TempDir,
}

impl Issued {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let authority = Authority::create(directory.path())?;
        authority.server("server")?;
        authority.client("base")?;
        Ok(Self { directory })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All that modulet reads, into one directory.
    fn put(&self, into: &Path) -> Result<()> {
        for name in ["ca.crt", "server.crt", "server.key"] {
            fs::copy(self.file(name), into.join(name))?;
        }
        Ok(())
    }

    /// A client that knows this authority, with that one's certificate.
    fn client(&self, of: Option<&Self>) -> Result<Arc<ClientConfig>> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.crt"))?)?;
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Ok(Arc::new(match of {
            None => builder.with_no_client_auth(),
            Some(of) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(of.file("base.crt"))?],
                PrivateKeyDer::from_pem_file(of.file("base.key"))?,
            )?,
        }))
    }
}

async fn beat_over_tls(stage: &Stage, port: u16, client: Arc<ClientConfig>, identity: &str) -> Result<u16> {
    let stream = connect(LOCALHOST, port).await?;
    let stream = tokio_rustls::TlsConnector::from(client).connect(ServerName::try_from("localhost")?, stream).await?;
    said(stream, "/heartbeat", &heartbeat(stage, identity)).await
}

fn tls_of(directory: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("HTTP_TUNNEL_CRT_PATH", text(&directory.join("server.crt"))),
        ("HTTP_TUNNEL_KEY_PATH", text(&directory.join("server.key"))),
        ("HTTP_TUNNEL_CLIENT_CA_PATH", text(&directory.join("ca.crt"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_certificate_of_the_authority_may_beat_and_a_new_authority_needs_no_restart() -> Result<()> {
    let (ours, others, mounted) = (Issued::new()?, Issued::new()?, tempfile::tempdir()?);
    ours.put(mounted.path())?;
    let (stage, port) = set("http-mutual", &tls_of(mounted.path())).await?;
    let beat = async |client: Arc<ClientConfig>, identity: &str| beat_over_tls(&stage, port, client, identity).await;
    assert_eq!(beat(ours.client(Some(&ours))?, "base-1").await?, 200);
    stage.node_ready(&stage.node_name("base-1"), "True").await?;

    assert!(beat(ours.client(None)?, "no-certificate").await.is_err());
    told(&stage, "tls", 1.0, &["peer sent no certificates"]).await?;
    assert!(beat(ours.client(Some(&others))?, "other-authority").await.is_err());
    told(&stage, "tls", 2.0, &["invalid peer certificate"]).await?;
    assert!(said(connect(LOCALHOST, port).await?, "/heartbeat", &heartbeat(&stage, "no-tls")).await.is_err());
    told(&stage, "tls", 3.0, &["does not speak TLS", "http://"]).await?;
    // Who looks whether the port is open is no news.
    drop(connect(LOCALHOST, port).await?);

    others.put(mounted.path())?;
    assert_eq!(beat(others.client(Some(&others))?, "base-1").await?, 200);
    assert!(beat(others.client(Some(&ours))?, "of-before").await.is_err(), "the authority of before");
    // In the midst of being renewed.
    fs::copy(ours.file("server.crt"), mounted.path().join("server.crt"))?;
    assert_eq!(beat(others.client(Some(&others))?, "base-1").await?, 200);
    for identity in ["no-certificate", "other-authority", "no-tls", "of-before"] {
        has_no_node(&stage, identity).await?;
    }
    told(&stage, "tls", 4.0, &[]).await?;
    stage.ends_without_quiet("its bases beat once only");
    Ok(())
}

/// Posts as a stock base does, and prints the status.
const JVM: &str = r#"
import java.net.*;
public class Beat {
    public static void main(String[] args) throws Exception {
        if (args.length > 2) {
            Authenticator.setDefault(new Authenticator() {
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication("base", args[2].toCharArray());
                }
            });
        }
        for (int beat = 0; beat < 2; beat++) {
            HttpURLConnection connection = (HttpURLConnection) new URL(args[0] + "/heartbeat").openConnection();
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "application/json");
            try (var out = connection.getOutputStream()) {
                out.write(args[1].getBytes());
            }
            System.out.println(connection.getResponseCode());
            connection.disconnect();
        }
    }
}
"#;

async fn jvm(directory: &Path, properties: &[String], args: &[&str]) -> Result<String> {
    let source = directory.join("Beat.java");
    fs::write(&source, JVM)?;
    let mut command = tokio::process::Command::new("java");
    command.args(properties).arg(&source).args(args).kill_on_drop(true);
    let output = timeout(SOON, command.output()).await.context("a JVM")??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// What docs/http.md says of stock bases: they have both by what a JVM is told, and nothing of it is in what they log.
#[tokio::test(flavor = "multi_thread")]
async fn a_jvm_brings_certificate_and_secret_with_its_own_means() -> Result<()> {
    let (issued, directory) = (Issued::new()?, tempfile::tempdir()?);
    let secret = directory.path().join("secret");
    fs::write(&secret, FIRST)?;
    let mut options = tls_of(issued.directory.path());
    options.push(("HTTP_TUNNEL_SECRET_FILE", text(&secret)));
    let (stage, port) = set("http-jvm", &options).await?;
    // A key store in PEM, as cert-manager makes its parts: the JVM reads PKCS #12 only.
    let (bundle, trusted) = (directory.path().join("base.p12"), directory.path().join("trusted.p12"));
    run(
        "openssl",
        &[
            "pkcs12",
            "-export",
            "-in",
            &text(&issued.file("base.crt")),
            "-inkey",
            &text(&issued.file("base.key")),
            "-out",
            &text(&bundle),
            "-passout",
            "pass:changeit",
        ],
    )
    .await?;
    run(
        "keytool",
        &[
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-file",
            &text(&issued.file("ca.crt")),
            "-keystore",
            &text(&trusted),
            "-storepass",
            "changeit",
        ],
    )
    .await?;
    let trusts = [
        format!("-Djavax.net.ssl.trustStore={}", text(&trusted)),
        "-Djavax.net.ssl.trustStorePassword=changeit".to_owned(),
    ];
    let shows =
        [format!("-Djavax.net.ssl.keyStore={}", text(&bundle)), "-Djavax.net.ssl.keyStorePassword=changeit".to_owned()];
    let all = [&trusts[..], &shows[..]].concat();
    let (endpoint, body) = (format!("https://localhost:{port}"), heartbeat(&stage, "base-1").to_string());
    let beats = async |properties: &[String], args: &[&str]| jvm(directory.path(), properties, args).await;
    assert_eq!(beats(&all, &[&endpoint, &body, FIRST]).await?, "200\n200\n");
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    assert_eq!(beats(&all, &[&endpoint, &body]).await?, "401\n401\n");
    let output = beats(&trusts, &[&endpoint, &body, FIRST]).await?;
    assert!(output.lines().all(|line| line != "200"), "{output}");
    told(&stage, "tls", 2.0, &["peer sent no certificates"]).await?;
    let log = stage.controller.log_text();
    assert!(!log.contains("Zq7"));
    // It ends each connection with an alert that means nothing.
    assert!(!log.contains("TLS alert"), "{log}");
    stage.ends_without_quiet("its bases beat once only");
    Ok(())
}

async fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let output = timeout(SOON, output).await.with_context(|| program.to_owned())??;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_the_commands_of_a_base_that_lives_elsewhere() -> Result<()> {
    let (stage, port) = set("http-taken", &[]).await?;
    let base = base(&stage, "base-1", HttpOptions::new(port)).await?;
    let mut theirs = heartbeat(&stage, "base-1");
    // It listens where it says, and waits for commands.
    let trap = tokio::net::TcpListener::bind((STRANGER, 0)).await?;
    theirs["port"] = json!(trap.local_addr()?.port());
    for path in ["/heartbeat", "/heartbeat", "/queryBaseline"] {
        let body = if path == "/heartbeat" { &theirs } else { &theirs["baseMetadata"] };
        assert_eq!(said(connect(STRANGER, port).await?, path, body).await?, 409, "{path}");
    }
    told(&stage, "taken", 3.0, &["base-1 lives at 127.0.0.1:", "nobody at 127.0.0.2"]).await?;
    stage.create_pod(module_pod(&stage.name, "biz1", &[("biz1", "1")])).await?;
    stage.pod_ready("biz1").await?;
    assert_eq!(said(connect(STRANGER, port).await?, "/heartbeat", &theirs).await?, 409);
    stage.delete_pod("biz1").await?;
    assert_eq!((base.received("installBiz"), base.received("uninstallBiz")), (1, 1));
    // However much they say, the base's own words are heard.
    for _ in 0..200 {
        assert_eq!(said(connect(STRANGER, port).await?, "/heartbeat", &theirs).await?, 409);
    }
    let ours = |address| heartbeat_of(&stage, "base-1", address, base.port());
    assert_eq!(said(connect(LOCALHOST, port).await?, "/heartbeat", &ours("127.0.0.1")).await?, 200);
    assert!(timeout(Duration::from_millis(100), trap.accept()).await.is_err(), "the stranger was called");
    // A base that is gone from there may come back elsewhere, and need not wait for long.
    base.kill();
    let moved = Instant::now();
    eventually("the base at its new address", SOON, async || {
        let status = said(connect(STRANGER, port).await?, "/heartbeat", &theirs).await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    assert!(moved.elapsed() < Duration::from_secs(15), "{:?}", moved.elapsed());
    timeout(SOON, trap.accept()).await.context("it is called at its new address")??;
    stage.ends_without_quiet("its base is gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ranges_are_named_nobody_else_is_heard() -> Result<()> {
    let (stage, port) =
        set("http-ranges", &[("MODULET_BASE_ADDRESSES", "127.0.0.3/32,192.0.2.0/24".to_owned())]).await?;
    let inside = Ipv4Addr::new(127, 0, 0, 3);
    let beat = async |from: Ipv4Addr, says: &str, identity: &str| {
        let mut body = heartbeat(&stage, identity);
        body["localIP"] = json!(says);
        said(connect(from, port).await?, "/heartbeat", &body).await
    };
    for (from, says) in [(LOCALHOST, "127.0.0.1"), (STRANGER, "192.0.2.7"), (LOCALHOST, "127.0.0.3")] {
        assert!(beat(from, says, "outside").await.is_err(), "{from} {says}");
    }
    told(&stage, "address", 3.0, &["127.0.0.2", "in none of the ranges", "MODULET_BASE_ADDRESSES"]).await?;
    assert_eq!(beat(inside, "198.51.100.1", "outside").await?, 403, "it says that it is elsewhere");
    assert_eq!(beat(inside, "192.0.2.7", "base-1").await?, 200);
    stage.node_ready(&stage.node_name("base-1"), "True").await?;
    has_no_node(&stage, "outside").await?;
    stage.ends_without_quiet("its base beat once only");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_do_not_keep_bases_away() -> Result<()> {
    const SLOW: usize = 300;
    let (stage, port) = set("http-slow", &[]).await?;
    let begun = Instant::now();
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut stream = connect(STRANGER, port).await?;
        // Some say nothing, some begin, some leave the body out. One that is closed already takes nothing.
        let _ = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(b"POST /heartbeat HT").await,
            _ => stream.write_all(b"POST /heartbeat HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{").await,
        };
        slow.push(stream);
    }
    eventually("the bound for one address", SOON, async || {
        let closed = refused(&stage, "connections").await?;
        ensure!((closed - 44.0).abs() < f64::EPSILON, "{closed} were closed at once");
        Ok(())
    })
    .await?;
    let _base = base(&stage, "base-1", HttpOptions::new(port)).await?;
    assert!(begun.elapsed() < Duration::from_secs(9), "they were there all the time: {:?}", begun.elapsed());
    // Those that do not say what they want are sent away.
    let mut silent = slow.swap_remove(0);
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(30), silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a connection that says nothing stays open");
    stage.ends_quietly().await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_good_are_told_at_the_start() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let broker = modulet_testkit::broker::Mosquitto::start().await?;
    let (issued, other) = (Issued::new()?, Issued::new()?);
    let short = issued.file("short");
    fs::write(&short, "hunter-2")?;
    let (crt, key) = (issued.file("server.crt"), issued.file("server.key"));
    let nowhere = PathBuf::from("/nowhere");
    let with = |crt: &Path, key: &Path| vec![("HTTP_TUNNEL_CRT_PATH", text(crt)), ("HTTP_TUNNEL_KEY_PATH", text(key))];
    let mut no_authority = with(&crt, &key);
    no_authority.push(("HTTP_TUNNEL_CLIENT_CA_PATH", text(&key)));
    for (files, words) in [
        (vec![("HTTP_TUNNEL_SECRET_FILE", text(&nowhere))], ["cannot read /nowhere", "heartbeats of bases"]),
        (vec![("HTTP_TUNNEL_SECRET_FILE", text(&short))], ["less than 16 characters", "short"]),
        (with(&nowhere, &key), ["cannot read /nowhere", "heartbeats of bases"]),
        (with(&crt, &other.file("server.key")), ["is not that of the certificate", "server.crt"]),
        (no_authority, ["no PEM certificate", "server.key"]),
    ] {
        let options = crate::faults_start::options(cluster.kubeconfig(), &broker, "http-files")
            .env("ENABLE_HTTP_TUNNEL", "true")
            .env("HTTP_TUNNEL_LISTEN_PORT", free_port()?.to_string());
        let options = files.into_iter().fold(options, |options, (name, value)| options.env(name, value));
        let controller = Controller::start_unready(options)?;
        assert_eq!(controller.process()?.wait().await?.code(), Some(1));
        let log = controller.log_text();
        assert!(words.iter().all(|word| log.contains(word)) && !log.contains("hunter"), "{words:?}: {log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_says_who_may_beat_and_what_keeps_bases_away() -> Result<()> {
    let (cluster, port) = (ControlPlane::shared().await?, free_port()?.to_string());
    let broker = modulet_testkit::broker::Mosquitto::start().await?;
    let ask = async |more: &[(&str, &str)]| {
        let on = [("ENABLE_MQTT_TUNNEL", "false"), ("ENABLE_HTTP_TUNNEL", "true"), ("HTTP_TUNNEL_LISTEN_PORT", &port)];
        crate::check::check(cluster.kubeconfig(), broker.address(), "check-http", &[], &[&on, more].concat()).await
    };
    ask(&[])
        .await?
        .has(&["[ok] port", "can be opened"])
        .has(&["[warning] whoever reaches port", "without TLS"])
        .has_not("no tunnel is switched on");
    let ranges = ("MODULET_BASE_ADDRESSES", "10.0.0.0/8");
    ask(&[ranges]).await?.has(&["[ok] who is in the ranges of MODULET_BASE_ADDRESSES may beat"]);
    ask(&[("HTTP_TUNNEL_SECRET_FILE", "/nowhere")]).await?.has(&["[PROBLEM]", "cannot read /nowhere"]);
    let taken = tokio::net::TcpListener::bind(("0.0.0.0", port.parse()?)).await?;
    ask(&[]).await?.has(&["[cannot look]", "is in use: by the modulet that runs here"]);
    drop(taken);
    Ok(())
}
