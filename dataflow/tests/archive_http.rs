//! The archive's ClickHouse-compatible port, over real sockets: what analysts' tools send and what must not get through.
//!
//! `clickhouse-connect` is tested when Python can make a virtual environment and fetch it; else that test says loudly
//! that it was skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod archive;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use archive::open;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tidings_dataflow::archive::{
    Archive as _, EmbeddedArchive,
    conformance::{conversation, entry, text, timeline_batch},
    http::{HttpConfig, HttpHandle, serve},
};
use tidings_schemas::wire;
use tokio::net::TcpStream;

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Percent-encodes a value for a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn send(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

async fn get(address: SocketAddr, sql: &str) -> Answer {
    send(address, "GET", &format!("/?query={}", encoded(sql)), &[], b"").await
}

async fn port(database: &str, writable: bool) -> (EmbeddedArchive, HttpHandle) {
    let archive = open(database).await;
    let config = HttpConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), writable, ..HttpConfig::default() };
    let handle = serve(&config, &archive).await.unwrap();
    (archive, handle)
}

#[tokio::test]
async fn questions_are_answered_as_a_clickhouse_server_would() {
    let (archive, handle) = port("tidings_http_read", false).await;
    let address = handle.address();
    let entries = (1..=7).map(|seq| entry(conversation(1), seq, &text("hello")));
    let records: Vec<_> =
        entries.map(|entry| wire::TimelineRecord { entries: vec![entry], ..Default::default() }).collect();
    archive.insert(timeline_batch(0, 0, &records)).await.unwrap();

    for target in ["/ping", "/"] {
        let answer = send(address, "GET", target, &[], b"").await;
        assert_eq!((answer.status, answer.text()), (200, "Ok.\n"), "{target}");
    }
    // The very request of the documentation.
    let answer = send(address, "GET", "/?query=SELECT+count()+FROM+messages", &[], b"").await;
    assert_eq!((answer.status, answer.text()), (200, "7\n"));
    assert_eq!(answer.header("x-clickhouse-format"), "TabSeparated");
    assert!(
        answer.header("x-clickhouse-summary").contains("\"read_rows\":\"7\""),
        "{}",
        answer.header("x-clickhouse-summary")
    );

    let answer =
        send(address, "POST", "/", &[], b"SELECT seq FROM messages ORDER BY seq LIMIT 2 FORMAT JSONCompactEachRow")
            .await;
    assert_eq!((answer.status, answer.text()), (200, "[1]\n[2]\n"));
    assert_eq!(answer.header("content-type"), "application/json; charset=UTF-8");
    let answer =
        send(address, "POST", "/?default_format=CSV&database=tidings_http_read", &[], b"SELECT 'a\"b' FROM system.one")
            .await;
    assert_eq!(answer.text(), "\"a\"\"b\"\n");
    let answer =
        send(address, "GET", "/?query=SELECT+1&database=default", &[("x-clickhouse-format", "JSONEachRow")], b"").await;
    assert_eq!(answer.text(), "{\"1\":1}\n");
    let answer =
        send(address, "GET", "/?query=SELECT+%7Bx:UInt8%7D%2B1,%7By:String%7D&param_x=41&param_y=it's;--", &[], b"")
            .await;
    assert_eq!(answer.text(), "42\tit\\'s;--\n");
    let answer =
        send(address, "GET", "/?query=SELECT+getSetting('max_block_size')&max_block_size=77&query_id=mine", &[], b"")
            .await;
    assert_eq!((answer.text(), answer.header("x-clickhouse-query-id")), ("77\n", "mine"));
    assert_eq!(get(address, "SELECT 1 AS x SETTINGS max_threads = 1").await.text(), "1\n");
    for sql in [
        "SHOW TABLES",
        "DESCRIBE TABLE messages",
        "EXPLAIN SELECT 1",
        "SELECT count() FROM system.tables",
        "WITH 1 AS x SELECT x",
    ] {
        assert_eq!(get(address, sql).await.status, 200, "{sql}");
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn errors_have_clickhouses_codes_and_status() {
    let (_archive, handle) = port("tidings_http_errors", false).await;
    let address = handle.address();
    for (sql, status, code) in [
        ("SELECT * FROM nowhere", 404, "60"),
        ("SELECT nothing FROM messages", 404, "47"),
        ("SELEC 1", 400, "62"),
        ("SELECT * FROM elsewhere.messages", 404, "81"),
        ("SELECT 1 FORMAT NoSuchFormat", 404, "73"),
        ("SELECT {x:UInt8}", 400, "456"),
        ("SELECT throwIf(1)", 500, "395"),
        ("SELECT number FROM numbers(100000000)", 500, "396"),
        ("SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 1, max_block_size = 1", 408, "159"),
    ] {
        let answer = get(address, sql).await;
        let found = (answer.status, answer.header("x-clickhouse-exception-code"));
        assert_eq!(found, (status, code), "{sql}: {}", answer.text());
        assert!(answer.text().starts_with(&format!("Code: {code}. DB::Exception: ")), "{}", answer.text());
    }
    for (sql, words) in [("SELEC 1", "position 1 (SELEC)"), ("SELECT 'a\\tb',\n\t)", "(line 2, col 2)")] {
        let text = get(address, sql).await.text().to_owned();
        assert!(text.contains(words) && text.ends_with("(SYNTAX_ERROR)\n") && !text.contains("formatQuery"), "{text}");
    }
    for (target, status) in [
        ("/?query=SELECT+1&no_such_setting=1", 404),
        ("/?query=%ff", 400),
        ("/?compress=1&query=SELECT+1", 501),
        ("/elsewhere", 404),
    ] {
        assert_eq!(send(address, "GET", target, &[], b"").await.status, status, "{target}");
    }
    assert_eq!(send(address, "PUT", "/?query=SELECT+1", &[], b"").await.status, 405);
    assert_eq!(send(address, "POST", "/", &[("content-encoding", "br")], b"SELECT 1").await.status, 501);
    assert_eq!(send(address, "POST", "/", &[("content-encoding", "gzip")], b"SELECT 1").await.status, 400);
    handle.shutdown().await;
}

#[tokio::test]
async fn a_reading_port_lets_nothing_else_through() {
    let (_archive, handle) = port("tidings_http_guard", false).await;
    let address = handle.address();
    assert_eq!(get(address, "SELECT currentRoles()").await.text(), "['analyst']\n");
    let outfile = Path::new(env!("CARGO_TARGET_TMPDIR")).join("never-written");
    let into_outfile = format!("SELECT 1 INTO OUTFILE '{}'", outfile.display());
    for sql in [
        "INSERT INTO receipts VALUES (1)",
        "INSERT INTO receipts SELECT * FROM receipts",
        "INSERT INTO receipts FORMAT CSV\n1",
        "CREATE TABLE x (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE x (a UInt8)",
        "DROP TABLE receipts",
        "TRUNCATE TABLE receipts",
        "ALTER TABLE receipts DELETE WHERE 1",
        "OPTIMIZE TABLE receipts FINAL",
        "SYSTEM STOP MERGES",
        "SET max_threads = 1",
        "SELECT 1; DROP TABLE receipts",
        "SELECT 1; SELECT 2",
        "KILL QUERY WHERE 1",
        "SELECT * FROM file('/etc/hostname', 'LineAsString', 'a String')",
        "SELECT file('/etc/hostname')",
        "SELECT `file`('/etc/hostname')",
        "DESCRIBE TABLE file('/etc/hostname')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1:9', system.one)",
        "SELECT * FROM default.`/etc/hostname`",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS max_execution_time = 100000",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_result_bytes = 0",
        "SELECT 1 SETTINGS max_result_rows = 0",
        "SELECT 1 SETTINGS max_result_rows = 1000000000",
        "SELECT 1 SETTINGS max_rows_to_read = 0",
        "SELECT 1 SETTINGS max_threads = 64",
        "SELECT 1 SETTINGS result_overflow_mode = 'break'",
        "SELECT 1 SETTINGS timeout_overflow_mode = 'break'",
        "SET ROLE owner",
        "SET DEFAULT ROLE owner TO default",
        "CREATE USER me",
        "GRANT ALL ON *.* TO default",
        "BACKUP TABLE messages TO File('/tmp/x')",
        "ATTACH TABLE x FROM '/etc' (a UInt8) ENGINE = MergeTree ORDER BY a",
        "SELECT * FROM system.processes",
        "SHOW PROCESSLIST",
        "SELECT * FROM system.query_log",
        "SELECT * FROM system.users",
        "SELECT * FROM system.server_settings",
        "SELECT * FROM system.disks",
        "SELECT * FROM system.parts",
        "SELECT * FROM system.stack_trace",
        "SELECT * FROM system.query_cache",
        "SELECT * FROM merge('system', '^processes$')",
        "SELECT catboostEvaluate('/etc/hostname', 1)",
        &into_outfile,
    ] {
        let answer = get(address, sql).await;
        assert_eq!(answer.status, 403, "{sql}: {}", answer.text());
    }
    // Some of these the engine has not, or refuses for their arguments.
    for sql in [
        "SELECT * FROM s3('http://127.0.0.1:9/x', 'CSV', 'a String')",
        "SELECT * FROM sqlite('/tmp/x.db', 'x')",
        "SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "SELECT * FROM cluster('default', system.one)",
        "SELECT * FROM hdfs('hdfs://127.0.0.1:9/x', 'CSV', 'a String')",
        "SELECT * FROM icebergLocal('/etc')",
        "SELECT * FROM deltaLakeLocal('/etc')",
    ] {
        let answer = get(address, sql).await;
        assert_ne!(answer.status, 200, "{sql}: {}", answer.text());
    }
    assert!(!outfile.exists());
    // Settings in the URL are values, never SQL; and the port's own count.
    let injected = format!("/?query=SELECT+getSetting('readonly')&max_block_size={}", encoded("1', readonly = '0"));
    assert_ne!(send(address, "GET", &injected, &[], b"").await.status, 200);
    let answer = send(
        address,
        "GET",
        "/?query=SELECT+getSetting('readonly'),getSetting('max_execution_time')&readonly=0&max_execution_time=0",
        &[],
        b"",
    )
    .await;
    assert_eq!(answer.text(), "2\t60\n");
    // A page in a browser whose name was made to point here.
    let answer = send(address, "GET", "/?query=SELECT+1", &[("host", "attacker.example")], b"").await;
    assert_eq!(answer.status, 403);
    for host in ["localhost:8123", "[::1]:8123", "127.0.0.1"] {
        assert_eq!(send(address, "GET", "/?query=SELECT+1", &[("host", host)], b"").await.status, 200, "{host}");
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn no_way_around_lifts_a_limit() {
    let (_archive, handle) = port("tidings_http_limits", false).await;
    let address = handle.address();
    let settings = "getSetting('max_memory_usage'), getSetting('max_execution_time'), getSetting('max_result_rows'), \
                    getSetting('max_rows_to_read'), getSetting('readonly')";
    let limits = "536870912\t60\t1000000\t2000000000\t2\n";
    // As arguments, which are given before the port's own; as a profile; in the body's own clause.
    for (arguments, clause) in [
        ("", ""),
        ("&max_memory_usage=536870911&max_result_rows=7&max_rows_to_read=9", ""),
        ("&profile=default", ""),
        ("&role=owner&readonly=0", ""),
    ] {
        let target = format!("/?query={}{arguments}", encoded(&format!("SELECT {settings}{clause}")));
        let answer = send(address, "GET", &target, &[], b"").await;
        assert!(answer.status != 200 || answer.text() == limits, "{arguments}{clause}: {}", answer.text());
    }
    let target = format!("/?query={}&max_result_rows=0", encoded(&format!("SELECT {settings}")));
    assert_eq!(send(address, "GET", &target, &[], b"").await.text(), limits);
    // Lower is a query's right.
    let answer = get(address, "SELECT getSetting('max_result_rows') SETTINGS max_result_rows = 5").await;
    assert_eq!(answer.text(), "5\n");
    // Each limit says its name and how to ask differently.
    for (sql, code, limit, hint) in [
        ("SELECT number FROM numbers(2000000)", "396", "archive.analyst_max_result_rows = 1000000", "LIMIT"),
        (
            "SELECT sum(number) FROM numbers(100000000000)",
            "158",
            "archive.analyst_max_rows_to_read = 2000000000",
            "fewer days",
        ),
        (
            "SELECT length(groupArray(number)) FROM numbers(200000000)",
            "241",
            "archive.analyst_max_memory_bytes = 536870912",
            "group by",
        ),
        (
            "SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 1, max_block_size = 1",
            "159",
            "archive.analyst_max_execution_seconds = 60",
            "conversation_id",
        ),
        ("SELECT 1 SETTINGS max_result_rows = 0", "452", "analysts' limits", "lower"),
    ] {
        let answer = get(address, sql).await;
        assert_eq!(answer.header("x-clickhouse-exception-code"), code, "{sql}: {}", answer.text());
        assert!(answer.text().contains(limit) && answer.text().contains(hint), "{sql}: {}", answer.text());
    }
    // The engine itself lets a subquery's clause lift the time.
    for sql in [
        "SELECT * FROM (SELECT 1 SETTINGS max_execution_time = 0)",
        "SELECT * FROM (SELECT 1 SETTINGS `max_execution_time` = 61)",
        "SELECT * FROM (SELECT 1 SETTINGS max_threads = 1, max_memory_usage = 536870913)",
        "SELECT (SELECT 1 SETTINGS max_result_rows = DEFAULT)",
        "WITH x AS (SELECT 1 SETTINGS max_rows_to_read = 1e18) SELECT * FROM x",
        "SELECT 1 SETTINGS max_rows_to_read = 0 UNION ALL SELECT 1",
        "SELECT * FROM (SELECT 1 SETTINGS timeout_overflow_mode = 'break')",
        "SELECT * FROM (SELECT 1 SETTINGS profile = 'default')",
    ] {
        let answer = get(address, sql).await;
        assert_eq!(answer.header("x-clickhouse-exception-code"), "452", "{sql}: {}", answer.text());
    }
    assert_eq!(get(address, "SELECT * FROM (SELECT 1 SETTINGS max_execution_time = 5)").await.text(), "1\n");
    // What clients ask for to know the tables is there.
    for table in ["tables", "columns", "databases", "functions", "settings", "formats", "one"] {
        let answer = get(address, &format!("SELECT count() > 0 FROM system.{table}")).await;
        assert_eq!(answer.text(), "1\n", "{table}");
    }
    // Two people's questions do not see each other.
    assert_eq!(get(address, "SELECT count() FROM system.tables WHERE name = 'processes'").await.text(), "0\n");
    handle.shutdown().await;
}

#[tokio::test]
async fn answers_and_bodies_are_compressed_as_clients_ask() {
    let (_archive, handle) = port("tidings_http_packed", true).await;
    let address = handle.address();
    let sql = "SELECT repeat('tidings ', 1000)";
    let plain = get(address, sql).await;
    assert_eq!(plain.header("content-encoding"), "");
    for (accept, encoding) in [("gzip, deflate", "gzip"), ("lz4,zstd,br,gzip", "lz4"), ("br", "")] {
        let target = format!("/?query={}&enable_http_compression=1", encoded(sql));
        let answer = send(address, "GET", &target, &[("accept-encoding", accept)], b"").await;
        assert_eq!(answer.header("content-encoding"), encoding, "{accept}");
        assert_eq!(answer.body.len() < plain.body.len() / 10, !encoding.is_empty(), "{accept}");
    }
    let short = send(address, "GET", "/?query=SELECT+1", &[("accept-encoding", "gzip")], b"").await;
    assert_eq!((short.text(), short.header("content-encoding")), ("1\n", ""));
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_when_its_client_goes_away() {
    let (_archive, handle) = port("tidings_http_cancelled", false).await;
    let address = handle.address();
    let running =
        || archive::sql("tidings_http_cancelled", "SELECT count() FROM system.processes WHERE query LIKE '%gone1%'");
    let sql =
        "SELECT count(), 'gone1' FROM numbers(600) WHERE NOT ignore(sleepEachRow(0.1)) SETTINGS max_block_size = 1";
    let asking = tokio::spawn(async move { get(address, sql).await.status });
    // The question about it is one that names it, too.
    while running() != "2\n" {
        tokio::task::yield_now().await;
    }
    asking.abort();
    let gone = async {
        while running() != "1\n" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("it was cancelled");
    handle.shutdown().await;
}

#[tokio::test]
async fn a_writable_port_takes_inserts_of_any_format() {
    let (_archive, handle) = port("tidings_http_write", true).await;
    let address = handle.address();
    let create = "CREATE TABLE rows (number UInt64, body String) ENGINE = MergeTree ORDER BY number";
    assert_eq!(send(address, "POST", "/", &[], create.as_bytes()).await.status, 200);
    let insert = |format: &str| format!("/?query={}", encoded(&format!("INSERT INTO rows FORMAT {format}")));
    let rows = [1_u64.to_le_bytes().as_slice(), b"\x04\0\n'\xff"].concat();
    assert_eq!(send(address, "POST", &insert("RowBinary"), &[], &rows).await.status, 200);
    assert_eq!(
        send(address, "POST", &insert("JSONEachRow"), &[], b"{\"number\":2,\"body\":\"two\"}").await.status,
        200
    );
    assert_eq!(send(address, "POST", "/", &[], b"INSERT INTO rows VALUES (3, 'three')").await.status, 200);
    let answer =
        send(address, "POST", "/", &[], b"INSERT INTO rows SELECT number + 3, 'four' FROM rows WHERE number = 1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let large = (5..200_000).map(|number| format!("{number},x\n")).collect::<String>();
    let answer = send(address, "POST", &insert("CSV"), &[], large.as_bytes()).await;
    assert!(answer.header("x-clickhouse-summary").contains("\"written_rows\":\"199995\""), "{}", answer.text());
    assert_eq!(get(address, "SELECT count(), hex(any(body)) FROM rows WHERE number < 2").await.text(), "1\t000A27FF\n");
    assert_eq!(get(address, "SELECT count() FROM rows").await.text(), "199999\n");
    assert_eq!(send(address, "POST", &insert("CSV"), &[], b"not a number").await.status, 400);
    assert_eq!(get(address, "SELECT * FROM file('/etc/hostname', 'LineAsString', 'a String')").await.status, 403);
    handle.shutdown().await;
}

#[tokio::test]
async fn curl_asks_as_the_documentation_says() {
    let (_archive, handle) = port("tidings_http_curl", false).await;
    let url = format!("http://{}/?query=SELECT+count()+FROM+messages", handle.address());
    let output = tokio::task::spawn_blocking(move || Command::new("curl").args(["-sS", &url]).output()).await.unwrap();
    let Ok(Output { stdout, .. }) = output else {
        println!("SKIPPED: curl is not installed");
        return;
    };
    assert_eq!(String::from_utf8(stdout).unwrap(), "0\n");
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_connect_works_unchanged() {
    let Some(python) = clickhouse_connect() else {
        println!("SKIPPED: clickhouse-connect cannot be fetched (no python3 -m venv, or no network)");
        return;
    };
    let (_archive, handle) = port("tidings_http_python", true).await;
    let script = "
import sys, clickhouse_connect
client = clickhouse_connect.get_client(host='127.0.0.1', port=int(sys.argv[1]))
assert client.query('SELECT count() FROM messages').result_rows == [(0,)]
assert client.query('SELECT number, toString(number) FROM numbers(3)').result_rows == [(0, '0'), (1, '1'), (2, '2')]
assert client.query('SELECT {x:UInt8} + 1', parameters={'x': 41}).first_row == (42,)
assert client.query('SELECT 1', settings={'max_threads': 1}).first_row == (1,)
client.command('CREATE TABLE rows (number UInt64, body String) ENGINE = MergeTree ORDER BY number')
client.insert('rows', [[1, 'one'], [2, 'zwei \\u00e4']], column_names=['number', 'body'])
assert client.query('SELECT * FROM rows ORDER BY number').result_rows == [(1, 'one'), (2, 'zwei \\u00e4')]
try:
    client.query('SELECT * FROM nowhere')
    raise SystemExit('no error came')
except clickhouse_connect.driver.exceptions.DatabaseError as error:
    assert 'UNKNOWN_TABLE' in str(error), error
print('fine')
";
    let port = handle.address().port().to_string();
    let output =
        tokio::task::spawn_blocking(move || Command::new(python).args(["-c", script, &port]).output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("fine"), "{said}");
    handle.shutdown().await;
}

/// A Python that has clickhouse-connect, made once and kept beside the other build products.
fn clickhouse_connect() -> Option<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clickhouse-connect-1.12.0");
    let python = folder.join("bin/python");
    let done = folder.join("done");
    if !done.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status().ok()?.success();
        let fetched = made
            && Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "clickhouse-connect==1.12.0"])
                .status()
                .ok()?
                .success();
        if !fetched {
            return None;
        }
        fs::write(&done, "").ok()?;
    }
    Some(python)
}
