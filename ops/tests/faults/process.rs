//! Processes: the fleet's own, and the scripts of the services.

use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A service that this machine cannot have.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be had here")]
pub(crate) struct NotToBeHad(pub(crate) String);

/// How long a process may take until it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process of the fleet, to be killed and started again at will.
pub(crate) struct Process {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    /// More than the run itself has.
    pub(crate) environment: Vec<(String, String)>,
    /// What is put in front of it, so that it runs elsewhere.
    launcher: Vec<String>,
    probes: SocketAddr,
    /// What answers 200 once it is ready.
    ready_path: &'static str,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// One that does not run yet.
    pub(crate) fn new(name: &str, program: &Path, arguments: Vec<String>, probes: SocketAddr, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            launcher: Vec::new(),
            probes,
            ready_path: "/readyz",
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// It is ready when this path answers.
    pub(crate) fn ready_at(mut self, path: &'static str) -> Self {
        self.ready_path = path;
        self
    }

    /// It runs on another host: what this command starts.
    pub(crate) fn launched_by(mut self, launcher: Vec<String>) -> Self {
        self.launcher = launcher;
        self
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.probes
    }

    /// Starts it, without waiting.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("cannot make a log")?;
        let mut command = match self.launcher.split_first() {
            // Replaced by the program: the process is the same.
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot use a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it is ready.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let mut waited = Duration::ZERO;
        while !self.is_ready() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                bail!("{} ended with {status} before it was ready: see {}", self.name, self.log.display());
            }
            if waited >= READY_PATIENCE {
                bail!("{} is not ready after {READY_PATIENCE:?}: see {}", self.name, self.log.display());
            }
            thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        Ok(())
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        get(self.probes, self.ready_path, &[]).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some())
    }

    /// Waits until it has ended by itself; false if it has not within this time.
    pub(crate) fn ended_within(&mut self, patience: Duration) -> bool {
        let mut waited = Duration::ZERO;
        while !self.has_ended() && waited < patience {
            thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        self.has_ended()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.reap()
    }

    /// Asks it to go away, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.reap()
    }

    fn reap(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already: then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A script of a service: `./ops/kafka start …`.
pub(crate) fn script(arguments: &[&str], environment: &[(&str, &str)], log: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log).context("cannot make a log")?;
    let status = Command::new(arguments[0])
        .args(&arguments[1..])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("cannot use a log")?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {}", arguments[0]))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(77) => Err(NotToBeHad(arguments[0].to_owned()).into()),
        _ => bail!("{} failed: see {}", arguments.join(" "), log.display()),
    }
}

/// What a GET answers, head and body.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
