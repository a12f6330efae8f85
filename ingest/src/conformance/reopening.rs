//! Cases about closing a log and opening it again.

use bytes::Bytes;
use tidings_schemas::topics::Topic;

use super::{Fixture, append, read_all};
use crate::log::NewRecord;

/// Everything acknowledged, with its offset, time and bytes; and the next record follows on.
pub fn everything_is_still_there(fixture: &mut impl Fixture) {
    let mut written = Vec::new();
    for round in 0..4_u32 {
        let log = fixture.log();
        for call in 0..50_u32 {
            let new = |number: u32| NewRecord {
                topic: Topic::Events,
                partition: number % 2,
                key: Bytes::from(format!("{round}")),
                value: Bytes::from(format!("{call}:{number}").repeat(number as usize)),
            };
            let records: Vec<_> = (0..call % 7).map(new).collect();
            let offsets = append(&*log, records.clone()).expect("appended");
            written.extend(records.into_iter().zip(offsets));
        }
        let before = [0, 1].map(|partition| read_all(&*log, Topic::Events, partition, 0));
        drop(log);
        fixture.reopen();
        let log = fixture.log();
        let after = [0, 1].map(|partition| read_all(&*log, Topic::Events, partition, 0));
        assert_eq!(before, after);
        assert_eq!(before[0].len() + before[1].len(), written.len());
        for (record, offset) in &written {
            let stored = &after[record.partition as usize][usize::try_from(*offset).expect("small")];
            assert_eq!((&stored.key, &stored.value), (&record.key, &record.value));
        }
    }
}

/// Its id and its partitions.
pub fn the_log_keeps_its_identity(fixture: &mut impl Fixture) {
    let identity = |fixture: &dyn Fixture| {
        let log = fixture.log();
        (log.log_id(), Topic::ALL.map(|topic| log.partitions(topic)))
    };
    let before = identity(fixture);
    fixture.reopen();
    assert_eq!(identity(fixture), before);
    assert_ne!(before.0, 0);
}
