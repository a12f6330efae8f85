//! Which archive is compared with the log: that of the program that runs on the data folder, of the settings, or one by its URL.

use std::fmt::Write as _;

use serde::Serialize;
use tidings_dataflow::archive::{ClickHouseArchive, ClickHouseConfig};
use tidings_replay::verify::archive::{ArchiveVerifyError, TableReport, VerifyArchive};
use tidings_schemas::clock::{Clock, Entropy, SystemClock, SystemEntropy};

use super::VerifyArgs;
use crate::{
    config::ArchiveKind,
    node::SQL_ADDRESS_FILE,
    replay::{
        exit::{Code, Failure, WithCode},
        source::Source,
        table::Columns,
    },
};

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Archived {
    /// Where the archive is.
    place: Option<String>,
    /// Why none was compared.
    not_compared: Option<String>,
    pub(super) tables: Vec<TableReport>,
}

/// Compares, where there is an archive to be asked.
pub(super) fn verify(args: &VerifyArgs, source: &Source, progress: &(dyn Fn(u64) + Sync)) -> Result<Archived, Failure> {
    let settings = &source.settings;
    let not_compared = |why: &str| Ok(Archived { not_compared: Some(why.to_owned()), ..Archived::default() });
    let (config, is_asked_for) = match (&args.archive_url, settings.node.archive) {
        _ if args.no_archive => return not_compared("--no-archive"),
        (Some(url), _) => (ClickHouseConfig { url: url.clone(), ..settings.clickhouse.clone() }, true),
        (None, ArchiveKind::ClickHouse) => (settings.clickhouse.clone(), true),
        (None, ArchiveKind::None) => return not_compared("the settings name none"),
        (None, ArchiveKind::Embedded) => {
            let noted = settings.node.data.join("archive").join(SQL_ADDRESS_FILE);
            let Ok(address) = std::fs::read_to_string(noted) else { return not_compared("there is none") };
            (ClickHouseConfig { url: format!("http://{}", address.trim()), ..ClickHouseConfig::default() }, false)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().code(Code::Source)?;
    runtime.block_on(async {
        let days = settings.archive.retention_days;
        let archive = ClickHouseArchive::new(&config, days, SystemEntropy.next_u64()).code(Code::Usage)?;
        let verify = VerifyArchive {
            log: &*source.log,
            archive: &archive,
            now_ms: SystemClock::new().now_ms(),
            retention_days: days,
            kept_max: args.show,
            progress,
        };
        match verify.run().await {
            Ok(tables) => Ok(Archived { place: Some(config.url.clone()), tables, ..Archived::default() }),
            Err(ArchiveVerifyError::Scan(error)) => Err(error.into()),
            Err(ArchiveVerifyError::Archive(error)) if is_asked_for => Err(error).code(Code::Source),
            // The program that noted its address may have ended.
            Err(ArchiveVerifyError::Archive(error)) => {
                not_compared(&format!("{error} (hint: start the program, or name it by --archive-url)"))
            }
        }
    })
}

/// For people.
pub(super) fn text(archived: &Archived) -> Result<String, Failure> {
    if let Some(why) = &archived.not_compared {
        return Ok(format!("the archive is not compared: {why}\n"));
    }
    let mut columns = Columns::new(["ARCHIVE", "BEHIND", "AGREEING", "DIFFERENT"]);
    let mut text = String::new();
    for table in &archived.tables {
        let TableReport { table: name, agreeing, behind, .. } = table;
        // Writing to a string cannot fail.
        match &table.not_compared {
            Some(why) => drop(writeln!(text, "{name} is not compared: {why}")),
            None => columns.row([
                name.to_string(),
                behind.to_string(),
                agreeing.to_string(),
                table.differences().to_string(),
            ]),
        }
    }
    for difference in archived.tables.iter().flat_map(|table| &table.first) {
        let _ = writeln!(text, "{}", serde_json::to_string(difference).code(Code::Target)?);
    }
    Ok(format!("{columns}\n{text}"))
}
