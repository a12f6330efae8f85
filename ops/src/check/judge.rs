//! The judgement itself: observations in, findings out.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::load::record::Observation;

/// Something that the contract does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `lost`, `repeated`, `order`, `gap`, `receipt` or `incomplete`.
    pub kind: &'static str,
    /// What, for people.
    pub detail: String,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "named after what they count")]
pub struct Verdict {
    pub conversations: usize,
    pub devices: usize,
    pub sends: usize,
    pub sent: usize,
    pub rejected: usize,
    pub messages: usize,
    pub updates: usize,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Default)]
struct Device {
    user: String,
    epoch: String,
    last_offset: u64,
    last_seq: HashMap<String, u64>,
    /// (conversation, whose) → the newest cursors.
    cursors: HashMap<(String, Option<String>), [u64; 4]>,
    messages: HashSet<(String, u64)>,
}

#[derive(Debug)]
struct Place {
    message: String,
    client_message: String,
}

/// Takes observations in, in the order of each device.
#[derive(Debug, Default)]
pub struct Judge {
    members: HashMap<String, Vec<String>>,
    devices: HashMap<String, Device>,
    sends: HashMap<String, String>,
    sent: HashMap<String, (String, u64, String)>,
    rejected: HashSet<String>,
    /// Conversation → seq → what everybody has there.
    order: HashMap<String, BTreeMap<u64, Place>>,
    /// Client's id → the message it became, and where.
    became: HashMap<String, (String, u64)>,
    updates: usize,
    ended: bool,
    findings: Vec<Finding>,
}

