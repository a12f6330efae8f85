//! What an administrator asks of the program while it runs: a socket in the data folder, for the user that the program runs as
//! (and root). A request is a line of JSON, answers are lines of JSON. `tidings replay rebuild` asks here, because the
//! stores in the data folder belong to the process that has them open; `tidings erase` asks it to step [`aside`].
//!
//! - [`request`]: what is asked, and answered.
//!
//! [`aside`]: super::aside

pub(crate) mod request;

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};
use tidings_replay::rebuild::RebuildError;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use self::request::{Answer, Request};
use crate::replay::rebuild::{job::Job, request::Request as Rebuild};

/// The socket, in the data folder.
pub(crate) const SOCKET_FILE: &str = "admin.sock";
/// The longest request.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// Answers that wait for a client that reads slowly.
const ANSWERS_WAITING_MAX: usize = 64;

/// Whoever has asked the program to step aside. Dropped, or left to the end of the process, it tells them that the folder is
/// free.
pub(super) struct Asker(#[allow(dead_code, reason = "held, not read")] (OwnedReadHalf, OwnedWriteHalf));

/// How the program is asked to step aside.
pub(super) struct Leaving {
    /// To whom it may be told.
    pub(super) asked: mpsc::Sender<Asker>,
    /// Why it cannot: it could not start again.
    pub(super) obstacle: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// What requests are answered with.
struct Office {
    /// One rebuild at a time.
    job: Arc<Mutex<Job>>,
    leaving: Leaving,
}

/// The running socket.
pub(super) struct Admin {
    path: PathBuf,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Admin {
    /// Listens in the data folder. Where that cannot be, all else works, so it is only said.
    pub(super) fn start(data: &Path, job: Job, leaving: Leaving) -> Option<Self> {
        let path = data.join(SOCKET_FILE);
        let office = Office { job: Arc::new(Mutex::new(job)), leaving };
        match Self::listen(path.clone(), office) {
            Ok(admin) => Some(admin),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no socket for administrators: rebuild and erase only while stopped");
                None
            }
        }
    }

    fn listen(path: PathBuf, office: Office) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let own_user = fs::metadata(&path)?.uid();
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, own_user, Arc::new(office), stopped));
        Ok(Self { path, stop, accepting })
    }

    /// Cuts what is asked for short, and waits for its end.
    pub(super) async fn shutdown(self) {
        self.stop.send_replace(true);
        if self.accepting.await.is_err() {
            tracing::error!("the administrators' socket panicked");
        }
        // The next start removes it, too.
        let _ = fs::remove_file(self.path);
    }
}

async fn accept(listener: UnixListener, own_user: u32, office: Arc<Office>, mut stopped: watch::Receiver<bool>) {
    let mut conversations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let is_allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == own_user || peer.uid() == 0);
        if is_allowed {
            conversations.spawn(answer(stream, Arc::clone(&office), stopped.clone()));
        }
        while conversations.try_join_next().is_some() {}
    }
    while conversations.join_next().await.is_some() {}
}

async fn answer(stream: UnixStream, office: Arc<Office>, mut stopped: watch::Receiver<bool>) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading.take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    let read = tokio::select! {
        // Whoever connects and asks nothing does not keep the program from going.
        _ = stopped.wait_for(|stop| *stop) => return,
        read = reading.read_line(&mut line) => read,
    };
    let request = match read {
        Ok(0) | Err(_) => return,
        Ok(_) => serde_json::from_str::<Request>(&line),
    };
    if let Ok(Request::StepAside { version }) = &request {
        return step_aside(version, &office, reading.into_inner().into_inner(), writing).await;
    }
    let (answers, mut answered) = mpsc::channel(ANSWERS_WAITING_MAX);
    let (leave, left) = watch::channel(false);
    let running = match (request, Arc::clone(&office.job).try_lock_owned()) {
        (Err(error), _) => {
            // There is room: nothing was sent before.
            let _ = answers.try_send(failed(format!("a request of another version: {error}")));
            None
        }
        (_, Err(_)) => {
            let _ = answers.try_send(failed("another rebuild is under way (wait for its end)".to_owned()));
            None
        }
        (Ok(Request::Rebuild(request)), Ok(job)) => Some(run(request, job, answers.clone(), left, stopped)),
        // It was answered above.
        (Ok(Request::StepAside { .. }), _) => None,
    };
    drop(answers);
    let mut gone = Vec::new();
    loop {
        let next = tokio::select! {
            next = answered.recv() => next,
            // Nothing more is asked: this is the end of who asked.
            _ = reading.read_to_end(&mut gone) => None,
        };
        let Some(next) = next else { break };
        let Ok(mut line) = serde_json::to_vec(&next) else { break };
        line.push(b'\n');
        if writing.write_all(&line).await.is_err() {
            break;
        }
    }
    leave.send_replace(true);
    if let Some(Ok(running)) = running {
        // A panic was reported where it happened.
        let _ = tokio::task::spawn_blocking(move || running.join()).await;
    }
}

