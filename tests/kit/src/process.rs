//! Programs the kit runs: started with a log file, stopped in order, and gone when we are gone.
//!
//! A test process may die by SIGKILL, and what it started must not outlive it. Linux' "parent death
//! signal" fires when the *thread* that forked ends, which on an async runtime is any time; so each
//! program has a watchman instead: a shell that reads from a pipe we hold. The pipe ends when we
//! do, however we end, and then the watchman ends the program.
//!
//! Every program is the leader of its own process group: Ctrl-C in a terminal reaches us alone, and
//! we stop things in the right order.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use crate::wait::{Attempt, eventually};

/// Starts the watchman on descriptor 3 and *becomes* the program, so that the program's process id
/// and exit status are the ones we see. `$1` is a directory to remove once we are gone, or empty;
/// `$2` is a limit of its memory in kB, or empty.
/// A line on the pipe says that the program has ended and the watchman may go; the mere end of the
/// pipe says that we have. It removes the directory twice, for other programs may still be writing
/// into it that end at the same moment. It stays in the background of the program as a child it knows nothing of. A broker of thousands of clients needs as many files.
const WATCHMAN: &str = r#"
ulimit -S -n 65536 2>/dev/null || ulimit -S -n "$(ulimit -H -n)"
exec 3<&0
{
    read -r _ && exit
    kill -TERM $$; kill -CONT $$
    i=0
    while [ $i -lt 50 ] && kill -0 $$; do sleep 0.1; i=$((i + 1)); done
    kill -KILL $$
    [ -z "$1" ] || rm -rf -- "$1" || { sleep 3; rm -rf -- "$1"; }
} <&3 3<&- >/dev/null 2>&1 &
[ -z "$2" ] || ulimit -v "$2"
shift 2
exec "$@" </dev/null 3<&-
"#;

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
    patience: Duration,
    litter: Option<PathBuf>,
    memory: Option<u64>,
}

impl Program {
    /// The program at `path`, called `name` in messages, whose output goes (appended) to `log`.
    pub fn new(name: &str, path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
            patience: Duration::from_secs(10),
            litter: None,
            memory: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How long [`Process::terminate`] waits after SIGTERM before it sends SIGKILL (10 s).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How much memory it may ask for, in bytes; beyond that it gets none, and nobody else suffers.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// A directory to remove if our process ends before the program does. What is in a `static` is
    /// never dropped, so this is how its temporary files go.
    #[must_use]
    pub fn litter(mut self, directory: impl Into<PathBuf>) -> Self {
        self.litter = Some(directory.into());
        self
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it.
    pub fn start(&self) -> Result<Process> {
        let name = &self.name;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("{name}: cannot write its log {}", self.log.display()))?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCHMAN, name])
            .arg(self.litter.as_deref().unwrap_or(Path::new("")))
            .arg(self.memory.map_or_else(String::new, |bytes| (bytes / 1024).to_string()))
            .arg(&self.path)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name}: cannot be started"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("odd process id")?;
        let inner = Arc::new(Mutex::new(Running { exit: None, lifeline: child.stdin.take() }));
        let (done, exited) = watch::channel(None);

        let shared = Arc::clone(&inner);
        // A thread, not a task: it must outlive the runtime that happened to start the program.
        let thread = std::thread::Builder::new().name(format!("wait-{name}"));
        let waiting = thread.spawn(move || {
            // Look before reaping: while the zombie is there, nobody else can have its process id,
            // and from the moment it is not, `exit` says so.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let mut running = lock(&shared);
            let exit = child.wait().ok();
            running.exit = exit;
            if let Some(mut lifeline) = running.lifeline.take() {
                // Fails if the watchman was killed with its group; then there is nobody to tell.
                let _ = lifeline.write_all(b"ended\n");
            }
            drop(running);
            done.send_replace(exit);
        })?;
        Ok(Process {
            name: self.name.clone(),
            log: self.log.clone(),
            patience: self.patience,
            pid,
            inner,
            exited,
            waiting: Some(waiting),
        })
    }
}

#[derive(Debug)]
struct Running {
    exit: Option<ExitStatus>,
    /// Our end of the watchman's pipe.
    lifeline: Option<ChildStdin>,
}

fn lock(inner: &Mutex<Running>) -> MutexGuard<'_, Running> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that was started. Dropping it kills it with SIGKILL; [`Process::terminate`] asks first.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    patience: Duration,
    pid: Pid,
    inner: Arc<Mutex<Running>>,
    exited: watch::Receiver<Option<ExitStatus>>,
    waiting: Option<JoinHandle<()>>,
}

impl Process {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's own process id, not that of some wrapper.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last `count` lines of its output.
    pub fn log_tail(&self, count: usize) -> String {
        tail(&self.log, count)
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        lock(&self.inner).exit
    }

    /// Sends it a signal; fails if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let running = lock(&self.inner);
        if let Some(exit) = running.exit {
            bail!("{} has ended: {exit}", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("{}: {signal:?}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill9(&self) -> Result<ExitStatus> {
        if self.exit().is_none() {
            let _ = self.signal(Signal::KILL); // it may end by itself between the two lines
        }
        self.wait().await
    }

    /// Freezes it (SIGSTOP): connections stay open and nobody answers. Undone by [`Self::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM), insists (SIGKILL) when its patience is over, and waits.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        if self.exit().is_none() && self.signal(Signal::TERM).is_ok() {
            let _ = self.signal(Signal::CONT); // a paused program would never see the SIGTERM
            if let Ok(exit) = tokio::time::timeout(self.patience, self.wait()).await {
                return exit;
            }
            tracing::warn!(program = self.name, "did not end on SIGTERM, killing it");
        }
        self.kill9().await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&self) -> Result<ExitStatus> {
        let mut exited = self.exited.clone();
        let exit = exited.wait_for(Option::is_some).await.map(|exit| *exit);
        exit.ok().flatten().with_context(|| format!("{}: its end was not seen", self.name))
    }

    /// Tries until an attempt succeeds (see [`eventually`]). Fails at once, with the end of its
    /// output, if the program ends before that.
    pub async fn wait_ready<A: Attempt, F: Future<Output = A>>(
        &self,
        deadline: Duration,
        attempt: impl FnMut() -> F,
    ) -> Result<A::Value> {
        let what = format!("{} to be ready", self.name);
        tokio::select! {
            value = eventually(&what, deadline, attempt) => {
                value.map_err(|error| anyhow!("{error:#}\n{}", self.log_tail(20)))
            }
            exit = self.wait() => {
                bail!("{} ended instead of starting: {}\n{}", self.name, exit?, self.log_tail(20))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::KILL);
        // Until it is gone its ports and files are not free for whatever the caller does next.
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
    }
}

/// The last `count` lines of a file, for messages.
pub fn tail(file: &Path, count: usize) -> String {
    let text = File::open(file)
        .and_then(std::io::read_to_string)
        .unwrap_or_else(|error| format!("({}: {error})", file.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
