//! A session's place in its user's update stream. Every session gets every update after its place once, in order,
//! whatever of it is pushed, repeated or lost on the way to this edge: what is missing is read from the views.

use std::{collections::VecDeque, sync::Arc};

use tidings_schemas::limits::{ATTACHED_BEHIND_MAX, CATCH_UP_HELD_UPDATES_MAX};

use crate::websocket::format::SharedUpdate;

/// What has been written to the session, and what is known to be missing.
#[derive(Debug)]
pub struct Stream {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The stage has not answered yet from which offset on it pushes. What is pushed nevertheless (to another session of
    /// this user on this edge) is at or before that offset.
    Attaching { resume: Option<u64>, behind: u32 },
    /// Somebody reads (`last`, `target`] from the views.
    CatchingUp { last: u64, target: u64, held: VecDeque<(u64, Arc<SharedUpdate>)> },
    /// Everything up to `last` is written.
    Live { last: u64 },
}

/// What to do with the stage's answer, or with a pushed update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write it now.
    Write,
    /// Nothing: it was there already, or will be read or written in its turn.
    Nothing,
    /// Start to read what is missing.
    CatchUp,
    /// The device has more than there is, so its stream is not this one: say so, and go on with what is new.
    Resynchronise,
}

/// What the one who reads does next.
#[derive(Debug)]
pub enum Next {
    /// Read the updates after `last`, up to `target` at least.
    Read {
        /// The newest that is written.
        last: u64,
        /// The newest that is known to exist.
        target: u64,
    },
    /// Write this one, which came live meanwhile, and ask again.
    Write(u64, Arc<SharedUpdate>),
    /// All is written: pushes go straight to the session again.
    Done,
}

impl Stream {
    /// A new session's. `resume`: the offset that its device has, in this stream.
    pub fn new(resume: Option<u64>) -> Self {
        Self { state: State::Attaching { resume, behind: 0 } }
    }

    /// Whether the stage has not answered yet.
    pub fn is_attaching(&self) -> bool {
        matches!(self.state, State::Attaching { .. })
    }

    /// The offset of the newest update that is written; 0 while attaching.
    pub fn last(&self) -> u64 {
        match self.state {
            State::Attaching { .. } => 0,
            State::CatchingUp { last, .. } | State::Live { last } => last,
        }
    }

    /// The stage pushes from `offset` on. [`Step::Write`]: nothing is missing (say welcome). The answer may come again:
    /// then it only tells how far the stream has got.
    pub fn attached(&mut self, offset: u64) -> Step {
        match &mut self.state {
            State::Attaching { resume, behind } => {
                let resume = resume.unwrap_or(offset);
                if resume < offset {
                    self.state = State::CatchingUp { last: resume, target: offset, held: VecDeque::new() };
                    return Step::CatchUp;
                }
                // Whoever answered may be behind: a second owner of the shard, or one that makes the stream up again. The
                // question is put again, and another answers, or the same later.
                *behind += u32::from(resume > offset);
                if resume > offset && *behind < ATTACHED_BEHIND_MAX {
                    return Step::Nothing;
                }
                self.state = State::Live { last: offset };
                if resume > offset { Step::Resynchronise } else { Step::Write }
            }
            _ => self.reach(offset),
        }
    }

    /// The stream cannot be continued from where the device is: it goes on from `offset`.
    pub fn resynchronise(&mut self, offset: u64) {
        if let State::CatchingUp { last, .. } = &mut self.state {
            *last = offset;
        }
    }

    /// An update was pushed.
    pub fn pushed(&mut self, offset: u64, update: &Arc<SharedUpdate>) -> Step {
        match &mut self.state {
            State::Attaching { .. } => Step::Nothing,
            State::Live { last } if offset == *last + 1 => {
                *last = offset;
                Step::Write
            }
            State::Live { last } if offset <= *last => Step::Nothing,
            State::Live { last } => {
                let held = VecDeque::from([(offset, Arc::clone(update))]);
                self.state = State::CatchingUp { last: *last, target: offset - 1, held };
                Step::CatchUp
            }
            State::CatchingUp { target, held, .. } => {
                let newest = held.back().map_or(*target, |(newest, _)| *newest);
                if offset > newest {
                    if offset == newest + 1 && held.len() < CATCH_UP_HELD_UPDATES_MAX {
                        held.push_back((offset, Arc::clone(update)));
                    } else {
                        held.clear();
                        *target = offset;
                    }
                }
                Step::Nothing
            }
        }
    }

    /// The stream has got to `offset`, with an update that has to be read.
    pub fn reach(&mut self, offset: u64) -> Step {
        match &mut self.state {
            State::Live { last } if offset > *last => {
                self.state = State::CatchingUp { last: *last, target: offset, held: VecDeque::new() };
                Step::CatchUp
            }
            State::CatchingUp { target, held, .. } => {
                let newest = held.back().map_or(*target, |(newest, _)| *newest);
                if offset > newest {
                    held.clear();
                    *target = offset;
                }
                Step::Nothing
            }
            State::Attaching { .. } | State::Live { .. } => Step::Nothing,
        }
    }

    /// One more of those read is written, or is not to be when this says no: it was there already.
    pub fn wrote(&mut self, offset: u64) -> bool {
        match &mut self.state {
            State::CatchingUp { last, .. } if offset == *last + 1 => {
                *last = offset;
                true
            }
            _ => false,
        }
    }

