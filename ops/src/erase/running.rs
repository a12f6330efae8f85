//! An erasure from the folder of a program that runs: the program is asked to step aside, and comes back when the tool has
//! ended, however that may be ([`aside`] has the whole of it).
//!
//! The stores that the tool has opened are free when its process has ended or runs another program, and not before. So to
//! see the program come back, the tool at last runs itself anew with [`Back`] on the command line, and the lock of the
//! folder as its standard input.
//!
//! [`aside`]: crate::node::aside

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::AsFd as _,
        unix::{fs::MetadataExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
    str::FromStr,
    thread,
    time::Duration,
};

use tidings_schemas::{
    clock::{Clock as _, SystemClock},
    limits::STEP_ASIDE_TIMEOUT,
};

use crate::{
    node::{
        admin::{
            SOCKET_FILE,
            request::{Answer, Request},
        },
        aside::{self, STARTING, own_program, until_free},
    },
    replay::exit::{Code, Failure, WithCode},
};

/// How often one looks whether the folder is free, or the program is back.
const POLL: Duration = Duration::from_millis(50);

/// Whether a program runs on the folder and can be asked.
pub(super) fn is_running(data: &Path) -> bool {
    UnixStream::connect(data.join(SOCKET_FILE)).is_ok()
}

/// The folder's lock: no program starts on it.
pub(super) struct Turn<'a> {
    lock: aside::Turn,
    data: &'a Path,
    /// The program that has stepped aside.
    away: Option<Away>,
}

struct Away {
    process: u32,
    since_ms: i64,
}

impl<'a> Turn<'a> {
    /// Takes it. A program that is just starting is waited for.
    ///
    /// # Errors
    /// Another erasure is under way; the folder is another user's.
    pub(super) fn take(data: &'a Path) -> Result<Self, Failure> {
        check_owner(data)?;
        let mut waited = Duration::ZERO;
        loop {
            let holder = match aside::Turn::take(data, "tidings erase").code(Code::Target)? {
                Ok(lock) => return Ok(Self { lock, data, away: None }),
                Err(holder) => holder,
            };
            if !(holder.is_empty() || holder.starts_with(STARTING)) || waited >= STEP_ASIDE_TIMEOUT {
                let what = format!("{} is in the hands of another: {holder}", data.display());
                return Err(Failure::new(Code::Target, what + " (wait for its end, and run it again)"));
            }
            thread::sleep(POLL);
            waited += POLL;
        }
    }

    /// Has the program that runs on the folder step aside; does nothing where none runs.
    ///
    /// # Errors
    /// It refuses, or does not go in time.
    pub(super) fn step_aside(&mut self) -> Result<(), Failure> {
        let path = self.data.join(SOCKET_FILE);
        let Ok(mut stream) = UnixStream::connect(&path) else { return Ok(()) };
        let asking = || format!("cannot ask at {}", path.display());
        let failed =
            |error: std::io::Error| Failure { code: Code::Target, error: anyhow::Error::new(error).context(asking()) };
        stream.set_read_timeout(Some(STEP_ASIDE_TIMEOUT)).map_err(failed)?;
        let request = Request::StepAside { version: env!("CARGO_PKG_VERSION").to_owned() };
        let line = serde_json::to_string(&request).code(Code::Target)? + "\n";
        let since_ms = SystemClock::new().now_ms();
        stream.write_all(line.as_bytes()).map_err(failed)?;
        let mut answers = BufReader::new(stream);
        let mut line = String::new();
        if answers.read_line(&mut line).map_err(failed)? == 0 {
            // It was about to end anyway.
            until_free(self.data);
            return Ok(());
        }
        let process = match serde_json::from_str(&line) {
            Ok(Answer::SteppingAside { process }) => process,
            Ok(Answer::Failed { error, .. }) => return Err(Failure::new(Code::Target, error)),
            _ => {
                let what = "the program that runs there does not understand that it is to step aside";
                return Err(Failure::new(Code::Target, what.to_owned() + " (is it another version? stop it)"));
            }
        };
        self.away = Some(Away { process, since_ms });
        say(&format!("the program on {} (process {process}) steps aside …", self.data.display()));
        match answers.read_line(&mut line) {
            Ok(0) => {}
            Ok(_) | Err(_) => {
                let what = "the program does not step aside in time (its log may say why; it goes on by itself)";
                return Err(Failure::new(Code::Target, what));
            }
        }
        until_free(self.data);
        let took_ms = SystemClock::new().now_ms() - since_ms;
        say(&format!("… and is aside, after {}", seconds(took_ms)));
        Ok(())
    }

