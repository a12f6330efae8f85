//! `tidings sql`: questions to the archive, from the command line, a file or a prompt.
//!
//! - [`statements`]: where one statement ends and the next begins. [`connection`]: asking, over ClickHouse's HTTP interface.
//! - [`prompt`]: typing, with history. Formats are the engine's.

mod connection;
mod prompt;
mod statements;

use std::{
    fs,
    io::{IsTerminal, Read as _, Write, stderr, stdin, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use tidings_dataflow::{
    archive::{
        ArchiveSettings, EmbeddedArchive,
        http::{self, HttpConfig, HttpHandle},
        libchdb::{EngineError, configuration::EngineConfiguration},
    },
    password,
};

use self::connection::{Connection, Failed};
use crate::{client::Server, node::SQL_ADDRESS_FILE};

/// What to do, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SqlArgs {
    /// The statement, or several with semicolons between them. Without it and without --file: a prompt, or standard input.
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// A file with statements, asked one after the other.
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    file: Option<PathBuf>,
    /// Where SQL is answered: `tidings up`, `tidings clickhouse` or a ClickHouse server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123", conflicts_with = "data")]
    url: String,
    /// For https: trust the certificates that this authority vouches for.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Instead of a URL: the data folder of a Tidings. If it runs, it is asked; else its archive is opened here.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The engine for --data, `libchdb.so` (default: where ./ops/fetch-libchdb puts it).
    #[arg(long, value_name = "FILE", requires = "data")]
    library: Option<PathBuf>,
    /// The database that names without one are looked up in.
    #[arg(long, value_name = "NAME", default_value = "tidings")]
    database: String,
    /// The user. The password is in --password-file or the environment's TIDINGS_CLICKHOUSE_PASSWORD.
    #[arg(long, value_name = "NAME", default_value = "default")]
    user: String,
    /// A file with the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// How results are written (default: a table on a terminal, else CSV). A statement's own FORMAT counts more.
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
    /// Write results to this file instead of standard output. Parquet needs it, unless standard output is no terminal.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// A value for the statement's `{name:Type}`; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// Comma-separated, with a line of names.
    Csv,
    /// One JSON document with names, types and rows.
    Json,
    /// A JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Output {
    fn format(self) -> &'static str {
        match self {
            Self::Table => "PrettyCompactMonoBlock",
            Self::Csv => "CSVWithNames",
            Self::Json => "JSON",
            Self::Jsonl => "JSONEachRow",
            Self::Parquet => "Parquet",
        }
    }
}

/// `tidings sql` ends with this when a statement was cancelled with Ctrl-C, as a shell would say.
const CANCELLED: u8 = 130;

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not name=value"))?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("{name:?} is no name of a parameter")) }
}

