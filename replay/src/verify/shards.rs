//! Shards' runs: their inputs taken in batch by batch, and what they give out compared at once.

use std::{cell::RefCell, rc::Rc};

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
    shared::{Reading, Shared},
};
use crate::scan::{Scan, ScanError};

/// Derives what the shards give out, and compares it. They are of one stage, and taken through side by side.
pub(super) fn verify(verify: &Verify<'_>, ids: &[ShardId]) -> Result<Report, VerifyError> {
    let mut runs = Run::all(verify, ids)?;
    while let Some(run) = next(&mut runs) {
        run.turn(verify)?;
    }
    let mut report = Report::default();
    for run in runs {
        run.finish(verify, &mut report)?;
    }
    Ok(report)
}

/// Whose turn it is: the one that has most before it, so that those with little come upon what was put by for them; or, where
/// much is put by, the one for which most is.
fn next<'a, 'b>(runs: &'b mut [Run<'a>]) -> Option<&'b mut Run<'a>> {
    let is_half_full = runs.iter().any(|run| run.shared.iter().any(|shared| shared.borrow().is_half_full()));
    let going = runs.iter_mut().filter(|run| !run.is_done);
    going.max_by_key(|run| (if is_half_full { run.waiting() } else { 0 }, left(&run.inputs)))
}

fn left(inputs: &Scan<'_>) -> u64 {
    let rest = inputs.rest();
    rest.end.saturating_sub(rest.start)
}

/// One shard on its way.
struct Run<'a> {
    id: ShardId,
    input: Topic,
    from: u64,
    reached: u64,
    inputs: Scan<'a>,
    /// The first paces the others.
    streams: Vec<Compared<'a>>,
    shared: Vec<Rc<RefCell<Shared<'a>>>>,
    strays: Strays,
    shard: SoloShard,
    is_done: bool,
}

impl<'a> Run<'a> {
    /// The ends of what is recorded are looked up before those of what that follows from: first all timelines', or inboxes',
    /// then those of `fanout`, then the inputs'. Of what is in one, all that it follows from is in the next, also while the
    /// system runs.
    fn all(verify: &Verify<'a>, ids: &[ShardId]) -> Result<Vec<Self>, VerifyError> {
        let log = verify.log;
        let mut begun = Vec::with_capacity(ids.len());
        for id in ids.iter().copied() {
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
            let recorded = if id.stage == Stage::Conversations { Topic::Timeline } else { Topic::Inbox };
            let reading = Reading::Own(Scan::new(log, recorded, id.partition, 0..u64::MAX)?);
            let place = (recorded, id.partition);
            let stream = Compared::open(log, reading, place, (input, id.partition), from, verify.kept_max)?;
            begun.push((id, input, state, from, stream));
        }
        let mut shared = Vec::new();
        if ids.iter().any(|id| id.stage == Stage::Conversations) {
            let partitions = log.partitions(Topic::Fanout);
            for partition in 0..partitions {
                let sources = ids.iter().map(|id| id.partition);
                let bytes_max = verify.put_by_bytes_max / partitions.max(1) as usize;
                shared.push(Shared::open(log, Topic::Fanout, partition, sources, bytes_max)?);
            }
        }
        let mut runs = Vec::with_capacity(ids.len());
        for (id, input, state, from, stream) in begun {
            let mut streams = vec![stream];
            for (partition, shared) in (0..).zip(&shared) {
                let reading = Reading::Shared(Rc::clone(shared));
                let place = (Topic::Fanout, partition);
                streams.push(Compared::open(log, reading, place, (input, id.partition), from, verify.kept_max)?);
            }
            let inputs = Scan::new(log, input, id.partition, from..u64::MAX)?;
            let shard = SoloShard::build(id, verify.config, verify.log.partition_counts(), &state)?;
            let (strays, shared) = (Strays::new(verify, id), shared.clone());
            runs.push(Self { id, input, from, reached: from, inputs, streams, shared, strays, shard, is_done: false });
        }
        Ok(runs)
    }

    /// Bytes that are put by for it.
    fn waiting(&self) -> usize {
        self.shared.iter().map(|shared| shared.borrow().waiting(self.id.partition)).max().unwrap_or(0)
    }

    /// Takes in a batch, and compares what follows from it.
    fn turn(&mut self, verify: &Verify<'_>) -> Result<(), VerifyError> {
        let Self { inputs, streams, strays, from, .. } = self;
        let mut batch = take_batch(inputs)?;
        let Some(last) = batch.last() else {
            self.is_done = true;
            return Ok(());
        };
        let mut end = last.offset + 1;
        (verify.progress)(batch.len() as u64);
        strays.look(&batch);
        streams[0].pull(end)?;
        // What is behind the newest source may only not have been recorded yet.
        let is_last = streams[0].is_at_end() && !verify.is_complete;
        if is_last {
            end = end.min(streams[0].next_source().max(*from));
            batch.retain(|record| record.offset < end);
        }
        let mut out = Vec::new();
        self.shard.take(self.input, batch, &mut out)?;
        self.reached = self.reached.max(end);
        let mut expected = Expected::new(streams.len());
        expected.sort_out(out);
        for (stream, expected) in streams.iter_mut().zip(expected.0) {
            stream.pull(end)?;
            stream.compare(expected);
        }
        if is_last {
            // What follows is not compared, but the strays in it are.
            loop {
                let rest = take_batch(inputs)?;
                if rest.is_empty() {
                    break;
                }
                (verify.progress)(rest.len() as u64);
                strays.look(&rest);
            }
            self.is_done = true;
        }
        Ok(())
    }

    /// Looks at the rest, and says what came of it all.
    fn finish(mut self, verify: &Verify<'_>, report: &mut Report) -> Result<(), VerifyError> {
        finish(verify.log, self.id, self.input, self.reached, &mut self.streams)?;
        for stream in self.streams {
            report.streams.push(stream.report);
            report.differences.extend(stream.differences);
        }
        self.strays.into_report(report);
        Ok(())
    }
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
        let reading = Reading::Own(Scan::new(log, Topic::Timeline, id.partition, 0..u64::MAX)?);
        let mut timeline = Recorded::new(reading, Topic::Timeline, id.partition, 0);
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
