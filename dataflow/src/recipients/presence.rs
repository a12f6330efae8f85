//! Who is online: sessions, the edges they are on, and the wheel that finds whose time is out.
//!
//! Heartbeats end here. What goes on into the dataflow is only what changes something: a session's route comes or
//! goes, a user comes online or goes offline.
//!
//! A user is online until the latest of these deadlines: the last sign of life and the time-out, for a session that is
//! open or ended without a goodbye; the goodbye and the grace, for one that ended with it. Deadlines have a resolution
//! of one tick ([`PRESENCE_TICK`]), rounded up, so that a tick's worth of users is looked at once.

use std::time::Duration;

use hashbrown::HashMap;
use tidings_schemas::limits::{
    HEARTBEAT_INTERVAL, HEARTBEATS_MISSED_MAX, PRESENCE_GRACE, PRESENCE_TICK, SESSIONS_PER_USER_MAX,
};

use super::{
    users::{Slot, Users},
    wheel::Wheel,
};

/// Settings of the recipients stage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecipientsConfig {
    /// How often a client is asked for a sign of life, in milliseconds. The same as the edges' setting.
    pub heartbeat_interval_ms: u32,
    /// Signs of life that may be missed before a user counts as offline, and an edge as gone.
    pub heartbeats_missed_max: u32,
    /// How long after a goodbye a user still counts as online, in milliseconds.
    pub presence_grace_ms: u32,
}

impl Default for RecipientsConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: milliseconds(HEARTBEAT_INTERVAL),
            heartbeats_missed_max: HEARTBEATS_MISSED_MAX,
            presence_grace_ms: milliseconds(PRESENCE_GRACE),
        }
    }
}

impl RecipientsConfig {
    /// How long a session without a sign of life, or an edge without a record, counts as there.
    pub fn timeout_ms(&self) -> i64 {
        i64::from(self.heartbeat_interval_ms) * i64::from(self.heartbeats_missed_max)
    }

    /// The grace after a goodbye.
    pub fn grace_ms(&self) -> i64 {
        i64::from(self.presence_grace_ms)
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The tick that a moment is in.
pub(super) fn tick_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(milliseconds(PRESENCE_TICK).into())
}

/// The first tick that is not before a deadline.
pub(super) fn deadline_tick(deadline_ms: i64) -> i64 {
    let tick_ms = i64::from(milliseconds(PRESENCE_TICK));
    deadline_ms.saturating_add(tick_ms - 1).div_euclid(tick_ms)
}

/// What presence tells the dataflow, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PresenceChange {
    /// A session of the user on that edge came (+1) or went (-1).
    Route { slot: Slot, edge_id: u32, difference: isize },
    /// The user came online or went offline.
    Transition { slot: Slot, online: bool },
}

/// What became of a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Of a session that was there.
    Known,
    /// The session is there from now on.
    Opened,
    /// The user has as many sessions as there may be.
    Refused,
}

/// How an edge's record stands to its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Present,
    /// The edge was started anew: the sessions of its earlier runs are gone.
    New,
    /// A late record of a run that is over.
    Past,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) session_id: u64,
    pub(super) edge_id: u32,
    pub(super) last_sign_ms: i64,
}

/// A user with a session, or within the grace of one.
#[derive(Debug, Clone)]
pub(super) struct Online {
    pub(super) sessions: Vec<Session>,
    /// The latest deadline that ended sessions leave.
    pub(super) lingering_until_ms: i64,
    /// False for a user whose sessions are open but give no sign of life.
    pub(super) is_online: bool,
    /// The tick of the user's one valid entry in the wheel.
    filed_tick: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) run: u64,
    pub(super) heard_at_ms: i64,
    /// Its sessions were dropped because it was silent.
    pub(super) silent: bool,
}

/// Sessions, edges and presence of the shard's users.
#[derive(Debug)]
pub(super) struct Presence {
    timeout_ms: i64,
    grace_ms: i64,
    now_ms: i64,
    online: HashMap<Slot, Online>,
    edges: HashMap<u32, Edge>,
    edges_changed: bool,
    wheel: Wheel,
    due: Vec<(Slot, i64)>,
}

impl Presence {
    pub(super) fn new(config: &RecipientsConfig) -> Self {
        let horizon_ms = config.timeout_ms().max(config.grace_ms());
        // Past an hour, deadlines are filed in several goes rather than in a larger wheel.
        let horizon_ticks = usize::try_from(deadline_tick(horizon_ms)).unwrap_or(0).min(3600);
        Self {
            timeout_ms: config.timeout_ms(),
            grace_ms: config.grace_ms(),
            now_ms: 0,
            online: HashMap::new(),
            edges: HashMap::new(),
            edges_changed: false,
            wheel: Wheel::new(horizon_ticks),
            due: Vec::new(),
        }
    }