/// Asks and prints. The exit code is 0 when all was answered, 1 when something was refused or failed, 130 when it was
/// cancelled.
pub fn run(args: &SqlArgs) -> Result<ExitCode> {
    let output = output(args)?;
    let statements = match (&args.sql, &args.file) {
        (Some(sql), _) => Some(statements::split(sql)),
        (None, Some(file)) => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(statements::split(&text))
        }
        (None, None) if !stdin().is_terminal() => {
            let mut text = String::new();
            stdin().read_to_string(&mut text).context("cannot read standard input")?;
            Some(statements::split(&text))
        }
        (None, None) => None,
    };
    if let Some(statements) = &statements {
        ensure!(!statements.is_empty(), "there is no statement (hint: tidings sql 'SELECT count() FROM messages')");
        ensure!(
            statements.len() == 1 || output != Output::Parquet,
            "a Parquet file holds the result of one statement, and there are {}",
            statements.len()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let password = password::read(args.password_file.as_deref(), "TIDINGS_CLICKHOUSE_PASSWORD")?;
    let archive = match &args.data {
        Some(data) => runtime.block_on(open(data, args))?,
        None => Archive::At(args.url.clone()),
    };
    let url = match &archive {
        Archive::At(url) => url.clone(),
        Archive::Here(port) => format!("http://{}", port.address()),
    };
    let connection = Connection::new(Server::parse(&url, args.ca.as_deref())?, args, password, output.format());
    let code = match statements {
        None => prompt::run(&runtime, &connection)?,
        Some(statements) => {
            let mut to: Box<dyn Write> = match &args.output_file {
                Some(file) => {
                    let file = fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
                    Box::new(file)
                }
                None => Box::new(stdout()),
            };
            all(&runtime, &connection, &statements, &mut to, output == Output::Table)?
        }
    };
    if let Archive::Here(port) = archive {
        runtime.block_on(port.shutdown());
    }
    Ok(code)
}

fn all(
    runtime: &tokio::runtime::Runtime,
    connection: &Connection,
    statements: &[String],
    to: &mut dyn Write,
    is_table: bool,
) -> Result<ExitCode> {
    for statement in statements {
        match runtime.block_on(connection.ask(statement)) {
            Ok(answer) => match to.write_all(&answer).and_then(|()| to.flush()) {
                Ok(()) if is_table => say_if_empty(&answer),
                Ok(()) => {}
                // Whoever read it has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                Err(error) => return Err(error).context("cannot write the result"),
            },
            Err(Failed::Cancelled) => {
                say("cancelled");
                return Ok(ExitCode::from(CANCELLED));
            }
            Err(Failed::Error(error)) => return Err(error),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn output(args: &SqlArgs) -> Result<Output> {
    let is_terminal = args.output_file.is_none() && stdout().is_terminal();
    let output = args.output.unwrap_or(if is_terminal { Output::Table } else { Output::Csv });
    if output == Output::Parquet && is_terminal {
        bail!("Parquet is nothing for a terminal (hint: --output-file FILE)");
    }
    Ok(output)
}

/// Who answers.
enum Archive {
    /// A port somewhere.
    At(String),
    /// One that this process serves to itself.
    Here(HttpHandle),
}

/// The archive of a data folder: that of the program that runs there, or opened here.
async fn open(data: &Path, args: &SqlArgs) -> Result<Archive> {
    let folders = [data.join("archive"), data.to_owned()];
    let Some(folder) = folders.into_iter().find(|folder| folder.join("engine").is_dir()) else {
        bail!("there is no archive in {} (hint: the folder that `tidings up` was given as --data)", data.display());
    };
    let mut engine = EngineConfiguration::in_folder(&folder);
    if let Some(library) = &args.library {
        engine.library.clone_from(library);
    }
    let limits = engine.analyst;
    let settings = ArchiveSettings { database: args.database.clone(), ..ArchiveSettings::default() };
    let opened = tokio::task::spawn_blocking(move || EmbeddedArchive::open(&engine, settings));
    let archive = match opened.await.context("the engine failed")? {
        Ok(archive) => archive,
        Err(EngineError::FolderInUse { holder, .. }) => {
            let Ok(address) = fs::read_to_string(folder.join(SQL_ADDRESS_FILE)) else {
                let data = data.display();
                bail!(
                    "{data} is in use by a running program that answers no SQL ({holder}) (hint: archive.http_listen)"
                );
            };
            return Ok(Archive::At(format!("http://{}", address.trim())));
        }
        Err(error) => return Err(error.into()),
    };
    let config = HttpConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), limits, ..HttpConfig::default() };
    Ok(Archive::Here(http::serve(&config, &archive).await.context("cannot open a port for it")?))
}

/// A table without rows is no text at all: a person who asked is told.
fn say_if_empty(answer: &[u8]) {
    if answer.trim_ascii().is_empty() {
        say("no rows");
    }
}

/// Says something that is no result.
fn say(what: &str) {
    // Standard error that is gone is no reason to stop.
    let _ = writeln!(stderr(), "{what}");
}
