//! A TCP proxy that passes connections on, until it swallows or cuts them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// Passes connections on. Dropped it takes no more; those that are open stay.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    swallowed: watch::Sender<u64>,
    cut: watch::Sender<bool>,
    slow: watch::Sender<Duration>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on this port of 127.0.0.1 (0: on a free one), and passes connections on to an address.
    pub async fn start(port: u16, to: &str) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into(), to).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(at: SocketAddr, to: &str) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let port = listener.local_addr()?.port();
        let (swallowed, to) = (watch::Sender::new(0), to.to_owned());
        let (cut, slow) = (watch::Sender::new(false), watch::Sender::new(Duration::ZERO));
        let (swallowing, cutting, slowing) = (swallowed.clone(), cut.clone(), slow.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, swallowing, mut cutting) = (to.clone(), swallowing.subscribe(), cutting.subscribe());
                let slowing = slowing.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, to, swallowing, slowing) => {}
                        // Who could cut it is gone with the proxy, and what is open stays.
                        Ok(_) = cutting.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Ok(Self { port, swallowed, cut, slow, accepting })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and new ones at once, until it is mended.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// From now on, whatever is sent arrives that much later; zero: as fast as it can.
    pub fn slow(&self, delay: Duration) {
        self.slow.send_replace(delay);
    }

    /// Half-open: from now on, what is sent on connections that are open is taken and comes to nobody, and nothing
    /// comes back; nobody is told. New connections work.
    pub fn swallow(&self) {
        self.swallowed.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut client: TcpStream, to: String, mut swallowed: watch::Receiver<u64>, slow: watch::Receiver<Duration>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    // Small packets go at once, as they would without us.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let both = async { tokio::join!(pump(from_client, to_server, &slow), pump(from_server, to_client, &slow)) };
        tokio::pin!(both);
        tokio::select! {
            _ = &mut both => return,
            changed = swallowed.changed() => {
                if changed.is_err() {
                    both.await;
                    return;
                }
            }
        }
    }
    drop(server);
    let _ = copy(&mut client, &mut sink()).await;
}

/// One direction, to its end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, slow: &watch::Receiver<Duration>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let delay = *slow.borrow();
        if !delay.is_zero() {
            sleep(delay).await; // how slow it is
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Answers whatever it gets with the same.
    async fn echo() -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(address)
    }

    async fn answers(stream: &mut TcpStream) -> bool {
        stream.write_all(b"x").await.is_ok()
            && timeout(Duration::from_millis(300), stream.read_u8()).await.is_ok_and(|read| read.is_ok())
    }

    #[tokio::test]
    async fn a_slow_proxy_delays_each_way_and_then_is_fast_again() -> Result<()> {
        let proxy = Proxy::start(0, &echo().await?).await?;
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        proxy.slow(Duration::from_millis(400));
        assert!(!answers(&mut stream).await);
        stream.read_u8().await?;
        proxy.slow(Duration::ZERO);
        assert!(answers(&mut stream).await);
        Ok(())
    }

    #[tokio::test]
    async fn open_connections_are_swallowed_without_a_word_and_new_ones_work() -> Result<()> {
        let proxy = Proxy::start(0, &echo().await?).await?;
        let mut old = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        assert!(answers(&mut old).await);
        proxy.swallow();
        assert!(!answers(&mut old).await);
        assert!(timeout(Duration::from_millis(100), old.readable()).await.is_err(), "it was closed");
        let mut new = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        assert!(answers(&mut new).await);
        drop(proxy);
        assert!(answers(&mut new).await);
        Ok(())
    }
}
