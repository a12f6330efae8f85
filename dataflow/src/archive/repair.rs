//! Parts of the embedded engine's tables that turn out to be damaged. When its disk is full in the middle of a merge, the
//! engine can put a merged part in place whose files are empty (seen with 26.7), and every read of the table fails from
//! then on. The parts that it was merged from stay on the disk for some minutes. Looking at the folder anew, as at a
//! start, the engine puts a damaged part aside and takes these back: so the table is detached and attached.

use super::{
    libchdb::{Connection, EngineError, error::code},
    row_binary::RowBinaryReader,
    tables::Table,
};

/// Besides those that batches write to.
const OTHER_TABLES: [&str; 2] = ["source_positions", "migrations"];

/// Whether a file of a table was not what it must be.
pub(super) fn is_damage(error: &EngineError) -> bool {
    error.code().is_some_and(|code| code::OF_DAMAGE.contains(&code))
}

/// Has the engine look anew at the table that the error is about; at all of them if it does not say.
///
/// # Errors
/// A table cannot be attached. It is to be tried again: without it nothing can be inserted.
pub(super) fn look_anew(session: &mut Connection, error: &EngineError) -> Result<(), EngineError> {
    let message = error.to_string();
    let tables = || Table::ALL.map(Table::name).into_iter().chain(OTHER_TABLES);
    let named: Vec<&str> = tables().filter(|table| message.contains(&format!(".{table} ("))).collect();
    let chosen = if named.is_empty() { tables().collect() } else { named };
    tracing::error!(tables = ?chosen, %error, "the archive has damaged parts: its tables are opened anew");
    for table in chosen {
        // One that could not be attached the last time is not there.
        if let Err(error) = session.query(&format!("DETACH TABLE IF EXISTS {table} SYNC"), "Null", &[]) {
            tracing::warn!(table, %error, "a table of the archive cannot be detached");
        }
        session.query(&format!("ATTACH TABLE IF NOT EXISTS {table}"), "Null", &[])?;
        report(session, table)?;
    }
    Ok(())
}

/// Says what was put aside.
fn report(session: &mut Connection, table: &str) -> Result<(), EngineError> {
    let sql = format!(
        "SELECT name FROM system.detached_parts \
         WHERE database = currentDatabase() AND table = '{table}' AND startsWith(reason, 'broken')"
    );
    let answer = session.query(&sql, "RowBinary", &[])?;
    let mut names = RowBinaryReader::new(&answer.bytes);
    while !names.is_empty() {
        let Ok(part) = names.text() else { break };
        tracing::warn!(
            table,
            part,
            "a damaged part of the archive was put aside (rows that no other part has are missing: the archive's folder \
             can be removed, it is rebuilt from the log)"
        );
    }
    Ok(())
}