    /// What to do next, for the one who catches up.
    pub fn next_step(&mut self) -> Next {
        let State::CatchingUp { last, target, held } = &mut self.state else { return Next::Done };
        while held.front().is_some_and(|(offset, _)| *offset <= *last) {
            held.pop_front();
        }
        match held.front() {
            Some((offset, _)) if *offset == *last + 1 => match held.pop_front() {
                Some((offset, update)) => {
                    *last = offset;
                    *target = (*target).max(offset);
                    Next::Write(offset, update)
                }
                None => Next::Done,
            },
            None if *last >= *target => {
                self.state = State::Live { last: *last };
                Next::Done
            }
            Some((offset, _)) => Next::Read { last: *last, target: (*target).max(*offset - 1) },
            None => Next::Read { last: *last, target: *target },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn update() -> Arc<SharedUpdate> {
        Arc::new(SharedUpdate::new(None))
    }

    #[test]
    fn without_resume_only_what_is_new() {
        let mut stream = Stream::new(None);
        assert_eq!(stream.pushed(41, &update()), Step::Nothing);
        assert_eq!(stream.attached(41), Step::Write);
        assert_eq!(stream.pushed(41, &update()), Step::Nothing);
        assert_eq!(stream.pushed(42, &update()), Step::Write);
        assert_eq!(stream.attached(42), Step::Nothing, "a repeated answer");
        assert_eq!(stream.attached(43), Step::CatchUp, "an answer that tells of a lost push");
    }

    #[test]
    fn a_device_that_is_up_to_date_reads_nothing() {
        let mut stream = Stream::new(Some(7));
        assert_eq!(stream.attached(7), Step::Write);
    }

    #[test]
    fn a_device_that_has_more_than_there_is_begins_anew() {
        let mut stream = Stream::new(Some(8));
        for _ in 1..ATTACHED_BEHIND_MAX {
            assert_eq!(stream.attached(7), Step::Nothing, "who answers may be behind");
        }
        assert_eq!(stream.attached(7), Step::Resynchronise);
        assert_eq!(stream.pushed(8, &update()), Step::Write);
    }

    #[test]
    fn an_answer_from_behind_is_waited_out() {
        let mut stream = Stream::new(Some(9));
        assert_eq!(stream.attached(7), Step::Nothing);
        assert_eq!(stream.attached(10), Step::CatchUp);
        let mut stream = Stream::new(Some(9));
        assert_eq!(stream.attached(7), Step::Nothing);
        assert_eq!(stream.attached(9), Step::Write);
    }

    #[test]
    fn too_many_held_are_read_instead() {
        let mut stream = Stream::new(Some(0));
        assert_eq!(stream.attached(1), Step::CatchUp);
        let last = 1 + CATCH_UP_HELD_UPDATES_MAX as u64 + 10;
        for offset in 2..=last {
            assert_eq!(stream.pushed(offset, &update()), Step::Nothing);
        }
        assert!(stream.wrote(1));
        assert!(
            matches!(stream.next_step(), Next::Read { last: 1, target } if target > 1 + CATCH_UP_HELD_UPDATES_MAX as u64)
        );
    }

    proptest! {
        /// Whatever is lost, repeated or pushed early, and however reading and pushing interleave, each update after the
        /// device's place is written once and in order.
        #[test]
        fn every_update_once_and_in_order(
            resume in prop::option::of(0_u64..20),
            attached in 0_u64..40,
            steps in prop::collection::vec((0_u8..10, 0_u64..6, any::<bool>()), 1..400),
        ) {
            let resume = resume.filter(|resume| *resume <= attached);
            let mut stream = Stream::new(resume);
            let mut written: Vec<u64> = Vec::new();
            let mut end = attached;
            let mut reading = false;
            let mut pending_reads: VecDeque<u64> = VecDeque::new();
            let mut exists: BTreeSet<u64> = (1..=end).collect();
            let catch_up = |step: Step, reading: &mut bool| {
                if step == Step::CatchUp {
                    assert!(!*reading, "two readers at once");
                    *reading = true;
                }
            };
            catch_up(stream.attached(attached), &mut reading);
            let begin = resume.unwrap_or(attached);
            let mut drive = |stream: &mut Stream, reading: &mut bool, written: &mut Vec<u64>| {
                if !*reading {
                    return;
                }
                if let Some(offset) = pending_reads.pop_front() {
                    if stream.wrote(offset) {
                        written.push(offset);
                    }
                    return;
                }
                match stream.next_step() {
                    Next::Write(offset, _) => written.push(offset),
                    Next::Read { last, target } => pending_reads.extend((last + 1..=target).take(5)),
                    Next::Done => *reading = false,
                }
            };
            for (what, back, lost) in steps {
                match what {
                    // A new update: pushed, to be read, or lost.
                    0..=3 => {
                        end += 1;
                        exists.insert(end);
                        if !lost {
                            let step = if what == 3 { stream.reach(end) } else { stream.pushed(end, &update()) };
                            if step == Step::Write {
                                written.push(end);
                            }
                            catch_up(step, &mut reading);
                        }
                    }
                    // A repeat.
                    4 => {
                        let offset = end.saturating_sub(back).max(1);
                        if offset <= end {
                            let step = stream.pushed(offset, &update());
                            if step == Step::Write {
                                written.push(offset);
                            }
                            catch_up(step, &mut reading);
                        }
                    }
                    5 => catch_up(stream.attached(end), &mut reading),
                    _ => drive(&mut stream, &mut reading, &mut written),
                }
            }
            let step = stream.reach(end);
            catch_up(step, &mut reading);
            while reading {
                drive(&mut stream, &mut reading, &mut written);
            }
            let expected: Vec<u64> = exists.into_iter().filter(|offset| *offset > begin).collect();
            prop_assert_eq!(written, expected);
        }
    }
}
