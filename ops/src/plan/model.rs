//! The formulas. docs/CAPACITY.md explains each; the names are the same.
//!
//! Records are counted as the stages write them: one `fanout` record for each partition with recipients, one `inbox` record
//! for each of those, one `deliveries` record for each edge that has recipients of a `fanout` record; receipts and signals as the
//! edges batch them.

use serde::Serialize;
use tidings_schemas::limits;

use super::{
    capacity::{self, Capacity},
    inputs::Inputs,
    records::{self, Sizes},
};

const DAY_SECONDS: f64 = 86_400.0;
/// Fewest partitions of a topic: so that two processes can share.
const PARTITIONS_MIN: f64 = 2.0;
/// How much more partitions there are than the load needs: their number is fixed when the log is made.
const PARTITION_GROWTH: f64 = 2.0;
/// How long an append to Kafka with `acks=all` takes: what comes meanwhile goes together. Assumed.
const APPEND_SECONDS: f64 = 0.005;
/// How often a group's two `_all_` cursors move for a message: at most twice, less when a slow member moves several at once.
const ALL_MOVES_PER_GROUP_MESSAGE: f64 = 1.5;
/// Days that `fanout` and `notifications`, and that `signals` and `deliveries` stay (`Retention::default_of`).
const FANOUT_DAYS_MAX: f64 = 7.0;
const SIGNALS_DAYS: f64 = 1.0;
/// Partitions of `directory`, and the one of `leases`.
const OTHER_PARTITIONS: f64 = 5.0;
/// Fewest of each kind of process, so that one can fail.
const PROCESSES_MIN: f64 = 2.0;
/// Rows of the views in Redis: an inbox row in a packed set, an entry and its index without the text, what a user and a
/// membership have besides. Assumed from the rows' sizes and Redis's own cost for a member of a sorted set.
const REDIS_INBOX_BYTES: f64 = 110.0;
const REDIS_ENTRY_BYTES: f64 = 330.0;
const REDIS_USER_BYTES: f64 = 400.0;
const REDIS_MEMBERSHIP_BYTES: f64 = 260.0;
/// What views hold after this many days.
const VIEWS_DAYS: f64 = 30.0;

/// Each second, over a day's mean or in its busiest second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rates {
    /// Messages sent.
    pub messages: f64,
    /// Rows of inboxes for messages: one for each member.
    pub deliveries: f64,
    /// Updates pushed to sockets, receipts included.
    pub pushes: f64,
    /// Receipts from clients.
    pub receipts: f64,
    /// Signs of life from clients.
    pub heartbeats: f64,
    /// Sessions opened.
    pub sessions: f64,
    /// What clients did: messages, receipts, heartbeats, sessions opened and closed.
    pub events: f64,
    /// Records of each topic.
    pub records: Topics,
    /// Bytes appended to each topic, one copy.
    pub bytes: Topics,
    /// From clients to edges, bytes.
    pub edges_in_bytes: f64,
    /// From edges to clients, bytes.
    pub edges_out_bytes: f64,
    /// Between the roles and the brokers, bytes: appends, copies among brokers, and what all consumers read.
    pub inner_bytes: f64,
}

/// A figure for each topic that carries load.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Topics {
    /// `events`.
    pub events: f64,
    /// `signals`.
    pub signals: f64,
    /// `timeline`.
    pub timeline: f64,
    /// `fanout`.
    pub fanout: f64,
    /// `inbox`.
    pub inbox: f64,
    /// `deliveries`.
    pub deliveries: f64,
    /// `notifications`.
    pub notifications: f64,
}

impl Topics {
    /// All together.
    pub fn sum(&self) -> f64 {
        let Self { events, signals, timeline, fanout, inbox, deliveries, notifications } = self;
        events + signals + timeline + fanout + inbox + deliveries + notifications
    }
}

