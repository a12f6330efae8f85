//! Which views and which archive something is erased from: those in a data folder, or on servers.

use std::{ops::Bound, ops::ControlFlow, path::PathBuf};

use anyhow::Context;
use bytes::Bytes;
use tidings_dataflow::{
    archive::{
        Archive as _, ArchiveError, ArchiveSettings, ClickHouseArchive, EmbeddedArchive, erasure::ErasedTable,
        libchdb::configuration::EngineConfiguration,
    },
    views::{
        owners::ViewOwners as _,
        projection::TOPICS,
        redis::RedisViews,
        store::{
            StoreConfig,
            rewrite::{self as views, Rewrite},
        },
    },
};
use tidings_replay::erasure::Rules;
use tidings_schemas::{
    clock::{Entropy as _, SystemEntropy},
    ids::UserId,
    limits::VIEW_SCAN_ROWS_MAX,
    views::{Key, Scan, Table, ViewError, ViewStore as _, Write},
};
use tokio::runtime::Runtime;

use crate::{
    config::{ArchiveKind, Settings, ViewsKind},
    replay::exit::{Code, Failure, WithCode},
};

/// Rows that are written together.
const BATCH_ROWS: usize = 1_000;

/// The views.
pub(super) enum Views {
    Folder { folder: PathBuf, config: StoreConfig },
    Redis(RedisViews),
}

impl Views {
    /// Must be called in a runtime.
    pub(super) fn of(settings: &Settings, log_id: u128) -> Result<Self, Failure> {
        Ok(match settings.node.views {
            ViewsKind::Embedded => {
                Self::Folder { folder: settings.node.data.join("views"), config: settings.views.clone() }
            }
            ViewsKind::Redis => {
                let views = RedisViews::new(&settings.redis, log_id, SystemEntropy.next_u64());
                Self::Redis(views.code(Code::Usage)?)
            }
        })
    }

    /// Rows that hold something to erase, and rows in which something is found.
    pub(super) fn count(
        &self,
        runtime: &Runtime,
        log_id: u128,
        rules: &Rules,
        is_found: impl Fn(&[u8]) -> bool,
    ) -> Result<(u64, u64), Failure> {
        let (mut holding, mut found) = (0, 0);
        let mut look = |table, value: &Bytes| {
            holding += u64::from(rules.row(table, value) != Rewrite::Keep);
            found += u64::from(is_found(value));
        };
        match self {
            Self::Folder { folder, config } => {
                let look = |table, value: &Bytes| {
                    look(table, value);
                    ControlFlow::Continue(())
                };
                views::each_row(folder, log_id, config, look).code(Code::Target)?;
            }
            Self::Redis(views) => {
                let counted = runtime.block_on(each_page(views, |table, _, rows| {
                    rows.iter().for_each(|(_, value)| look(table, value));
                    Vec::new()
                }));
                counted.code(Code::Target)?;
            }
        }
        Ok((holding, found))
    }

    /// Writes them without what is erased. Tells what may still have it on a disk.
    pub(super) fn rewrite(&self, runtime: &Runtime, log_id: u128, rules: &Rules) -> Result<Option<String>, Failure> {
        let row = |table, value: &Bytes| rules.row(table, value);
        match self {
            Self::Folder { folder, config } => {
                views::rewrite(folder, log_id, config, row).code(Code::Target)?;
                Ok(None)
            }
            Self::Redis(views) => {
                let rewritten = each_page(views, |table, owner, rows| {
                    let key = |sort: &Bytes| Key { table, owner, sort: sort.clone() };
                    let written = rows.iter().filter_map(|(sort, value)| match row(table, value) {
                        Rewrite::Keep => None,
                        Rewrite::Replace(value) => Some(Write::Put(key(sort), value)),
                        Rewrite::Drop => Some(Write::Delete(key(sort))),
                    });
                    written.collect()
                });
                runtime.block_on(rewritten).code(Code::Target)?;
                let is_begun = runtime.block_on(views.rewrite_files()).code(Code::Target)?;
                let what = "files of Redis from before (it was not let write them anew: BGREWRITEAOF, BGSAVE)";
                Ok((!is_begun).then(|| what.to_owned()))
            }
        }
    }
}

