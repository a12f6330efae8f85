//! What was pushed to edges: in `deliveries`, where everything of an event stands near one moment.

use std::ops::Range;

use prost::Message;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::{UserId, unpack_user_ids},
    limits::TRACE_PUSH_DELAY_MAX,
    topics::Topic,
    wire::{self, Source, delivery_record::Body, push_item},
};

use super::{Place, is_entry};
use crate::{derived::around, scan::Scan, select::SelectError, state::Told};

/// A push to one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// The edge.
    pub edge_id: u32,
    /// Where it stands.
    pub place: Place,
}

/// All that was pushed.
#[derive(Debug, Default)]
pub struct Pushes {
    /// To the edge where somebody waited for the verdict.
    pub verdict: Option<Push>,
    /// To the edges of recipients, the first of each.
    pub by_user: Vec<(UserId, Push)>,
}

/// Looks from when the timeline was recorded until some time after the inbox was: a push that comes later than that is not
/// found.
///
/// # Errors
/// The log cannot be read.
pub(super) fn find(
    log: &dyn Log,
    event: Source,
    entry: Option<&wire::Entry>,
    derived_ms: Range<i64>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<Pushes, SelectError> {
    let margin_ms = i64::try_from(TRACE_PUSH_DELAY_MAX.as_millis()).unwrap_or(i64::MAX);
    let moments_ms = derived_ms.start.saturating_sub(margin_ms)..derived_ms.end.saturating_add(margin_ms);
    let mut pushes = Pushes::default();
    for partition in 0..log.partitions(Topic::Deliveries) {
        let offsets = around(log, Topic::Deliveries, partition, moments_ms.clone())?;
        told(Told::Expect(offsets.end - offsets.start));
        for record in Scan::new(log, Topic::Deliveries, partition, offsets)? {
            let record = record?;
            told(Told::Took(1));
            let push = Push { edge_id: partition, place: Place::of(Topic::Deliveries, partition, &record) };
            let Ok(delivery) = wire::DeliveryRecord::decode(record.value) else { continue };
            match delivery.body {
                Some(Body::Verdict(_)) if delivery.source == Some(event) => {
                    pushes.verdict.get_or_insert(push);
                }
                Some(Body::Push(pushed)) if pushed.events_source == Some(event) => {
                    for item in pushed.items {
                        let is_meant = match &item.content {
                            Some(push_item::Content::Entry(found)) => is_entry(entry, found.conversation_id, found.seq),
                            _ => entry.is_none(),
                        };
                        for user in unpack_user_ids(&item.user_ids).filter(|_| is_meant) {
                            let is_known =
                                |(known, other): &(UserId, Push)| (*known, other.edge_id) == (user, partition);
                            if !pushes.by_user.iter().any(is_known) {
                                pushes.by_user.push((user, push));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(pushes)
}
