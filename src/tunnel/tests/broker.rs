//! A broker in miniature, which does what a test says: takes, withholds, refuses, goes away.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A packet's first byte without its flags (MQTT 3.1.1, table 2.1).
const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x80;
const PINGREQ: u8 = 0xc0;

/// How it treats what is published.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// It closes the connection at a payload that is larger.
    pub(super) largest: Option<usize>,
    /// It acknowledges each but this one, counted from 1 on each connection.
    pub(super) withholds: Option<usize>,
    /// It refuses all subscriptions.
    pub(super) refuses: bool,
    /// After a subscription it sends these topics, retained or not, with a payload of this size.
    pub(super) says: Vec<(String, bool, usize)>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Connections that subscribed.
    pub(super) subscribed: usize,
    /// Connections that subscribed and ended.
    pub(super) closed: usize,
    /// Client ids, in the order in which they came.
    pub(super) names: Vec<String>,
    /// Topic and size of the payload, as it took them.
    pub(super) published: Vec<(String, usize)>,
}

/// Listens until it is dropped.
pub(super) struct Broker {
    pub(super) port: u16,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<()>,
    cut: watch::Sender<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Broker {
    pub(super) async fn start(rules: Rules) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::<Mutex<Seen>>::default();
        let ((change, changed), (cut, cuts)) = (watch::channel(()), watch::channel(0));
        let (known, change) = (Arc::clone(&seen), Arc::new(change));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (rules, seen, change, mut cuts) =
                    (rules.clone(), Arc::clone(&known), Arc::clone(&change), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut client =
                        Client { stream, rules, seen: &seen, change: &change, count: 0, subscribed: false };
                    tokio::select! {
                        _ = client.serve() => {}
                        _ = cuts.changed() => {}
                    }
                    let _ = client.stream.shutdown().await;
                    lock(&seen).closed += usize::from(client.subscribed);
                    change.send_replace(());
                });
            }
        });
        Ok(Self { port, seen, changed, cut, task })
    }

    /// Closes all connections, as a restart does.
    pub(super) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&lock(&self.seen))
    }

    /// Waits until it has seen this.
    pub(super) async fn sees(&self, what: impl Fn(&Seen) -> bool) {
        let mut changed = self.changed.clone();
        while !self.look(&what) {
            changed.changed().await.expect("it listens");
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client<'b> {
    stream: TcpStream,
    rules: Rules,
    seen: &'b Mutex<Seen>,
    change: &'b watch::Sender<()>,
    count: usize,
    subscribed: bool,
}

impl Client<'_> {
    /// Until either side ends it.
    async fn serve(&mut self) -> io::Result<()> {
        loop {
            let first = self.stream.read_u8().await?;
            let mut length = 0_usize;
            for shift in [0, 7, 14, 21] {
                let byte = self.stream.read_u8().await?;
                length |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if first & 0xf0 == PUBLISH && self.rules.largest.is_some_and(|largest| length > largest) {
                return Ok(()); // unread
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            let answer = match first & 0xf0 {
                CONNECT => {
                    // Behind the protocol's name, level, flags and keep-alive (MQTT 3.1.1, 3.1).
                    let length = usize::from(u16::from_be_bytes([body[10], body[11]]));
                    lock(self.seen).names.push(String::from_utf8_lossy(&body[12..12 + length]).into_owned());
                    vec![0x20, 2, 0, 0]
                }
                PINGREQ => vec![0xd0, 0],
                SUBSCRIBE => {
                    lock(self.seen).subscribed += 1;
                    self.subscribed = true;
                    let filters = filters(&body);
                    let mut answer = vec![0x90, 2 + filters, body[0], body[1]];
                    answer.extend(std::iter::repeat_n(if self.rules.refuses { 0x80 } else { 1 }, filters.into()));
                    for (topic, retained, size) in &self.rules.says {
                        answer.extend(message(topic, *retained, *size));
                    }
                    answer
                }
                PUBLISH => self.publish(&body),
                _ => Vec::new(),
            };
            self.change.send_replace(());
            self.stream.write_all(&answer).await?;
        }
    }

    fn publish(&mut self, body: &[u8]) -> Vec<u8> {
        let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let text = String::from_utf8_lossy(&body[2..topic]).into_owned();
        lock(self.seen).published.push((text, body.len() - topic - 2));
        self.count += 1;
        if self.rules.withholds == Some(self.count) {
            return Vec::new();
        }
        vec![0x40, 2, body[topic], body[topic + 1]]
    }
}

/// A PUBLISH with `QoS` 0.
fn message(topic: &str, retained: bool, size: usize) -> Vec<u8> {
    let mut packet = vec![PUBLISH | u8::from(retained)];
    let mut rest = 2 + topic.len() + size;
    loop {
        let more = if rest > 0x7f { 0x80 } else { 0 };
        packet.push(u8::try_from(rest & 0x7f).unwrap() | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(std::iter::repeat_n(b'x', size));
    packet
}

/// How many filters a SUBSCRIBE has.
fn filters(body: &[u8]) -> u8 {
    let (mut rest, mut count) = (VecDeque::from(body[2..].to_vec()), 0);
    while let (Some(high), Some(low)) = (rest.pop_front(), rest.pop_front()) {
        rest.drain(..=usize::from(u16::from_be_bytes([high, low])));
        count += 1;
    }
    count
}
