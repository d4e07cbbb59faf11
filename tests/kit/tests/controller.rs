//! A program under test that does not start says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modulet_testkit::broker::{BrokerAddress, Mosquitto};
use modulet_testkit::controller::{Controller, ControllerOptions};
use modulet_testkit::wait::eventually;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A program that stands for `modulet`.
fn stand_in(directory: &TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("modulet");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn nowhere() -> BrokerAddress {
    BrokerAddress {
        host: "broker.invalid".to_owned(),
        port: 1883,
        username: "me".to_owned(),
        password: "secret".to_owned(),
    }
}

#[tokio::test]
async fn its_last_words_are_in_the_error() {
    let directory = tempfile::tempdir().unwrap();
    let binary = stand_in(&directory, "echo \"$MQTT_BROKER does not answer\"; exit 1");
    let options = ControllerOptions::new(binary, Path::new("/nowhere"), &nowhere());
    let error = format!("{:#}", Controller::start(options).await.unwrap_err());
    assert!(error.contains("broker.invalid does not answer"), "{error}");
    assert!(error.contains("exit status: 1"), "{error}");
}

#[tokio::test]
async fn it_is_ready_when_it_says_so_and_can_be_killed_and_restarted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for unready in [true, true, false].into_iter().chain(std::iter::repeat(false)) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1000];
            let _ = stream.read(&mut request).await.unwrap();
            let status = if unready { "503 Later" } else { "200 OK" };
            let answer = format!("HTTP/1.0 {status}\r\nA: b\r\n\r\ninstalls_total{{result=\"ok\"}} 7\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let binary = stand_in(&directory, "echo started; exec sleep 1000");
    let options =
        ControllerOptions::new(binary, Path::new("/nowhere"), &nowhere()).env("MODULET_HTTP_ADDRESS", address);

    let mut controller = Controller::start(options).await.unwrap();

    let installs = controller.metric("installs_total", &[("result", "ok")]).await.unwrap();
    assert!((installs - 7.0).abs() < f64::EPSILON);
    controller.kill9().await.unwrap();
    assert!(controller.process().is_err());
    controller.restart().await.unwrap();
    eventually("both starts in the log", Duration::from_secs(5), async || controller.log_text() == "started\nstarted")
        .await
        .unwrap();
    let log = controller.log_path().to_owned();
    drop(controller);
    assert!(!log.exists());
}

#[tokio::test]
async fn the_log_is_kept_when_a_test_fails() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start().await.unwrap();
    let binary = stand_in(&directory, "echo started; exec sleep 1000");
    let options = ControllerOptions::new(binary, Path::new("/nowhere"), broker.address());
    let controller = Controller::start_unready(options).unwrap();
    let log = controller.log_path().to_owned();
    let test = std::thread::spawn(move || {
        let _controller = controller;
        std::panic::resume_unwind(Box::new("the test fails"));
    });
    test.join().unwrap_err();
    assert!(log.exists());
    fs::remove_file(log).unwrap();
}
