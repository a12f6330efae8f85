//! What a checkpoint holds of a recipients shard, as rows. The first byte of a key is the table:
//!
//! | key | value |
//! |---|---|
//! | `c` | the shard's clock in milliseconds (8 bytes, big-endian, as all fixed numbers here) |
//! | `w`, `events` partition (4) | the newest offset taken in from it (8) |
//! | `e`, edge (4) | run (8), when it was last heard (8), whether it is silent (1) |
//! | `u`, user (16) | last offset and last sign of life (varints); for a user with a session or within its grace also: online (1), the deadline that ended sessions leave (varint), and for each session its id (8), edge (varint), last sign of life (varint) |
//! | `s`, session (8) | edge (4), then the users it watches (16 each) |
//!
//! Slots and the wheel are not saved: they are made anew. The routes and watches of the dataflow follow from the rows.

use std::ops::Deref;

use bytes::{Buf, BufMut};
use prost::encoding::{decode_varint, encode_varint};
use tidings_schemas::ids::{SessionId, UserId, unpack_user_ids};

use super::{
    RecipientsShard,
    presence::{Edge, PresenceChange, Session},
    saved::{SavedOnline, SavedSession, SavedUser},
    users::Slot,
    watches::Watcher,
};
use crate::shard::{SavedState, SnapshotKind, StageError, StateSink};

pub(super) const CLOCK: u8 = b'c';
const WATERMARK: u8 = b'w';
const EDGE: u8 = b'e';
pub(super) const USER: u8 = b'u';
const WATCHER: u8 = b's';

