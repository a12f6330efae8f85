//! Leaving the process without the engine's teardown.
//!
//! At `exit` the engine's own handler takes the engine down, and in 26.7.3 that faults more often than not in a process
//! that has tables (a SIGSEGV after `main` has returned, seen in two runs of three). So a handler that is registered
//! after the engine's, and therefore runs before it, ends the process there and then. Nothing is lost by it: the
//! archive syncs before it acknowledges, and must withstand a kill at any moment anyway.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::Once,
};

unsafe extern "C" {
    /// glibc's `atexit` that is told the exit status.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    /// Writes what C's standard streams still hold.
    fn fflush(stream: *mut c_void) -> c_int;
    /// Ends the process without running any further handler.
    fn _exit(status: c_int) -> !;
}

/// Registers the handler, once. To be called when the engine has started, and so has registered its own.
pub(super) fn skip_teardown() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: a plain C function and no argument. Should there be no room for it, exit is as it was without it.
        unsafe { on_exit(at_exit, ptr::null_mut()) };
    });
}

extern "C" fn at_exit(status: c_int, _argument: *mut c_void) {
    // SAFETY: a null stream means all of them; then the process ends, with the status it was going to end with.
    unsafe {
        fflush(ptr::null_mut());
        _exit(status)
    }
}
