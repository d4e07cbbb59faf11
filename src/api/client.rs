//! How the API server is reached.
//!
//! Traps of the client library that shape it: it tries what is refused with 429, 503 or 504 again by itself, up to 15
//! times with pauses that double, below our own tries; and it waits for ever on a connection whose other end is gone.

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::{Client, Config};

/// A watch is asked for anew after so many seconds, from where it was. This is also how long it can take to notice that
/// nothing comes any more because the connection is dead; the library then waits 5 s more.
pub(super) const WATCHES_FOR: u32 = 30;
/// On a connection of watches something arrives at least this often: the end of a watch, if nothing else. Whatever was
/// open when the network swallowed it, idle or not, is closed after that time.
const WATCH_SILENCE: Duration = Duration::from_secs(WATCHES_FOR as u64 + 10);
/// The same for other requests, which take no longer than `writer::TIMEOUT`.
const REQUEST_SILENCE: Duration = Duration::from_secs(20);
/// Making a connection takes no longer.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// Our name in the API server's audit log.
const NAME: &str = concat!("modulet/", env!("CARGO_PKG_VERSION"));

/// One for each way to wait.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watches: Client,
    /// For all else.
    pub requests: Client,
}

impl Clients {
    /// Clients for the API server that `config` names.
    ///
    /// # Errors
    /// Something in it can't be used: a certificate, or what makes a token.
    pub fn new(mut config: Config) -> kube::Result<Self> {
        config.default_retry = false;
        // Whatever we send, silence counts from what arrived last: so all that was open when the network swallowed it is
        // closed within that time, one after the other tried or not. A request that is cut short by it is tried again.
        config.reset_reader_on_write = false;
        config.connect_timeout = Some(CONNECTS_WITHIN);
        config.headers.retain(|(name, _)| *name != USER_AGENT);
        config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
        let client = |silence| {
            let mut config = config.clone();
            (config.read_timeout, config.write_timeout) = (Some(silence), Some(silence));
            Client::try_from(config)
        };
        Ok(Self { watches: client(WATCH_SILENCE)?, requests: client(REQUEST_SILENCE)? })
    }
}

/// An API server that gives the answers it was told.
#[cfg(test)]
pub(super) mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
        time::timeout,
    };

    use super::*;

    pub(in crate::api) const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    pub(in crate::api) const BUSY: &str =
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    /// Gives one answer after the other, and the last one for ever. Hands out the requests.
    pub(in crate::api) async fn server(answers: &'static [&'static str]) -> (Clients, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (to, requests) = mpsc::channel(16);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8_lossy(&request).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                request.extend(body);
                to.send(String::from_utf8(request).unwrap()).await.unwrap();
                let answer = answers.get(number).or(answers.last()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::new(address.parse().unwrap());
        config.headers.push((USER_AGENT, HeaderValue::from_static("somebody else")));
        (Clients::new(config).unwrap(), requests)
    }

    #[tokio::test]
    async fn every_request_bears_our_name() {
        let (clients, mut requests) = server(&[OK]).await;
        for client in [clients.watches, clients.requests] {
            client.request_text(http::Request::get("/version").body(Vec::new()).unwrap()).await.unwrap();
            let head = requests.recv().await.unwrap().to_lowercase();
            let agents: Vec<_> = head.lines().filter(|line| line.starts_with("user-agent:")).collect();
            assert_eq!(agents, [format!("user-agent: {NAME}")]);
        }
    }

    #[tokio::test]
    async fn what_is_turned_away_is_not_asked_again_below_us() {
        let (clients, mut requests) = server(&[BUSY]).await;
        for client in [clients.watches, clients.requests] {
            let request = http::Request::get("/version").body(Vec::new()).unwrap();
            let error = timeout(Duration::from_secs(5), client.request_text(request)).await.unwrap().unwrap_err();
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 429), "{error:?}");
            assert!(requests.try_recv().is_ok());
            assert!(requests.try_recv().is_err(), "it was asked again");
        }
    }
}
