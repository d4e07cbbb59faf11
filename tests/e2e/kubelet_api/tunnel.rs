//! The way to kubelets that an API server has where it runs elsewhere: through a tunnel, to addresses that it cannot reach
//! itself. The API server's proxies lead to no loopback address.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
};

/// Whatever is asked for, it leads to one port of this machine. It ends when it is dropped.
pub(super) struct Tunnel(JoinHandle<()>);

impl Tunnel {
    /// Returns the file that tells an API server of it, too.
    pub(super) fn start(directory: &Path, to: u16) -> Result<(Self, String)> {
        let socket = directory.join("tunnel.sock");
        let listener = UnixListener::bind(&socket)?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, to));
            }
        });
        let connection = json!({ "proxyProtocol": "HTTPConnect", "transport": { "uds": { "udsName": socket } } });
        let config = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
            "egressSelections": [{ "name": "cluster", "connection": connection }],
        });
        let file = directory.join("egress.json");
        std::fs::write(&file, config.to_string())?;
        Ok((Self(task), file.display().to_string()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass(mut from: UnixStream, to: u16) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.context("no CONNECT")?);
    }
    let mut to = TcpStream::connect(("127.0.0.1", to)).await?;
    from.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}