/// What it takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// For what.
    pub inputs: Inputs,
    /// The mean of a day.
    pub mean: Rates,
    /// Its busiest second.
    pub peak: Rates,
    /// Clients connected at the busiest time.
    pub connections: f64,
    /// Bytes appended in a day, one copy.
    pub log_day_bytes: f64,
    /// Bytes that the brokers hold, all copies.
    pub log_stored_bytes: f64,
    /// Bytes that the archive grows by in a day, one copy.
    pub archive_day_bytes: f64,
    /// Bytes that it has after a year, one copy.
    pub archive_year_bytes: f64,
    /// Memory of the views after thirty days.
    pub views_bytes: f64,
    /// Memory of the views once every tail is as long as it may be.
    pub views_full_bytes: f64,
    /// Memory of the stages' state.
    pub stages_bytes: f64,
    /// Cores of both stages.
    pub stages_cores: f64,
    /// Partitions of `events` and `timeline`: shards of the conversations stage.
    pub conversations_partitions: f64,
    /// Partitions of `signals`, `fanout`, `inbox` and `notifications`: shards of the recipients stage.
    pub recipients_partitions: f64,
    /// Partitions of `deliveries`: the most edges there can be.
    pub deliveries_partitions: f64,
    /// Partitions of all topics, one copy.
    pub partitions: f64,
    /// Logs, each with topics of its own, since one has at most `PARTITIONS_MAX` partitions.
    pub logs: f64,
    /// Edges.
    pub edges: f64,
    /// Dataflow processes.
    pub dataflows: f64,
    /// Projection processes.
    pub projections: f64,
    /// Kafka brokers.
    pub brokers: f64,
    /// Redis servers, for what the views hold after thirty days.
    pub redis_servers: f64,
}

/// How many, when each does so much and a share is left free.
fn count(load: f64, each: f64, headroom: f64) -> f64 {
    (load / (each * (1.0 - headroom))).ceil()
}

/// Places that are hit at least once when `balls` fall into `places` at random.
pub fn places_hit(places: f64, balls: f64) -> f64 {
    if places <= 1.0 {
        return places.min(balls);
    }
    // places · (1 − (1 − 1/places)^balls), in a form that keeps its digits where places are many.
    -places * (balls * (-1.0 / places).ln_1p()).exp_m1()
}

/// Records of all edges and partitions together when one record is on its way for each pair and what comes meanwhile
/// waits for the next.
pub fn batched(items: f64, pairs: f64) -> f64 {
    items / (1.0 + items / pairs * APPEND_SECONDS)
}

/// How many there are of what rates depend on.
struct Fleet {
    edges: f64,
    conversations: f64,
    recipients: f64,
}

