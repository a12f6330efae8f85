//! Threads that own a session of the engine each, and do one piece of work at a time for async callers.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, TrySendError},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    libchdb::{Connection, Engine, EngineError},
    store::ArchiveError,
};

/// Enough for the engine's parser on a deeply nested statement.
const STACK_BYTES: usize = 8 * 1024 * 1024;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A few threads, and a bounded queue of work for them.
///
/// Dropping it lets the threads finish what is queued, and waits for them: whoever closes the archive and then the
/// process leaves no call behind in the engine.
pub(super) struct SessionThreads {
    queue: Option<mpsc::SyncSender<Work>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl SessionThreads {
    /// Starts `count` threads; `setup` runs at the start of each session, and `waiting_max` pieces of work may wait.
    pub(super) fn start(
        engine: &Engine,
        name: &str,
        setup: &[String],
        count: usize,
        waiting_max: usize,
    ) -> io::Result<Self> {
        let (queue, work) = mpsc::sync_channel::<Work>(waiting_max);
        let work = Arc::new(Mutex::new(work));
        let threads = (0..count).map(|_| {
            let (engine, setup, work) = (engine.clone(), setup.to_vec(), Arc::clone(&work));
            let body = move || {
                let mut session = Connection::new(&engine, setup);
                loop {
                    // The guard is dropped at the end of this statement: the next thread waits for the next work.
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(next) = next else { break };
                    next(&mut session);
                }
            };
            thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
        });
        let threads = threads.collect::<io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Runs `work` on one of the threads and waits for it, at most `timeout`. Work whose caller no longer waits when its
    /// turn comes is left out; what runs already runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut Connection) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |session| {
            if !answer.is_closed() {
                // A caller that gave up has dropped its end: nobody is left to be told.
                drop(answer.send(work(session)));
            }
        });
        let closed = || ArchiveError::Unavailable("it was closed".to_owned());
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => ArchiveError::Unavailable("too many calls are waiting: retry later".to_owned()),
            TrySendError::Disconnected(_) => closed(),
        })?;
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(result)) => result.map_err(ArchiveError::from),
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(ArchiveError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }
}

impl Drop for SessionThreads {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the archive panicked");
            }
        }
    }
}

impl From<EngineError> for ArchiveError {
    fn from(error: EngineError) -> Self {
        use super::libchdb::error::code;
        /// Not enough room on the disk.
        const NOT_ENOUGH_SPACE: i32 = 243;
        match error.code() {
            None
            | Some(
                code::TIMEOUT_EXCEEDED
                | code::TOO_MANY_SIMULTANEOUS_QUERIES
                | code::MEMORY_LIMIT_EXCEEDED
                | code::TOO_MANY_PARTS
                | NOT_ENOUGH_SPACE,
            ) => Self::Unavailable(error.to_string()),
            Some(_) => Self::Refused(error.to_string()),
        }
    }
}
