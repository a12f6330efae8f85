//! The one thread that writes the journal: takes what waits, writes it as one frame, syncs once, shows it to readers,
//! answers the callers. No timer delays a commit: a lone append is committed at once, and while a sync runs the queue
//! gathers the next commit.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;

use super::durable::{Durable, Notice};
use super::frame::{Entry, FrameHead, PAGE_BYTES, SegmentHeader, pages};
use super::journal::{Begun, JournalFile};
use super::manifest::Slot;
use super::queue::Call;
use super::records::{RECORD_HEADER_BYTES, encode_record};
use super::shared::{Sealed, Shared};
use super::state::Section;
use super::stats::add;
use crate::error::{AppendError, LogError};
use crate::log::OnAppended;

static PADDING: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

/// Room for calls that is kept between commits; more is given back after a burst.
const IDLE_CALLS_MAX: usize = 16_384;

/// The segment being filled.
struct Active {
    file: Arc<JournalFile>,
    /// Where the next frame goes.
    position: u64,
}

/// One partition's part of the commit being built.
struct Building {
    slot: Slot,
    base_offset: u64,
    count: u32,
    bytes: usize,
    records: Vec<u8>,
}

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    /// The segment before, while there is no durable one after it.
    ended: Option<Sealed>,
    /// The segment after, while it is not known to be durable.
    begun: Option<Begun>,
    next_segment: u64,
    next_commit: u64,
    /// By slot.
    next_offsets: Vec<u64>,
    /// By slot, its place in `building` plus one, or 0.
    places: Vec<u32>,
    building: Vec<Building>,
    head: Vec<u8>,
    answers: Vec<(OnAppended, Vec<u64>)>,
    /// For readers in other processes.
    notice: Option<Notice>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, next_segment: u64, next_commit: u64, next_offsets: Vec<u64>) -> Self {
        let places = vec![0; next_offsets.len()];
        let notice = Notice::open(&*shared.disk, &shared.directory);
        Self {
            shared,
            active: None,
            ended: None,
            begun: None,
            next_segment,
            next_commit,
            next_offsets,
            places,
            building: Vec::new(),
            head: Vec::new(),
            answers: Vec::new(),
            notice,
        }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut taken = VecDeque::new();
        while self.shared.queue.take(&mut taken) {
            while !taken.is_empty() {
                self.commit(&mut taken);
            }
            if taken.capacity() > IDLE_CALLS_MAX {
                taken = VecDeque::new();
                self.answers = Vec::new();
            }
        }
    }

    /// Begins a segment after `last`, the last of the journal found, so that the first append does not have to.
    pub(crate) fn prepare(&mut self, last: Option<Sealed>) -> Result<(), LogError> {
        self.ended = last;
        self.roll(0, false)
    }

    /// Commits from the front of `taken` what fits into one frame.
    fn commit(&mut self, taken: &mut VecDeque<Call>) {
        let shared = Arc::clone(&self.shared);
        let started = shared.clock.monotonic();
        let (mut calls, mut bytes, mut queued_records) = (0, 0, 0);
        while let Some(call) = taken.get(calls)
            && (calls == 0 || bytes + call.bytes <= shared.settings.commit_bytes_max)
        {
            calls += 1;
            bytes += call.bytes;
            queued_records += call.records.len().max(1);
        }
        self.measure(taken.iter().take(calls));
        let record_bytes: usize =
            self.building.iter().map(|part| part.bytes - part.count as usize * RECORD_HEADER_BYTES).sum();
        self.encode(taken.drain(..calls));
        let written = if self.building.is_empty() { Ok(()) } else { self.write() };
        shared.queue.answered(bytes, queued_records);
        if written.is_ok() {
            shared.counters.committed(shared.clock.monotonic().saturating_sub(started));
            add(&shared.counters.appends, calls as u64);
            add(&shared.counters.records, self.answers.iter().map(|(_, offsets)| offsets.len() as u64).sum());
            add(&shared.counters.record_bytes, record_bytes as u64);
        } else {
            add(&shared.counters.refused_unavailable, calls as u64);
        }
        for building in self.building.drain(..) {
            self.places[building.slot as usize] = 0;
        }
        for (on_appended, offsets) in self.answers.drain(..) {
            let result = written.clone().map(|()| offsets);
            // A caller's panic is its own: the other callers still get their answers.
            if std::panic::catch_unwind(AssertUnwindSafe(move || on_appended(result))).is_err() {
                tracing::error!("a caller of the log panicked when it was told of its append");
            }
        }
    }

    /// Finds out how many records and bytes go into which partition.
    fn measure<'a>(&mut self, calls: impl Iterator<Item = &'a Call>) {
        for call in calls {
            for (index, record) in call.records.iter().enumerate() {
                let slot = call.slots.of(index);
                let place = &mut self.places[slot as usize];
                if *place == 0 {
                    let base_offset = self.next_offsets[slot as usize];
                    self.building.push(Building { slot, base_offset, count: 0, bytes: 0, records: Vec::new() });
                    *place = u32::try_from(self.building.len()).unwrap_or(u32::MAX);
                }
                let building = &mut self.building[*place as usize - 1];
                building.count += 1;
                building.bytes += RECORD_HEADER_BYTES + record.key.len() + record.value.len();
            }
        }
        for building in &mut self.building {
            building.records = Vec::with_capacity(building.bytes);
        }
    }

    /// Copies the records to where they are written from, and gives them their offsets.
    fn encode(&mut self, calls: impl Iterator<Item = Call>) {
        for building in &mut self.building {
            building.count = 0;
        }
        for call in calls {
            let mut offsets = Vec::with_capacity(call.records.len());
            for (index, record) in call.records.iter().enumerate() {
                let building = &mut self.building[self.places[call.slots.of(index) as usize] as usize - 1];
                encode_record(&mut building.records, &record.key, &record.value);
                offsets.push(building.base_offset + u64::from(building.count));
                building.count += 1;
            }
            self.answers.push((call.on_appended, offsets));
        }
    }

    /// Writes what is built, makes it durable and then visible.
    fn write(&mut self) -> Result<(), AppendError> {
        let entries = self.building.iter().map(|part| Entry {
            slot: part.slot,
            count: part.count,
            base_offset: part.base_offset,
            length: u32::try_from(part.records.len()).unwrap_or(u32::MAX),
            checksum: crc32c::crc32c(&part.records),
        });
        let mut head = FrameHead {
            salt: 0,
            commit: self.next_commit,
            timestamp_ms: self.shared.clock.now_ms(),
            entries: entries.collect(),
        };
        let frame_bytes = head.frame_bytes();
        if !self.has_room(frame_bytes) {
            self.roll(frame_bytes, true).map_err(|error| self.refusal(&error))?;
        }
        let Some(active) = &mut self.active else {
            return Err(AppendError::Unavailable { reason: "the log has no journal to write to".into() });
        };
        head.salt = active.file.header.salt;
        head.encode_into(&mut self.head);
        let padding = usize::try_from(pages(frame_bytes) - frame_bytes).unwrap_or(0);
        let mut parts: Vec<&[u8]> = Vec::with_capacity(self.building.len() + 2);
        parts.push(&self.head);
        parts.extend(self.building.iter().map(|building| &building.records[..]));
        parts.push(&PADDING[..padding]);
        let file = &active.file.file;
        if let Err(error) = file.write_at(&parts, active.position).and_then(|()| file.sync()) {
            let error = LogError::Io { action: "write", file: active.file.path.clone(), error: Arc::new(error) };
            return Err(self.abandon(&error));
        }
        let mut position = active.position + self.head.len() as u64;
        let segment = active.file.header.segment;
        active.position += pages(frame_bytes);
        self.next_commit += 1;
        if let Some(notice) = &self.notice {
            // Not told: readers in other processes see this commit when the next one stands behind it.
            let _ = notice.tell(Durable { salt: head.salt, next_commit: self.next_commit });
        }
        add(&self.shared.counters.journal_written_bytes, pages(frame_bytes));
        let sections = self.building.iter_mut().zip(&head.entries).map(|(building, entry)| {
            self.next_offsets[building.slot as usize] += u64::from(building.count);
            let section = Section {
                base_offset: entry.base_offset,
                count: entry.count,
                timestamp_ms: head.timestamp_ms,
                segment,
                position,
                length: entry.length,
                checksum: entry.checksum,
                cached: Some(Bytes::from(std::mem::take(&mut building.records))),
            };
            position += u64::from(entry.length);
            (building.slot, section)
        });
        self.shared.visible.publish(sections, self.shared.settings.tail_cache_bytes_max);
        Ok(())
    }

    /// Begins the next segment, with room for a frame of `frame_bytes`, and hands the one before over to be split.
    /// `wait`: until the background has made room for one more.
    fn roll(&mut self, frame_bytes: u64, wait: bool) -> Result<(), LogError> {
        if let Some(begun) = self.begun.take() {
            match self.shared.spares.finish(begun) {
                Ok(file) => self.activate(file),
                Err(failed) => {
                    let (begun, error) = *failed;
                    self.begun = Some(begun);
                    return Err(error);
                }
            }
        }
        if self.has_room(frame_bytes) && frame_bytes > 0 {
            return Ok(());
        }
        let settings = &self.shared.settings;
        if !self.shared.backlog.has_room(settings.journal_segments_sealed_max, wait) {
            return Err(LogError::Unavailable {
                reason: "the journal is as long as it may be, and cannot be split: see the log's earlier errors".into(),
            });
        }
        let header = SegmentHeader {
            log_id: self.shared.log_id,
            segment: self.next_segment,
            salt: self.shared.entropy.next_u64(),
            first_commit: self.next_commit,
            next_offsets: self.next_offsets.clone(),
        };
        // An error here changes nothing: a smaller frame may still fit into the segment that there is.
        let begun = self.shared.spares.begin(header, frame_bytes)?;
        self.next_segment += 1;
        match self.shared.spares.finish(begun) {
            Ok(file) => {
                self.activate(file);
                Ok(())
            }
            Err(failed) => {
                let (begun, error) = *failed;
                // Its header may be found at the next start, and then says that the segment before ends here: another
                // commit in that one would be lost.
                self.begun = Some(begun);
                self.end_active(true);
                Err(error)
            }
        }
    }

    fn has_room(&self, frame_bytes: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.position + pages(frame_bytes) <= active.file.bytes)
    }

    /// Goes on in a segment that is durable. Only now may the one before be split and removed: there is always a
    /// journal to start from.
    fn activate(&mut self, file: JournalFile) {
        self.end_active(true);
        if let Some(ended) = self.ended.take() {
            self.shared.backlog.seal(ended);
        }
        let file = Arc::new(file);
        self.shared.visible.write().journal.insert(file.header.segment, Arc::clone(&file));
        self.active = Some(Active { position: file.first_at(), file });
        self.shared.backlog.nudge();
    }

    fn end_active(&mut self, sound: bool) {
        if let Some(active) = self.active.take() {
            self.ended = Some(Sealed { file: active.file, commits_end: self.next_commit, sound });
        }
    }

    /// After a write or sync failed, what is on disk of the frame is not known, and after a failed sync the kernel may
    /// say of the next one that all is well. So the segment ends before that frame, and the next one says so in its
    /// header: only when that is durable are the callers told that their records are out.
    fn abandon(&mut self, error: &LogError) -> AppendError {
        self.end_active(false);
        let refusal = self.refusal(error);
        match self.roll(0, false) {
            Ok(()) => refusal,
            Err(second) => {
                self.refusal(&second);
                AppendError::Unknown { reason: error.to_string().into() }
            }
        }
    }

    fn refusal(&self, error: &LogError) -> AppendError {
        add(&self.shared.counters.io_errors, 1);
        tracing::error!(%error, "the log cannot be written: appends are refused until this is repaired");
        AppendError::Unavailable { reason: error.to_string().into() }
    }
}