/// Computes the plan. The inputs have been checked.
pub fn plan(inputs: &Inputs, capacity: &Capacity) -> Plan {
    let sizes = records::sizes(inputs.message_bytes);
    let connections = inputs.dau * inputs.online_share;
    let peak = clients(inputs, inputs.peak_factor);

    let edges = count(connections, capacity.edge_connections, inputs.headroom)
        .max(count(peak.messages, capacity.edge_messages, inputs.headroom))
        .max(count(peak.pushes, capacity.edge_pushes, inputs.headroom))
        .max(PROCESSES_MIN);
    let messages_day = inputs.dau * inputs.messages_per_user_day;
    let by_load = |records: f64, bytes: f64| {
        let needed = (records / capacity.partition_records).max(bytes / capacity.partition_bytes);
        (needed * PARTITION_GROWTH).ceil().max(PARTITIONS_MIN)
    };
    let timeline_bytes = peak.messages * sizes.timeline + peak.receipts * (sizes.receipt_timeline + sizes.head);
    let conversations = by_load(peak.messages + peak.receipts, timeline_bytes)
        .max((messages_day / limits::DEDUPE_ENTRIES_MAX as f64).ceil());
    // As if each recipient had a record: with fewer partitions than recipients there are fewer.
    let updates = peak.deliveries + peak.receipt_updates;
    let inbox_bytes = updates * (records::USER_ID_BYTES + records::USER_OFFSET_BYTES) + peak.messages * sizes.fanout;
    let recipients = by_load(updates, inbox_bytes);

    let fleet = Fleet { edges, conversations, recipients };
    let mean = rates(inputs, &sizes, &fleet, 1.0);
    let peak_rates = rates(inputs, &sizes, &fleet, inputs.peak_factor);
    let log_day_bytes = mean.bytes.sum() * DAY_SECONDS;
    let days = inputs.retention_days;
    let kept = |bytes: &Topics| {
        (bytes.events + bytes.timeline + bytes.inbox) * days
            + (bytes.fanout + bytes.notifications) * days.min(FANOUT_DAYS_MAX)
            + (bytes.signals + bytes.deliveries) * days.min(SIGNALS_DAYS)
    };
    let log_stored_bytes = kept(&mean.bytes) * DAY_SECONDS * inputs.replication;
    let archive_day_bytes = archive_day(inputs, messages_day);
    let deliveries_partitions = (edges * PARTITION_GROWTH).ceil();
    let partitions = conversations * 2.0 + recipients * 4.0 + deliveries_partitions + OTHER_PARTITIONS;
    let stages_bytes = inputs.dau * capacity::USER_BYTES
        + inputs.dau * inputs.conversations_per_user * capacity::MEMBERSHIP_BYTES
        + connections * capacity::SESSION_BYTES
        + messages_day * capacity::REMEMBERED_MESSAGE_BYTES;
    let stages_cores = cores(inputs, &peak_rates);
    let dataflows = count(stages_bytes, capacity.dataflow_memory_bytes, inputs.headroom)
        .max(count(stages_cores, capacity.dataflow_cores, inputs.headroom))
        .max(PROCESSES_MIN);
    let followed = peak_rates.deliveries + peak.receipt_updates;
    let projections = count(followed, capacity.projection_rows, inputs.headroom).max(PROCESSES_MIN);
    let (views_bytes, views_full_bytes) = views(inputs);
    let copies = inputs.replication;
    let brokers = count(peak_rates.bytes.sum() * copies, capacity.broker_append_bytes, inputs.headroom)
        .max(count(peak_rates.records.sum() * copies, capacity.broker_append_records, inputs.headroom))
        .max(count(log_stored_bytes, capacity.broker_disk_bytes, inputs.headroom))
        .max(count(partitions * copies, capacity.broker_partitions, inputs.headroom))
        .max(copies);
    Plan {
        inputs: *inputs,
        mean,
        peak: peak_rates,
        connections,
        log_day_bytes,
        log_stored_bytes,
        archive_day_bytes,
        archive_year_bytes: archive_day_bytes * 365.0,
        views_bytes,
        views_full_bytes,
        stages_bytes,
        stages_cores,
        conversations_partitions: conversations,
        recipients_partitions: recipients,
        deliveries_partitions,
        partitions,
        logs: (partitions / limits::PARTITIONS_MAX as f64).ceil(),
        edges,
        dataflows,
        projections,
        brokers,
        redis_servers: count(views_bytes, capacity.redis_memory_bytes, inputs.headroom).max(1.0),
    }
}

/// What clients do and get, which no number of machines changes.
struct Clients {
    messages: f64,
    deliveries: f64,
    receipts: f64,
    /// Rows of inboxes for receipts.
    receipt_updates: f64,
    pushes: f64,
    heartbeats: f64,
    sessions: f64,
}

fn clients(inputs: &Inputs, factor: f64) -> Clients {
    let messages = inputs.dau * inputs.messages_per_user_day / DAY_SECONDS * factor;
    let (direct, group) = split(inputs, messages);
    let deliveries = direct * 2.0 + group * inputs.group_size;
    let receipts = (direct + group * (inputs.group_size - 1.0)) * inputs.receipts_per_delivery;
    // A direct chat: the other, and oneself. A group: oneself, and everybody when an `_all_` cursor moves.
    let all_moves = group * inputs.group_size * ALL_MOVES_PER_GROUP_MESSAGE * (inputs.receipts_per_delivery / 2.0);
    let receipt_updates = direct * inputs.receipts_per_delivery * 2.0
        + group * (inputs.group_size - 1.0) * inputs.receipts_per_delivery
        + all_moves;
    // Sender and receivers are those who are there.
    let pushes = (deliveries + receipt_updates) * inputs.online_share;
    // The online share is the busiest time's; over a day there are as many fewer as there is less to do.
    let connections = inputs.dau * inputs.online_share * factor / inputs.peak_factor;
    let heartbeats = connections / limits::HEARTBEAT_INTERVAL.as_secs_f64();
    let sessions = inputs.dau * inputs.sessions_per_user_day / DAY_SECONDS * factor;
    Clients { messages, deliveries, receipts, receipt_updates, pushes, heartbeats, sessions }
}

