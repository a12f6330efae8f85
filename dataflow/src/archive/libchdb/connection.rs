//! A session of the engine: one thread's.

use std::{
    ffi::{CStr, c_char},
    ptr,
};

use super::{
    engine::Engine,
    error::EngineError,
    symbols::{Analysis, ConnectionHandle, InsertHandle, ResultHandle, Symbols},
};

/// A session. It belongs to the thread that opened it.
///
/// After an error it is replaced before its next use by a fresh one with the same set-up: the engine keeps what a failed
/// query had written of its result and would put it in front of the next one's (seen in 26.7.3).
pub struct Connection {
    engine: Engine,
    setup: Vec<String>,
    /// `None` after an error, until the next use.
    open: Option<Handle>,
}

/// What a statement returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// The result in the format that was asked for.
    pub bytes: Vec<u8>,
    /// Rows read from tables.
    pub rows_read: u64,
    /// Bytes read from tables.
    pub bytes_read: u64,
    /// Rows written, also those into tables behind materialized views.
    pub rows_written: u64,
}

/// What a text of SQL holds, by the engine's own parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statements {
    /// Statements in it.
    pub count: u32,
    /// The class of the most restricted of them.
    pub class: StatementClass,
}

/// What a statement does to what outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementClass {
    /// SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS: leaves no trace.
    ReadOnly,
    /// Changes a database.
    Mutating,
    /// Changes what lies outside of any database: functions, users.
    MutatingGlobal,
    /// SET, USE, SYSTEM, KILL, and whatever writes outside the engine (INTO OUTFILE).
    Control,
    /// Does not parse, or is of no class.
    Unknown,
}

impl Connection {
    /// A session that opens at its first use.
    pub fn new(engine: &Engine, setup: Vec<String>) -> Self {
        Self { engine: engine.clone(), setup, open: None }
    }

    /// Opens a session and runs the set-up statements in it, such as `USE` and `SET`. Takes about half a millisecond.
    pub fn open(engine: &Engine, setup: Vec<String>) -> Result<Self, EngineError> {
        let mut connection = Self::new(engine, setup);
        connection.handle()?;
        Ok(connection)
    }

    /// Runs a statement (or several, separated by semicolons), with values for its `{name:Type}` placeholders in
    /// ClickHouse's escaped text form, and returns its result in `format`.
    pub fn query(&mut self, sql: &str, format: &str, parameters: &[(&str, &str)]) -> Result<Output, EngineError> {
        let symbols = self.engine.symbols();
        let handle = self.handle()?;
        let result = run(symbols, handle, sql, format, parameters);
        self.spoil_on_error(result)
    }

    /// Inserts rows: `insert` is the statement without `FORMAT` and without data, `chunks` are the data in `format`, cut
    /// anywhere.
    pub fn insert<'data>(
        &mut self,
        insert: &str,
        format: &str,
        chunks: impl IntoIterator<Item = &'data [u8]>,
    ) -> Result<Output, EngineError> {
        let symbols = self.engine.symbols();
        let handle = self.handle()?;
        let result = stream(symbols, handle, insert, format, chunks);
        self.spoil_on_error(result)
    }

    /// What a text of SQL would do, without running it.
    pub fn classify(&mut self, sql: &str) -> Result<Statements, EngineError> {
        let symbols = self.engine.symbols();
        let handle = self.handle()?;
        let mut analysis =
            Analysis { struct_size: size_of::<Analysis>() as u32, statement_count: 0, flags: 0, class: u32::MAX };
        // SAFETY: the handle is open and used by this thread alone; the text outlives the call; no database is named, so
        // that pointer may be null; the struct says its own size.
        let state =
            unsafe { (symbols.classify)(handle, sql.as_ptr().cast(), sql.len(), ptr::null(), 0, &raw mut analysis) };
        let class = match (state, analysis.class) {
            (0, 0) => StatementClass::ReadOnly,
            (0, 1) => StatementClass::Mutating,
            (0, 2) => StatementClass::MutatingGlobal,
            (0, 3) => StatementClass::Control,
            _ => StatementClass::Unknown,
        };
        Ok(Statements { count: analysis.statement_count, class })
    }

    /// The handle that statements run on, opened and set up anew after an error.
    fn handle(&mut self) -> Result<*mut std::ffi::c_void, EngineError> {
        if self.open.is_none() {
            let handle = Handle { symbols: self.engine.symbols(), handle: self.engine.connect()? };
            for statement in &self.setup {
                run(handle.symbols, handle.inner(), statement, "Null", &[])?;
            }
            self.open = Some(handle);
        }
        self.open.as_ref().map(Handle::inner).ok_or_else(|| EngineError::NoConnection(self.engine.folder().to_owned()))
    }

    fn spoil_on_error<T>(&mut self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if result.is_err() {
            self.open = None;
        }
        result
    }
}

