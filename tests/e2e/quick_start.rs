//! `docs/quick-start.md`, as it stands: its commands are run, and must print what it says.
//!
//! Other than there: the cluster is the test's own, what is to be built is built already, and ports and temporary files
//! are such that nobody else has them.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use modulet_testkit::{
    control_plane::{ControlPlane, ControlPlaneOptions},
    java_base::ensure_built,
    ports::free_port,
    process::{Process, Program, Signal, tail},
    tools::Tool,
    wait::eventually,
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{real_base::JVMS, stage::SOON};

const PAGE: &str = include_str!("../../docs/quick-start.md");
/// For the commands of one block, and for a JVM to start.
const PATIENCE: Duration = Duration::from_secs(90);
/// The terminals of modulet and of the base; commands that end are in another one.
const MODULET: &str = "# terminal 1";
const BASE: &str = "# terminal 2";
const COMMANDS: &str = "# terminal 3";

/// A block of commands, and what they print.
#[derive(Debug)]
struct Block {
    terminal: &'static str,
    script: String,
    prints: Vec<String>,
}

fn blocks() -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        match kind {
            "sh" => {
                let terminal = [MODULET, BASE, COMMANDS].into_iter().find(|t| text.first() == Some(t));
                let terminal = terminal.with_context(|| format!("no terminal: {text:?}"))?;
                blocks.push(Block { terminal, script: text[1..].join("\n"), prints: Vec::new() });
            }
            "text" => {
                let block = blocks.last_mut().filter(|block| block.prints.is_empty()).context("whose output is it?")?;
                block.prints = text.into_iter().map(str::to_owned).collect();
            }
            other => bail!("a block of the kind {other:?}"),
        }
    }
    Ok(blocks)
}

/// A word is as the page says it, if it is the same one, or both are ages, names of the Deployment's Pods, or modulet's
/// version behind that of an API server.
fn same(word: &str, said: &str) -> bool {
    let is_age = |word: &str| {
        let word = word.trim_start_matches('(');
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm'])
            && word.chars().all(|c| c.is_ascii_digit() || "sm".contains(c))
    };
    let is_pod = |word: &str| word.starts_with("biz1-") && word.matches('-').count() == 2;
    let ours = |word: &str| word.split_once("-modulet-").map(|(_, version)| version.to_owned());
    word == said
        || ours(word).is_some() && ours(word) == ours(said)
        || is_age(word) && is_age(said)
        || is_pod(word) && is_pod(said)
}

fn same_line(line: &str, said: &str) -> bool {
    let (line, said): (Vec<_>, Vec<_>) = (line.split_whitespace().collect(), said.split_whitespace().collect());
    line.len() == said.len() && line.iter().zip(said).all(|(line, said)| same(line, said))
}

/// All lines that the page says are printed, among others perhaps.
fn prints(output: &str, said: &[String]) -> Result<()> {
    for said in said {
        ensure!(output.lines().any(|line| same_line(line, said)), "no line {said:?} in\n{output}");
    }
    Ok(())
}

/// Who follows the page.
struct Reader {
    /// What is different here: what the page says, and what is done.
    changes: Vec<(&'static str, String)>,
    used: Vec<bool>,
    env: BTreeMap<&'static str, String>,
    temporary: TempDir,
    /// What runs in the terminals of modulet and the base.
    running: BTreeMap<&'static str, Process>,
}

impl Reader {
    async fn new(cluster: &ControlPlane) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut path = vec![Tool::ControlPlane.directory().await?];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let (beats, web) = (free_port()?, free_port()?);
        let env = BTreeMap::from([
            ("KUBECONFIG", cluster.kubeconfig().display().to_string()),
            ("PATH", env::join_paths(path)?.into_string().ok().context("PATH")?),
            ("HTTP_TUNNEL_LISTEN_PORT", beats.to_string()),
            ("MODULET_HTTP_ADDRESS", format!("127.0.0.1:{}", free_port()?)),
            ("ARKLET_HTTP_PORT", free_port()?.to_string()),
            ("BASE_DATA_DIR", temporary.path().join("base").display().to_string()),
        ]);
        let changes = vec![
            // First: this checkout may be below it.
            ("/tmp/", format!("{}/", temporary.path().display())),
            ("kind create cluster", ":".to_owned()),
            ("kind delete cluster", ":".to_owned()),
            ("cargo build --release", ":".to_owned()),
            ("mvn -q -f examples/java-base package", ":".to_owned()),
            ("target/release/modulet", env!("CARGO_BIN_EXE_modulet").to_owned()),
            ("localhost:7777", format!("localhost:{beats}")),
            ("localhost:8081", format!("localhost:{web}")),
            ("BASE_HTTP_PORT=8081", format!("BASE_HTTP_PORT={web}")),
        ];
        Ok(Self { used: vec![false; changes.len()], changes, env, temporary, running: BTreeMap::new() })
    }