/// Messages to direct chats and to groups.
fn split(inputs: &Inputs, messages: f64) -> (f64, f64) {
    (messages * (1.0 - inputs.group_share), messages * inputs.group_share)
}

fn rates(inputs: &Inputs, sizes: &Sizes, fleet: &Fleet, factor: f64) -> Rates {
    let clients = clients(inputs, factor);
    let (direct, group) = split(inputs, clients.messages);
    let Fleet { edges, conversations, recipients } = *fleet;
    let members = inputs.group_size;
    let online = inputs.online_share;

    // Records of one message: partitions with recipients, and (partition, edge) pairs with sessions.
    let fanouts_of = |members: f64| places_hit(recipients, members);
    let pushes_of = |members: f64| places_hit(recipients * edges, members * online);
    let message_fanouts = direct * fanouts_of(2.0) + group * fanouts_of(members);
    let message_pushes = direct * pushes_of(2.0) + group * pushes_of(members);
    let away = 1.0 - online;
    let notified = direct * away + group * (members - 1.0) * away;
    let message_notifications = direct * away + group * places_hit(recipients, (members - 1.0) * away);

    let receipt_records = batched(clients.receipts, edges * conversations);
    let all_moves = group * ALL_MOVES_PER_GROUP_MESSAGE * (inputs.receipts_per_delivery / 2.0);
    let single_updates = clients.receipt_updates - all_moves * members;
    let receipt_fanouts = single_updates + all_moves * fanouts_of(members);
    let receipt_pushes = single_updates * online + all_moves * pushes_of(members);

    // Each edge writes a record for each partition each second; openings and ends go at once.
    let ticks = edges * recipients / limits::HEARTBEAT_BATCH_INTERVAL.as_secs_f64();
    let session_signals = clients.sessions * 2.0;
    let records = Topics {
        events: clients.messages + receipt_records,
        signals: ticks + batched(session_signals, edges * recipients),
        timeline: clients.messages + receipt_records,
        fanout: message_fanouts + receipt_fanouts,
        inbox: message_fanouts + receipt_fanouts,
        deliveries: clients.messages + message_pushes + receipt_pushes + clients.sessions,
        notifications: message_notifications,
    };
    let updates = clients.deliveries + clients.receipt_updates;
    let bytes = Topics {
        events: clients.messages * sizes.event + receipt_records * sizes.head + clients.receipts * sizes.receipt,
        signals: records.signals * sizes.head
            + clients.heartbeats * records::HEARTBEAT_BYTES
            + session_signals * records::SESSION_SIGNAL_BYTES,
        timeline: clients.messages * sizes.timeline
            + receipt_records * sizes.head
            + clients.receipts * sizes.receipt_timeline,
        fanout: message_fanouts * sizes.fanout
            + receipt_fanouts * sizes.receipt_update
            + updates * records::USER_ID_BYTES,
        inbox: message_fanouts * sizes.inbox
            + receipt_fanouts * sizes.receipt_update
            + updates * (records::USER_ID_BYTES + records::USER_OFFSET_BYTES),
        deliveries: clients.messages * sizes.verdict
            + message_pushes * sizes.push
            + receipt_pushes * sizes.receipt_update
            + clients.pushes * (records::USER_ID_BYTES + records::USER_OFFSET_BYTES)
            + clients.sessions * records::SESSION_SIGNAL_BYTES,
        notifications: message_notifications * sizes.notification + notified * records::USER_ID_BYTES,
    };
    let message_frames = clients.deliveries * online;
    // Appends, the followers' copies, and the consumers: stages read events, signals and fanout; both projections read
    // timeline and inbox; edges read deliveries; a push service reads notifications.
    let read = bytes.events
        + bytes.signals
        + bytes.fanout
        + 2.0 * (bytes.timeline + bytes.inbox)
        + bytes.deliveries
        + bytes.notifications;
    Rates {
        messages: clients.messages,
        deliveries: clients.deliveries,
        pushes: clients.pushes,
        receipts: clients.receipts,
        heartbeats: clients.heartbeats,
        sessions: clients.sessions,
        events: clients.messages + clients.receipts + clients.heartbeats + session_signals,
        records,
        bytes,
        edges_in_bytes: clients.messages * sizes.frame_send
            + clients.receipts * sizes.frame_receipt
            + clients.heartbeats * sizes.frame_heartbeat,
        edges_out_bytes: clients.messages * sizes.frame_sent
            + message_frames * sizes.frame_push
            + (clients.pushes - message_frames) * sizes.frame_receipt_push,
        inner_bytes: bytes.sum() * inputs.replication + read,
    }
}