/// Looks at all rows in Redis, if they are this log's, and writes what `page` says of a table, an owner, sort keys and values.
async fn each_page(
    views: &RedisViews,
    mut page: impl FnMut(Table, u128, &[(Bytes, Bytes)]) -> Vec<Write>,
) -> Result<(), ViewError> {
    if !views.are_ours().await? {
        return Ok(());
    }
    // From here on of the generation that they are.
    views.position(TOPICS[0], 0).await?;
    let mut next = None;
    loop {
        let owners = views.owners(next).await?;
        for (table, owner) in owners.found {
            let mut from = Bound::Unbounded;
            loop {
                let (to, limit) = (Bound::Unbounded, VIEW_SCAN_ROWS_MAX);
                let rows = views.scan(Scan { table, owner, from, to, reverse: false, limit }).await?;
                let mut writes = page(table, owner, &rows);
                while !writes.is_empty() {
                    let rest = writes.split_off(writes.len().min(BATCH_ROWS));
                    views.apply(writes, Vec::new()).await?;
                    writes = rest;
                }
                match rows.last().filter(|_| rows.len() == limit) {
                    Some((sort, _)) => from = Bound::Excluded(sort.clone()),
                    None => break,
                }
            }
        }
        next = owners.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// The archive.
pub(super) enum OpenArchive {
    Embedded(Box<EmbeddedArchive>),
    ClickHouse(Box<ClickHouseArchive>),
}

impl OpenArchive {
    /// None: there is none.
    pub(super) fn of(settings: &Settings, runtime: &Runtime) -> Result<Option<Self>, Failure> {
        let days = settings.archive.retention_days;
        let archive = match settings.node.archive {
            ArchiveKind::ClickHouse => {
                let archive = ClickHouseArchive::new(&settings.clickhouse, days, SystemEntropy.next_u64());
                Self::ClickHouse(Box::new(archive.code(Code::Usage)?))
            }
            ArchiveKind::Embedded | ArchiveKind::None => {
                // Also if it is no longer used.
                let folder = settings.node.data.join("archive");
                if !folder.join("engine").is_dir() {
                    return Ok(None);
                }
                let mut engine = EngineConfiguration::in_folder(&folder);
                if let Some(library) = &settings.archive.library {
                    engine.library.clone_from(library);
                }
                let of = ArchiveSettings { retention_days: days, ..ArchiveSettings::default() };
                let archive = EmbeddedArchive::open(&engine, of)
                    .context("the archive cannot be opened, and it may hold what is to be erased")
                    .code(Code::Target)?;
                Self::Embedded(Box::new(archive))
            }
        };
        let migrated = match &archive {
            Self::Embedded(archive) => runtime.block_on(archive.migrate()),
            Self::ClickHouse(archive) => runtime.block_on(archive.migrate()),
        };
        migrated.code(Code::Target)?;
        Ok(Some(archive))
    }

    /// Rows of each table that hold something to erase.
    pub(super) async fn erasable(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        match self {
            Self::Embedded(archive) => archive.erasable(users).await,
            Self::ClickHouse(archive) => archive.erasable(users).await,
        }
    }

    /// Erases it. Nobody else uses an embedded one.
    pub(super) async fn erase(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        match self {
            Self::Embedded(archive) => archive.erase_alone(users).await,
            Self::ClickHouse(archive) => archive.erase(users).await,
        }
    }

    /// Rows in which one of these stands.
    pub(super) async fn search(&self, needles: &[&[u8]]) -> Result<u64, ArchiveError> {
        match self {
            Self::Embedded(archive) => archive.search(needles).await,
            Self::ClickHouse(archive) => archive.search(needles).await,
        }
    }
}
