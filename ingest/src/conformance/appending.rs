//! Cases about appending.

use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use tidings_schemas::limits;
use tidings_schemas::topics::Topic;
use tidings_schemas::wire::ErrorCode;

use super::{Fixture, PATIENCE, append, follow, read_all, record};
use crate::error::AppendError;

/// One caller's records have the offsets 0, 1, 2 … in the order of its calls, also when it does not wait in between.
pub fn offsets_are_dense_and_in_call_order(fixture: &mut impl Fixture) {
    let log = fixture.log();
    assert_eq!(append(&*log, vec![record(Topic::Events, 0, "a")]).expect("appended"), [0]);
    let (answer, answered) = mpsc::channel();
    for call in 0..500_u32 {
        let records = (0..call % 4).map(|_| record(Topic::Events, 0, call.to_le_bytes().to_vec())).collect();
        let answer = answer.clone();
        log.append_with(records, Box::new(move |result| answer.send((call, result)).unwrap_or_default()));
    }
    let mut next = 1;
    for expected in 0..500 {
        let (call, result) = answered.recv_timeout(PATIENCE).expect("answered");
        assert_eq!(call, expected, "answers come in call order");
        for offset in result.expect("appended") {
            assert_eq!(offset, next);
            next += 1;
        }
    }
    let values = read_all(&*log, Topic::Events, 0, 1);
    assert!(values.is_sorted_by_key(|record| u32::from_le_bytes((&record.value[..]).try_into().expect("4 bytes"))));
    assert_eq!(log.range(Topic::Events, 0).expect("known").end, next);
}

