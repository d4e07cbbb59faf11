//! A GET by HTTP/1.0, whose answer ends with the connection: no need for a client library.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Status and body of what `http://{address}{path}` answers.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
        anyhow::Ok((status, body.trim().to_owned()))
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.context("no answer").flatten();
    answer.with_context(|| format!("GET http://{address}{path}"))
}
