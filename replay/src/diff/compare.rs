//! Both sides held against each other, event by event; nothing but counts and the first examples stays in memory.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, Scope},
};

use tidings_schemas::{limits::DIFF_TURNS_WAITING_MAX, topics::Topic};

use super::{Derived, DiffError, Kind, kinds::kinds};

/// What one side derives, turn by turn. An empty turn is the end.
pub struct Side {
    turns: Receiver<Result<Vec<Derived>, DiffError>>,
    waiting: std::vec::IntoIter<Derived>,
    has_ended: bool,
}

impl Side {
    /// A side that is derived on a thread of its own by `derive`, which hands over each turn, and stops when that is
    /// refused.
    pub fn on_thread<'scope>(
        scope: &'scope Scope<'scope, '_>,
        derive: impl FnOnce(&mut dyn FnMut(Vec<Derived>) -> bool) -> Result<(), DiffError> + Send + 'scope,
    ) -> Self {
        type Turn = Result<Vec<Derived>, DiffError>;
        let (sender, turns): (SyncSender<Turn>, _) = sync_channel(DIFF_TURNS_WAITING_MAX);
        thread::Builder::new()
            .spawn_scoped(scope, move || {
                let outcome = derive(&mut |turn| sender.send(Ok(turn)).is_ok());
                // Who compares may have stopped.
                let _ = sender.send(outcome.map(|()| Vec::new()));
            })
            .map_or_else(
                |_| Self { turns: sync_channel(0).1, waiting: Vec::new().into_iter(), has_ended: false },
                |_| Self { turns, waiting: Vec::new().into_iter(), has_ended: false },
            )
    }

    fn next(&mut self) -> Result<Option<Derived>, DiffError> {
        loop {
            if let Some(derived) = self.waiting.next() {
                return Ok(Some(derived));
            }
            if self.has_ended {
                return Ok(None);
            }
            let turn = self.turns.recv().map_err(|_| DiffError::Gone)??;
            self.has_ended = turn.is_empty();
            self.waiting = turn.into_iter();
        }
    }
}

/// One event whose outcome differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// How.
    pub kind: Kind,
    /// As it comes out on the first side.
    pub before: Derived,
    /// As it comes out on the second.
    pub after: Derived,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were compared.
    pub events: u64,
    /// Those whose outcome differs.
    pub differing: u64,
    /// Those of them that differ in numbers only: by what comes before them, not by what becomes of them.
    pub only_numbers: u64,
    /// How many events differ in each way.
    pub counts: BTreeMap<Kind, u64>,
    /// How many records each side has of each topic.
    pub records: BTreeMap<Topic, (u64, u64)>,
    /// The first of each kind.
    pub examples: Vec<Example>,
}

/// How to compare.
pub struct Comparison<'a> {
    /// How many examples of each kind are kept.
    pub kept_max: usize,
    /// Told how many events were compared since the last call.
    pub progress: &'a dyn Fn(u64),
}

impl Comparison<'_> {
    /// Compares until both have ended.
    ///
    /// # Errors
    /// A side fails, or the two are not of the same events.
    pub fn run(&self, mut before: Side, mut after: Side) -> Result<Report, DiffError> {
        let mut report = Report::default();
        loop {
            let both = (before.next()?, after.next()?);
            let (before, after) = match both {
                (None, None) => return Ok(report),
                (Some(before), Some(after)) => (before, after),
                (Some(only), None) => return Err(ended("second", &only)),
                (None, Some(only)) => return Err(ended("first", &only)),
            };
            if (before.partition, before.offset) != (after.partition, after.offset) {
                let message = format!(
                    "one has offset {} of events.v1 partition {}, where the other has offset {} of partition {}",
                    before.offset, before.partition, after.offset, after.partition
                );
                return Err(DiffError::OutOfStep(message));
            }
            report.events += 1;
            (self.progress)(1);
            for record in &before.records {
                report.records.entry(record.topic).or_default().0 += 1;
            }
            for record in &after.records {
                report.records.entry(record.topic).or_default().1 += 1;
            }
            let kinds = kinds(&before, &after);
            report.differing += u64::from(!kinds.is_empty());
            report.only_numbers += u64::from(!kinds.is_empty() && kinds.iter().all(|kind| kind.is_numbers()));
            for kind in kinds {
                let count = report.counts.entry(kind).or_default();
                *count += 1;
                if *count <= self.kept_max as u64 {
                    report.examples.push(Example { kind, before: before.clone(), after: after.clone() });
                }
            }
        }
    }
}

fn ended(which: &str, only: &Derived) -> DiffError {
    let Derived { partition, offset, .. } = only;
    DiffError::OutOfStep(format!("the {which} one ends before offset {offset} of events.v1 partition {partition}"))
}
