//! The wrapper around libchdb, against the real library. One process has one engine, so all tests share it, each with a
//! database of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;

use archive::{database, engine};
use tidings_dataflow::archive::libchdb::{
    Connection, Engine, EngineError, StatementClass, configuration::EngineConfiguration, error::code,
};
use tidings_dataflow::archive::row_binary::{RowBinaryReader, RowBinaryWriter};

fn connection(database: &str) -> Connection {
    Connection::open(&engine(), vec![format!("USE {database}")]).unwrap()
}

#[test]
fn queries_answer_in_the_format_that_was_asked_for() {
    let mut connection = connection(&database("queries"));
    let sql = "SELECT 1 AS one, {text:String} AS text";
    let output = connection.query(sql, "JSONEachRow", &[("text", "it's; \\\\ -- {x}")]).unwrap();
    assert_eq!(String::from_utf8(output.bytes).unwrap(), "{\"one\":1,\"text\":\"it's; \\\\ -- {x}\"}\n");
    assert_eq!(connection.query("SELECT 1 WHERE 0", "TSV", &[]).unwrap().bytes, b"");
}

#[test]
fn an_error_has_its_code_and_spoils_nothing_that_comes_after() {
    let mut connection = connection(&database("errors"));
    let error = connection.query("SELECT * FROM nowhere", "TSV", &[]).unwrap_err();
    assert_eq!(error.code(), Some(code::UNKNOWN_TABLE));
    assert_eq!(connection.query("SELECT", "TSV", &[]).unwrap_err().code(), Some(code::SYNTAX_ERROR));
    // The engine has written rows of this result when it fails: they must not come with the next one.
    let many = "SELECT number FROM numbers(10000000) SETTINGS max_result_bytes = 1000000";
    assert_eq!(connection.query(many, "TSV", &[]).unwrap_err().code(), Some(code::TOO_MANY_ROWS_OR_BYTES));
    assert_eq!(connection.query("SELECT 7", "TSV", &[]).unwrap().bytes, b"7\n");
}

#[test]
fn streamed_rows_arrive_whatever_bytes_they_hold() {
    let mut connection = connection(&database("odd_bytes"));
    connection
        .query("CREATE TABLE rows (number UInt64, body String) ENGINE = MergeTree ORDER BY number", "Null", &[])
        .unwrap();
    let odd: Vec<Vec<u8>> = vec![
        Vec::new(),
        (0..=255).collect(),
        b"');\nDROP TABLE rows; --".to_vec(),
        vec![0; 300_000],
        b"\xff\xfe\xc3\x28".repeat(1000),
        b"FORMAT CSV\n1,2\n".to_vec(),
    ];
    let mut rows = RowBinaryWriter::default();
    for number in 0..2_000_u64 {
        rows.u64(number).string(&odd[number as usize % odd.len()]);
    }
    let bytes = rows.into_bytes();
    assert!(bytes.len() > 256 * 1024, "more than inline data could hold");
    // Cut at places that have nothing to do with the rows.
    let written = connection.insert("INSERT INTO rows (number, body)", "RowBinary", bytes.chunks(65_521)).unwrap();
    assert_eq!(written.rows_written, 2_000);

    let read = connection.query("SELECT number, body FROM rows ORDER BY number", "RowBinary", &[]).unwrap();
    let mut reader = RowBinaryReader::new(&read.bytes);
    for number in 0..2_000_u64 {
        assert_eq!(reader.u64().unwrap(), number);
        assert_eq!(reader.bytes().unwrap(), odd[number as usize % odd.len()]);
    }
    assert!(reader.is_empty());
}

#[test]
fn a_broken_insert_inserts_nothing_and_says_why() {
    let mut connection = connection(&database("broken_insert"));
    connection.query("CREATE TABLE rows (number UInt64) ENGINE = MergeTree ORDER BY number", "Null", &[]).unwrap();
    let insert = "INSERT INTO rows (number)";
    let cut = connection.insert(insert, "RowBinary", [&[1_u8, 2, 3][..]]).unwrap_err();
    assert!(cut.code().is_some_and(|code| code > 0), "{cut}");
    let missing = connection.insert("INSERT INTO nowhere (number)", "RowBinary", [&[0_u8; 8][..]]).unwrap_err();
    assert_eq!(missing.code(), Some(code::UNKNOWN_TABLE));
    assert!(connection.insert(insert, "NoSuchFormat", [&[0_u8; 8][..]]).is_err());
    assert_eq!(connection.query("SELECT count() FROM rows", "TSV", &[]).unwrap().bytes, b"0\n");
    assert_eq!(connection.insert(insert, "RowBinary", [&[0_u8; 8][..]]).unwrap().rows_written, 1);
}

#[test]
fn statements_are_classified_without_running() {
    let mut connection = connection(&database("classes"));
    for (sql, count, class) in [
        ("SELECT 1", 1, StatementClass::ReadOnly),
        ("SHOW TABLES", 1, StatementClass::ReadOnly),
        ("SELECT 1; SELECT 2", 2, StatementClass::ReadOnly),
        ("CREATE TABLE x (a UInt8) ENGINE = Memory", 1, StatementClass::Mutating),
        ("SELECT 1 INTO OUTFILE '/tmp/never'", 1, StatementClass::Control),
        ("SYSTEM STOP MERGES", 1, StatementClass::Control),
        ("SET max_threads = 1", 1, StatementClass::Control),
        ("SELEC", 0, StatementClass::Unknown),
    ] {
        let statements = connection.classify(sql).unwrap();
        assert_eq!((statements.count, statements.class), (count, class), "{sql}");
    }
}

#[test]
fn the_engine_reaches_nothing_but_its_own_databases() {
    let mut connection = connection(&database("rights"));
    for sql in [
        "SELECT * FROM file('/etc/hostname', 'LineAsString', 'line String')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString', 'line String')",
        "SELECT * FROM default.`/etc/hostname`",
        "CREATE TABLE default.x (a UInt8) ENGINE = Memory",
        "CREATE DATABASE elsewhere",
    ] {
        let error = connection.query(sql, "TSV", &[]).unwrap_err();
        assert_eq!(error.code(), Some(code::ACCESS_DENIED), "{sql}: {error}");
    }
}

#[test]
fn many_threads_have_a_session_each() {
    let database = database("threads");
    connection(&database)
        .query("CREATE TABLE rows (number UInt64) ENGINE = MergeTree ORDER BY number", "Null", &[])
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let database = &database;
            scope.spawn(move || {
                let mut connection = connection(database);
                for step in 0..10 {
                    let number = (thread * 10 + step).to_le_bytes();
                    connection.insert("INSERT INTO rows", "RowBinary", [&number[..]]).unwrap();
                    connection.query("SELECT count() FROM rows", "TSV", &[]).unwrap();
                }
            });
        }
    });
    let count = connection(&database).query("SELECT uniqExact(number) FROM rows", "TSV", &[]).unwrap();
    assert_eq!(count.bytes, b"80\n");
}

#[test]
fn a_second_folder_is_a_clear_error() {
    let open = engine();
    let same = Engine::open(&EngineConfiguration::in_folder(open.folder())).unwrap();
    assert_eq!(same.folder(), open.folder());
    let elsewhere = tempfile::tempdir().unwrap();
    let error = Engine::open(&EngineConfiguration::in_folder(elsewhere.path())).map(|_| ()).unwrap_err();
    assert!(matches!(&error, EngineError::OtherFolder { .. }), "{error}");
    assert!(error.to_string().contains(&open.folder().display().to_string()), "{error}");
}
