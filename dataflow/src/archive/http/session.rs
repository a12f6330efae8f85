//! One request's statement, run in a session of its own: no request sees another's settings or tables.

use super::{
    guard,
    reply::{self, Refusal, Reply},
    request::SqlRequest,
    statement::{self, Statement},
};
use crate::archive::{
    analyst::{self, AnalystLimits},
    libchdb::{Connection, Engine, EngineError, Output, StatementClass},
};

/// What every request of a port has in common.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The database that names without one are looked up in.
    pub(super) database: String,
    /// Whether statements may change something.
    pub(super) writable: bool,
    /// What a statement may take.
    pub(super) limits: AnalystLimits,
}

/// ClickHouse's name for tab-separated text, the default.
const DEFAULT_FORMAT: &str = "TabSeparated";

/// Runs the request. Blocks, at most as long as a statement may run.
pub(super) fn run(
    engine: &Engine,
    rules: &Rules,
    request: &SqlRequest,
    query_id: &str,
    number: u64,
) -> Result<Reply, Refusal> {
    if !rules.writable {
        guard::check(request, &rules.limits)?;
    }
    match statement::parse(&request.text) {
        Statement::Query { sql, format } => {
            let sql = SqlRequest::sql(sql)?;
            let named = format.and_then(|format| std::str::from_utf8(format).ok());
            let format = named.or(request.format.as_deref()).unwrap_or(DEFAULT_FORMAT);
            let mut session = open(engine, rules, request, number)?;
            admit(&mut session, rules, sql)?;
            let parameters: Vec<(&str, &str)> =
                request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let output = session.query(sql, format, &parameters)?;
            Ok(reply::result(output, format, query_id, request.accepts))
        }
        Statement::Insert { .. } if !rules.writable => Err(Refusal::read_only()),
        Statement::Insert { sql, format, data } => {
            let (sql, format) = (SqlRequest::sql(sql)?, SqlRequest::sql(format)?);
            let mut session = open(engine, rules, request, number)?;
            let Output { rows_written, .. } = session.insert(sql, format, data.chunks(CHUNK_BYTES))?;
            Ok(reply::result(Output { rows_written, ..Output::default() }, format, query_id, None))
        }
    }
}

/// How much of an insert's data goes to the engine at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A session with the request's settings, then with those of the port, which count.
fn open(engine: &Engine, rules: &Rules, request: &SqlRequest, number: u64) -> Result<Connection, Refusal> {
    // `default` is what clients send that were told nothing; there is nothing of that name to see.
    let database = request.database.as_deref().filter(|name| *name != "default").unwrap_or(&rules.database);
    let mut setup = vec![format!("USE {}", quoted(database, '`'))];
    // A repeat that no merge has removed yet is not shown. The same fact is always in the same month, so months need not
    // be compared. Who wants to see what is stored can turn it off.
    setup.push("SET final = 1, do_not_merge_across_partitions_select_final = 1".to_owned());
    for (name, value) in request.settings.iter().filter(|(name, _)| name != "readonly") {
        setup.push(format!("SET {name} = {}", quoted(value, '\'')));
    }
    let limits = &rules.limits;
    let time_max = limits.execution_time.as_secs().max(1);
    let asked = request.settings.iter().find(|(name, _)| name == "max_execution_time");
    let asked = asked.and_then(|(_, value)| value.parse().ok()).filter(|seconds| *seconds > 0).unwrap_or(time_max);
    setup.push(limits.settings(time_max.min(asked)));
    // Last, so that a request's own does not count: it is what the statement is cancelled by.
    setup.push(format!("SET log_comment = '{}'", comment(number)));
    if !rules.writable {
        setup.push(format!("SET ROLE {}", analyst::ROLE));
        // Settings of a query may still change, within the engine's constraints; nothing else may.
        setup.push("SET readonly = 2".to_owned());
    }
    Ok(Connection::open(engine, setup)?)
}

/// What the statement of that number is known by in the engine.
fn comment(number: u64) -> String {
    format!("tidings-request-{number}")
}

/// Cancels the statement of that number, if it still runs.
pub(super) fn cancel(engine: &Engine, number: u64) -> Result<(), EngineError> {
    let kill = format!("KILL QUERY WHERE Settings['log_comment'] = '{}' ASYNC", comment(number));
    Connection::open(engine, Vec::new())?.query(&kill, "Null", &[]).map(drop)
}

/// Lets only one statement in, of a kind that the port allows, judged by the engine's own parser.
fn admit(session: &mut Connection, rules: &Rules, sql: &str) -> Result<(), Refusal> {
    let statements = session.classify(sql)?;
    match statements.class {
        StatementClass::ReadOnly if statements.count == 1 => Ok(()),
        StatementClass::Mutating if statements.count == 1 && rules.writable => Ok(()),
        StatementClass::Unknown => {
            // It does not parse: the engine's own words say where. Should it parse after all, it is of no known kind.
            match session.query("SELECT formatQuery({sql:String})", "Null", &[("sql", &escaped(sql))]) {
                Ok(_) => Err(Refusal::read_only()),
                Err(error) => Err(Refusal::from(error).without_scope()),
            }
        }
        _ => Err(Refusal::read_only()),
    }
}

/// A parameter's value as the engine takes it.
fn escaped(text: &str) -> String {
    let mut escaped = text.replace('\\', "\\\\");
    for (character, instead) in [('\t', "\\t"), ('\n', "\\n"), ('\r', "\\r"), ('\0', "\\0")] {
        escaped = escaped.replace(character, instead);
    }
    escaped
}

/// A name or a string as SQL takes it, whatever is in it.
fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    quoted
}