fn failed(error: String) -> Answer {
    Answer::Failed { error, is_not_kept: false }
}

/// Says whether the program goes, and has it go.
async fn step_aside(version: &str, office: &Office, reading: OwnedReadHalf, mut writing: OwnedWriteHalf) {
    let own = env!("CARGO_PKG_VERSION");
    let refusal = match office.job.try_lock() {
        _ if version != own => {
            Some(format!("the program that runs is version {own}, and this is {version} (restart the program first)"))
        }
        Err(_) => Some("a rebuild is under way, which would be cut short (wait for its end)".to_owned()),
        Ok(_) => (office.leaving.obstacle)(),
    };
    let answer = refusal.map_or_else(|| Answer::SteppingAside { process: std::process::id() }, failed);
    let goes = matches!(answer, Answer::SteppingAside { .. });
    let Ok(mut line) = serde_json::to_vec(&answer) else { return };
    line.push(b'\n');
    // Whoever is not there to be told needs nothing.
    if writing.write_all(&line).await.is_ok() && goes {
        // Full: it goes already, and whoever asks now is told at the same time by the end of the connection.
        let _ = office.leaving.asked.try_send(Asker((reading, writing)));
    }
}

/// Runs it on a thread of its own, until it ends, or whoever asked or the program goes away.
fn run(
    request: Rebuild,
    job: tokio::sync::OwnedMutexGuard<Job>,
    answers: mpsc::Sender<Answer>,
    mut left: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<thread::JoinHandle<()>> {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Err(error) => Err(RebuildError::Impossible(error.to_string())),
            Ok(runtime) => runtime.block_on(async {
                let telling = answers.clone();
                // Whoever reads slowly misses some.
                let progress = move |progress| drop(telling.try_send(Answer::Progress(progress)));
                tokio::select! {
                    outcome = job.run(&request, &progress) => outcome,
                    _ = stopped.wait_for(|stop| *stop) => Err(RebuildError::Impossible("the program stops".to_owned())),
                    _ = left.wait_for(|left| *left) => Err(RebuildError::Impossible("whoever asked has left".to_owned())),
                }
            }),
        };
        let answer = match outcome {
            Ok(report) => Answer::Done(report),
            Err(error) => {
                tracing::warn!(%error, "a rebuild ended early: what was in use is in use");
                let is_not_kept = matches!(error, RebuildError::NotKept { .. });
                Answer::Failed { error: error.to_string(), is_not_kept }
            }
        };
        // Nobody may be left to be told.
        let _ = answers.blocking_send(answer);
    };
    thread::Builder::new().name("rebuild".to_owned()).spawn(body)
}

/// Asks the program that runs on this data folder; `None` where none answers.
pub(crate) async fn ask(
    data: &Path,
    request: &Request,
    mut on_progress: impl FnMut(tidings_replay::rebuild::Progress),
) -> Result<Option<Answer>> {
    let path = data.join(SOCKET_FILE);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot ask at {}", path.display())),
    };
    let (reading, mut writing) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writing.write_all(&line).await.with_context(|| format!("cannot ask at {}", path.display()))?;
    let mut answers = BufReader::new(reading).lines();
    while let Some(line) = answers.next_line().await.context("the program went away")? {
        match serde_json::from_str(&line).context("an answer of another version")? {
            Answer::Progress(progress) => on_progress(progress),
            answer => return Ok(Some(answer)),
        }
    }
    anyhow::bail!("the program that runs there did not answer (is this its user? its log may say more)")
}
