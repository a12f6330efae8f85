//! The thread that keeps the store: it syncs the journal now and then, so that a power cut takes no more than the last
//! moment away, and opens the store anew after an error of its disk.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tidings_schemas::limits::{VIEW_STORE_REOPEN_BACKOFF, VIEW_STORE_SYNC_INTERVAL};

use super::held::Store;

/// Stops, after a last sync, when dropped.
pub(super) struct Keeper {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Signal {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    stop: bool,
    mend: bool,
}

impl Keeper {
    pub(super) fn start(store: Arc<Store>) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let heard = Arc::clone(&signal);
        let run = move || keep(&store, &heard);
        let thread = thread::Builder::new().name("views-keeper".to_owned()).spawn(run)?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// The store refuses writes: it is to be opened anew.
    pub(super) fn mend(&self) {
        self.signal.told().mend = true;
        self.signal.changed.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.signal.told().stop = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread panics on nothing; were it to, there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Signal {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is told something, at the most so long.
    fn wait(&self, at_most: Duration, until: impl Fn(&Told) -> bool) -> Told {
        let guard = self.told();
        let (mut guard, _) = self
            .changed
            .wait_timeout_while(guard, at_most, |told| !until(told))
            .unwrap_or_else(PoisonError::into_inner);
        let told = *guard;
        guard.mend = false;
        told
    }
}

fn keep(store: &Store, signal: &Signal) {
    let mut synced_at = None;
    loop {
        let told = signal.wait(VIEW_STORE_SYNC_INTERVAL, |told| told.stop || told.mend);
        let is_broken = told.mend || !sync(store, &mut synced_at);
        if told.stop {
            return;
        }
        if is_broken && !store.is_whole() {
            mend(store, signal);
            synced_at = None;
        }
    }
}

/// Nothing new, nothing to sync: an idle server leaves the disk alone.
fn sync(store: &Store, synced_at: &mut Option<u64>) -> bool {
    let Ok(opened) = store.opened() else { return false };
    let written_at = opened.written_at();
    if *synced_at == Some(written_at) {
        return true;
    }
    match opened.sync() {
        Ok(()) => {
            *synced_at = Some(written_at);
            true
        }
        Err(error) => {
            tracing::error!(%error, "the views' journal cannot be synced: check the disk");
            false
        }
    }
}

/// Opens the store anew, as often as it takes.
fn mend(store: &Store, signal: &Signal) {
    tracing::error!("the views' store has met an error of its disk: it is opened anew as soon as that works");
    let mut backoff = *VIEW_STORE_REOPEN_BACKOFF.start();
    let mut said = String::new();
    while !signal.wait(backoff, |told| told.stop).stop {
        let Err(error) = store.open_anew() else {
            tracing::warn!("the views' store is open again");
            return;
        };
        let reason = error.to_string();
        if reason != said {
            tracing::warn!(%error, "the views' store cannot be opened anew yet");
            said = reason;
        }
        backoff = (backoff * 2).min(*VIEW_STORE_REOPEN_BACKOFF.end());
    }
}
