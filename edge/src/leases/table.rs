//! Who holds which number, as the partition says: a plain fold over its records.

use std::collections::BTreeMap;

use tidings_schemas::wire::{LeaseRecord, lease_record::Action};

/// A number that somebody holds, or has held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Nobody: it was given back.
    pub(super) owner: Option<u64>,
    pub(super) run: u64,
    pub(super) ends_at_ms: i64,
}

/// All numbers that were ever held, as far back as the topic goes.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    held: BTreeMap<u32, Held>,
    /// The largest time of a record so far.
    now_ms: i64,
}

impl LeaseTable {
    /// Takes in the next record of the partition.
    pub(super) fn apply(&mut self, record: &LeaseRecord, timestamp_ms: i64) {
        self.now_ms = self.now_ms.max(timestamp_ms);
        let now_ms = self.now_ms;
        match &record.action {
            Some(Action::Claim(claim)) => {
                let before = self.held.get(&record.edge_id);
                let is_taken = before.is_some_and(|held| {
                    held.ends_at_ms > now_ms && held.owner.is_some_and(|owner| owner != record.owner)
                });
                if !is_taken {
                    // Larger than any run that an edge of this number was started with, also before there were leases:
                    // those were the time.
                    let run = before.map_or(0, |held| held.run + 1).max(now_ms.cast_unsigned());
                    let ends_at_ms = now_ms + i64::from(claim.duration_ms);
                    self.held.insert(record.edge_id, Held { owner: Some(record.owner), run, ends_at_ms });
                }
            }
            Some(Action::Renew(renew)) => {
                let ends_at_ms = now_ms + i64::from(renew.duration_ms);
                // Without one, retention has dropped the claim.
                let held = self.held.entry(record.edge_id).or_insert(Held {
                    owner: Some(record.owner),
                    run: renew.run,
                    ends_at_ms,
                });
                if held.is_by(record.owner, renew.run) {
                    held.ends_at_ms = ends_at_ms;
                }
            }
            Some(Action::Release(release)) => {
                if let Some(held) = self.held.get_mut(&record.edge_id)
                    && held.is_by(record.owner, release.run)
                {
                    held.owner = None;
                }
            }
            // About no lease; or of a newer version.
            Some(Action::Spending(_)) | None => {}
        }
    }

    /// The run that the owner holds the number with, if it does.
    pub(super) fn run_of(&self, edge_id: u32, owner: u64) -> Option<u64> {
        self.held.get(&edge_id).filter(|held| held.owner == Some(owner)).map(|held| held.run)
    }

    /// A number below `count` to claim: one that nobody has had if there is one, else the one that has been free for
    /// longest; `pick` chooses among equals, so that edges that start together do not all want the same.
    pub(super) fn free(&self, count: u32, now_ms: i64, pick: u64) -> Option<u32> {
        let fresh: Vec<u32> = (0..count).filter(|edge_id| !self.held.contains_key(edge_id)).collect();
        if !fresh.is_empty() {
            let place = usize::try_from(pick % fresh.len() as u64).unwrap_or(0);
            return fresh.get(place).copied();
        }
        let now_ms = self.now_ms.max(now_ms);
        let free = self
            .held
            .iter()
            .filter(|(edge_id, held)| **edge_id < count && (held.owner.is_none() || held.ends_at_ms <= now_ms));
        free.min_by_key(|(_, held)| held.ends_at_ms).map(|(edge_id, _)| *edge_id)
    }
}

impl Held {
    fn is_by(&self, owner: u64, run: u64) -> bool {
        self.owner == Some(owner) && self.run == run
    }
}

#[cfg(test)]
mod tests {
    use tidings_schemas::wire::{ClaimLease, ReleaseLease, RenewLease};

    use super::*;

    fn record(owner: u64, edge_id: u32, action: Action) -> LeaseRecord {
        LeaseRecord { owner, edge_id, action: Some(action) }
    }

    fn claim(owner: u64, edge_id: u32) -> LeaseRecord {
        record(owner, edge_id, Action::Claim(ClaimLease { duration_ms: 10, address: String::new() }))
    }

    fn renew(owner: u64, edge_id: u32, run: u64) -> LeaseRecord {
        record(owner, edge_id, Action::Renew(RenewLease { duration_ms: 10, run }))
    }

    #[test]
    fn the_first_claim_wins_until_it_runs_out() {
        let mut table = LeaseTable::default();
        table.apply(&claim(1, 0), 100);
        table.apply(&claim(2, 0), 109);
        assert_eq!((table.run_of(0, 1), table.run_of(0, 2)), (Some(100), None));
        table.apply(&claim(2, 0), 110);
        assert_eq!((table.run_of(0, 1), table.run_of(0, 2)), (None, Some(110)));
        // The one that was overtaken cannot renew, nor give away what it no longer has.
        table.apply(&renew(1, 0, 100), 111);
        table.apply(&record(1, 0, Action::Release(ReleaseLease { run: 100 })), 111);
        assert_eq!(table.run_of(0, 2), Some(110));
    }

    #[test]
    fn a_renewal_that_comes_late_counts_if_nobody_was_faster() {
        let mut table = LeaseTable::default();
        table.apply(&claim(1, 0), 100);
        table.apply(&renew(1, 0, 100), 500);
        table.apply(&claim(2, 0), 509);
        assert_eq!((table.run_of(0, 1), table.run_of(0, 2)), (Some(100), None));
    }

    #[test]
    fn a_renewal_whose_claim_is_no_longer_kept_is_believed() {
        let mut table = LeaseTable::default();
        table.apply(&renew(1, 0, 100), 500);
        table.apply(&claim(2, 0), 509);
        assert_eq!((table.run_of(0, 1), table.free(1, 0, 0)), (Some(100), None));
    }

    #[test]
    fn runs_grow_when_the_clock_steps_back() {
        let mut table = LeaseTable::default();
        table.apply(&claim(1, 0), 1_000);
        table.apply(&record(1, 0, Action::Release(ReleaseLease { run: 1_000 })), 1_000);
        table.apply(&claim(2, 0), 10);
        assert_eq!(table.run_of(0, 2), Some(1_001));
    }

    #[test]
    fn free_numbers_are_fresh_ones_first_and_then_the_longest_free() {
        let mut table = LeaseTable::default();
        table.apply(&claim(1, 0), 100);
        table.apply(&claim(2, 1), 105);
        assert_eq!(table.free(3, 0, 7), Some(2));
        assert_eq!(table.free(2, 0, 7), None);
        assert_eq!(table.free(2, 110, 7), Some(0));
        table.apply(&record(2, 1, Action::Release(ReleaseLease { run: 105 })), 106);
        assert_eq!(table.free(2, 0, 7), Some(1));
    }
}
