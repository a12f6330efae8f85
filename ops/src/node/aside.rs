//! Stepping aside: while `tidings erase` works on a data folder, the program that ran on it waits, and starts by itself
//! when the folder is free.
//!
//! Who may have the stores of a folder open is decided by a lock on [`LOCK_FILE`], which the kernel takes back from
//! whoever ends, however that may be. The tool holds it for its whole life. A program holds it while it starts, from
//! before it opens the first store until all are open and its administrators' socket answers; so it waits here, whether it
//! has stepped aside or was started meanwhile.
//!
//! The engine of the archive cannot be closed in a living process. So a program that steps aside goes away in good order,
//! as at a SIGTERM, and then runs itself anew in the same process, with the same command line and environment: with that
//! the kernel closes all that is open, and whoever supervises the process notices nothing.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use tidings_schemas::limits::STORE_LOCKS_TIMEOUT;
use tokio::sync::oneshot;

use super::admin::{Asker, Leaving};
use crate::config::{Settings, SettingsArgs};

/// In the data folder. Its lock says whose the stores are, its text who that is.
pub(crate) const LOCK_FILE: &str = "erasing.lock";
/// How often a program that waits says so.
const REMINDER: Duration = Duration::from_secs(60);
/// How often one looks whether the stores' locks are free: nobody tells.
const POLL: Duration = Duration::from_millis(20);

/// The lock of a data folder. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Turn {
    /// Takes it if nobody has it; else the text of whoever does.
    pub(crate) fn take(data: &Path, who: &str) -> io::Result<Result<Self, String>> {
        let path = data.join(LOCK_FILE);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self::of(file, who)?)),
            Err(TryLockError::WouldBlock) => Ok(Err(fs::read_to_string(&path)?.trim().to_owned())),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn of(mut file: File, who: &str) -> io::Result<Self> {
        file.set_len(0)?;
        writeln!(file, "{who} (process {})", std::process::id())?;
        Ok(Self(file))
    }

    /// The lock itself, for who passes it on.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Should it fail, closing the file does the same.
        let _ = self.0.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// What the text of a program's lock begins with, while it starts.
pub(crate) const STARTING: &str = "tidings up starts";

/// Waits until the stores of the folder may be opened.
///
/// # Errors
/// The folder cannot be made or written.
pub(super) async fn turn(data: &Path) -> Result<Turn> {
    fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let path = data.join(LOCK_FILE);
    let locking = || format!("cannot lock {}", path.display());
    let holder = match Turn::take(data, STARTING).with_context(locking)? {
        Ok(turn) => return Ok(turn),
        Err(holder) => holder,
    };
    tracing::warn!(folder = %data.display(), holder, "the data folder is somebody else's for a while: waiting until it is free");
    let (told, mut locked) = oneshot::channel();
    let file = open(&path).with_context(locking)?;
    let wait = move || {
        let locked = loop {
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                locked => break locked.map(|()| file),
            }
        };
        // Who waits for it may have been asked to end.
        let _ = told.send(locked);
    };
    // No task of the runtime's: the process could not end before it does.
    thread::Builder::new().name("aside".to_owned()).spawn(wait).context("cannot start a thread")?;
    let file = loop {
        tokio::select! {
            locked = &mut locked => break locked.context("waiting for the data folder failed")?.with_context(locking)?,
            () = tokio::time::sleep(REMINDER) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                tracing::warn!(folder = %data.display(), holder = holder.trim(), "still waiting for the data folder");
            }
        }
    };
    let (turn, folder) = (Turn::of(file, STARTING).with_context(locking)?, data.to_owned());
    tokio::task::spawn_blocking(move || until_free(&folder)).await.context("waiting for the stores failed")?;
    tracing::info!("the data folder is free: starting");
    Ok(turn)
}

/// Waits until no process has the folder's stores open, at most [`STORE_LOCKS_TIMEOUT`]: the kernel takes locks from a
/// process that ends one after the other, in no order that could be relied on. Blocks. To be called by who has the turn:
/// nobody else opens them meanwhile.
pub(crate) fn until_free(data: &Path) {
    let mut waited = Duration::ZERO;
    while waited < STORE_LOCKS_TIMEOUT && store_locks(data).iter().any(|path| is_locked(path)) {
        thread::sleep(POLL);
        waited += POLL;
    }
}

/// The lock files of log, archive and views.
fn store_locks(data: &Path) -> Vec<PathBuf> {
    let mut found = vec![data.join("log/lock"), data.join("archive/lock")];
    let rows = fs::read_dir(data.join("views")).into_iter().flatten().flatten();
    found.extend(rows.map(|rows| rows.path().join("lock")));
    found
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// How a program is asked to step aside, and whether it could start again as it was started.
pub(super) fn leaving(args: &SettingsArgs) -> (Leaving, tokio::sync::mpsc::Receiver<Asker>) {
    let (asked, asking) = tokio::sync::mpsc::channel(1);
    let args = args.clone();
    let obstacle = move || {
        let error = Settings::check(&args).err()?;
        Some(format!("the program could not start again, its settings have changed since it was started: {error:#}"))
    };
    (Leaving { asked, obstacle: Box::new(obstacle) }, asking)
}

/// Runs this program anew in this process. Whoever has asked for it is told by the kernel, which closes what is open.
/// Comes back only with an error.
pub(super) fn start_again(_asker: Asker) -> anyhow::Error {
    let mut arguments = std::env::args_os();
    let mut program = Command::new(own_program());
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    let error = program.args(arguments).exec();
    anyhow::Error::new(error).context("cannot start again after stepping aside (start it by hand)")
}

/// This very program, also when another was put in its place since: an upgrade is for a restart.
pub(crate) fn own_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let of = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    match std::env::current_exe() {
        Ok(path) if of(&path).is_some() && of(&path) == of(&running) => path,
        _ => running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_has_its_turn_and_the_next_waits_for_the_stores() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = turn(&data).await.unwrap();
        let holder = Turn::take(&data, "a tool").unwrap().unwrap_err();
        assert_eq!(holder, format!("{STARTING} (process {})", std::process::id()));
        drop(first);
        let tool = Turn::take(&data, "a tool").unwrap().unwrap();
        fs::create_dir(data.join("log")).unwrap();
        let log = open(&data.join("log/lock")).unwrap();
        log.lock().unwrap();
        let mut waiting = tokio::spawn({
            let data = data.clone();
            async move { turn(&data).await }
        });
        assert!(tokio::time::timeout(POLL * 5, &mut waiting).await.is_err(), "it is the tool's");
        drop(tool);
        assert!(tokio::time::timeout(POLL * 5, &mut waiting).await.is_err(), "the log is open");
        drop(log);
        let next = waiting.await.unwrap().unwrap();
        assert!(Turn::take(&data, "a tool").unwrap().is_err());
        drop(next);
        assert!(Turn::take(&data, "a tool").unwrap().is_ok());
    }

    #[test]
    fn the_own_program_is_the_one_that_runs() {
        let program = own_program();
        assert_eq!(program, std::env::current_exe().unwrap());
    }
}
