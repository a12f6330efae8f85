//! An append call on its way: split into parts of one partition each, and put together again from their answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidings_schemas::topics::Topic;

use super::slots::Slot;
use crate::error::AppendError;
use crate::log::{NewRecord, OnAppended};

/// What a record costs in the queue besides its key and value.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 64;

/// One call.
pub(crate) struct Call {
    /// The order of calls.
    pub(crate) number: u64,
    /// When it was made, by the monotonic clock.
    pub(crate) since: Duration,
    pub(crate) records: usize,
    /// Keys and values.
    pub(crate) bytes: usize,
    state: Mutex<State>,
}

struct State {
    /// By place in the call.
    offsets: Vec<u64>,
    /// Parts that are not answered yet, of those that were sent off.
    left: usize,
    /// Parts that are in the log.
    appended: usize,
    failed: Option<AppendError>,
    /// What is sent off only when all the rest is in the log.
    late: Vec<Part>,
    on_appended: Option<OnAppended>,
}

/// What a call has for one partition.
pub(crate) struct Part {
    pub(crate) call: Arc<Call>,
    pub(crate) slot: Slot,
    pub(crate) records: Vec<NewRecord>,
    /// Keys, values and [`RECORD_OVERHEAD_BYTES`].
    pub(crate) bytes: usize,
    /// Each record's place in the call; `None`: all of the call is here.
    places: Option<Vec<u32>>,
}

/// What follows from the answer to a part.
pub(crate) enum Then {
    /// Others are still on their way.
    Wait,
    /// These are to be sent off now.
    Send(Vec<Part>),
    /// The call is done: this is for its caller, and these parts, if any, are not sent off.
    Answer { on_appended: Option<OnAppended>, result: Result<Vec<u64>, AppendError>, dropped: Vec<Part> },
}

impl Call {
    /// Splits the records (there is at least one) into parts, and gives those to be sent off at once. `slots` has each
    /// record's partition.
    pub(crate) fn split(
        number: u64,
        since: Duration,
        records: Vec<NewRecord>,
        slots: &[Slot],
        on_appended: OnAppended,
    ) -> Vec<Part> {
        let count = records.len();
        let bytes = records.iter().map(|record| record.key.len() + record.value.len()).sum();
        let state = State {
            offsets: vec![0; count],
            left: 0,
            appended: 0,
            failed: None,
            late: Vec::new(),
            on_appended: Some(on_appended),
        };
        let call = Arc::new(Self { number, since, records: count, bytes, state: Mutex::new(state) });
        let mut parts = call.parts(records, slots);
        let is_late = |part: &Part| part.records.first().is_some_and(|record| record.topic == Topic::Deliveries);
        let mut state = call.lock();
        if !parts.iter().all(is_late) {
            state.late = parts.extract_if(.., |part| is_late(part)).collect();
        }
        state.left = parts.len();
        drop(state);
        parts
    }

