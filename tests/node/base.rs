//! A simulated base in a Pod: until it is told to end.

use std::{env, time::Duration};

use anyhow::{Context as _, Result};
use modulet_testkit::base::{BaseOptions, SimulatedBase};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::interval,
};

pub(crate) const ARGUMENT: &str = "base";
/// What a line begins with that says which modules there are.
pub(crate) const LISTS: &str = "lists ";

/// Where it answers, within its Pod alone.
pub(crate) const PORT: u16 = 8090;

/// Says who it is to whoever asks.
async fn front_door(socket: TcpListener, id: String) {
    while let Ok((mut stream, _)) = socket.accept().await {
        let answer = format!("HTTP/1.0 200 OK\r\n\r\nthis is {id}");
        // Whoever hangs up before has an answer less.
        if let Ok(1..) = stream.read(&mut [0; 1024]).await {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

/// What a Pod gives it, by these variables.
pub(crate) async fn run() -> Result<()> {
    let variable = |name: &str| env::var(name).with_context(|| name.to_owned());
    let mut terminate = signal(SignalKind::terminate())?;
    let base = SimulatedBase::start(BaseOptions {
        host: variable("MQTT_BROKER")?,
        username: variable("MQTT_USERNAME")?,
        password: variable("MQTT_PASSWORD")?,
        env: variable("ENV")?,
        name: variable("BASE_NAME")?,
        ip: variable("POD_IP")?,
        host_name: std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
        ..BaseOptions::new(&variable("BASE_ID")?, variable("MQTT_PORT")?.parse()?)
    })
    .await?;
    tokio::spawn(front_door(TcpListener::bind(("127.0.0.1", PORT)).await?, variable("BASE_ID")?));
    println!("started");
    let mut listed = String::new();
    let (mut told, mut look) = (0, interval(Duration::from_millis(200)));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = look.tick() => {
                let commands = base.commands();
                for command in commands.iter().skip(told) {
                    println!("{} {}", command.command, command.payload);
                }
                told = commands.len();
                let list: Vec<_> = base.modules().iter().map(|(name, version, _)| format!("{name}:{version}")).collect();
                if listed != list.join(" ") {
                    listed = list.join(" ");
                    println!("{LISTS}{listed}");
                }
            }
        }
    }
}
