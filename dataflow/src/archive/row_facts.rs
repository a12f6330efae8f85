//! What a row says of itself: for those who compare rows that they do not read.

use tidings_schemas::ids::ConversationId;

use super::{
    row_binary::{RowBinaryError, RowBinaryReader, RowBinaryWriter},
    store::TableRows,
    tables::Table,
};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFacts {
    /// The columns of the table's key, in RowBinary.
    pub key: Vec<u8>,
    /// Its age goes by this, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// `xxh3` of all columns in RowBinary.
    pub hash: u64,
    /// `xxh3` of the first two columns of the key in RowBinary.
    pub key_hash: u64,
}

/// In SQL: what [`RowFacts::hash`] is.
pub fn hash_sql(table: Table) -> String {
    format!("xxh3(formatRow('RowBinary', {}))", table.columns())
}

/// In SQL: what [`RowFacts::key`] is.
pub fn key_sql(table: Table) -> String {
    format!("formatRow('RowBinary', {})", table.key())
}

/// In SQL: what [`RowFacts::key_hash`] is.
pub fn key_hash_sql(table: Table) -> String {
    let first_two: Vec<&str> = table.key().split(", ").take(2).collect();
    format!("xxh3(formatRow('RowBinary', {}))", first_two.join(", "))
}

/// The column that [`RowFacts::time_ms`] is of.
pub fn time_column(table: Table) -> &'static str {
    match table {
        Table::TimelineEntries | Table::MessageChanges => "sent_at",
        Table::Receipts => "moved_at",
        Table::InboxEntries | Table::SessionEvents => "at",
    }
}

/// The facts of each row, in their order.
///
/// # Errors
/// The bytes are no rows of the table.
pub fn facts(rows: &TableRows) -> Result<Vec<RowFacts>, RowBinaryError> {
    let mut all = Vec::with_capacity(rows.count);
    let mut rest = RowBinaryReader::new(&rows.row_binary);
    while !rest.is_empty() {
        let row = rest.rest();
        let mut key = RowBinaryWriter::default();
        let time_ms = read(rows.table, &mut rest, &mut key)?;
        let row = row.get(..row.len() - rest.rest().len()).unwrap_or_default();
        let key = key.into_bytes();
        let first_two = if rows.table == Table::Receipts { 32 } else { 24 };
        let key_hash = xxhash_rust::xxh3::xxh3_64(key.get(..first_two).unwrap_or(&key));
        all.push(RowFacts { key, time_ms, hash: xxhash_rust::xxh3::xxh3_64(row), key_hash });
    }
    Ok(all)
}

/// Reads one row, column by column; writes its key.
fn read(table: Table, row: &mut RowBinaryReader<'_>, key: &mut RowBinaryWriter) -> Result<i64, RowBinaryError> {
    let time_ms;
    match table {
        Table::TimelineEntries => {
            key.uuid(row.uuid()?).u64(row.u64()?);
            row.uuid()?;
            row.bytes()?;
            row.uuid()?;
            time_ms = row.time_ms()?;
            row.bytes()?;
            row.bytes()?;
            for _ in 0..row.length()? {
                row.bytes()?;
                row.bytes()?;
                row.bytes()?;
                row.u64()?;
            }
            row.uuid_or_null()?;
            row.bytes()?;
            row.uuid_or_null()?;
            row.uuid_or_null()?;
            row.bytes()?;
            row.bytes()?;
            for _ in 0..row.length()? {
                row.uuid()?;
            }
            row.bytes()?;
            row.bytes()?;
            row.u32()?;
            row.u64()?;
        }
        Table::MessageChanges => {
            key.uuid(row.uuid()?).u64(row.u64()?);
            row.uuid()?;
            row.uuid()?;
            time_ms = row.time_ms()?;
            row.time_ms()?;
            row.uuid()?;
            row.bytes()?;
            row.bytes()?;
            row.bytes()?;
            key.u32(row.u32()?).u64(row.u64()?);
        }
        Table::Receipts => {
            key.uuid(row.uuid()?).uuid(row.uuid()?);
            row.u64()?;
            row.u64()?;
            time_ms = row.time_ms()?;
            key.u32(row.u32()?).u64(row.u64()?);
        }
        Table::InboxEntries => {
            key.uuid(row.uuid()?).u64(row.u64()?);
            time_ms = row.time_ms()?;
            row.bytes()?;
            row.uuid()?;
            row.u64()?;
            row.uuid()?;
            row.bytes()?;
            row.u32()?;
            row.u64()?;
        }
        Table::SessionEvents => {
            key.uuid(row.uuid()?).u64(row.u64()?).string(row.bytes()?);
            time_ms = row.time_ms()?;
            row.bytes()?;
            row.bool()?;
            row.u32()?;
            row.u64()?;
            key.u32(row.u32()?).u64(row.u64()?);
        }
    }
    Ok(time_ms)
}

/// A key as text: ids and numbers, in the order of the table's key.
pub fn key_text(table: Table, key: &[u8]) -> String {
    let mut row = RowBinaryReader::new(key);
    let mut parts = Vec::new();
    let mut part = |read: Result<String, RowBinaryError>| parts.push(read.unwrap_or_else(|_| "?".to_owned()));
    part(row.uuid().map(|id| ConversationId(id).to_string()));
    match table {
        Table::Receipts => part(row.uuid().map(|id| ConversationId(id).to_string())),
        _ => part(row.u64().map(|number| number.to_string())),
    }
    if table == Table::SessionEvents {
        part(row.text().map(str::to_owned));
    }
    while !row.is_empty() {
        match (row.u32(), row.u64()) {
            (Ok(partition), Ok(offset)) => part(Ok(format!("{partition}/{offset}"))),
            _ => break,
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use tidings_schemas::wire;

    use super::*;
    use crate::archive::rows::RowSet;

    #[test]
    fn rows_are_taken_apart_where_they_end() {
        let id = |low| Some(wire::Id { high: 1, low });
        let entry =
            |seq| wire::Entry { conversation_id: id(2), seq, message_id: id(seq), sent_at_ms: 9, ..Default::default() };
        let membership = wire::Membership { member_ids: vec![wire::Id::default(); 3], by: id(4), ..Default::default() };
        let mut with_members = entry(8);
        with_members.content = Some(wire::entry::Content::Membership(membership));
        let mut rows = RowSet::default();
        rows.push_timeline(&wire::TimelineRecord {
            source: Some(wire::Source { partition: 3, offset: 5 }),
            entries: vec![entry(7), with_members, entry(9)],
            change: Some(wire::Change { conversation_id: id(2), seq: 7, sent_at_ms: 4, ..Default::default() }),
            cursor_moves: vec![wire::CursorMove { conversation_id: id(2), user_id: id(6), ..Default::default() }],
            at_ms: 11,
            ..Default::default()
        });
        let found: Vec<Vec<(String, i64)>> = rows
            .take()
            .iter()
            .map(|rows| {
                let facts = facts(rows).unwrap();
                assert_eq!(facts.len(), rows.count);
                facts.iter().map(|row| (key_text(rows.table, &row.key), row.time_ms)).collect()
            })
            .collect();
        let conversation = ConversationId::from(id(2).unwrap());
        let user = ConversationId::from(id(6).unwrap());
        assert_eq!(found[0], [7, 8, 9].map(|seq| (format!("{conversation} {seq}"), 9)));
        assert_eq!(found[1], [(format!("{conversation} 7 3/5"), 4)]);
        assert_eq!(found[2], [(format!("{conversation} {user} 3/5"), 11)]);
    }
}