/// The archive's growth of a day.
fn archive_day(inputs: &Inputs, messages: f64) -> f64 {
    let day = clients(inputs, 1.0);
    let text = inputs.message_bytes * capacity::ARCHIVE_TEXT_FACTOR;
    messages * (capacity::ARCHIVE_MESSAGE_BYTES + text)
        + (day.deliveries + day.receipt_updates) * DAY_SECONDS * capacity::ARCHIVE_INBOX_BYTES
        + day.receipts * DAY_SECONDS * capacity::ARCHIVE_RECEIPT_BYTES
}

/// Memory of the views after thirty days, and with full tails.
fn views(inputs: &Inputs) -> (f64, f64) {
    let day = clients(inputs, 1.0);
    let updates_of_a_user = (day.deliveries + day.receipt_updates) * DAY_SECONDS / inputs.dau;
    let direct_members = inputs.dau * inputs.conversations_per_user * (1.0 - inputs.group_share);
    let group_members = inputs.dau * inputs.conversations_per_user * inputs.group_share;
    let conversations = direct_members / 2.0 + group_members / inputs.group_size;
    let messages = inputs.dau * inputs.messages_per_user_day;
    let of_days = |days: f64| {
        let updates = (updates_of_a_user * days).min(limits::INBOX_TAIL_MAX as f64);
        // No more entries than there were, and no more than all conversations' tails.
        let entries = (messages * days).min(conversations * limits::ENTRIES_TAIL_MAX as f64);
        inputs.dau * (REDIS_USER_BYTES + updates * REDIS_INBOX_BYTES)
            + inputs.dau * inputs.conversations_per_user * REDIS_MEMBERSHIP_BYTES
            + entries * (REDIS_ENTRY_BYTES + inputs.message_bytes)
    };
    let full = if messages > 0.0 { of_days(f64::MAX.sqrt()) } else { of_days(0.0) };
    (of_days(VIEWS_DAYS), full)
}

/// Cores of both stages in the busiest second.
fn cores(inputs: &Inputs, rates: &Rates) -> f64 {
    let (direct, group) = split(inputs, rates.messages);
    let deliveries = group * inputs.group_size;
    direct / capacity::CONVERSATIONS_DIRECT_PER_CORE
        + deliveries / capacity::CONVERSATIONS_DELIVERIES_PER_CORE
        + rates.receipts / capacity::CONVERSATIONS_RECEIPTS_PER_CORE
        + direct / capacity::RECIPIENTS_DIRECT_PER_CORE
        + deliveries / capacity::RECIPIENTS_DELIVERIES_PER_CORE
        + rates.heartbeats / capacity::RECIPIENTS_HEARTBEATS_PER_CORE
        + rates.sessions / capacity::RECIPIENTS_SESSIONS_PER_CORE
        + (rates.records.events + rates.records.fanout + rates.records.signals) / capacity::RECORDS_PER_CORE
}
