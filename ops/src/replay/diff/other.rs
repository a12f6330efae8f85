//! Another build of the program, whose `tidings replay derive` is read.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::Context;
use tidings_replay::diff::{Derived, DiffError, stream::Reader};
use tidings_schemas::limits::DERIVE_TURN_EVENTS_MAX;

use super::DiffArgs;
use crate::replay::{
    exit::{Code, Failure, WithCode},
    source::Source,
};

/// Of what it says on standard error, so much is kept.
const SAID_BYTES_MAX: u64 = 16 * 1024;

/// The other program, running.
pub(super) struct Other {
    binary: PathBuf,
    child: Running,
    out: BufReader<ChildStdout>,
    said: Option<JoinHandle<String>>,
    log_id: String,
    ends: Vec<u64>,
}

/// Ended with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Other {
    /// Starts it on the same log.
    pub(super) fn start(binary: &Path, args: &DiffArgs, source: &Source, ends: &[u64]) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command.args(["replay", "derive"]);
        if let Some(data) = &args.source.data {
            command.arg("--data").arg(data);
        }
        if let Some(brokers) = &args.source.brokers {
            command.arg("--brokers").arg(brokers);
        }
        if let Some(config) = &args.source.config {
            command.arg("--config").arg(config);
        }
        for setting in &args.source.set {
            command.arg("--set").arg(setting);
        }
        let listed: Vec<String> = ends.iter().map(u64::to_string).collect();
        command.arg("--ends").arg(listed.join(","));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.spawn().with_context(|| format!("cannot run {}", binary.display()));
        let mut child = Running(started.code(Code::Usage)?);
        let (out, errors) = (child.0.stdout.take(), child.0.stderr.take());
        let (Some(out), Some(mut errors)) = (out, errors) else {
            return Err(Failure::new(Code::Source, "the other program's output cannot be read"));
        };
        let said = thread::spawn(move || {
            let mut said = Vec::new();
            // What it says beyond that is read and forgotten, so that it never waits for us.
            let _ = errors.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut said);
            let _ = std::io::copy(&mut errors, &mut std::io::sink());
            String::from_utf8_lossy(&said).trim().to_owned()
        });
        Ok(Self {
            binary: binary.to_owned(),
            child,
            out: BufReader::new(out),
            said: Some(said),
            log_id: format!("{:032x}", source.log.log_id()),
            ends: ends.to_vec(),
        })
    }

    /// Hands over what it derives. What it said on standard error stands with an error.
    pub(super) fn give(self, give: &mut dyn FnMut(Vec<Derived>) -> bool) -> Result<(), DiffError> {
        let Self { binary, child, out, mut said, log_id, ends } = self;
        let outcome = read(&binary, out, &log_id, &ends, give);
        drop(child);
        let Err(error) = outcome else { return Ok(()) };
        let said = said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Err(match (error, said.is_empty()) {
            (DiffError::Stream(message), false) => DiffError::Stream(format!("{message}; it said: {said}")),
            (error, _) => error,
        })
    }
}

fn read(
    binary: &Path,
    out: BufReader<ChildStdout>,
    log_id: &str,
    ends: &[u64],
    give: &mut dyn FnMut(Vec<Derived>) -> bool,
) -> Result<(), DiffError> {
    let mut reader = Reader::new(out, &binary.display().to_string())?;
    if reader.header.log_id != log_id || reader.header.ends != ends {
        let message = format!("{} has read another log or another part of it", binary.display());
        return Err(DiffError::Stream(message));
    }
    loop {
        let mut turn = Vec::new();
        while turn.len() < DERIVE_TURN_EVENTS_MAX {
            let Some(derived) = reader.read()? else { break };
            turn.push(derived);
        }
        if turn.is_empty() || !give(turn) {
            return Ok(());
        }
    }
}
