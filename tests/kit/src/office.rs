//! Who the heartbeats of bases over HTTP go to: a stand-in of the controller that answers as a test says, or not at all.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::ports::free_port;

/// How it answers: with this status, after that time.
type Manner = Arc<Mutex<(u16, Duration)>>;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Office {
    /// Where.
    pub port: u16,
    manner: Manner,
    beats: mpsc::UnboundedReceiver<Value>,
    sends: mpsc::UnboundedSender<Value>,
    listens: Option<JoinHandle<()>>,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.close();
    }
}

impl Office {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// No port is free.
    pub async fn open() -> Result<Self> {
        let (sends, beats) = mpsc::unbounded_channel();
        let manner = Arc::new(Mutex::new((200, Duration::ZERO)));
        let mut office = Self { port: free_port()?, manner, beats, sends, listens: None };
        office.reopen().await?;
        Ok(office)
    }

    /// Is there (again).
    ///
    /// # Errors
    /// Its port is taken.
    pub async fn reopen(&mut self) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        let (sends, manner) = (self.sends.clone(), Arc::clone(&self.manner));
        self.listens = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sends, manner) = (sends.clone(), Arc::clone(&manner));
                tokio::spawn(async move { drop(hear(stream, &sends, &manner).await) });
            }
        }));
        Ok(())
    }

    /// Whoever beats is refused.
    pub fn close(&mut self) {
        if let Some(listens) = self.listens.take() {
            listens.abort();
        }
    }

    /// The next beat, from a base at that port if one is named, which is answered so.
    ///
    /// # Errors
    /// None comes.
    pub async fn beat(&mut self, port: Option<u16>, status: u16, after: Duration) -> Result<Value> {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = (status, after);
        while self.beats.try_recv().is_ok() {}
        let beat = async {
            loop {
                let beat = self.beats.recv().await.context("nobody sends")?;
                if port.is_none_or(|port| beat["port"] == port) {
                    return anyhow::Ok(beat);
                }
            }
        };
        timeout(Duration::from_secs(10), beat).await.with_context(|| format!("no beat from port {port:?}"))?
    }

    /// How many beats of a base at that port come within this time.
    pub async fn beats_within(&mut self, port: u16, time: Duration) -> usize {
        while self.beats.try_recv().is_ok() {}
        sleep(time).await;
        let mut count = 0;
        while let Ok(beat) = self.beats.try_recv() {
            count += usize::from(beat["port"] == port);
        }
        count
    }
}

async fn hear(mut stream: TcpStream, sends: &mpsc::UnboundedSender<Value>, manner: &Manner) -> Result<()> {
    let mut bytes = Vec::new();
    let body = loop {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "a request that ends early");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        anyhow::ensure!(head.starts_with("POST /heartbeat "), "{head}");
        if let Ok(body) = serde_json::from_str(body) {
            break body;
        }
    };
    let (status, after) = *manner.lock().unwrap_or_else(PoisonError::into_inner);
    sends.send(body)?;
    sleep(after).await;
    stream.write_all(format!("HTTP/1.0 {status} .\r\nContent-Length: 7\r\n\r\nSUCCESS").as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