    fn script(&mut self, block: &Block) -> String {
        let mut script = block.script.clone();
        for ((said, done), used) in self.changes.iter().zip(&mut self.used) {
            *used |= script.contains(said);
            script = script.replace(said, done);
        }
        script
    }

    fn log(&self, terminal: &str) -> PathBuf {
        self.temporary.path().join(terminal.trim_start_matches("# ").replace(' ', "-"))
    }

    /// Ctrl-C, if something runs there.
    async fn stop(&mut self, terminal: &'static str) -> Result<()> {
        let Some(process) = self.running.remove(terminal) else { return Ok(()) };
        process.signal(Signal::INT)?;
        tokio::time::timeout(PATIENCE, process.wait()).await.context("Ctrl-C did not end it")??;
        Ok(())
    }

    /// Starts what does not end.
    async fn start(&mut self, block: &Block) -> Result<()> {
        self.stop(block.terminal).await?;
        let script = self.script(block);
        let (before, last) = script.rsplit_once('\n').unwrap_or(("", &script));
        // A shell that waits for its child would be in the way of Ctrl-C, which a terminal gives to both. Where the tests
        // run in the background it is ignored, and so it would be by what they start.
        let script = format!("{before}\nexec env --default-signal=INT {last}");
        let log = self.log(block.terminal);
        let mark = tail(&log, usize::MAX).len();
        let mut program = Program::new(block.terminal, "/bin/bash", &log).args(["-ec", &script]);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        let process = program.start()?;
        if block.terminal == BASE {
            // The page says to wait for this.
            let started = async || -> Result<()> {
                let said = tail(&log, usize::MAX);
                ensure!(said.get(mark..).is_some_and(|said| said.contains("BASE STARTED")), "not yet");
                Ok(())
            };
            process.wait_ready(PATIENCE, started).await?;
        }
        self.running.insert(block.terminal, process);
        Ok(())
    }

    /// Runs what ends.
    async fn run(&mut self, block: &Block) -> Result<()> {
        let script = self.script(block);
        let only_looks = script.lines().all(|line| line.starts_with("kubectl get ") || line.starts_with("curl "));
        if !only_looks {
            return prints(&self.output(&script).await?, &block.prints);
        }
        let this = &*self;
        eventually(&script, SOON, async || prints(&this.output(&script).await?, &block.prints)).await
    }

    async fn output(&self, script: &str) -> Result<String> {
        let mut shell = Command::new("/bin/bash");
        shell.args(["-ec", script]).envs(&self.env).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, shell.output()).await.with_context(|| script.to_owned())??;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}\n{}\n{printed}\n{errors}", output.status);
        Ok(printed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quick_start_works_as_it_stands() -> Result<()> {
    let _permit = JVMS.acquire().await?;
    ensure_built(|line| eprintln!("{line}")).await?;
    let options = ControlPlaneOptions { accept_existing: false, ..ControlPlaneOptions::default() };
    let cluster = ControlPlane::start(options).await?;
    let mut reader = Reader::new(&cluster).await?;
    for block in blocks()? {
        let followed = if block.terminal == COMMANDS { reader.run(&block).await } else { reader.start(&block).await };
        if let Err(error) = followed {
            let modulet = tail(&reader.log(MODULET), 60);
            return Err(error.context(format!("{block:#?}\n--- modulet's log:\n{modulet}")));
        }
    }
    let unused: Vec<_> = reader.changes.iter().zip(&reader.used).filter(|(_, used)| !**used).collect();
    assert!(unused.is_empty(), "not on the page any more: {unused:?}");
    eventually("nothing left on the base", SOON, async || {
        let log = fs::read_to_string(reader.log(BASE))?;
        ensure!(log.contains("module webbiz 0.0.2 stopped"), "{log}");
        Ok(())
    })
    .await?;
    for terminal in [BASE, MODULET] {
        reader.stop(terminal).await?;
    }
    cluster.stop().await
}