/// Many callers at once: every record is there once, at the offset that its caller was told, in its caller's order.
pub fn threads_interleave_without_a_gap(fixture: &mut impl Fixture) {
    const THREADS: u32 = 8;
    const EACH: u32 = 200;
    let log = fixture.log();
    let told: Vec<(u64, Bytes)> = thread::scope(|scope| {
        let append_some = |thread: u32| {
            let log = &log;
            move || {
                let one = |number: u32| {
                    let value = Bytes::from(format!("{thread}:{number}"));
                    let offsets = append(&**log, vec![record(Topic::Events, 1, value.clone())]).expect("appended");
                    (offsets[0], value)
                };
                (0..EACH).map(one).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(append_some(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let stored = read_all(&*log, Topic::Events, 1, 0);
    assert_eq!(stored.len(), (THREADS * EACH) as usize);
    for (offset, value) in told {
        assert_eq!(stored[usize::try_from(offset).expect("small")].value, value);
    }
}

/// A reader that has seen the last record of a call finds all the others readable, in whatever partition.
pub fn a_batch_across_partitions_is_seen_whole(fixture: &mut impl Fixture) {
    const CALLS: u32 = 300;
    let log = fixture.log();
    let mut last = log.reader(Topic::Deliveries, 0, 0).expect("in range");
    let watcher = {
        let log = Arc::clone(&log);
        thread::spawn(move || {
            for seen in 1..=u64::from(CALLS) {
                follow(&mut *last, 1);
                let seen = last.position().max(seen);
                for (topic, partition) in [(Topic::Timeline, 0), (Topic::Inbox, 1), (Topic::Inbox, 0)] {
                    assert!(log.range(topic, partition).expect("known").end >= seen, "{topic:?} lags behind its batch");
                }
                if last.position() == u64::from(CALLS) {
                    break;
                }
            }
        })
    };
    for call in 0..u64::from(CALLS) {
        let batch = vec![
            record(Topic::Timeline, 0, "entry"),
            record(Topic::Inbox, 1, "one"),
            record(Topic::Inbox, 0, "other"),
            record(Topic::Deliveries, 0, "verdict"),
        ];
        assert_eq!(append(&*log, batch).expect("appended"), [call; 4]);
    }
    watcher.join().expect("no panic");
}

/// It tells its caller that all before it is durable.
pub fn an_empty_call_is_answered_in_its_turn(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let (answer, answered) = mpsc::channel();
    for records in [vec![record(Topic::Events, 0, "a"), record(Topic::Events, 0, "b")], Vec::new()] {
        let answer = answer.clone();
        log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    }
    let next = || answered.recv_timeout(PATIENCE).expect("answered").expect("appended");
    assert_eq!(next(), [0, 1]);
    assert_eq!(next(), [0_u64; 0]);
}

/// At the limit a record passes, past it the whole call is refused, and nothing of it is appended.
pub fn what_is_too_large_is_refused_with_its_code(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let refused = |records| {
        let error = append(&*log, records).expect_err("too large");
        assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::TooLarge);
        assert!(!error.is_retryable());
    };
    let over = Bytes::from(vec![0; limits::RECORD_BYTES_MAX + 1]);
    refused(vec![record(Topic::Events, 0, "small"), record(Topic::Events, 0, over.clone())]);
    let largest = over.slice(1..);
    let call = limits::APPEND_CALL_BYTES_MAX / limits::RECORD_BYTES_MAX;
    refused(vec![record(Topic::Events, 0, largest.clone()); call + 1]);
    assert_eq!(append(&*log, vec![record(Topic::Events, 0, largest.clone())]).expect("at the limit"), [0]);
    assert_eq!(read_all(&*log, Topic::Events, 0, 0)[0].value, largest);
}

/// And nothing of the call is appended.
pub fn an_unknown_partition_is_refused(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let partition = log.partitions(Topic::Events);
    let error = append(&*log, vec![record(Topic::Events, 0, "a"), record(Topic::Events, partition, "b")]);
    assert!(matches!(error, Err(AppendError::UnknownPartition { .. })));
    assert!(log.range(Topic::Events, partition).is_err());
    assert!(log.reader(Topic::Events, partition, 0).is_err());
    assert_eq!(log.range(Topic::Events, 0).expect("known").end, 0);
}

/// While nothing can be written, the queue fills up to its bound, then refuses with a code that says to retry; what was
/// let in is written as soon as that is possible, and then there is room again.
pub fn a_full_queue_refuses_at_once_and_recovers(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let (held, hold) = mpsc::channel::<()>();
    let (reached, reach) = mpsc::channel();
    let on_appended = move |_| {
        reached.send(()).unwrap_or_default();
        // Keeps the log's thread from writing, until the other end is dropped.
        let _ = hold.recv_timeout(PATIENCE);
    };
    log.append_with(vec![record(Topic::Events, 0, "first")], Box::new(on_appended));
    reach.recv_timeout(PATIENCE).expect("answered");
    let value = Bytes::from(vec![7; limits::RECORD_BYTES_MAX]);
    let (answer, answered) = mpsc::channel();
    let mut calls = 0;
    let error = loop {
        let (answer, refused) = (answer.clone(), mpsc::channel());
        let (refuse, refused) = refused;
        let on_appended = move |result: Result<Vec<u64>, AppendError>| match result {
            Err(error) => refuse.send(error).unwrap_or_default(),
            Ok(offsets) => answer.send(offsets).unwrap_or_default(),
        };
        log.append_with(vec![record(Topic::Events, 0, value.clone())], Box::new(on_appended));
        if let Ok(error) = refused.try_recv() {
            break error;
        }
        calls += 1;
        assert!(calls <= 10_000, "the queue has no bound");
    };
    assert!(matches!(error, AppendError::Full), "{error}");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.is_retryable());
    drop(held);
    for call in 0..calls {
        assert_eq!(answered.recv_timeout(PATIENCE).expect("answered"), [call + 1]);
    }
    assert_eq!(append(&*log, vec![record(Topic::Events, 0, "later")]).expect("there is room again"), [calls + 1]);
}

/// The log goes on, and the others of the same commit are answered.
pub fn a_panicking_caller_harms_nobody(fixture: &mut impl Fixture) {
    let log = fixture.log();
    log.append_with(vec![record(Topic::Events, 0, "a")], Box::new(|_| panic!("a caller's own defect (expected here)")));
    assert_eq!(append(&*log, vec![record(Topic::Events, 0, "b")]).expect("appended"), [1]);
}
