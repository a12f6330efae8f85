//! The views written anew without what was erased, while no process has them open. A store that merges tables in the
//! background keeps what was written over for as long as it likes; a new one never had it. It takes the old one's place in
//! one step, so that at any moment there are whole views.

use std::{fs, io, ops::ControlFlow, path::Path, sync::Arc};

use bytes::Bytes;
use fjall::{OwnedWriteBatch as WriteBatch, PersistMode};
use rustix::fs::{CWD, RenameFlags};
use tidings_schemas::views::Table;

use super::{
    StoreConfig, generations,
    identity::{Folder, OpenError},
    opened::Opened,
};

/// Where the new rows are until they take the place of the old.
const UNFINISHED: &str = "rows.rewritten";
/// Rows that go into the new store together.
const BATCH_ROWS: usize = 10_000;

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It stays.
    Keep,
    /// It has another value.
    Replace(Bytes),
    /// It goes.
    Drop,
}

/// Looks at all rows of the views of this log in `folder`; nothing there, or the views of another log: there are none.
/// The walk ends early when it is told so.
///
/// # Errors
/// [`OpenError`]: they cannot be opened or read, or another process has them open.
pub fn each_row(
    folder: &Path,
    log_id: u128,
    config: &StoreConfig,
    mut look: impl FnMut(Table, &Bytes) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let folder = Folder::new(folder, log_id);
    if !folder.is_of()? {
        return Ok(());
    }
    let opened = Opened::open(&generations::current(folder.path())?, config).map_err(|error| folder.refused(&error))?;
    for guard in opened.rows.iter() {
        let (key, value) = guard.into_inner().map_err(|error| folder.refused(&error))?;
        if let Some(table) = table_of(&key)
            && look(table, &Bytes::copy_from_slice(&value)).is_break()
        {
            break;
        }
    }
    Ok(())
}

/// Writes the views of this log in `folder` anew, each row as `rewrite` says. Tells how many rows are replaced or gone. If
/// it is none, and no attempt before this one was interrupted, nothing is written.
///
/// # Errors
/// [`OpenError`]: they cannot be opened, read or written, or another process has them open.
pub fn rewrite(
    folder: &Path,
    log_id: u128,
    config: &StoreConfig,
    mut rewrite: impl FnMut(Table, &Bytes) -> Rewrite,
) -> Result<u64, OpenError> {
    let of_log = Folder::new(folder, log_id);
    let in_folder = |error: io::Error| OpenError::Io { folder: folder.to_owned(), error };
    let in_store = |error: &fjall::Error| of_log.refused(error);
    if !of_log.is_of()? {
        return Ok(0);
    }
    let rows_folder = generations::current(folder)?;
    let unfinished = folder.join(UNFINISHED);
    // What an attempt has left: the beginning of new rows, or the old ones.
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(in_folder)?;
    }
    let mut changed = 0;
    {
        let old = Opened::open(&rows_folder, config).map_err(|error| in_store(&error))?;
        let new = Opened::open(&unfinished, config).map_err(|error| in_store(&error))?;
        let mut batch = WriteBatch::with_capacity(new.database.clone(), BATCH_ROWS);
        let mut rows = 0;
        for guard in old.rows.iter() {
            let (key, value) = guard.into_inner().map_err(|error| in_store(&error))?;
            let become_of = match table_of(&key) {
                Some(table) => rewrite(table, &Bytes::copy_from_slice(&value)),
                None => Rewrite::Keep,
            };
            match become_of {
                Rewrite::Keep => batch.insert(&new.rows, key, value),
                Rewrite::Replace(value) => {
                    changed += 1;
                    batch.insert(&new.rows, key, value.as_ref());
                }
                Rewrite::Drop => changed += 1,
            }
            rows += 1;
            if rows % BATCH_ROWS == 0 {
                batch.commit().map_err(|error| in_store(&error))?;
                batch = WriteBatch::with_capacity(new.database.clone(), BATCH_ROWS);
            }
        }
        batch.commit().map_err(|error| in_store(&error))?;
        new.database.persist(PersistMode::SyncAll).map_err(|error| in_store(&error))?;
        // Their threads may write until they have ended.
        Opened::close(Arc::new(old));
        Opened::close(Arc::new(new));
    }
    // The old rows hold what their store has written over since it last merged, so they go even when no row has changed.
    rustix::fs::renameat_with(CWD, &unfinished, CWD, &rows_folder, RenameFlags::EXCHANGE)
        .map_err(|error| in_folder(error.into()))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(in_folder)?;
    fs::remove_dir_all(&unfinished).map_err(in_folder)?;
    Ok(changed)
}

fn table_of(key: &[u8]) -> Option<Table> {
    let first = *key.first()?;
    Table::ALL.into_iter().find(|table| *table as u8 == first)
}

#[cfg(test)]
mod tests {
    use tidings_schemas::{
        ids::UserId,
        topics::Topic,
        views::{Key, Move, ViewStore as _, Write},
    };

    use super::{super::FjallViews, *};

    #[tokio::test]
    async fn rows_are_replaced_and_dropped_and_the_old_bytes_are_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::default();
        let key = |user: u128| Key::user(UserId(user));
        let secret = Bytes::from_static(b"UNCOMPRESSED-SECRET-7f3a9c");
        let write = |number: u64| {
            let writes = vec![
                Write::Put(key(1), secret.clone()),
                Write::Put(key(2), secret.clone()),
                Write::Put(key(3), Bytes::from(number.to_string())),
            ];
            (writes, vec![Move { topic: Topic::Directory, partition: 0, from: number, to: number + 1 }])
        };
        {
            let views = FjallViews::open(folder.path(), 7, &config).unwrap();
            for number in 0..3 {
                let (writes, moves) = write(number);
                views.apply(writes, moves).await.unwrap();
            }
            views.sync().unwrap();
        }
        assert!(found(folder.path(), &secret), "the test looks where the rows are");
        assert_eq!(rewrite(folder.path(), 8, &config, |_, _| Rewrite::Drop).unwrap(), 0, "another log's views");
        let mut seen = 0;
        let changed = rewrite(folder.path(), 7, &config, |table, value| {
            assert_eq!(table, Table::Users);
            seen += 1;
            match (value == &secret, seen) {
                (false, _) => Rewrite::Keep,
                (true, 1) => Rewrite::Replace(Bytes::from_static(b"gone")),
                (true, _) => Rewrite::Drop,
            }
        });
        assert_eq!((changed.unwrap(), seen), (2, 3));
        assert!(!found(folder.path(), &secret));
        let views = FjallViews::open(folder.path(), 7, &config).unwrap();
        assert_eq!(views.position(Topic::Directory, 0).await.unwrap(), 3);
        let rows = views.get(&[key(1), key(2), key(3)]).await.unwrap();
        assert_eq!(rows, [Some(Bytes::from_static(b"gone")), None, Some(Bytes::from_static(b"2"))]);
    }

    /// Whether the bytes stand in a file below the folder.
    fn found(folder: &Path, bytes: &[u8]) -> bool {
        fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return found(&path, bytes);
            }
            fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
        })
    }
}