/// An open handle, closed when dropped.
struct Handle {
    symbols: &'static Symbols,
    handle: ConnectionHandle,
}

impl Handle {
    fn inner(&self) -> *mut std::ffi::c_void {
        // SAFETY: the handle came from `chdb_connect`, is not null and was not closed.
        unsafe { *self.handle }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by `chdb_connect`, closed here only; results were destroyed before.
        unsafe { (self.symbols.close_connection)(self.handle) };
    }
}

fn run(
    symbols: &Symbols,
    handle: *mut std::ffi::c_void,
    sql: &str,
    format: &str,
    parameters: &[(&str, &str)],
) -> Result<Output, EngineError> {
    let pointers = |select: fn(&(&str, &str)) -> *const c_char| parameters.iter().map(select).collect::<Vec<_>>();
    let lengths = |select: fn(&(&str, &str)) -> usize| parameters.iter().map(select).collect::<Vec<_>>();
    let (names, name_lengths) = (pointers(|(name, _)| name.as_ptr().cast()), lengths(|(name, _)| name.len()));
    let (values, value_lengths) = (pointers(|(_, value)| value.as_ptr().cast()), lengths(|(_, value)| value.len()));
    // SAFETY: the handle is open and used by this thread alone; every pointer goes with its length, the four arrays have
    // `parameters.len()` elements each, and all of it outlives the call.
    let result = unsafe {
        (symbols.query)(
            handle,
            sql.as_ptr().cast(),
            sql.len(),
            format.as_ptr().cast(),
            format.len(),
            names.as_ptr(),
            name_lengths.as_ptr(),
            values.as_ptr(),
            value_lengths.as_ptr(),
            parameters.len(),
        )
    };
    take(symbols, result)
}

fn stream<'data>(
    symbols: &Symbols,
    handle: *mut std::ffi::c_void,
    insert: &str,
    format: &str,
    chunks: impl IntoIterator<Item = &'data [u8]>,
) -> Result<Output, EngineError> {
    // SAFETY: the handle is open and used by this thread alone; each text goes with its length.
    let stream = unsafe {
        (symbols.insert_open)(handle, insert.as_ptr().cast(), insert.len(), format.as_ptr().cast(), format.len())
    };
    let stream = InsertStream { symbols, stream };
    stream.check()?;
    for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
        // SAFETY: the stream is open; the chunk goes with its length and is copied by the call.
        let state = unsafe { (symbols.insert_append)(stream.stream, chunk.as_ptr().cast(), chunk.len()) };
        if state != 0 {
            stream.check()?;
            // The stream ended without a word: finishing it gives the reason.
            break;
        }
    }
    // SAFETY: the stream is open; finishing it is allowed once, also after a failed append.
    let result = unsafe { (symbols.insert_finish)(stream.stream) };
    take(symbols, result)
}

/// An insert under way, destroyed when dropped (which cancels it if it was not finished).
struct InsertStream<'symbols> {
    symbols: &'symbols Symbols,
    stream: InsertHandle,
}

impl InsertStream<'_> {
    fn check(&self) -> Result<(), EngineError> {
        if self.stream.is_null() {
            return Err(EngineError::from_message("the engine opened no insert"));
        }
        // SAFETY: the stream is not null and not destroyed; the text it may return lives as long as the stream.
        match unsafe { text((self.symbols.insert_error)(self.stream)) } {
            None => Ok(()),
            Some(message) => Err(EngineError::from_message(&message)),
        }
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        if !self.stream.is_null() {
            // SAFETY: destroyed here only.
            unsafe { (self.symbols.destroy_insert)(self.stream) };
        }
    }
}

/// Copies what a result holds and frees it.
fn take(symbols: &Symbols, result: ResultHandle) -> Result<Output, EngineError> {
    if result.is_null() {
        return Err(EngineError::from_message("the engine returned nothing"));
    }
    // SAFETY: the result is not null and is destroyed at the end, after everything was copied out of it. The buffer has
    // the length that the library says; it may be null when that is 0.
    unsafe {
        let outcome = match text((symbols.result_error)(result)) {
            Some(message) => Err(EngineError::from_message(&message)),
            None => {
                let (buffer, length) = ((symbols.result_buffer)(result), (symbols.result_length)(result));
                let bytes = if buffer.is_null() || length == 0 {
                    Vec::new()
                } else {
                    std::slice::from_raw_parts(buffer, length).to_vec()
                };
                Ok(Output {
                    bytes,
                    rows_read: (symbols.result_rows_read)(result),
                    bytes_read: (symbols.result_bytes_read)(result),
                    rows_written: (symbols.result_rows_written)(result),
                })
            }
        };
        (symbols.destroy_result)(result);
        outcome
    }
}

/// The text at `pointer`, unless it is null or empty.
///
/// # Safety
/// `pointer` is null or points to a string that ends in NUL.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by this function's contract.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy();
    if text.is_empty() { None } else { Some(text.into_owned()) }
}