    /// The shard's clock: the largest bounded stamp so far.
    pub(super) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub(super) fn is_online(&self, slot: Slot) -> bool {
        self.online.get(&slot).is_some_and(|online| online.is_online)
    }

    /// An edge gave a sign of life with a record of `run`.
    pub(super) fn hear(
        &mut self,
        edge_id: u32,
        run: u64,
        stamp_ms: i64,
        users: &mut Users,
        changes: &mut Vec<PresenceChange>,
    ) -> Run {
        let tick_before = tick_of(self.now_ms);
        self.now_ms = self.now_ms.max(stamp_ms);
        self.edges_changed = true;
        let heard = Edge { run, heard_at_ms: self.now_ms, silent: false };
        let state = match self.edges.get_mut(&edge_id) {
            Some(edge) if edge.run > run => Run::Past,
            Some(edge) if edge.run == run => {
                *edge = heard;
                Run::Present
            }
            _ => {
                self.edges.insert(edge_id, heard);
                self.drop_edge(edge_id, users, changes);
                Run::New
            }
        };
        if tick_of(self.now_ms) > tick_before {
            self.tick(users, changes);
        }
        state
    }

    /// Ends the routes of edges that have been silent, and finds the users whose deadline has come.
    fn tick(&mut self, users: &mut Users, changes: &mut Vec<PresenceChange>) {
        let now_tick = tick_of(self.now_ms);
        let timeout_ms = self.timeout_ms;
        let newly_silent: Vec<u32> = self
            .edges
            .iter_mut()
            .filter(|(_, edge)| !edge.silent && deadline_tick(edge.heard_at_ms + timeout_ms) <= now_tick)
            .map(|(edge_id, edge)| {
                edge.silent = true;
                *edge_id
            })
            .collect();
        for edge_id in newly_silent {
            self.drop_edge(edge_id, users, changes);
        }

        let mut due = std::mem::take(&mut self.due);
        self.wheel.drain(now_tick, &mut due);
        let mut offline: Vec<Slot> = Vec::new();
        for (slot, tick) in due.drain(..) {
            let Some(online) = self.online.get_mut(&slot) else { continue };
            if online.filed_tick != Some(tick) {
                continue;
            }
            let deadline = deadline_tick(online.deadline_ms(timeout_ms));
            if deadline > now_tick {
                online.filed_tick = Some(self.wheel.file(slot, deadline));
                continue;
            }
            online.filed_tick = None;
            online.is_online = false;
            offline.push(slot);
            users.mark_changed(slot);
            self.forget_if_gone(slot);
        }
        self.due = due;
        offline.sort_unstable_by_key(|slot| users.id(*slot));
        changes.extend(offline.into_iter().map(|slot| PresenceChange::Transition { slot, online: false }));
    }

    /// A session was opened, or gave a sign of life. One that is not known is opened by it: its edge may have been
    /// taken for gone.
    pub(super) fn sign_of_life(
        &mut self,
        slot: Slot,
        session_id: u64,
        edge_id: u32,
        users: &mut Users,
        changes: &mut Vec<PresenceChange>,
    ) -> Sign {
        let now_ms = self.now_ms;
        let online = self.online.entry(slot).or_insert_with(Online::new);
        let known = online.sessions.iter().position(|session| session.session_id == session_id);
        let sign = match known {
            Some(index) => {
                let session = &mut online.sessions[index];
                session.last_sign_ms = now_ms;
                let before = std::mem::replace(&mut session.edge_id, edge_id);
                if before == edge_id {
                    Sign::Known
                } else {
                    changes.push(PresenceChange::Route { slot, edge_id: before, difference: -1 });
                    Sign::Opened
                }
            }
            None if online.sessions.len() >= SESSIONS_PER_USER_MAX => return Sign::Refused,
            None => {
                online.sessions.push(Session { session_id, edge_id, last_sign_ms: now_ms });
                Sign::Opened
            }
        };
        if sign == Sign::Opened {
            changes.push(PresenceChange::Route { slot, edge_id, difference: 1 });
        }
        users.set_last_seen_ms(slot, now_ms);
        if !online.is_online {
            online.is_online = true;
            changes.push(PresenceChange::Transition { slot, online: true });
        }
        Self::file(slot, online, &mut self.wheel, self.timeout_ms);
        sign
    }

