//! libchdb's C interface: the functions that are used, bound once for each process.
//!
//! Every signature is that of `chdb.h` of version 26.7.3. All functions may be called from any thread; a connection,
//! and what hangs on it, only by one thread at a time.

use std::{
    ffi::{c_char, c_int, c_void},
    path::Path,
    sync::OnceLock,
};

use libloading::Library;

use super::error::EngineError;

/// A connection as `chdb_connect` returns it: a pointer to the handle that the other functions take.
pub(super) type ConnectionHandle = *mut *mut c_void;
/// The result of a query or of a finished insert.
pub(super) type ResultHandle = *mut c_void;
/// An insert that is under way.
pub(super) type InsertHandle = *mut c_void;

/// What `chdb_classify_query_n` fills in.
#[repr(C)]
pub(super) struct Analysis {
    /// The size of this struct, set by the caller.
    pub(super) struct_size: u32,
    /// Statements in the text that would run.
    pub(super) statement_count: u32,
    /// Not used here.
    pub(super) flags: u32,
    /// The class of the most restricted of them.
    pub(super) class: u32,
}

macro_rules! symbols {
    ($($(#[$doc:meta])* $field:ident = $name:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The bound functions.
        pub(super) struct Symbols {
            $($(#[$doc])* pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Symbols {
            fn bind(library: &'static Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    // SAFETY: the signature is the header's, and the library lives as long as the process.
                    $($field: *unsafe { library.get(concat!($name, "\0").as_bytes())? },)*
                })
            }
        }
    };
}

symbols! {
    set_signal_handlers_enabled = "chdb_set_signal_handlers_enabled": fn(c_int);
    connect = "chdb_connect": fn(c_int, *const *const c_char) -> ConnectionHandle;
    close_connection = "chdb_close_conn": fn(ConnectionHandle);
    query = "chdb_query_with_params_n": fn(
        *mut c_void, *const c_char, usize, *const c_char, usize,
        *const *const c_char, *const usize, *const *const c_char, *const usize, usize
    ) -> ResultHandle;
    classify = "chdb_classify_query_n": fn(*mut c_void, *const c_char, usize, *const c_char, usize, *mut Analysis) -> c_int;
    result_buffer = "chdb_result_buffer": fn(ResultHandle) -> *const u8;
    result_length = "chdb_result_length": fn(ResultHandle) -> usize;
    result_error = "chdb_result_error": fn(ResultHandle) -> *const c_char;
    result_rows_read = "chdb_result_storage_rows_read": fn(ResultHandle) -> u64;
    result_bytes_read = "chdb_result_storage_bytes_read": fn(ResultHandle) -> u64;
    result_rows_written = "chdb_result_rows_written": fn(ResultHandle) -> u64;
    destroy_result = "chdb_destroy_query_result": fn(ResultHandle);
    insert_open = "chdb_stream_insert_n": fn(*mut c_void, *const c_char, usize, *const c_char, usize) -> InsertHandle;
    insert_append = "chdb_stream_append": fn(InsertHandle, *const c_void, usize) -> c_int;
    insert_finish = "chdb_stream_done": fn(InsertHandle) -> ResultHandle;
    insert_error = "chdb_stream_insert_error": fn(InsertHandle) -> *const c_char;
    destroy_insert = "chdb_destroy_insert_stream": fn(InsertHandle);
}

/// The library's functions: loaded at the first call, from that call's path, and never unloaded.
pub(super) fn load(path: &Path) -> Result<&'static Symbols, EngineError> {
    static LOADED: OnceLock<Result<Symbols, EngineError>> = OnceLock::new();
    if LOADED.get().is_none() && !path.is_file() {
        // Not remembered: it may be fetched while the process runs.
        return Err(EngineError::LibraryMissing(path.to_owned()));
    }
    LOADED.get_or_init(|| bind(path)).as_ref().map_err(Clone::clone)
}

fn bind(path: &Path) -> Result<Symbols, EngineError> {
    let unusable =
        |error: libloading::Error| EngineError::LibraryUnusable { path: path.to_owned(), reason: error.to_string() };
    // SAFETY: libchdb's initialisers only set up its own globals; the path is the operator's.
    let library = unsafe { Library::new(path) }.map_err(unusable)?;
    // The engine's threads run in the library's code until the process ends, so it may never be unloaded.
    let symbols = Symbols::bind(Box::leak(Box::new(library))).map_err(unusable)?;
    // SAFETY: allowed before the first connect, and here is no connection yet. The process's own handlers stay.
    unsafe { (symbols.set_signal_handlers_enabled)(0) };
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_says_how_to_get_it() {
        let error = load(Path::new("/nowhere/libchdb.so")).map(|_| ()).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains("./ops/fetch-libchdb")), "{error:?}");
    }
}