/// A row that is not what this module writes.
pub(super) struct BadRow(pub(super) &'static str);

impl From<bytes::TryGetError> for BadRow {
    fn from(_: bytes::TryGetError) -> Self {
        Self("it is cut short")
    }
}

impl From<prost::DecodeError> for BadRow {
    fn from(_: prost::DecodeError) -> Self {
        Self("a number in it is malformed")
    }
}

impl RecipientsShard {
    /// Writes the whole state, or what changed since the last time.
    pub(super) fn save(&mut self, kind: SnapshotKind, sink: &mut dyn StateSink) {
        let changed_users = self.users.take_changed();
        let changed_watermarks = self.watermarks.take_changed();
        let changed_watchers = self.watches.take_changed();
        let edges_changed = self.presence.take_edges_changed();
        let mut value = Vec::new();
        if kind == SnapshotKind::Full || edges_changed {
            sink.put(&[CLOCK], &self.presence.now_ms().to_be_bytes());
            for (edge_id, edge) in self.presence.edges() {
                value.clear();
                value.put_u64(edge.run);
                value.put_i64(edge.heard_at_ms);
                value.put_u8(edge.silent.into());
                sink.put(&keyed(EDGE, edge_id.to_be_bytes()), &value);
            }
        }
        match kind {
            SnapshotKind::Full => {
                for (partition, newest) in self.watermarks.iter() {
                    sink.put(&keyed(WATERMARK, partition.to_be_bytes()), &newest.to_be_bytes());
                }
                for slot in self.users.slots() {
                    self.save_user(slot, &mut value, sink);
                }
                for session_id in self.watches.sessions() {
                    self.save_watcher(session_id, &mut value, sink);
                }
            }
            SnapshotKind::Changes => {
                for (partition, newest) in changed_watermarks {
                    sink.put(&keyed(WATERMARK, partition.to_be_bytes()), &newest.to_be_bytes());
                }
                for slot in changed_users {
                    self.save_user(slot, &mut value, sink);
                }
                for session_id in changed_watchers {
                    self.save_watcher(session_id, &mut value, sink);
                }
            }
        }
    }

    fn save_user(&self, slot: Slot, value: &mut Vec<u8>, sink: &mut dyn StateSink) {
        value.clear();
        encode_varint(self.users.last_offset(slot), value);
        encode_varint(self.users.last_seen_ms(slot).cast_unsigned(), value);
        if let Some(online) = self.presence.online(slot) {
            value.put_u8(online.is_online.into());
            encode_varint(online.lingering_until_ms.cast_unsigned(), value);
            for session in &online.sessions {
                value.put_u64(session.session_id);
                encode_varint(session.edge_id.into(), value);
                encode_varint(session.last_sign_ms.cast_unsigned(), value);
            }
        }
        sink.put(&keyed(USER, self.users.id(slot).to_bytes()), value);
    }

    fn save_watcher(&self, session_id: u64, value: &mut Vec<u8>, sink: &mut dyn StateSink) {
        let key = keyed(WATCHER, session_id.to_be_bytes());
        let Some(watcher) = self.watches.get(session_id) else { return sink.delete(&key) };
        value.clear();
        value.put_u32(watcher.edge_id);
        for user in &watcher.watched {
            value.put_slice(&user.to_bytes());
        }
        sink.put(&key, value);
    }

    /// Builds the state from rows.
    pub(super) fn restore(&mut self, saved: &SavedState) -> Result<(), StageError> {
        let shard = self.id;
        self.restore_rows(saved).map_err(|BadRow(what)| StageError::State { shard, what })
    }

    fn restore_rows(&mut self, saved: &SavedState) -> Result<(), BadRow> {
        // The clock first: deadlines are filed against it.
        if let Some(clock) = saved.rows.get(&[CLOCK][..]) {
            self.presence.restore_clock((&clock[..]).try_get_i64()?);
        }
        for (key, value) in &saved.rows {
            let Some((table, mut key)) = key.split_first() else { return Err(BadRow("a key is empty")) };
            let mut value = &value[..];
            match *table {
                CLOCK => {}
                WATERMARK => self.watermarks.restore(key.try_get_u32()?, value.try_get_u64()?),
                EDGE => {
                    let run = value.try_get_u64()?;
                    let heard_at_ms = value.try_get_i64()?;
                    let silent = value.try_get_u8()? != 0;
                    self.presence.restore_edge(key.try_get_u32()?, Edge { run, heard_at_ms, silent });
                }
                USER => self.restore_user(UserId(key.try_get_u128()?), value)?,
                WATCHER => {
                    let edge_id = value.try_get_u32()?;
                    let watched = unpack_user_ids(value).collect();
                    let watcher = Watcher { edge_id, watched };
                    self.watches.restore(key.try_get_u64()?, watcher, &mut self.watch_changes);
                }
                _ => return Err(BadRow("its table is unknown")),
            }
        }
        for change in self.presence_changes.drain(..) {
            if let PresenceChange::Route { slot, edge_id, difference } = change {
                self.routing.load_route(slot, edge_id, difference);
            }
        }
        for change in self.watch_changes.drain(..) {
            self.routing.load_watch(change);
        }
        Ok(())
    }

    fn restore_user(&mut self, user: UserId, value: &[u8]) -> Result<(), BadRow> {
        let SavedUser { last_offset, last_seen_ms, online, .. } = read_user(user, value)?;
        let slot = self.users.restore(user, last_offset, last_seen_ms);
        let Some(SavedOnline { is_online, lingering_until_ms, sessions }) = online else { return Ok(()) };
        let session = |session: SavedSession| Session {
            session_id: session.session_id.0,
            edge_id: session.edge_id,
            last_sign_ms: session.last_sign_ms,
        };
        let sessions = sessions.into_iter().map(session).collect();
        self.presence.restore_online(slot, sessions, lingering_until_ms, is_online, &mut self.presence_changes);
        Ok(())
    }
}

/// A user's row.
pub(super) fn read_user(id: UserId, mut value: &[u8]) -> Result<SavedUser, BadRow> {
    let last_offset = decode_varint(&mut value)?;
    let last_seen_ms = decode_varint(&mut value)?.cast_signed();
    let mut user = SavedUser { id, last_offset, last_seen_ms, online: None };
    if value.is_empty() {
        return Ok(user);
    }
    let is_online = value.try_get_u8()? != 0;
    let lingering_until_ms = decode_varint(&mut value)?.cast_signed();
    let mut sessions = Vec::with_capacity(1);
    while !value.is_empty() {
        let session_id = SessionId(value.try_get_u64()?);
        let edge_id = decode_varint(&mut value)?;
        let edge_id = u32::try_from(edge_id).map_err(|_| BadRow("an edge is out of range"))?;
        let last_sign_ms = decode_varint(&mut value)?.cast_signed();
        sessions.push(SavedSession { session_id, edge_id, last_sign_ms });
    }
    user.online = Some(SavedOnline { is_online, lingering_until_ms, sessions });
    Ok(user)
}

/// A row's key: the table, then at most 16 bytes.
struct Key {
    bytes: [u8; 17],
    len: usize,
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn keyed<const N: usize>(table: u8, rest: [u8; N]) -> Key {
    const { assert!(N <= 16, "room for the rest") };
    let mut bytes = [table; 17];
    bytes[1..=N].copy_from_slice(&rest);
    Key { bytes, len: N + 1 }
}