impl Judge {
    /// Takes one in.
    pub fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Conversation { conversation, members } => {
                self.members.insert(conversation.clone(), members.clone());
            }
            Observation::Connected { device, user, epoch, after } => self.connected(device, user, epoch, *after),
            Observation::Send { client_message, conversation, .. } => {
                self.sends.insert(client_message.clone(), conversation.clone());
            }
            Observation::Sent { client_message, conversation, message, seq } => {
                self.place(conversation, *seq, message, client_message);
                let place = (conversation.clone(), *seq, message.clone());
                if let Some(earlier) = self.sent.insert(client_message.clone(), place.clone())
                    && earlier != place
                {
                    self.find("repeated", format!("{client_message} was acknowledged as {earlier:?} and as {place:?}"));
                }
            }
            Observation::Rejected { client_message, .. } => {
                self.rejected.insert(client_message.clone());
            }
            Observation::Message { device, offset, conversation, seq, message, client_message } => {
                self.update(device, *offset);
                self.place(conversation, *seq, message, client_message);
                self.message(device, conversation, *seq);
            }
            Observation::Receipt { device, offset, conversation, user, cursors } => {
                self.update(device, *offset);
                self.receipt(device, conversation, user.as_ref(), *cursors);
            }
            Observation::Other { device, offset } => self.update(device, *offset),
            Observation::End => self.ended = true,
        }
    }

    /// What came of it all.
    pub fn verdict(mut self) -> Verdict {
        if !self.ended {
            self.find("incomplete", "the record has no end: the run was cut short".to_owned());
        }
        self.find_losses();
        self.find_gaps();
        Verdict {
            conversations: self.members.len(),
            devices: self.devices.len(),
            sends: self.sends.len(),
            sent: self.sent.len(),
            rejected: self.rejected.len(),
            messages: self.order.values().map(BTreeMap::len).sum(),
            updates: self.updates,
            findings: self.findings,
        }
    }

    fn find(&mut self, kind: &'static str, detail: String) {
        self.findings.push(Finding { kind, detail });
    }

    fn connected(&mut self, device: &str, user: &str, epoch: &str, after: u64) {
        let known = self.devices.entry(device.to_owned()).or_default();
        let changed = !known.epoch.is_empty() && known.epoch != epoch;
        let jumped = !known.epoch.is_empty() && known.epoch == epoch && known.last_offset != after;
        let last_offset = known.last_offset;
        user.clone_into(&mut known.user);
        epoch.clone_into(&mut known.epoch);
        known.last_offset = after;
        if changed {
            self.find("lost", format!("{device}: the epoch changed, so its stream broke off"));
        } else if jumped {
            self.find("gap", format!("{device}: had offset {last_offset}, was resumed at {after}"));
        }
    }

    fn update(&mut self, device: &str, offset: u64) {
        self.updates += 1;
        let known = self.devices.entry(device.to_owned()).or_default();
        let expected = known.last_offset + 1;
        known.last_offset = known.last_offset.max(offset);
        if offset < expected {
            self.find("repeated", format!("{device}: offset {offset} came when {expected} was due"));
        } else if offset > expected {
            self.find("gap", format!("{device}: offset {offset} came when {expected} was due"));
        }
    }

    fn place(&mut self, conversation: &str, seq: u64, message: &str, client_message: &str) {
        let places = self.order.entry(conversation.to_owned()).or_default();
        let mut clash = None;
        match places.get(&seq) {
            Some(place) if place.message != message || place.client_message != client_message => {
                clash =
                    Some(format!("{conversation} seq {seq} is {} for one and {message} for another", place.message));
            }
            Some(_) => {}
            None => {
                let place = Place { message: message.to_owned(), client_message: client_message.to_owned() };
                places.insert(seq, place);
            }
        }
        if let Some(detail) = clash {
            self.find("order", detail);
        }
        if client_message.is_empty() {
            return;
        }
        let now = (message.to_owned(), seq);
        if let Some(earlier) = self.became.get(client_message) {
            if *earlier != now {
                let detail = format!("{client_message} became {earlier:?} and {now:?}");
                self.find("repeated", detail);
            }
        } else {
            self.became.insert(client_message.to_owned(), now);
        }
    }

    fn message(&mut self, device: &str, conversation: &str, seq: u64) {
        let known = self.devices.entry(device.to_owned()).or_default();
        let last = known.last_seq.entry(conversation.to_owned()).or_default();
        let behind = seq <= *last;
        let before = *last;
        *last = seq.max(*last);
        let repeated = !known.messages.insert((conversation.to_owned(), seq));
        if repeated {
            self.find("repeated", format!("{device}: {conversation} seq {seq} came twice"));
        } else if behind {
            self.find("order", format!("{device}: {conversation} seq {seq} came after {before}"));
        }
    }

    fn receipt(&mut self, device: &str, conversation: &str, user: Option<&String>, cursors: [u64; 4]) {
        let known = self.devices.entry(device.to_owned()).or_default();
        let newest = known.cursors.entry((conversation.to_owned(), user.cloned())).or_default();
        let before = *newest;
        let backwards = cursors.iter().zip(newest.iter()).any(|(now, before)| now < before);
        for (newest, now) in newest.iter_mut().zip(cursors) {
            *newest = now.max(*newest);
        }
        if backwards {
            self.find("receipt", format!("{device}: {conversation} {user:?} went from {before:?} to {cursors:?}"));
        }
        if cursors[1] > cursors[0] || cursors[3] > cursors[2] {
            self.find("receipt", format!("{device}: {conversation} {user:?} is seen beyond delivered: {cursors:?}"));
        }
    }

    /// Every acknowledged message is with a device of every member; every send got an answer.
    fn find_losses(&mut self) {
        let mut devices_of: HashMap<&str, Vec<&Device>> = HashMap::new();
        for device in self.devices.values() {
            devices_of.entry(&device.user).or_default().push(device);
        }
        let mut lost = Vec::new();
        for (client_message, (conversation, seq, _)) in &self.sent {
            let Some(members) = self.members.get(conversation) else { continue };
            let key = (conversation.clone(), *seq);
            for member in members {
                let has = devices_of
                    .get(member.as_str())
                    .is_none_or(|devices| devices.iter().all(|device| device.messages.contains(&key)));
                if !has {
                    lost.push(format!("{client_message} (seq {seq}) was acknowledged, but {member} never got it"));
                }
            }
        }
        for client_message in self.sends.keys() {
            if !self.sent.contains_key(client_message) && !self.rejected.contains(client_message) {
                lost.push(format!("{client_message} was sent, but never answered"));
            }
        }
        lost.sort();
        for detail in lost {
            self.find("lost", detail);
        }
    }

    /// The seqs that somebody saw are contiguous from the first one seen.
    fn find_gaps(&mut self) {
        let mut gaps = Vec::new();
        for (conversation, places) in &self.order {
            let mut expected = None;
            for seq in places.keys() {
                if let Some(expected) = expected
                    && *seq != expected
                {
                    gaps.push(format!("{conversation}: nobody has seq {expected} to {}", seq - 1));
                }
                expected = Some(seq + 1);
            }
        }
        for detail in gaps {
            self.find("gap", detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(device: &str, offset: u64, seq: u64, message: &str) -> Observation {
        Observation::Message {
            device: device.to_owned(),
            offset,
            conversation: "c".to_owned(),
            seq,
            message: message.to_owned(),
            client_message: format!("client-{message}"),
        }
    }

    fn sent(seq: u64, message: &str) -> Observation {
        Observation::Sent {
            client_message: format!("client-{message}"),
            conversation: "c".to_owned(),
            message: message.to_owned(),
            seq,
        }
    }

    /// Two devices of two users, and two messages that reach both.
    fn good() -> Vec<Observation> {
        let connected = |device: &str, user: &str| Observation::Connected {
            device: device.to_owned(),
            user: user.to_owned(),
            epoch: "e".to_owned(),
            after: 0,
        };
        let send = |message: &str| Observation::Send {
            client_message: format!("client-{message}"),
            conversation: "c".to_owned(),
            user: "ann".to_owned(),
        };
        vec![
            Observation::Conversation {
                conversation: "c".to_owned(),
                members: vec!["ann".to_owned(), "bob".to_owned()],
            },
            connected("a", "ann"),
            connected("b", "bob"),
            send("m1"),
            send("m2"),
            sent(1, "m1"),
            sent(2, "m2"),
            message("a", 1, 1, "m1"),
            message("b", 1, 1, "m1"),
            message("a", 2, 2, "m2"),
            message("b", 2, 2, "m2"),
            Observation::End,
        ]
    }

    fn kinds(observations: &[Observation]) -> Vec<&'static str> {
        let mut judge = Judge::default();
        for observation in observations {
            judge.observe(observation);
        }
        let mut kinds: Vec<_> = judge.verdict().findings.iter().map(|finding| finding.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn a_good_run_has_no_findings() {
        assert_eq!(kinds(&good()), Vec::<&str>::new());
    }

    #[test]
    fn every_breach_is_found() {
        let with = |change: &dyn Fn(&mut Vec<Observation>)| {
            let mut observations = good();
            change(&mut observations);
            kinds(&observations)
        };
        assert_eq!(with(&|all| drop(all.pop())), ["incomplete"]);
        assert_eq!(with(&|all| drop(all.remove(10))), ["lost"], "the last message missing at b");
        assert_eq!(with(&|all| drop(all.remove(8))), ["gap", "lost"], "the first message missing at b");
        assert_eq!(with(&|all| drop(all.drain(5..7))), ["lost"], "never answered");
        assert_eq!(with(&|all| all[10] = message("b", 2, 2, "m3")), ["order"], "another message at the same seq");
        assert_eq!(with(&|all| all.insert(11, message("b", 2, 2, "m2"))), ["repeated"]);
        assert_eq!(with(&|all| all.insert(11, message("b", 3, 2, "m2"))), ["repeated"], "with an offset of its own");
        assert_eq!(with(&|all| all[6] = sent(3, "m2")), ["repeated", "lost"], "another seq in the acknowledgement");
        let receipt = |offset, cursors| Observation::Receipt {
            device: "a".to_owned(),
            offset,
            conversation: "c".to_owned(),
            user: None,
            cursors,
        };
        assert_eq!(with(&|all| all.insert(11, receipt(3, [2, 1, 2, 1]))), Vec::<&str>::new());
        assert_eq!(
            with(&|all| {
                all.insert(11, receipt(3, [2, 1, 2, 1]));
                all.insert(12, receipt(4, [1, 1, 2, 1]));
            }),
            ["receipt"]
        );
        assert_eq!(with(&|all| all.insert(11, receipt(3, [1, 2, 1, 1]))), ["receipt"], "seen beyond delivered");
    }
}
