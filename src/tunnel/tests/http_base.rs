//! A base over HTTP in miniature, which does what a test says: answers with these very bytes, or not at all.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How a command is answered; what is not named is never answered.
type Manners = BTreeMap<&'static str, Vec<u8>>;

/// Listens until it is dropped.
pub(super) struct Base {
    pub(super) port: u16,
    manners: Arc<Mutex<Manners>>,
    asked: watch::Receiver<Vec<String>>,
    task: JoinHandle<()>,
}

impl Drop for Base {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that nobody listens on.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Base {
    pub(super) async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let manners = Arc::<Mutex<Manners>>::default();
        let (tells, asked) = watch::channel(Vec::new());
        let (known, tells) = (Arc::clone(&manners), Arc::new(tells));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (manners, tells) = (Arc::clone(&known), Arc::clone(&tells));
                connections.spawn(async move { drop(serve(stream, &manners, &tells).await) });
            }
        });
        Ok(Self { port, manners, asked, task })
    }

    /// Answers a command with this from now on, and closes the connection.
    pub(super) fn answers(&self, command: &'static str, with: impl Into<Vec<u8>>) {
        self.manners.lock().unwrap_or_else(PoisonError::into_inner).insert(command, with.into());
    }

    /// How often it was asked that.
    pub(super) fn asked(&self, command: &str) -> usize {
        self.asked.borrow().iter().filter(|asked| *asked == command).count()
    }

    /// Waits until it was asked that so often.
    pub(super) async fn is_asked(&self, command: &str, times: usize) {
        let mut asked = self.asked.clone();
        while self.asked(command) < times {
            asked.changed().await.expect("it listens");
        }
    }
}

async fn serve(mut stream: TcpStream, manners: &Mutex<Manners>, tells: &watch::Sender<Vec<String>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let command = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let answer = manners.lock().unwrap_or_else(PoisonError::into_inner).get(command.as_str()).cloned();
    tells.send_modify(|asked| asked.push(command.clone()));
    match answer {
        Some(answer) => {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            // What is still to be read would make the end a reset, which takes the answer with it.
            while stream.read(&mut [0; 4096]).await? > 0 {}
        }
        None => {
            while stream.read(&mut [0; 4096]).await? > 0 {}
            tells.send_modify(|asked| asked.push(format!("{command} given up")));
        }
    }
    Ok(())
}

/// Status and body of what is posted there.
pub(super) async fn posts(port: u16, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let head =
        format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}
