//! Cases about reading.

use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use tidings_schemas::topics::Topic;

use super::{Bell, Fixture, PATIENCE, append, follow, poll_some, read_all, record};
use crate::asynchronous::{AsyncReader, LogExt};
use crate::error::LogError;
use crate::log::{NewRecord, OffsetRange};

/// Keys and values, empty ones and those that no schema knows.
pub fn any_bytes_come_back_untouched(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let all: Bytes = (0..=255).collect::<Vec<u8>>().repeat(40).into();
    let pairs = [
        (Bytes::new(), Bytes::new()),
        (all.clone(), Bytes::new()),
        (Bytes::new(), all.clone()),
        (Bytes::from_static(&[0xff, 0x00]), all.slice(..1)),
        (all.clone(), all),
    ];
    let new = |(key, value): &(Bytes, Bytes)| NewRecord {
        topic: Topic::Inbox,
        partition: 1,
        key: key.clone(),
        value: value.clone(),
    };
    append(&*log, pairs.iter().map(new).collect()).expect("appended");
    for (stored, (key, value)) in read_all(&*log, Topic::Inbox, 1, 0).iter().zip(&pairs) {
        assert_eq!((&stored.key, &stored.value), (key, value));
        assert!(stored.timestamp_ms > 0);
    }
}

/// At the start, in the middle, at the end.
pub fn readers_start_anywhere(fixture: &mut impl Fixture) {
    let log = fixture.log();
    for call in 0..20_u8 {
        append(&*log, (0..5).map(|n| record(Topic::Events, 0, vec![call * 5 + n])).collect()).expect("appended");
    }
    for from in 0..=100 {
        let records = read_all(&*log, Topic::Events, 0, from);
        assert_eq!(records.len() as u64, 100 - from);
        assert!(records.iter().all(|record| u64::from(record.value[0]) == record.offset));
    }
    let mut at_end = log.reader(Topic::Events, 0, 100).expect("the end is in range");
    assert_eq!(at_end.poll(1, &mut Vec::new()).expect("readable"), 0);
    append(&*log, vec![record(Topic::Events, 0, "new")]).expect("appended");
    assert_eq!(follow(&mut *at_end, 1)[0].offset, 100);
}

/// Past the end is no place to read from: what is there now may be something else later.
pub fn out_of_range_is_an_error(fixture: &mut impl Fixture) {
    let log = fixture.log();
    append(&*log, vec![record(Topic::Events, 0, "a")]).expect("appended");
    let Err(error) = log.reader(Topic::Events, 0, 2) else { panic!("past the end") };
    let LogError::OutOfRange { asked: 2, start: 0, end: 1, .. } = error else { panic!("{error}") };
}

/// Each has its own offsets and its own records.
pub fn partitions_are_independent(fixture: &mut impl Fixture) {
    let log = fixture.log();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            let value = format!("{}-{partition}", topic.name());
            assert_eq!(append(&*log, vec![record(topic, partition, value)]).expect("appended"), [0]);
        }
    }
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            let records = read_all(&*log, topic, partition, 0);
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].value, format!("{}-{partition}", topic.name()));
        }
    }
}

/// At least one record, however small the size asked for; not many more than fit.
pub fn polls_keep_to_their_size_and_always_get_on(fixture: &mut impl Fixture) {
    let log = fixture.log();
    append(&*log, (0..10).map(|_| record(Topic::Events, 0, vec![1; 100])).collect()).expect("appended");
    let mut reader = log.reader(Topic::Events, 0, 0).expect("in range");
    let mut records = Vec::new();
    assert_eq!(poll_some(&mut *reader, 0, &mut records), 1);
    assert_eq!(reader.poll(300, &mut records).expect("readable"), 3);
    assert_eq!(reader.position(), 4);
    assert_eq!(reader.poll(usize::MAX, &mut records).expect("readable"), 6);
    assert_eq!(reader.poll(usize::MAX, &mut records).expect("readable"), 0);
    assert!(records.iter().map(|record| record.offset).eq(0..10));
}

/// A reader that sleeps whenever it finds nothing gets every record, whatever the timing of the appenders.
pub fn no_wake_up_is_lost(fixture: &mut impl Fixture) {
    const EACH: usize = 400;
    let log = fixture.log();
    let partitions = [(Topic::Events, 0), (Topic::Events, 1), (Topic::Inbox, 0)];
    let readers: Vec<_> = partitions
        .iter()
        .map(|(topic, partition)| {
            let mut reader = log.reader(*topic, *partition, 0).expect("in range");
            thread::spawn(move || follow(&mut *reader, 3 * EACH))
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    for (topic, partition) in partitions {
                        append(&*log, vec![record(topic, partition, "x")]).expect("appended");
                    }
                }
            });
        }
    });
    for reader in readers {
        let records = reader.join().expect("no panic");
        assert!(records.iter().map(|record| record.offset).eq(0..3 * EACH as u64));
    }
}

