//! As much SQL as the port must understand: where the data of an INSERT begins, which format a statement asks for, and
//! its words, for the guard. Everything else is the engine's parser's.

/// The statement of a request, and the data that come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement<'text> {
    /// A statement without data.
    Query {
        /// All of it.
        sql: &'text [u8],
        /// The format of its result, when it names one.
        format: Option<&'text [u8]>,
    },
    /// An INSERT whose data follow it.
    Insert {
        /// Up to `FORMAT` or `VALUES`.
        sql: &'text [u8],
        /// The format of the data.
        format: &'text [u8],
        /// The data.
        data: &'text [u8],
    },
}

/// A word or a mark of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'text> {
    pub(super) kind: Kind,
    /// Its text; of a quoted name what is between the quotes.
    pub(super) text: &'text [u8],
    /// Where it begins and ends.
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word.
    Word,
    /// A quoted name, without its quotes.
    Quoted,
    /// A string.
    String,
    /// Anything else, one byte of it.
    Mark,
}

impl Token<'_> {
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn is_mark(&self, mark: u8) -> bool {
        self.kind == Kind::Mark && self.text == [mark]
    }
}

/// Takes the text of a request apart.
pub(super) fn parse(text: &[u8]) -> Statement<'_> {
    let mut tokens = Tokens::of(text);
    let is_insert = tokens.clone().next().is_some_and(|first| first.is_word("INSERT"));
    let mut depth = 0_usize;
    let mut format = None;
    while let Some(token) = tokens.next() {
        if token.is_mark(b'(') {
            depth += 1;
        } else if token.is_mark(b')') {
            depth = depth.saturating_sub(1);
        }
        let begins_query = is_insert && (token.is_word("SELECT") || token.is_word("WITH"));
        if begins_query {
            // INSERT … SELECT, also INSERT … (SELECT …): there are no data.
            return Statement::Query { sql: text, format: None };
        }
        if depth > 0 {
            continue;
        }
        if is_insert && token.is_word("VALUES") {
            return Statement::Insert { sql: &text[..token.start], format: b"Values", data: &text[token.end..] };
        }
        if token.is_word("FORMAT") {
            let Some(name) = tokens.clone().next().filter(|name| name.kind == Kind::Word) else { continue };
            if is_insert {
                let data = data_after(&text[name.end..]);
                return Statement::Insert { sql: &text[..token.start], format: name.text, data };
            }
            format = Some(name.text);
        }
    }
    Statement::Query { sql: text, format }
}

/// The data after a format's name begin after blanks and one line break.
fn data_after(rest: &[u8]) -> &[u8] {
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | 0x0c)).count();
    let rest = &rest[blanks..];
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
    rest.strip_prefix(b"\n").unwrap_or(rest)
}

/// The tokens of a text; comments and blanks are left out.
#[derive(Clone)]
pub(super) struct Tokens<'text> {
    text: &'text [u8],
    at: usize,
}

impl<'text> Iterator for Tokens<'text> {
    type Item = Token<'text>;

    fn next(&mut self) -> Option<Token<'text>> {
        self.skip_blanks_and_comments();
        let rest = self.text.get(self.at..)?;
        let first = *rest.first()?;
        let start = self.at;
        let (kind, length, text) = match first {
            b'\'' => {
                let length = quoted_length(rest, first);
                (Kind::String, length, &rest[..length])
            }
            b'`' | b'"' => {
                let length = quoted_length(rest, first);
                (Kind::Quoted, length, &rest[1..length.saturating_sub(1).max(1)])
            }
            _ if is_word_byte(first) => {
                let length = rest.iter().take_while(|byte| is_word_byte(**byte)).count();
                (Kind::Word, length, &rest[..length])
            }
            _ => (Kind::Mark, 1, &rest[..1]),
        };
        self.at += length;
        Some(Token { kind, text, start, end: self.at })
    }
}

impl<'text> Tokens<'text> {
    /// Of this text.
    pub(super) fn of(text: &'text [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let skip = match rest {
                [first, ..] if first.is_ascii_whitespace() || *first == 0x0b => 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => until(rest, b"\n"),
                [b'/', b'*', ..] => until(rest, b"*/"),
                _ => return,
            };
            self.at += skip;
        }
    }
}

/// The length up to the end of `mark`, or of everything.
fn until(rest: &[u8], mark: &[u8]) -> usize {
    rest.windows(mark.len()).position(|window| window == mark).map_or(rest.len(), |at| at + mark.len())
}

/// The length of a quoted text, with its quotes: a backslash takes the next byte with it, and a doubled quote is none.
fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        at += 1;
        if *byte == b'\\' {
            at += 1;
        } else if *byte == quote {
            if rest.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
    }
    at.min(rest.len())
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, String, String) {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match parse(text.as_bytes()) {
            Statement::Query { sql, format } => (text_of(sql), text_of(format.unwrap_or_default()), "-".to_owned()),
            Statement::Insert { sql, format, data } => (text_of(sql), text_of(format), text_of(data)),
        }
    }

    #[test]
    fn the_data_of_an_insert_are_found() {
        for (text, sql, format, data) in [
            ("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", "CSV", "1,2\n"),
            ("insert into t (a, b) format JSONEachRow {\"a\":1}", "insert into t (a, b) ", "JSONEachRow", "{\"a\":1}"),
            ("INSERT INTO t VALUES (1), ('FORMAT')", "INSERT INTO t ", "Values", " (1), ('FORMAT')"),
            ("INSERT INTO `format x` FORMAT RowBinary\r\n\0\n", "INSERT INTO `format x` ", "RowBinary", "\0\n"),
            (
                "-- VALUES\nINSERT /* FORMAT x */ INTO t FORMAT TSV \n\n1",
                "-- VALUES\nINSERT /* FORMAT x */ INTO t ",
                "TSV",
                "\n1",
            ),
        ] {
            assert_eq!(parsed(text), (sql.to_owned(), format.to_owned(), data.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_has_no_data_is_a_query() {
        for (text, format) in [
            ("SELECT 1", ""),
            ("SELECT 'FORMAT CSV' FORMAT JSON", "JSON"),
            ("SELECT * FROM (SELECT 1 AS format) FORMAT CSV;", "CSV"),
            ("INSERT INTO t SELECT 1", ""),
            ("INSERT INTO t (a) WITH 1 AS x SELECT x", ""),
            ("INSERT INTO t (SELECT 1)", ""),
            ("SELECT 'unfinished", ""),
            ("SELECT \"unfinished\\", ""),
            ("/* unfinished", ""),
            ("", ""),
        ] {
            assert_eq!(parsed(text), (text.to_owned(), format.to_owned(), "-".to_owned()), "{text}");
        }
    }
}
