//! Requests by HTTP/1.0, whose answers end with the connection: no need for a client library.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Status and body of what `http://{address}{path}` answers.
///
/// # Errors
/// Nobody answers.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    exchange(address, &format!("GET {path}"), "", "").await
}

/// The same for JSON that is posted there.
///
/// # Errors
/// Nobody answers.
pub async fn post(address: &str, path: &str, body: &Value) -> Result<(u16, String)> {
    post_with(address, path, None, body).await
}

/// The same with a header `Authorization`.
///
/// # Errors
/// Nobody answers.
pub async fn post_with(address: &str, path: &str, authorization: Option<&str>, body: &Value) -> Result<(u16, String)> {
    let header = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    exchange(address, &format!("POST {path}"), &header, &body.to_string()).await
}

async fn exchange(address: &str, what: &str, headers: &str, body: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let length = body.len();
        let head =
            format!("{what} HTTP/1.0\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
        anyhow::Ok((status, body.trim().to_owned()))
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.context("no answer").flatten();
    answer.with_context(|| format!("{what} at http://{address}"))
}
