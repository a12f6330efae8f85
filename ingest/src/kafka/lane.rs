//! One partition's way to its broker: one group of records on its way at a time, and what comes meanwhile goes together
//! in the next.
//!
//! So the busier the larger the groups, and what is on its way is all answered, or given up, before anything later leaves.
//! A group whose brokers do not answer is never taken back: it stays where it is, and nothing passes it, until they do.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_schemas::limits::{COMMIT_BYTES_MAX, KAFKA_GROUP_RECORDS_MAX};

use super::call::Part;
use crate::error::AppendError;

/// The mark of a record that is not in the log.
const FAILED: u64 = u64::MAX;

/// The parts that wait for, or are on, their way to one partition.
#[derive(Default)]
pub(crate) struct Lane {
    waiting: VecDeque<Part>,
    group: Option<Group>,
    /// No group leaves before.
    next_at: Duration,
}

/// What became of the attempt to send a group off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// One is on its way, or there is nothing to send.
    Nothing,
    /// It is too soon: at this moment, then.
    At(Duration),
    /// It left.
    Left,
    /// No record of it left: it is to be resolved.
    Resolved,
}

/// What is on its way together.
pub(crate) struct Group {
    /// Empty once their callers were told that nobody knows.
    parts: Vec<Part>,
    /// By record: its offset, or [`FAILED`].
    offsets: Vec<u64>,
    failed: Option<AppendError>,
    left: usize,
    since: Duration,
    /// Room that it takes.
    bytes: usize,
    is_given_up: bool,
}

/// What has become of a group: each part with its offsets or its error.
pub(crate) struct Resolved {
    pub(crate) answers: Vec<(Part, Result<Vec<u64>, AppendError>)>,
    /// Room that is free again.
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    /// Its callers had been told that nobody knows.
    pub(crate) was_given_up: bool,
}

/// What is late.
#[derive(Default)]
pub(crate) struct Late {
    /// On their way: whether they will be in the log is not known.
    pub(crate) given_up: Vec<Part>,
    /// Not sent off: they will not be in the log.
    pub(crate) refused: Vec<Part>,
}

