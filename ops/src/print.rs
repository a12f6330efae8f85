//! What the program says on standard output. A reader that has seen enough (`| head`) may close it, and then the rest is not
//! written; `println!` would panic.

use std::{
    fmt,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether something could not be written for another reason.
static HAS_FAILED: AtomicBool = AtomicBool::new(false);

/// A line onto standard output: as `println!`, without its panic.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::print::text(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Text onto standard output. What cannot be written is told of once, and by [`has_failed`].
pub fn text(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if error.kind() != io::ErrorKind::BrokenPipe && !HAS_FAILED.swap(true, Ordering::Relaxed) {
        // Nobody may be left to be told.
        let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
    }
}

/// Whether something could not be written: then the program has not done what it was asked for.
pub fn has_failed() -> bool {
    HAS_FAILED.load(Ordering::Relaxed)
}