    fn parts(self: &Arc<Self>, records: Vec<NewRecord>, slots: &[Slot]) -> Vec<Part> {
        let part = |slot, records: Vec<NewRecord>, places| {
            let bytes = records.iter().map(cost).sum();
            Part { call: Arc::clone(self), slot, records, bytes, places }
        };
        let first = slots.first().copied().unwrap_or_default();
        if slots.iter().all(|slot| *slot == first) {
            return vec![part(first, records, None)];
        }
        let mut sorted: Vec<(Slot, u32, NewRecord)> =
            slots.iter().zip(0..).zip(records).map(|((slot, place), record)| (*slot, place, record)).collect();
        // Stable: within a partition the call's order stays.
        sorted.sort_by_key(|(slot, ..)| *slot);
        let mut parts = Vec::new();
        let mut sorted = sorted.into_iter().peekable();
        while let Some((slot, place, record)) = sorted.next() {
            let (mut places, mut records) = (vec![place], vec![record]);
            while let Some((_, place, record)) = sorted.next_if(|(next, ..)| *next == slot) {
                places.push(place);
                records.push(record);
            }
            parts.push(part(slot, records, Some(places)));
        }
        parts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record takes of the queue's room.
pub(crate) fn cost(record: &NewRecord) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

impl Part {
    /// The part is answered: with the offsets of its records, or with why they are not known to be in the log.
    pub(crate) fn answered(&self, result: Result<&[u64], AppendError>) -> Then {
        let mut state = self.call.lock();
        state.left = state.left.saturating_sub(1);
        match result {
            Ok(offsets) => {
                state.appended += 1;
                match &self.places {
                    None => state.offsets.copy_from_slice(offsets),
                    Some(places) => {
                        for (place, offset) in places.iter().zip(offsets) {
                            state.offsets[*place as usize] = *offset;
                        }
                    }
                }
            }
            // What is less certain counts.
            Err(error) => match &state.failed {
                Some(AppendError::Unknown { .. }) => {}
                _ => state.failed = Some(error),
            },
        }
        if state.left > 0 {
            return Then::Wait;
        }
        let dropped = std::mem::take(&mut state.late);
        let result = match state.failed.take() {
            None if !dropped.is_empty() => {
                state.left = dropped.len();
                return Then::Send(dropped);
            }
            None => Ok(std::mem::take(&mut state.offsets)),
            // A part of it is in the log: the caller must not take it for gone.
            Some(AppendError::Unavailable { reason }) if state.appended > 0 => Err(AppendError::Unknown { reason }),
            Some(error) => Err(error),
        };
        Then::Answer { on_appended: state.on_appended.take(), result, dropped }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(topic: Topic, value: &'static str) -> NewRecord {
        NewRecord { topic, partition: 0, key: Bytes::new(), value: Bytes::from_static(value.as_bytes()) }
    }

    fn split(records: Vec<(Slot, NewRecord)>) -> Vec<Part> {
        let (slots, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        Call::split(1, Duration::ZERO, records, &slots, Box::new(|_| {}))
    }

    #[test]
    fn offsets_come_back_in_the_order_of_the_call_and_deliveries_go_last() {
        let parts = split(vec![
            (9, record(Topic::Deliveries, "verdict")),
            (2, record(Topic::Timeline, "first")),
            (1, record(Topic::Fanout, "other")),
            (2, record(Topic::Timeline, "second")),
        ]);
        let values = |part: &Part| part.records.iter().map(|record| record.value.clone()).collect::<Vec<_>>();
        assert_eq!(parts.iter().map(values).collect::<Vec<_>>(), [vec!["other"], vec!["first", "second"]]);
        assert!(matches!(parts[1].answered(Ok(&[20, 21])), Then::Wait));
        let Then::Send(late) = parts[0].answered(Ok(&[10])) else { panic!("the verdict is due") };
        assert_eq!(values(&late[0]), ["verdict"]);
        let Then::Answer { result, .. } = late[0].answered(Ok(&[90])) else { panic!("all is answered") };
        assert_eq!(result.unwrap(), [90, 20, 10, 21]);
    }

    #[test]
    fn only_deliveries_do_not_wait_for_themselves() {
        let parts = split(vec![(8, record(Topic::Deliveries, "a")), (9, record(Topic::Deliveries, "b"))]);
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn a_call_that_is_in_the_log_in_part_is_not_called_gone() {
        let gone = || AppendError::Unavailable { reason: "no".into() };
        let two = || split(vec![(1, record(Topic::Fanout, "a")), (2, record(Topic::Fanout, "b"))]);
        let parts = two();
        assert!(matches!(parts[0].answered(Err(gone())), Then::Wait));
        let Then::Answer { result, .. } = parts[1].answered(Ok(&[0])) else { panic!("all is answered") };
        assert!(matches!(result, Err(AppendError::Unknown { .. })));
        let parts = two();
        assert!(matches!(parts[0].answered(Err(gone())), Then::Wait));
        let Then::Answer { result, .. } = parts[1].answered(Err(gone())) else { panic!("all is answered") };
        assert!(matches!(result, Err(AppendError::Unavailable { .. })));
    }
}
