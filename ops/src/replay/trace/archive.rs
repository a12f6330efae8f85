//! The message's row in the archive, asked over ClickHouse's HTTP interface.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::Value;
use tidings_dataflow::password;
use tidings_replay::trace::{Trace, Verdict};
use tidings_schemas::ids::{ConversationId, MessageId};

use super::TraceArgs;
use crate::{
    client::{Server, http::http_client},
    config::{ArchiveKind, LogKind},
    node::SQL_ADDRESS_FILE,
    replay::source::Source,
};

/// How long the archive may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the archive says.
pub(super) enum Answer {
    /// It is not known where one is, or the event makes no entry.
    NotAsked,
    /// It cannot be asked.
    Failed { url: String, error: String },
    /// The entry, and the message as it now is.
    Asked { url: String, entry: Option<Value>, message: Option<Value> },
}

/// Asks, if it is known where.
pub(super) fn ask(args: &TraceArgs, source: &Source, trace: &Trace) -> Answer {
    let Verdict::Accepted(entry) = &trace.verdict else { return Answer::NotAsked };
    let Some(url) = url(args, source) else { return Answer::NotAsked };
    let conversation = ConversationId::from(entry.conversation_id.unwrap_or_default());
    let id = MessageId::from(entry.message_id.unwrap_or_default());
    let is_it =
        format!("conversation_id = toUUID('{conversation}') AND seq = {} AND message_id = toUUID('{id}')", entry.seq);
    let columns = "conversation_id, seq, message_id, sender_id, sent_at, kind, text, membership_action, source_partition, source_offset";
    let entries = format!("SELECT {columns} FROM timeline_entries FINAL WHERE {is_it}");
    let messages = format!("SELECT text, edited_at, deleted_at FROM messages WHERE {is_it}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let both = runtime.context("cannot start").and_then(|runtime| {
        runtime.block_on(async {
            let asking = async { Ok((row(args, &url, &entries).await?, row(args, &url, &messages).await?)) };
            tokio::time::timeout(PATIENCE, asking).await.context("no answer in time")?
        })
    });
    match both {
        Ok((entry, message)) => Answer::Asked { url, entry, message },
        Err(error) => Answer::Failed { url, error: format!("{error:#}") },
    }
}

fn url(args: &TraceArgs, source: &Source) -> Option<String> {
    if let Some(url) = &args.archive_url {
        return Some(url.clone());
    }
    let node = &source.settings.node;
    if node.archive == ArchiveKind::ClickHouse {
        return Some(source.settings.clickhouse.url.clone());
    }
    // The program that runs there, or ran last, has noted it.
    let noted = fs::read_to_string(node.data.join("archive").join(SQL_ADDRESS_FILE)).ok();
    noted.filter(|_| node.log == LogKind::Embedded).map(|address| format!("http://{}", address.trim()))
}

/// The first row.
async fn row(args: &TraceArgs, url: &str, statement: &str) -> Result<Option<Value>> {
    let server = Server::parse(url, args.ca.as_deref())?;
    let client = http_client(&server);
    let database = &args.archive_database;
    if !database.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        bail!("{database:?} is no database (hint: letters, digits and _)");
    }
    let settings = "default_format=JSONEachRow&output_format_json_quote_64bit_integers=0&wait_end_of_query=1";
    let mut request = Request::post(format!("{}/?database={database}&{settings}", server.url()));
    request = request.header("x-clickhouse-user", &args.archive_user);
    if let Some(password) = password::read(args.archive_password_file.as_deref(), "TIDINGS_CLICKHOUSE_PASSWORD")? {
        request = request.header("x-clickhouse-key", password);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(statement.as_bytes())))?;
    let response =
        client.request(request).await.context("cannot be reached (hint: --archive-url URL, of a program that runs)")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        bail!("{status}: {}", text.trim());
    }
    text.lines().next().map(|line| serde_json::from_str(line).context("this is no SQL port")).transpose()
}