impl Lane {
    /// Puts a part at the end. Gives it back while the brokers do not answer.
    pub(crate) fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.group.as_ref().is_some_and(|group| group.is_given_up) {
            return Err(part);
        }
        self.waiting.push_back(part);
        Ok(())
    }

    /// Sends the next group off, record by record, unless one is on its way, or left less than `interval` ago: `send`
    /// gets a record's part, its place in that, and its place in the group, and says whether it left.
    pub(crate) fn begin(
        &mut self,
        now: Duration,
        interval: Duration,
        mut send: impl FnMut(&Part, usize, u32) -> Result<(), AppendError>,
    ) -> Begun {
        if self.group.is_some() || self.waiting.is_empty() {
            return Begun::Nothing;
        }
        if now < self.next_at && !interval.is_zero() {
            return Begun::At(self.next_at);
        }
        self.next_at = now + interval;
        let (mut parts, mut records, mut bytes) = (Vec::new(), 0, 0);
        while let Some(part) = self.waiting.front() {
            let is_too_much =
                bytes + part.bytes > COMMIT_BYTES_MAX || records + part.records.len() > KAFKA_GROUP_RECORDS_MAX;
            if is_too_much && !parts.is_empty() {
                break;
            }
            bytes += part.bytes;
            records += part.records.len();
            parts.extend(self.waiting.pop_front());
        }
        let mut group = Group {
            offsets: vec![FAILED; records],
            failed: None,
            left: records,
            since: now,
            bytes,
            is_given_up: false,
            parts,
        };
        let mut place = 0;
        'sending: for part in &group.parts {
            for record in 0..part.records.len() {
                if let Err(error) = send(part, record, place) {
                    // What is behind it does not leave either: it would pass it.
                    group.failed = Some(error);
                    break 'sending;
                }
                place += 1;
            }
        }
        group.left = place as usize;
        let begun = if group.left == 0 { Begun::Resolved } else { Begun::Left };
        self.group = Some(group);
        begun
    }

    /// A record of the group is answered. `true`: it was the last, and the group is to be resolved.
    pub(crate) fn answered(&mut self, place: u32, result: Result<u64, AppendError>) -> bool {
        let Some(group) = &mut self.group else { return false };
        match result {
            Ok(offset) => {
                if let Some(known) = group.offsets.get_mut(place as usize) {
                    *known = offset;
                }
            }
            Err(error) => match &group.failed {
                Some(AppendError::Unknown { .. }) => {}
                _ => group.failed = Some(error),
            },
        }
        group.left = group.left.saturating_sub(1);
        group.left == 0
    }

    /// Takes the group out, which is all answered.
    pub(crate) fn resolve(&mut self) -> Option<Resolved> {
        let group = self.group.take_if(|group| group.left == 0)?;
        let error = group.failed.unwrap_or_else(|| AppendError::Unknown { reason: "no answer".into() });
        let mut offsets = &group.offsets[..];
        let records = offsets.len();
        let mut answers = Vec::with_capacity(group.parts.len());
        for part in group.parts {
            let (own, rest) = offsets.split_at(part.records.len());
            offsets = rest;
            // A part whose records got there only in part is not known to be out.
            let result = match own.iter().filter(|offset| **offset == FAILED).count() {
                0 => Ok(own.to_vec()),
                failed if failed == own.len() => Err(error.clone()),
                _ => Err(AppendError::Unknown { reason: error.to_string().into() }),
            };
            answers.push((part, result));
        }
        Some(Resolved { answers, records, bytes: group.bytes, was_given_up: group.is_given_up })
    }

    /// Gives up what began before `before`.
    pub(crate) fn give_up(&mut self, before: Duration) -> Late {
        let mut late = Late::default();
        if let Some(group) = self.group.as_mut().filter(|group| !group.is_given_up && group.since < before) {
            group.is_given_up = true;
            late.given_up = std::mem::take(&mut group.parts);
            // Nobody waits behind it for an answer that may never come.
            late.refused.extend(self.waiting.drain(..));
        }
        while self.waiting.front().is_some_and(|part| part.call.since < before) {
            late.refused.extend(self.waiting.pop_front());
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_schemas::topics::Topic;

    use super::*;
    use crate::kafka::call::Call;
    use crate::log::NewRecord;

    fn part(records: usize) -> Part {
        let record = NewRecord { topic: Topic::Events, partition: 0, key: Bytes::new(), value: Bytes::new() };
        let mut parts = Call::split(0, Duration::ZERO, vec![record; records], &vec![0; records], Box::new(|_| {}));
        parts.remove(0)
    }

    /// Lets everything leave, and counts it.
    fn begin_all(lane: &mut Lane, at: Duration) -> usize {
        let mut sent = 0;
        let begun = lane.begin(at, Duration::ZERO, |_, _, _| {
            sent += 1;
            Ok(())
        });
        assert_eq!(begun, Begun::Left);
        sent
    }

    fn unknown() -> AppendError {
        AppendError::Unknown { reason: "lost".into() }
    }

    #[test]
    fn one_group_at_a_time_and_the_rest_together() {
        let mut lane = Lane::default();
        lane.push(part(1)).ok().unwrap();
        assert_eq!(begin_all(&mut lane, Duration::ZERO), 1);
        lane.push(part(2)).ok().unwrap();
        lane.push(part(3)).ok().unwrap();
        let begun = lane.begin(Duration::ZERO, Duration::ZERO, |_, _, _| panic!("the first is on its way"));
        assert_eq!(begun, Begun::Nothing);
        assert!(lane.resolve().is_none());
        assert!(lane.answered(0, Ok(7)));
        assert_eq!(lane.resolve().unwrap().answers[0].1.as_deref().unwrap(), [7]);
        assert_eq!(begin_all(&mut lane, Duration::ZERO), 5);
    }

    #[test]
    fn groups_keep_their_distance_and_a_lone_one_does_not_wait() {
        let interval = Duration::from_millis(1);
        let (mut lane, start) = (Lane::default(), Duration::from_secs(1));
        lane.push(part(1)).ok().unwrap();
        assert_eq!(lane.begin(start, interval, |_, _, _| Ok(())), Begun::Left);
        assert!(lane.answered(0, Ok(0)));
        lane.resolve().unwrap();
        lane.push(part(1)).ok().unwrap();
        let soon = start + interval / 2;
        assert_eq!(lane.begin(soon, interval, |_, _, _| Ok(())), Begun::At(start + interval));
        assert_eq!(lane.begin(start + interval, interval, |_, _, _| Ok(())), Begun::Left);
    }

    #[test]
    fn what_cannot_leave_keeps_back_what_is_behind_it() {
        let mut lane = Lane::default();
        lane.push(part(2)).ok().unwrap();
        lane.push(part(1)).ok().unwrap();
        let send = |_: &Part, _, place| if place == 1 { Err(AppendError::Full) } else { Ok(()) };
        assert_eq!(lane.begin(Duration::ZERO, Duration::ZERO, send), Begun::Left);
        assert!(lane.answered(0, Ok(4)), "only the first left");
        let answers = lane.resolve().unwrap().answers;
        assert!(matches!(answers[0].1, Err(AppendError::Unknown { .. })), "it is in the log in part");
        assert!(matches!(answers[1].1, Err(AppendError::Full)));
    }

    #[test]
    fn what_is_given_up_is_not_passed() {
        let mut lane = Lane::default();
        lane.push(part(1)).ok().unwrap();
        begin_all(&mut lane, Duration::from_secs(1));
        lane.push(part(1)).ok().unwrap();
        let late = lane.give_up(Duration::from_secs(2));
        assert_eq!((late.given_up.len(), late.refused.len()), (1, 1));
        assert!(lane.push(part(1)).is_err());
        let begun = lane.begin(Duration::from_secs(3), Duration::ZERO, |_, _, _| panic!("nothing passes it"));
        assert_eq!(begun, Begun::Nothing);
        assert!(lane.answered(0, Err(unknown())));
        let resolved = lane.resolve().unwrap();
        assert!(resolved.was_given_up && resolved.answers.is_empty() && resolved.records == 1);
        lane.push(part(1)).ok().unwrap();
        assert_eq!(begin_all(&mut lane, Duration::from_secs(4)), 1);
    }
}
