//! One record in flight for each partition, and what comes meanwhile goes into the next one: no delay when it is quiet,
//! large records when it is not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_ingest::{AppendError, Log, NewRecord};

/// What waits for its turn in one partition.
pub(crate) trait Pending: Default + Send + 'static {
    /// What has been taken from it for one record, kept until the record is durable.
    type Taken: Send + 'static;

    /// Takes what goes into the next record, or nothing when there is nothing.
    fn take(&mut self) -> Option<Self::Taken>;

    /// The record of what was taken.
    fn record(taken: &mut Self::Taken, partition: u32, context: &Self::Context) -> NewRecord;

    /// The record is durable.
    fn appended(taken: Self::Taken, partition: u32, context: &Self::Context);

    /// The record was refused: puts back what should be tried again, and lets the rest know.
    fn refused(&mut self, taken: Self::Taken, error: AppendError, context: &Self::Context);

    /// What all partitions share.
    type Context: Send + Sync + 'static;
}

/// The outbox of one partition.
pub(crate) struct Outbox<P: Pending> {
    log: Arc<dyn Log>,
    partition: u32,
    context: Arc<P::Context>,
    state: Mutex<State<P>>,
}

struct State<P> {
    pending: P,
    in_flight: bool,
}

impl<P: Pending> Outbox<P> {
    pub(crate) fn new(log: Arc<dyn Log>, partition: u32, context: Arc<P::Context>) -> Arc<Self> {
        let state = Mutex::new(State { pending: P::default(), in_flight: false });
        Arc::new(Self { log, partition, context, state })
    }

    /// Changes what is pending, and appends at once unless a record is in flight.
    pub(crate) fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut P) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.pending);
        self.append_next(state);
        result
    }

    /// Looks at what is pending.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&P) -> T) -> T {
        look(&self.lock().pending)
    }

    fn append_next(self: &Arc<Self>, mut state: MutexGuard<'_, State<P>>) {
        if state.in_flight {
            return;
        }
        let Some(mut taken) = state.pending.take() else { return };
        state.in_flight = true;
        // The log may call back at once, so not under the lock.
        drop(state);
        let record = P::record(&mut taken, self.partition, &self.context);
        let outbox = Arc::clone(self);
        self.log.append_with(vec![record], Box::new(move |result| outbox.finished(taken, result.map(drop))));
    }

    fn finished(self: &Arc<Self>, taken: P::Taken, result: Result<(), AppendError>) {
        match result {
            Ok(()) => {
                P::appended(taken, self.partition, &self.context);
                let mut state = self.lock();
                state.in_flight = false;
                self.append_next(state);
            }
            Err(error) => {
                // Not at once again: the next change or tick does, else a full log would be called without end.
                let mut state = self.lock();
                state.in_flight = false;
                state.pending.refused(taken, error, &self.context);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