    /// A session ended. Says whether it was known, on that edge.
    pub(super) fn close_session(
        &mut self,
        slot: Slot,
        session_id: u64,
        edge_id: u32,
        clean: bool,
        users: &mut Users,
        changes: &mut Vec<PresenceChange>,
    ) -> bool {
        let Some(online) = self.online.get_mut(&slot) else { return false };
        let is_it = |session: &Session| session.session_id == session_id && session.edge_id == edge_id;
        let Some(index) = online.sessions.iter().position(is_it) else { return false };
        let session = online.sessions.swap_remove(index);
        let until_ms = if clean { self.now_ms + self.grace_ms } else { session.last_sign_ms + self.timeout_ms };
        online.lingering_until_ms = online.lingering_until_ms.max(until_ms);
        if clean {
            users.set_last_seen_ms(slot, self.now_ms);
        }
        users.mark_changed(slot);
        changes.push(PresenceChange::Route { slot, edge_id, difference: -1 });
        if online.is_online {
            Self::file(slot, online, &mut self.wheel, self.timeout_ms);
        }
        self.forget_if_gone(slot);
        true
    }

    /// Ends all sessions of an edge, without a goodbye. Looks at every user online: edges come and go rarely.
    fn drop_edge(&mut self, edge_id: u32, users: &mut Users, changes: &mut Vec<PresenceChange>) {
        let timeout_ms = self.timeout_ms;
        self.online.retain(|slot, online| {
            let Online { sessions, lingering_until_ms, .. } = online;
            sessions.retain(|session| {
                if session.edge_id != edge_id {
                    return true;
                }
                *lingering_until_ms = (*lingering_until_ms).max(session.last_sign_ms + timeout_ms);
                changes.push(PresenceChange::Route { slot: *slot, edge_id, difference: -1 });
                users.mark_changed(*slot);
                false
            });
            online.is_online || !online.sessions.is_empty()
        });
    }

    /// Sees to it that the wheel has an entry no later than the deadline.
    fn file(slot: Slot, online: &mut Online, wheel: &mut Wheel, timeout_ms: i64) {
        let deadline = deadline_tick(online.deadline_ms(timeout_ms));
        if online.filed_tick.is_none_or(|filed| deadline < filed) {
            online.filed_tick = Some(wheel.file(slot, deadline));
        }
    }

    fn forget_if_gone(&mut self, slot: Slot) {
        if let Some(online) = self.online.get(&slot)
            && !online.is_online
            && online.sessions.is_empty()
        {
            self.online.remove(&slot);
        }
    }

    /// The user's sessions and deadlines, to be saved.
    pub(super) fn online(&self, slot: Slot) -> Option<&Online> {
        self.online.get(&slot)
    }

    /// How many users have a session or are within the grace of one.
    pub(super) fn online_len(&self) -> usize {
        self.online.len()
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (u32, Edge)> + '_ {
        self.edges.iter().map(|(edge_id, edge)| (*edge_id, *edge))
    }

    /// Whether the clock or an edge moved since the last call.
    pub(super) fn take_edges_changed(&mut self) -> bool {
        std::mem::take(&mut self.edges_changed)
    }

    /// Puts the clock and the edges back, before any user.
    pub(super) fn restore_clock(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.wheel.drain(tick_of(now_ms), &mut self.due);
        self.due.clear();
    }

    pub(super) fn restore_edge(&mut self, edge_id: u32, edge: Edge) {
        self.edges.insert(edge_id, edge);
    }

    /// Puts a user's sessions back. The routes among the changes are the caller's to make.
    pub(super) fn restore_online(
        &mut self,
        slot: Slot,
        sessions: Vec<Session>,
        lingering_until_ms: i64,
        is_online: bool,
        changes: &mut Vec<PresenceChange>,
    ) {
        let mut online = Online { sessions, lingering_until_ms, is_online, filed_tick: None };
        if is_online {
            Self::file(slot, &mut online, &mut self.wheel, self.timeout_ms);
        }
        for session in &online.sessions {
            changes.push(PresenceChange::Route { slot, edge_id: session.edge_id, difference: 1 });
        }
        self.online.insert(slot, online);
    }
}

impl Online {
    fn new() -> Self {
        Self { sessions: Vec::with_capacity(1), lingering_until_ms: 0, is_online: false, filed_tick: None }
    }

    /// The latest moment up to which the user counts as online.
    fn deadline_ms(&self, timeout_ms: i64) -> i64 {
        let sessions = self.sessions.iter().map(|session| session.last_sign_ms.saturating_add(timeout_ms)).max();
        sessions.map_or(self.lingering_until_ms, |until_ms| until_ms.max(self.lingering_until_ms))
    }
}
