//! The log in memory does what every log must, driven by a thread that commits what is queued.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tidings_ingest::{Log, conformance::Fixture, memory::MemoryLog};
use tidings_schemas::{clock::SystemClock, topics::Partitions};

struct Driven {
    log: Arc<MemoryLog>,
    bell: Arc<(Mutex<bool>, Condvar)>,
    stopping: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
}

fn make() -> Driven {
    let partitions = Partitions { conversations: 2, recipients: 2, edges: 2, directory: 1 };
    let log = Arc::new(MemoryLog::new(7, partitions, Arc::new(SystemClock::new())));
    let bell = Arc::new((Mutex::new(false), Condvar::new()));
    let stopping = Arc::new(AtomicBool::new(false));
    let ringer = Arc::clone(&bell);
    log.on_queued(Arc::new(move || ring(&ringer)));
    let driver = thread::spawn({
        let (log, bell, stopping) = (Arc::clone(&log), Arc::clone(&bell), Arc::clone(&stopping));
        move || {
            while !stopping.load(Ordering::Acquire) {
                if !log.commit_next() {
                    let rung = bell.0.lock().unwrap();
                    *bell.1.wait_while(rung, |rung| !*rung).unwrap() = false;
                }
            }
        }
    });
    Driven { log, bell, stopping, driver: Some(driver) }
}

fn ring(bell: &(Mutex<bool>, Condvar)) {
    *bell.0.lock().unwrap() = true;
    bell.1.notify_all();
}

impl Fixture for Driven {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as _
    }

    /// It lives as long as its process: there is nothing to open again.
    fn reopen(&mut self) {}
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        ring(&self.bell);
        self.driver.take().unwrap().join().unwrap();
    }
}

tidings_ingest::conformance_tests!(make);
