//! How a rebuild is told of: what would be read, and what was found and done.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidings_dataflow::archive::rebuild::TableComparison;
use tidings_replay::rebuild::compare::Comparison;

use super::{
    RebuildArgs, Store,
    job::BESIDE_FOLDER,
    request::{Report, SpanOf},
};
use crate::{
    config::ViewsKind,
    replay::{
        exit::{Code, Failure, Outcome, WithCode},
        source::Source,
        table::{self, Columns},
    },
};

/// What would be read.
pub(super) fn plan(args: &RebuildArgs, source: &Source, spans: &[SpanOf]) -> Outcome {
    let records: u64 = spans.iter().map(|span| span.end - span.start).sum();
    if args.json {
        let report = json!({"source": source.place, "records": records, "ranges": spans});
        return table::print(&table::pretty(&report)?);
    }
    let mut columns = Columns::new(["TOPIC", "P", "FROM", "TO", "RECORDS"]);
    for SpanOf { topic, partition, start, end } in spans.iter().filter(|span| span.end > 0) {
        let [partition, start, end, count] = [u64::from(*partition), *start, *end, end - start].map(|n| n.to_string());
        columns.row([topic.clone(), partition, start, end, count]);
    }
    table::print(&format!("{columns}\n{records} records of {} would be read", source.place))
}

/// What was found and done.
pub(super) fn report(args: &RebuildArgs, source: &Source, report: &Report) -> Outcome {
    if args.json {
        return table::print(&table::pretty(report)?);
    }
    // Writing to a string cannot fail.
    let mut text = String::new();
    let is_replaced = match report {
        Report::Views(report) => {
            let _ = writeln!(text, "{} records of {} make the views", report.records, source.place);
            if let Some(compared) = &report.comparison {
                text += &of_views(compared)?;
            }
            if let Some(why) = &report.not_compared {
                let _ = writeln!(text, "those in use cannot be compared: {why}");
            }
            report.is_replaced
        }
        Report::Archive(report) => {
            let _ = writeln!(text, "{} records of {} make the rows", report.records, source.place);
            text += &of_tables(&report.tables)?;
            for left in &report.left {
                let _ = writeln!(
                    text,
                    "{left} stays as it is: the log no longer has its beginning (hint: --topic with --offset)"
                );
            }
            if report.not_archived_yet > 0 {
                let count = report.not_archived_yet;
                let _ = writeln!(text, "{count} records are not archived yet: their rows come by themselves");
            }
            report.is_replaced
        }
    };
    table::print(&(text + &where_now(args, source, is_replaced)))
}

fn of_views(compared: &Comparison) -> Result<String, Failure> {
    let Comparison { old_rows, new_rows, missing, extra, differing, undecided_owners, .. } = compared;
    let mut columns = Columns::new(["ROWS BEFORE", "ROWS NOW", "MISSING", "EXTRA", "DIFFERING", "UNDECIDED"]);
    columns.row([old_rows, new_rows, missing, extra, differing, undecided_owners].map(ToString::to_string));
    let mut text = format!("{columns}\n");
    for difference in &compared.first {
        let _ = writeln!(text, "{}", line(&json!(difference))?);
    }
    Ok(text)
}

fn of_tables(tables: &[TableComparison]) -> Result<String, Failure> {
    let mut columns = Columns::new(["TABLE", "ROWS NOW", "MISSING", "EXTRA", "DIFFERING"]);
    for TableComparison { table, new_rows, missing, extra, differing, .. } in tables {
        let [rows, missing, extra, differing] = [new_rows, missing, extra, differing].map(ToString::to_string);
        columns.row([table.to_string(), rows, missing, extra, differing]);
    }
    let mut text = format!("{columns}\n");
    for table in tables {
        for difference in &table.first {
            let difference = json!({"kind": difference.kind, "table": table.table, "key": difference.key});
            let _ = writeln!(text, "{}", line(&difference)?);
        }
    }
    Ok(text)
}

fn line(difference: &Value) -> Result<String, Failure> {
    serde_json::to_string(difference).code(Code::Target)
}

fn where_now(args: &RebuildArgs, source: &Source, is_replaced: bool) -> String {
    if is_replaced {
        return "what follows from the log is in use".to_owned();
    }
    let settings = &source.settings;
    match args.store {
        Store::Views if settings.node.views == ViewsKind::Embedded => {
            let folder = settings.node.data.join(BESIDE_FOLDER);
            format!("the old views stay in use; the new ones are in {}", folder.display())
        }
        Store::Views => {
            let database = args.database.unwrap_or(settings.redis.database + 1);
            format!("the old views stay in use; the new ones are in database {database} of Redis")
        }
        Store::Archive => "the old rows stay in use; the new ones are in tables named …_rebuild".to_owned(),
    }
}
