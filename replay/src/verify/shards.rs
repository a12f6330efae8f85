//! One shard's run: its input taken in batch by batch, and what it gives out compared at once.

use tidings_dataflow::{
    shard::{SavedState, ShardId, Stage},
    solo::SoloShard,
};
use tidings_ingest::{Log, NewRecord, StoredRecord};
use tidings_schemas::{
    limits::{SHARD_BATCH_RECORDS_MAX, SHARD_TURN_BYTES_MAX},
    topics::Topic,
};

use super::{
    Difference, Kind, Report, StreamReport, Verify, VerifyError,
    compared::Compared,
    recorded::{Read, Recorded, source},
};
use crate::scan::{Scan, ScanError};

/// Derives what the shard gives out, and compares it.
pub(super) fn verify(verify: &Verify<'_>, id: ShardId) -> Result<Report, VerifyError> {
    let log = verify.log;
    let input = id.stage.inputs()[0];
    let state = match verify.checkpoints {
        Some(checkpoint) => checkpoint(id).map_err(|error| VerifyError::NoCheckpoint { shard: id, error })?,
        None => SavedState::default(),
    };
    let from = state.next_offset(input);
    let kept = log.range(input, id.partition)?.start;
    if kept > from {
        return Err(VerifyError::NotKept { shard: id, topic: input, kept });
    }
    let mut streams = streams(verify, id, input, from)?;
    let mut inputs = Scan::new(log, input, id.partition, from..u64::MAX)?;
    let mut strays = Strays::new(verify, id);
    let mut shard = SoloShard::build(id, verify.config, verify.partitions(), &state)?;
    drop(state);
    let mut reached = from;
    loop {
        let mut batch = take_batch(&mut inputs)?;
        let Some(last) = batch.last() else { break };
        let mut end = last.offset + 1;
        (verify.progress)(batch.len() as u64);
        strays.look(&batch);
        streams[0].pull(end)?;
        // What is behind the newest source may only not have been recorded yet.
        let is_last = streams[0].is_at_end() && !verify.is_complete;
        if is_last {
            end = end.min(streams[0].next_source().max(from));
            batch.retain(|record| record.offset < end);
        }
        let mut out = Vec::new();
        shard.take(input, batch, &mut out)?;
        reached = reached.max(end);
        let mut expected = Expected::new(streams.len());
        expected.sort_out(out);
        for (stream, expected) in streams.iter_mut().zip(expected.0) {
            stream.pull(end)?;
            stream.compare(expected);
        }
        if is_last {
            // What follows is not compared, but the strays in it are.
            loop {
                let rest = take_batch(&mut inputs)?;
                if rest.is_empty() {
                    break;
                }
                (verify.progress)(rest.len() as u64);
                strays.look(&rest);
            }
            break;
        }
    }
    finish(log, id, input, reached, &mut streams)?;
    let mut report = Report::default();
    for stream in streams {
        report.streams.push(stream.report);
        report.differences.extend(stream.differences);
    }
    strays.into_report(&mut report);
    Ok(report)
}

/// What the shard gives out and where it stands. The first paces the others. Its end is looked up before those of the
/// others, and theirs before the input's: of what is in one, all that it follows from is in the next, also while the
/// system runs.
fn streams<'a>(verify: &Verify<'a>, id: ShardId, input: Topic, from: u64) -> Result<Vec<Compared<'a>>, ScanError> {
    let source = (input, id.partition);
    let open = |topic, partition| Compared::open(verify.log, topic, partition, source, from, verify.kept_max);
    Ok(match id.stage {
        Stage::Conversations => {
            let mut streams = vec![open(Topic::Timeline, id.partition)?];
            for partition in 0..verify.log.partitions(Topic::Fanout) {
                streams.push(open(Topic::Fanout, partition)?);
            }
            streams
        }
        Stage::Recipients => vec![open(Topic::Inbox, id.partition)?],
    })
}

/// What a shard gave out, by stream.
struct Expected(Vec<Vec<NewRecord>>);

impl Expected {
    fn new(streams: usize) -> Self {
        Self((0..streams).map(|_| Vec::new()).collect())
    }

    /// Deliveries and notifications follow from more than the log's order, and are not compared.
    fn sort_out(&mut self, out: Vec<NewRecord>) {
        for record in out {
            let place = match record.topic {
                Topic::Timeline | Topic::Inbox => 0,
                Topic::Fanout => 1 + record.partition as usize,
                _ => continue,
            };
            if let Some(stream) = self.0.get_mut(place) {
                stream.push(record);
            }
        }
    }
}

/// As much as a shard takes in at a time; empty at the end.
fn take_batch(inputs: &mut Scan<'_>) -> Result<Vec<StoredRecord>, ScanError> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < SHARD_BATCH_RECORDS_MAX && bytes < SHARD_TURN_BYTES_MAX {
        let Some(record) = inputs.next().transpose()? else { break };
        bytes += record.value.len();
        batch.push(record);
    }
    Ok(batch)
}

/// Looks at what is recorded behind the last that was compared.
fn finish(
    log: &dyn Log,
    id: ShardId,
    input: Topic,
    reached: u64,
    streams: &mut [Compared<'_>],
) -> Result<(), VerifyError> {
    let source_end = log.range(input, id.partition)?.end;
    let mut furthest = reached;
    for stream in streams.iter_mut() {
        stream.finish(source_end)?;
        let report = &mut stream.report;
        (report.verified_to, report.source_end) = (reached, source_end);
        furthest = furthest.max(stream.next_source().min(source_end));
    }
    if furthest > reached && id.stage == Stage::Conversations {
        // The fan-out of an event is there, so by now its timeline record is, too: each event has one.
        let mut timeline = Recorded::open(log, Topic::Timeline, id.partition, id.partition, 0)?;
        while !matches!(timeline.next(u64::MAX)?, None | Some(Read::End)) {}
        for missing in timeline.next_source().max(reached)..furthest {
            streams[0].differ(Kind::Missing, Some(missing), None, None);
        }
    }
    Ok(())
}

/// Records of `fanout` that no `events` partition can have led to: nobody else looks at these.
struct Strays {
    report: Option<StreamReport>,
    differences: Vec<Difference>,
    sources: u32,
    kept_max: usize,
}

impl Strays {
    fn new(verify: &Verify<'_>, id: ShardId) -> Self {
        let is_looking = id.stage == Stage::Recipients;
        Self {
            report: is_looking.then(|| StreamReport::new(Topic::Fanout, id.partition, None)),
            differences: Vec::new(),
            sources: verify.log.partitions(Topic::Events),
            kept_max: verify.kept_max,
        }
    }

    fn look(&mut self, records: &[StoredRecord]) {
        let Some(report) = &mut self.report else { return };
        for record in records {
            if source(&record.value).is_some_and(|source| source.partition < self.sources) {
                continue;
            }
            report.count(Kind::Stray);
            if self.differences.len() < self.kept_max {
                self.differences.push(Difference {
                    kind: Kind::Stray,
                    topic: Topic::Fanout,
                    partition: report.partition,
                    of: None,
                    source: None,
                    expected: None,
                    found: Some(record.clone()),
                });
            }
        }
    }

    /// Says nothing where there is nothing to say.
    fn into_report(self, report: &mut Report) {
        report.streams.extend(self.report.filter(|strays| strays.stray > 0));
        report.differences.extend(self.differences);
    }
}
