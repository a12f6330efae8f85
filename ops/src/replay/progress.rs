//! A progress bar on standard error, on a terminal only, with rate and time left; and notes beside it.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// Records on their way to `total`. Hidden where standard error is no terminal.
pub fn bar(what: &'static str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), what, "{msg} {wide_bar} {human_pos}/{human_len}  {rate}, {eta} left")
}

/// Records of which nobody knows how many there will be.
pub fn counter(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), what, "{msg} {human_pos}  {rate}")
}

fn styled(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    let bar = bar.with_message(what);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("rate", rate).progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Whole records a second: nobody reads parts of one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is small, and not below 0")]
fn rate(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    // A bar that cannot be drawn is no reason to stop.
    let _ = write!(to, "{}/s", HumanCount(state.per_sec().round() as u64));
}

/// Tells an end to each, also when it ends early.
pub struct Shown(pub ProgressBar);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line on standard error that is no result. It may be closed: that is no reason to stop.
pub fn say(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "{what}");
}