    /// Gives the folder back, and waits for the program, if one has stepped aside. To be called at the very end: it ends
    /// this process, or goes on in it as another program.
    pub(super) fn give_back(self, code: ExitCode) -> ExitCode {
        let Some(Away { process, since_ms }) = self.away else { return code };
        // The exit codes of the tool, which the type does not give back.
        let number = (0..=4).find(|number| ExitCode::from(*number) == code).unwrap_or(Code::Target as u8);
        let back = Back { process, since_ms, code: number };
        let Ok(lock) = self.lock.file().try_clone() else { return code };
        let error = Command::new(own_program())
            .args(["erase", "--back", &back.to_string(), "--data"])
            .arg(self.data)
            .stdin(Stdio::from(lock))
            .exec();
        // The end of the process frees the folder, too.
        say(&format!("the program comes back by itself (it cannot be waited for: {error})"));
        code
    }
}

/// To wait until the program is back: its process, since when it is away, and the exit code that the erasure had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Back {
    process: u32,
    since_ms: i64,
    code: u8,
}

impl std::fmt::Display for Back {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { process, since_ms, code } = self;
        write!(formatter, "{process}:{since_ms}:{code}")
    }
}

impl FromStr for Back {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let mut back = || {
            let (process, since_ms) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let code = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { process, since_ms, code })
        };
        back().ok_or_else(|| "PROCESS:SINCE_MS:CODE is expected".to_owned())
    }
}

impl Back {
    /// Frees the folder, whose lock is the standard input, and waits until the program is back on it.
    pub(super) fn wait(self, data: &Path) -> ExitCode {
        if let Ok(lock) = std::io::stdin().as_fd().try_clone_to_owned() {
            // It is the lock of this very process: all copies of the descriptor are one.
            let _ = fs::File::from(lock).unlock();
        }
        let mut waited = Duration::ZERO;
        let is_back = loop {
            if is_running(data) {
                break true;
            }
            if waited >= STEP_ASIDE_TIMEOUT || !is_alive(self.process) {
                break false;
            }
            thread::sleep(POLL);
            waited += POLL;
        };
        let took = seconds(SystemClock::new().now_ms() - self.since_ms);
        if is_back {
            say(&format!("the program on {} is back: it was away for {took}", data.display()));
        } else {
            let process = self.process;
            say(&format!("the program (process {process}) is not back after {took} (its log may say why)"));
        }
        ExitCode::from(self.code)
    }
}

/// What the tool writes must be the program's: it writes it as the user that it runs as.
fn check_owner(data: &Path) -> Result<(), Failure> {
    let uid = |path: &Path| fs::metadata(path).map(|file| file.uid());
    let (Ok(owner), Ok(own)) = (uid(data), uid(Path::new("/proc/self"))) else { return Ok(()) };
    if owner == own {
        return Ok(());
    }
    let what = format!("{} is of user {owner}, who could not read what user {own} writes there", data.display());
    Err(Failure::new(Code::Usage, what + " (run it as that user; with systemd: see docs/ERASURE.md)"))
}

/// Whether there is such a process, and it has not ended.
fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind its name in parentheses: its state. A zombie has ended.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn seconds(ms: i64) -> String {
    format!("{}.{} s", ms.max(0) / 1000, ms.max(0) % 1000 / 100)
}

/// For people, beside the report.
#[allow(clippy::print_stderr, reason = "the program's output")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_comes_back() {
        let back = Back { process: 4711, since_ms: 1_795_289_000_123, code: 4 };
        assert_eq!(back.to_string().parse(), Ok(back));
        for wrong in ["", "1", "1:2", "1:2:3:4", "a:2:3", "1:2:300"] {
            assert!(wrong.parse::<Back>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_process_lives_and_none_has_a_number_beyond_all() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
        assert_eq!(seconds(12_345), "12.3 s");
    }
}
