//! The engine of this process: one, on one folder.

use std::{
    ffi::{CString, c_char},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    configuration::{self, EngineConfiguration},
    error::EngineError,
    exit,
    symbols::{self, ConnectionHandle, Symbols},
};

/// The open engine. Clones share it. Once open it stays open until the process ends: taking it down is not safe.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What the process has open, if anything.
static OPEN: Mutex<Option<Arc<Shared>>> = Mutex::new(None);

struct Shared {
    symbols: &'static Symbols,
    folder: PathBuf,
    /// The arguments that every connection is opened with: the engine compares the path.
    arguments: Vec<CString>,
    /// Keeps other processes away until this one ends.
    _lock: File,
}

impl Engine {
    /// Opens the engine on the configuration's folder, or returns the one that is already open on it.
    ///
    /// Takes about 0.2 s the first time, and blocks for it.
    pub fn open(configuration: &EngineConfiguration) -> Result<Self, EngineError> {
        let in_folder =
            |error: io::Error| EngineError::Folder { folder: configuration.folder.clone(), reason: error.to_string() };
        let symbols = symbols::load(&configuration.library)?;
        fs::create_dir_all(&configuration.folder).map_err(in_folder)?;
        let folder = configuration.folder.canonicalize().map_err(in_folder)?;

        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.as_ref() {
            if shared.folder == folder {
                return Ok(Self { shared: Arc::clone(shared) });
            }
            return Err(EngineError::OtherFolder { open: shared.folder.clone(), asked: folder });
        }

        let lock = lock(&folder)?;
        let configuration_file =
            configuration::write(&EngineConfiguration { folder: folder.clone(), ..configuration.clone() })
                .map_err(in_folder)?;
        let data = configuration::data_path(&folder);
        let argument = |text: String| CString::new(text).map_err(|error| in_folder(error.into()));
        let arguments = vec![
            argument("chdb".to_owned())?,
            argument(format!("--config-file={}", configuration_file.display()))?,
            argument(format!("--path={}", data.display()))?,
        ];
        // This connection is never closed: with none open the engine would be taken down. Nothing runs on it.
        connect(symbols, &arguments, &folder)?;
        exit::skip_teardown();
        let shared = Arc::new(Shared { symbols, folder, arguments, _lock: lock });
        *open = Some(Arc::clone(&shared));
        Ok(Self { shared })
    }

    /// The folder that it is open on.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    pub(super) fn symbols(&self) -> &'static Symbols {
        self.shared.symbols
    }

    /// A new handle, which the caller closes on the thread that asked for it.
    pub(super) fn connect(&self) -> Result<ConnectionHandle, EngineError> {
        connect(self.shared.symbols, &self.shared.arguments, &self.shared.folder)
    }
}

fn connect(symbols: &Symbols, arguments: &[CString], folder: &Path) -> Result<ConnectionHandle, EngineError> {
    let pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    let count = i32::try_from(pointers.len()).map_err(|_| EngineError::NoConnection(folder.to_owned()))?;
    // SAFETY: `count` pointers to strings that end in NUL and outlive the call, which copies them.
    let handle = unsafe { (symbols.connect)(count, pointers.as_ptr()) };
    // SAFETY: not null, so it points to the handle that the library allocated.
    if handle.is_null() || unsafe { *handle }.is_null() {
        return Err(EngineError::NoConnection(folder.to_owned()));
    }
    Ok(handle)
}

/// Takes the folder's lock, and writes into the lock file who has it.
fn lock(folder: &Path) -> Result<File, EngineError> {
    let failed = |error: io::Error| EngineError::Folder { folder: folder.to_owned(), reason: error.to_string() };
    let path = folder.join("lock");
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            return Err(EngineError::FolderInUse { folder: folder.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "process {}", std::process::id()).map_err(failed)?;
    Ok(file)
}
