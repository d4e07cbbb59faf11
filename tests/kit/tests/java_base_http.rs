//! The Java base over HTTP: its heartbeats, as those of stock bases were recorded, and that nothing stops them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use modulet_testkit::http::post;
use modulet_testkit::java_base::{JavaBase, JavaBaseOptions, ensure_built, module_url};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(40);

/// The next heartbeat, which waits for its answer.
async fn beat(controller: &TcpListener) -> Result<(TcpStream, String, Value)> {
    let next = async {
        let (mut stream, _) = controller.accept().await?;
        let mut text = Vec::new();
        loop {
            ensure!(stream.read_buf(&mut text).await? > 0, "no heartbeat: {}", String::from_utf8_lossy(&text));
            let said = String::from_utf8_lossy(&text);
            let Some((head, body)) = said.split_once("\r\n\r\n") else { continue };
            if let Ok(body) = serde_json::from_str(body) {
                return Ok((stream, head.to_owned(), body));
            }
        }
    };
    tokio::time::timeout(SOON, next).await.context("no heartbeat")?
}

async fn answer(mut stream: TcpStream, status: &str) -> Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\nSUCCESS").as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stops_the_heartbeats_and_the_port_in_them_takes_commands() -> Result<()> {
    ensure_built(|line| eprintln!("{line}")).await?;
    let controller = TcpListener::bind("127.0.0.1:0").await?;
    let address = controller.local_addr()?;
    // A slash at the end, which stock bases would not bear.
    let endpoint = format!("http://localhost:{}/", address.port());
    let base = JavaBase::start(JavaBaseOptions { heart_seconds: 2, ..JavaBaseOptions::over_http(&endpoint, "base-1") });
    let (base, first) = tokio::join!(base, beat(&controller));
    let (base, (stream, head, body)) = (base?, first?);
    assert!(head.starts_with("POST /heartbeat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
    let port = body["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
    let metadata = json!({ "identity": "base-1", "name": "java-base", "version": "1.0.0", "clusterName": "default" });
    let expected = json!({
        "baseMetadata": metadata, "localIP": "127.0.0.1", "localHostName": body["localHostName"], "port": port,
        "state": "activated",
    });
    assert_eq!(body, expected);
    assert!(body["localHostName"].as_str().is_some_and(|name| !name.is_empty()));

    // What is no success, no answer at all, an end without an answer, a redirect, nobody there.
    answer(stream, "500 Internal Server Error").await?;
    let (silent, ..) = beat(&controller).await?;
    let (other, ..) = beat(&controller).await?;
    drop((silent, other));
    let (stream, ..) = beat(&controller).await?;
    answer(stream, &format!("302 Found\r\nLocation: http://localhost:{}/elsewhere", address.port())).await?;
    drop(controller);
    tokio::time::sleep(Duration::from_secs(5)).await; // two beats find nobody
    let controller = TcpListener::bind(address).await?;
    let (stream, head, again) = beat(&controller).await?;
    assert!(head.starts_with("POST /heartbeat "), "{head}");
    assert_eq!(again, body);
    answer(stream, "200 OK").await?;
    let begun = Instant::now();
    let (stream, ..) = beat(&controller).await?;
    assert!(begun.elapsed() > Duration::from_millis(1500), "two at a time");
    answer(stream, "200 OK").await?;
    let log = base.log()?;
    for line in ["is answered with status 500", "does not arrive: ", "is answered with status 302", "is heard"] {
        assert!(log.contains(line), "{line:?} is not in\n{log}");
    }

    // Commands come to that port.
    let at = format!("127.0.0.1:{port}");
    let module = json!({ "bizName": "biz1", "bizVersion": "0.0.1", "bizUrl": module_url("biz1", "0.0.1") });
    let (status, installed) = post(&at, "/installBiz", &module).await?;
    let installed: Value = serde_json::from_str(&installed)?;
    assert_eq!((status, &installed["code"], &installed["data"]["code"]), (200, &json!("SUCCESS"), &json!("SUCCESS")));
    assert_eq!(base.ask("biz1").await?.as_deref(), Some("biz1 0.0.1 on base-1"));
    let (_, list) = post(&at, "/queryAllBiz", &json!({})).await?;
    let list: Value = serde_json::from_str(&list)?;
    assert_eq!((&list["code"], &list["data"][0]["bizState"]), (&json!("SUCCESS"), &json!("activated")));
    Ok(())
}
