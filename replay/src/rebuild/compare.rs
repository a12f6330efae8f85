//! Two stores of views compared, while the system goes on writing the old one.
//!
//! First every owner's rows are read once from both, without any order between the two. What differs then may only have
//! changed meanwhile, so it is looked at again: old rows, then the new ones filled up to the log's end, then, once the old
//! have come to where the new are, the old rows again. Old rows that are the same before and after, and not the new ones in
//! between, are different: what is right follows from the log below a position, and the new ones' lies between the two.
//! Rows that change at each look are undecided.

use std::{ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_dataflow::views::{
    owners::ViewOwners,
    projection::{FillError, Filler},
};
use tidings_schemas::{
    ids::ConversationId,
    limits::{
        REBUILD_LOOKS_MAX, REBUILD_OLD_WAIT, REBUILD_SUSPECTS_MAX, REBUILD_SUSPECTS_TOGETHER, VIEW_SCAN_ROWS_MAX,
    },
    views::{Position, Scan, Table, ViewError, number_of},
};

use super::{OnProgress, Progress, Step};
use crate::{decode, fields};

/// How a row in use is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It should be there, and was not.
    Missing,
    /// It was there, and should not have been.
    Extra,
    /// It should have been another.
    Differing,
}

/// A row in use that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDifference {
    /// How.
    pub kind: Kind,
    /// The table.
    pub table: String,
    /// Whose it is: a conversation, a user, or the hash of a user name.
    pub owner: String,
    /// Which of the owner's rows.
    pub row: String,
    /// What was in use, as JSON, or why it cannot be read.
    pub old: Option<serde_json::Value>,
    /// What follows from the log.
    pub new: Option<serde_json::Value>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows that were in use.
    pub old_rows: u64,
    /// Rows that follow from the log.
    pub new_rows: u64,
    /// See [`Kind`].
    pub missing: u64,
    /// See [`Kind`].
    pub extra: u64,
    /// See [`Kind`].
    pub differing: u64,
    /// Owners whose rows changed whenever they were looked at, or that were too many.
    pub undecided_owners: u64,
    /// The first.
    pub first: Vec<RowDifference>,
}

impl Comparison {
    /// Rows that were not what they should be.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.differing
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A store.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The new views cannot be filled.
    #[error(transparent)]
    Fill(#[from] FillError),
}

type Rows = Vec<(Bytes, Bytes)>;
type Owner = (Table, u128);

/// Two stores, and who fills the new one.
pub struct Compare<'a> {
    /// Those in use.
    pub old: Arc<dyn ViewOwners>,
    /// Those that were built.
    pub new: Arc<dyn ViewOwners>,
    /// Fills the new.
    pub filler: &'a mut Filler,
    /// Nobody else writes the old: this does.
    pub old_filler: Option<&'a mut Filler>,
    /// How many differences are kept.
    pub kept_max: usize,
    /// Told of owners.
    pub progress: OnProgress<'a>,
}