/// One record at a time, the next only when the one before was read: each wake-up is the last that could come, and meets
/// the reader between its look and its sleep.
pub fn each_record_is_followed_by_its_wake_up(fixture: &mut impl Fixture) {
    const RECORDS: u64 = 500;
    let log = fixture.log();
    let mut reader = log.reader(Topic::Events, 0, 0).expect("in range");
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    reader.wake_with(Arc::new(move || ringer.ring()));
    let (read, was_read) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut records = Vec::new();
            while reader.position() < RECORDS {
                let rung = bell.count();
                match reader.poll(1, &mut records).expect("readable") {
                    0 => bell.wait_past(rung),
                    _ => read.send(reader.position()).unwrap_or_default(),
                }
            }
        });
        for record_number in 1..=RECORDS {
            log.append_with(vec![record(Topic::Events, 0, "x")], Box::new(|_| {}));
            assert_eq!(was_read.recv_timeout(PATIENCE), Ok(record_number));
        }
    });
}

/// Who asks to be woken while records wait already, is woken at once.
pub fn a_wake_up_may_come_from_before(fixture: &mut impl Fixture) {
    let log = fixture.log();
    append(&*log, vec![record(Topic::Events, 0, "a")]).expect("appended");
    let mut reader = log.reader(Topic::Events, 0, 0).expect("in range");
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    reader.wake_with(Arc::new(move || ringer.ring()));
    bell.wait_past(0);
}

/// Several at once, from different places, opened and dropped in any order: each reads as if it were alone.
pub fn readers_of_one_partition_do_not_share_a_position(fixture: &mut impl Fixture) {
    let log = fixture.log();
    append(&*log, (0..30_u8).map(|n| record(Topic::Timeline, 0, vec![n])).collect()).expect("appended");
    let mut readers: Vec<_> =
        [0, 10, 20, 30].map(|from| log.reader(Topic::Timeline, 0, from).expect("in range")).into();
    let mut dropped = log.reader(Topic::Timeline, 0, 5).expect("in range");
    assert_eq!(follow(&mut *dropped, 1)[0].offset, 5);
    drop(dropped);
    readers.push(log.reader(Topic::Timeline, 0, 25).expect("in range"));
    append(&*log, vec![record(Topic::Timeline, 0, "new")]).expect("appended");
    for mut reader in readers {
        let from = reader.position();
        let count = usize::try_from(31 - from).expect("small");
        let records = follow(&mut *reader, count);
        assert!(records.iter().map(|record| record.offset).eq(from..31));
        assert_eq!(records[count - 1].value, "new");
    }
}

/// And holds every append that was answered before.
pub fn the_range_is_told_without_waiting(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for end in 1..=20_u64 {
            log.append(vec![record(Topic::Inbox, 1, "a")]).await.expect("appended");
            let ranges = [(); 3].map(|()| log.range_now(Topic::Inbox, 1));
            for range in ranges {
                assert_eq!(range.await.expect("known"), OffsetRange { start: 0, end });
            }
        }
        let error = log.range_now(Topic::Inbox, log.partitions(Topic::Inbox)).await.expect_err("no such partition");
        assert!(matches!(error, LogError::UnknownPartition { .. }), "{error}");
    });
}

/// Dropping it, also in its own wake-up, is no trouble to the log.
pub fn a_dropped_reader_is_not_woken(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let mut reader = log.reader(Topic::Events, 0, 0).expect("in range");
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    reader.wake_with(Arc::new(move || ringer.ring()));
    drop(reader);
    // One without need may have come before.
    let rung = bell.count();
    append(&*log, vec![record(Topic::Events, 0, "a")]).expect("appended");
    append(&*log, Vec::new()).expect("answered");
    assert_eq!(bell.count(), rung);
}

/// The async side of the port.
pub fn async_callers_append_and_wait(fixture: &mut impl Fixture) {
    let log = fixture.log();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut reader = AsyncReader::new(log.reader(Topic::Events, 0, 0).expect("in range"));
        let first = log.append(vec![record(Topic::Events, 0, "a"), record(Topic::Events, 0, "b")]);
        let second = log.append(vec![record(Topic::Events, 0, "c")]);
        assert_eq!(second.await.expect("appended"), [2], "queued when called, not when awaited");
        assert_eq!(first.await.expect("appended"), [0, 1]);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(reader.next_batch(1).await.expect("readable"));
        }
        let (batch, appended) = tokio::join!(reader.next_batch(1024), log.append(vec![record(Topic::Events, 0, "d")]));
        assert_eq!(appended.expect("appended"), [3]);
        assert_eq!(batch.expect("readable")[0].value, "d");
        assert_eq!(reader.position(), 4);
    });
}
