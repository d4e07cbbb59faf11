//! What goes over one connection: a request, and its answer with no header and the connection's end behind it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

use super::{Shared, told};
use crate::base::{
    command::{self, Command},
    options::BaseOptions,
    slot::ReceivedCommand,
};

/// A connection belongs to one of its threads for life, in turn; so a question can wait behind an install though other
/// threads are idle.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, options: BaseOptions, threads: usize) {
    let threads: Vec<_> = (0..threads.max(1)).map(|_| Arc::new(Mutex::new(()))).collect();
    let mut connections = JoinSet::new();
    for thread in threads.iter().cycle() {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (shared, options, thread) = (Arc::clone(&shared), options.clone(), Arc::clone(thread));
        connections.spawn(async move { drop(connection(stream, &shared, &options, &thread).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared, options: &BaseOptions, thread: &Mutex<()>) -> Result<()> {
    let request = Request::read(&mut stream).await?;
    let word = request.path.trim_start_matches('/');
    let works = !matches!(word, "queryAllBiz" | "health" | "help");
    let _open = works.then(|| Open::new(&shared.open));
    let busy = thread.lock().await;
    let asked = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let received = ReceivedCommand { at: Instant::now(), command: word.to_owned(), payload: asked.clone() };
    shared.lock().received.push(received);
    shared.tell();
    if !shared.answers.load(Ordering::Relaxed) {
        drop(busy);
        return gone(&mut stream).await;
    }
    if request.method != "POST" {
        let text = "POST http request only supported by arklet";
        let head = format!("HTTP/1.1 500 Internal Server Error\r\nContent_Length: {}\r\n\r\n", text.len());
        return say(&mut stream, &(head + text)).await;
    }
    let answer = match command::read(word, &request.body) {
        Err(command::Ignored::Unknown) if word == "help" => told::help(options),
        Ok(Command::Baseline(_)) if word == "baseline" => told::unknown(),
        Err(command::Ignored::Unknown) => told::unknown(),
        Ok(Command::Switch { .. }) if !shared.switches => told::unknown(),
        // What it cannot read it never answers.
        Err(command::Ignored::Malformed) => {
            drop(busy);
            return gone(&mut stream).await;
        }
        Ok(command) => carry_out(shared, options, command, &asked).await?,
    };
    let text = format!("HTTP/1.1 200 OK\r\n\r\n{answer}");
    let cut = shared.cut.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    say(&mut stream, if cut { text.get(..text.len() / 2).unwrap_or_default() } else { &text }).await
}

async fn say(stream: &mut TcpStream, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Waits until the client goes away.
async fn gone(stream: &mut TcpStream) -> Result<()> {
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// Whoever asked may go away meanwhile: the command goes on.
async fn carry_out(shared: &Shared, options: &BaseOptions, command: Command, asked: &Value) -> Result<Value> {
    let ticket = shared.lock().arklet.accept(command);
    shared.wake.notify_one();
    let mut news = shared.news.subscribe();
    loop {
        let found = {
            let mut state = shared.lock();
            let at = state.answers.iter().position(|(of, _)| *of == ticket);
            at.map(|at| (state.answers.remove(at).1, state.begun.elapsed()))
        };
        if let Some((answer, uptime)) = found {
            return Ok(told::told(answer, asked, options, uptime));
        }
        news.changed().await?;
    }
}

/// One more that is open, until it is dropped.
struct Open<'s>(&'s AtomicUsize);

impl<'s> Open<'s> {
    fn new((now, most): &'s (AtomicUsize, AtomicUsize)) -> Self {
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Self(now)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Request {
    method: String,
    /// Without what stands behind a question mark.
    path: String,
    body: Vec<u8>,
}

impl Request {
    async fn read(stream: &mut TcpStream) -> Result<Self> {
        let mut bytes = Vec::new();
        let head_ends = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if bytes.len() > 64 * 1024 || stream.read_buf(&mut bytes).await? == 0 {
                bail!("no request");
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().into_iter().flat_map(|line| line.split(' '));
        let (method, path) = words.next().zip(words.next()).context("no request line")?;
        let (method, path) = (method.to_owned(), path.split('?').next().unwrap_or_default().to_owned());
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = bytes.split_off(head_ends + 4);
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                bail!("a request that ends early");
            }
        }
        Ok(Self { method, path, body })
    }
}
