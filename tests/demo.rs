//! The demo, as `make demo` runs it: it tells its story, and leaves nothing behind.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read as _},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use modulet_testkit::{ports::free_port, process::tail};
use tempfile::TempDir;

/// With a control plane that is built already, on a machine that does other things as well.
const DEADLINE: Duration = Duration::from_mins(3);
/// All that the demo starts inherits this variable, which is how it is found again.
const MARK: &str = "MODULET_DEMO_TEST";

struct Demo {
    child: Child,
    lines: mpsc::Receiver<String>,
    told: Vec<String>,
    mark: String,
    /// For temporary files; whatever is in it at the end was left behind.
    temporary: TempDir,
}

impl Demo {
    fn start(args: &[&str]) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mark = format!("{}-{}", std::process::id(), temporary.path().display());
        // Its own errors go elsewhere: they must not be taken for files left behind.
        let errors = temporary.path().with_extension("stderr");
        let mut child = Command::new(binary()?)
            .args(args)
            .env(MARK, &mark)
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Ok(Self { child, lines, told: Vec::new(), mark, temporary })
    }

    /// Reads on until a line has this in it.
    fn wait_for(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let Ok(line) = line else { bail!("no line with {text:?}\n{}", self.story()) };
            self.told.push(line);
            if self.told.last().is_some_and(|line| line.contains(text)) {
                return Ok(());
            }
        }
    }

    /// Reads on until it has ended.
    fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.told.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("it does not end\n{}", self.story()),
            }
        }
    }

    fn story(&self) -> String {
        format!("{}\n{}", self.told.join("\n"), self.errors())
    }

    fn errors(&self) -> String {
        tail(&self.temporary.path().with_extension("stderr"), usize::MAX)
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill: {sent}");
        Ok(())
    }

    /// Nothing it started runs, and no file of it is there.
    fn left_nothing(&self) -> Result<()> {
        // The shells that watch over its programs are told to go, which is not waited for.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.processes()?.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(self.processes()?.is_empty(), "still running: {:?}\n{}", self.processes()?, self.story());
        let files: Vec<_> =
            fs::read_dir(self.temporary.path())?.map_while(Result::ok).map(|file| file.path()).collect();
        ensure!(files.is_empty(), "left behind: {files:?}");
        Ok(())
    }

    /// What runs that the demo started, itself included.
    fn processes(&self) -> Result<Vec<String>> {
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")?.map_while(Result::ok).map(|entry| entry.path()) {
            let mut environment = Vec::new();
            // Most are not ours to read, or end in this moment.
            let file = File::open(process.join("environ"));
            let read = file.and_then(|mut file| file.read_to_end(&mut environment));
            if read.is_ok() && environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()) {
                let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
                found.push(format!("{}: {}", process.display(), command.replace('\0', " ")));
            }
        }
        Ok(found)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.temporary.path().with_extension("stderr"));
    }
}

/// Cargo builds examples beside the tests, if it is not told to build one test alone.
fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let demo = this.ancestors().nth(2).context("no target directory")?.join("examples/demo");
    ensure!(demo.is_file(), "{} is not there: cargo build --example demo", demo.display());
    Ok(demo)
}

/// Tells the story to its end, with all these words in it.
fn told(args: &[&str], words: &[&str]) -> Result<(Demo, String)> {
    let mut demo = Demo::start(args)?;
    let status = demo.wait()?;
    let story = demo.story();
    assert!(status.success(), "{status}\n{story}");
    for key in words {
        assert!(story.contains(key), "{key:?} is missing in\n{story}");
    }
    Ok((demo, story))
}

#[test]
fn the_story_is_told_and_nothing_is_left() -> Result<()> {
    let port = free_port()?.to_string();
    let words = [
        "each becomes a Node",
        "vnode.base-3.demo   Ready",
        "$ kubectl -n modulet-demo apply -f examples/module-deployment.yaml",
        "deployment.apps/biz1 created",
        "base-1   biz1     0.0.1     activated",
        "deployment.apps/biz1 configured",
        "Failed, BizDeactivate",
        "base-1   biz1     0.0.2     activated",
        "Everything is gone",
    ];
    let (demo, story) = told(&["--exit", "--broker-port", &port], &words)?;
    let counts = |line: &&String| line.split_whitespace().skip(1).eq(["1", "1", "1", "0"]);
    assert_eq!(demo.told.iter().filter(counts).count(), 3, "{story}");
    assert!(!story.contains('\x1b'), "no colours in a pipe");
    assert_eq!(demo.errors(), "");
    demo.left_nothing()
}

#[test]
fn the_story_is_told_over_http_without_a_broker() -> Result<()> {
    let port = free_port()?.to_string();
    let words = [
        "there is no broker",
        "say hello over HTTP: each becomes a Node",
        "vnode.base-3.demo   Ready",
        "base-1   biz1     0.0.1     activated",
        "deployment.apps/biz1 configured",
        "Failed, BizDeactivate",
        "base-1   biz1     0.0.2     activated",
        "Everything is gone",
    ];
    let (demo, story) = told(&["--exit", "--http", "--http-port", &port], &words)?;
    for counts in [["installBiz", "6"], ["switchBiz", "0"], ["uninstallBiz", "3"]] {
        assert!(demo.told.iter().any(|line| line.split_whitespace().eq(counts)), "{counts:?}: {story}");
    }
    assert!(!story.contains("MQTT"), "{story}");
    assert_eq!(demo.errors(), "");
    demo.left_nothing()
}

#[test]
fn a_release_in_batches_is_told_with_its_error_and_the_way_back() -> Result<()> {
    let port = free_port()?.to_string();
    let words = [
        "modulerollouts.modulet.koupleless.io",
        "modulerollout.modulet.koupleless.io/biz1 created",
        "AwaitingBatch",
        "batch 1 of 3 done; 2 bases wait for confirmation: kubectl annotate mro/biz1",
        "Somebody confirms, and on base-",
        "batch 2 of 3: 1 bases failed",
        "deployment.apps/biz1 rolled back",
        "Everything is gone",
    ];
    let (demo, story) = told(&["--exit", "--story", "rollout", "--broker-port", &port], &words)?;
    let told = |answer: &str| demo.told.iter().filter(|line| line.split_whitespace().skip(1).eq([answer])).count();
    assert_eq!((told("yes"), told("no")), (2, 1), "{story}");
    assert_eq!(demo.errors(), "");
    demo.left_nothing()
}

#[test]
fn a_signal_ends_it_in_order_at_any_time() -> Result<()> {
    for (moment, signal, code) in
        [("Kubernetes", "TERM", 143), ("biz1 0.0.2 resolved", "INT", 130), ("Now you", "INT", 0)]
    {
        let port = free_port()?.to_string();
        let mut demo = Demo::start(&["--broker-port", &port])?;
        demo.wait_for(moment)?;
        let start = Instant::now();
        demo.signal(signal)?;
        let status = demo.wait()?;
        assert_eq!(status.code(), Some(code), "at {moment:?}\n{}", demo.story());
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        demo.left_nothing()?;
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_one_line() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let mut demo = Demo::start(&["--exit", "--broker-port", &port.to_string()])?;
    assert_eq!(demo.wait()?.code(), Some(1));
    assert!(demo.told.is_empty(), "{}", demo.story());
    let errors = demo.errors();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains(&format!("port {port} of 127.0.0.1 is taken")), "{errors}");
    Ok(())
}
