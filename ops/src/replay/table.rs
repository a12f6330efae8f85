//! Columns for people, and answers onto standard output.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
};

use anyhow::Context;
use serde::Serialize;

use super::exit::{Code, Outcome, WithCode};

/// An answer and a line's end onto standard output. Who has seen enough (`| head`) may close it.
///
/// # Errors
/// It cannot be written.
pub fn print(answer: &dyn Display) -> Outcome {
    let mut out = io::stdout().lock();
    match writeln!(out, "{answer}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output").code(Code::Target),
    }
}

/// A report as JSON, for [`print`].
///
/// # Errors
/// There is none: a report always has a form.
pub fn pretty(report: &impl Serialize) -> Result<String, super::exit::Failure> {
    serde_json::to_string_pretty(report).code(Code::Target)
}

/// Rows under a head, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With this head.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// One more row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Whether there is more than the head.
    pub fn has_rows(&self) -> bool {
        self.rows.len() > 1
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (at, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            let line = line.trim_end();
            if at > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{line}")?;
        }
        Ok(())
    }
}

/// A text on one line, of at most so many letters: what is no letter of a line is left out, what is cut off is said.
pub fn short(text: &str, letters_max: usize) -> String {
    let mut line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if let Some((at, _)) = line.char_indices().nth(letters_max) {
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new(["A", "LONGER", "C"]);
        columns.row(["längst".to_owned(), "b".to_owned(), String::new()]);
        assert_eq!(columns.to_string(), "A       LONGER  C\nlängst  b");
        assert_eq!(short("a\nbcü", 3), "a b…");
        assert_eq!(short("abc", 3), "abc");
    }
}
