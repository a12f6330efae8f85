//! A progress bar on standard error, on a terminal only, with rate and time left.

use indicatif::{ProgressBar, ProgressStyle};

/// Records on their way to `total`. Hidden where standard error is no terminal.
pub fn bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    let template = "{msg} {wide_bar} {human_pos}/{human_len}  {per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Tells an end to each, also when it ends early.
pub struct Shown(pub ProgressBar);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