impl Compare<'_> {
    /// Compares all rows.
    ///
    /// # Errors
    /// A store or the log cannot be read.
    pub async fn run(mut self) -> Result<Comparison, CompareError> {
        let mut found = Comparison::default();
        let suspects = self.suspects(&mut found).await?;
        for together in suspects.chunks(REBUILD_SUSPECTS_TOGETHER) {
            self.look(together, &mut found).await?;
        }
        Ok(found)
    }

    /// Owners whose rows are not the same at a first look.
    async fn suspects(&mut self, found: &mut Comparison) -> Result<Vec<Owner>, CompareError> {
        let mut suspects = Vec::new();
        let mut suspect = |owner, found: &mut Comparison| {
            if suspects.len() < REBUILD_SUSPECTS_MAX {
                suspects.push(owner);
            } else {
                found.undecided_owners += 1;
            }
        };
        let mut done = 0;
        let mut after = None;
        loop {
            let owners = self.old.owners(after).await?;
            for owner in owners.found {
                let (old, new) = tokio::join!(rows(&*self.old, owner), rows(&*self.new, owner));
                let (old, new) = (old?, new?);
                found.old_rows += old.len() as u64;
                if old != new {
                    suspect(owner, found);
                }
                done += 1;
            }
            (self.progress)(Progress { step: Step::Comparing, done, total: 0 });
            let Some(next) = owners.next else { break };
            after = Some(next);
        }
        self.filler.to_end(&|_| {}).await?;
        let mut after = None;
        loop {
            let owners = self.new.owners(after).await?;
            for owner in owners.found {
                let new = rows(&*self.new, owner).await?;
                found.new_rows += new.len() as u64;
                if !new.is_empty() && first_row(&*self.old, owner).await?.is_none() {
                    suspect(owner, found);
                }
            }
            let Some(next) = owners.next else { break };
            after = Some(next);
        }
        suspects.sort_unstable();
        suspects.dedup();
        Ok(suspects)
    }

    /// Looks at these until they are the same, or surely not.
    async fn look(&mut self, suspects: &[Owner], found: &mut Comparison) -> Result<(), CompareError> {
        let mut left = Vec::new();
        for owner in suspects {
            left.push((*owner, rows(&*self.old, *owner).await?));
        }
        for _ in 0..REBUILD_LOOKS_MAX {
            self.filler.to_end(&|_| {}).await?;
            let mut between = Vec::new();
            for (owner, old) in left {
                let new = rows(&*self.new, owner).await?;
                if new != old {
                    between.push((owner, old, new));
                }
            }
            if between.is_empty() {
                return Ok(());
            }
            let came = self.old_comes_to(&self.filler.positions()).await?;
            left = Vec::new();
            for (owner, before, new) in between {
                let after = rows(&*self.old, owner).await?;
                if after == new {
                    continue;
                }
                if came && after == before {
                    found.tell(owner, &after, &new, self.kept_max);
                } else {
                    left.push((owner, after));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if !came {
                break;
            }
        }
        found.undecided_owners += left.len() as u64;
        Ok(())
    }

    /// Waits until the old views are where the new ones are; `false` if that takes too long.
    async fn old_comes_to(&mut self, positions: &[Position]) -> Result<bool, CompareError> {
        if let Some(filler) = &mut self.old_filler {
            filler.to_end(&|_| {}).await?;
            return Ok(true);
        }
        for Position { topic, partition, next_offset } in positions {
            let Some(last) = next_offset.checked_sub(1) else { continue };
            let waited: Duration = REBUILD_OLD_WAIT;
            match self.old.wait_past(*topic, *partition, last, waited).await {
                Ok(()) => {}
                Err(ViewError::Unavailable(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl Comparison {
    /// Both in the order of their keys.
    fn tell(&mut self, owner: Owner, old: &Rows, new: &Rows, kept_max: usize) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let (kind, old, new) = match order {
                std::cmp::Ordering::Less => (Kind::Extra, old.next(), None),
                std::cmp::Ordering::Greater => (Kind::Missing, None, new.next()),
                std::cmp::Ordering::Equal => (Kind::Differing, old.next(), new.next()),
            };
            if kind == Kind::Differing && old == new {
                continue;
            }
            let count = match kind {
                Kind::Missing => &mut self.missing,
                Kind::Extra => &mut self.extra,
                Kind::Differing => &mut self.differing,
            };
            *count += 1;
            if self.first.len() < kept_max {
                let sort = old.or(new).map(|(sort, _)| sort.clone()).unwrap_or_default();
                self.first.push(RowDifference {
                    kind,
                    table: owner.0.name().to_owned(),
                    owner: ConversationId(owner.1).to_string(),
                    row: row_name(owner.0, &sort),
                    old: old.map(|(_, value)| shown(owner.0, value)),
                    new: new.map(|(_, value)| shown(owner.0, value)),
                });
            }
        }
    }
}

/// All rows of an owner, in order.
async fn rows(views: &dyn ViewOwners, (table, owner): Owner) -> Result<Rows, ViewError> {
    let mut all = Rows::new();
    loop {
        let from = all.last().map_or(Bound::Unbounded, |(sort, _)| Bound::Excluded(sort.clone()));
        let scan = Scan { table, owner, from, to: Bound::Unbounded, reverse: false, limit: VIEW_SCAN_ROWS_MAX };
        let page = views.scan(scan).await?;
        let is_last = page.len() < VIEW_SCAN_ROWS_MAX;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

async fn first_row(views: &dyn ViewOwners, (table, owner): Owner) -> Result<Option<(Bytes, Bytes)>, ViewError> {
    let (from, to) = (Bound::Unbounded, Bound::Unbounded);
    let page = views.scan(Scan { table, owner, from, to, reverse: false, limit: 1 }).await?;
    Ok(page.into_iter().next())
}

fn row_name(table: Table, sort: &Bytes) -> String {
    match (table, number_of(sort)) {
        (Table::Entries | Table::Inbox, Some(number)) => number.to_string(),
        (Table::Usernames, _) => decode::text(sort),
        _ => decode::key(sort),
    }
}

fn shown(table: Table, value: &Bytes) -> serde_json::Value {
    let name = match table {
        Table::Conversations => "ConversationRow",
        Table::Members => "MemberRow",
        Table::Entries => "EntryRow",
        Table::Inbox => "InboxRow",
        Table::Users => "UserRow",
        Table::MessageIndex => return number_of(value).map_or_else(|| decode::key(value).into(), Into::into),
        Table::UserConversations | Table::Usernames => return decode::key(value).into(),
    };
    let message =
        fields::message_type(name).and_then(|of| prost_reflect::DynamicMessage::decode(of, value.clone()).ok());
    let Some(message) = message else { return serde_json::json!({"unreadable": decode::key(value)}) };
    let mut json = String::new();
    decode::write_message(&mut json, &message, "", &mut Vec::new());
    serde_json::from_str(&json).unwrap_or_default()
}
