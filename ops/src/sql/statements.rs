//! Where one statement ends and the next begins: at a semicolon that is in no text, name or comment.

/// The statements of a text, without the semicolons; pieces with nothing but blanks and comments are left out.
pub(super) fn split(text: &str) -> Vec<String> {
    let (mut statements, rest) = ended(text);
    statements.extend(some(rest));
    statements
}

/// The statements that a semicolon ends, and what comes after the last one.
pub(super) fn ended(text: &str) -> (Vec<String>, &str) {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = skipped(rest);
        if rest.starts_with(';') {
            statements.extend(some(&text[start..at]));
            start = at + 1;
        }
        at += length;
    }
    (statements, &text[start..])
}

/// The piece, if there is a statement in it.
fn some(piece: &str) -> Option<String> {
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        let is_comment = is_comment(rest);
        if !first.is_whitespace() && !is_comment {
            return Some(piece.trim().to_owned());
        }
        rest = &rest[skipped(rest)..];
    }
    None
}

fn is_comment(rest: &str) -> bool {
    ["--", "/*", "# ", "#!"].iter().any(|mark| rest.starts_with(mark))
}

/// The length of what is read at once: a text, a name, a comment or a character.
fn skipped(rest: &str) -> usize {
    let until = |mark: &str| rest.find(mark).map_or(rest.len(), |at| at + mark.len());
    match rest.chars().next() {
        Some(quote @ ('\'' | '"' | '`')) => {
            let mut characters = rest.char_indices().skip(1);
            while let Some((at, character)) = characters.next() {
                if character == '\\' {
                    characters.next();
                } else if character == quote {
                    // A doubled quote begins a text anew, which comes to the same.
                    return at + quote.len_utf8();
                }
            }
            rest.len()
        }
        _ if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |at| at + 4),
        _ if is_comment(rest) => until("\n"),
        Some(character) => character.len_utf8(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_that_end_nothing_are_told_from_those_that_do() {
        for (text, statements) in [
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT 1;\n SELECT 2 ;", vec!["SELECT 1", "SELECT 2"]),
            ("SELECT ';', `;`, \";\" ; x", vec!["SELECT ';', `;`, \";\"", "x"]),
            ("SELECT 'it''s; \\'; ' -- ;\n, 2; y", vec!["SELECT 'it''s; \\'; ' -- ;\n, 2", "y"]),
            ("/* a; */ SELECT /* ; */ 1; -- the end;", vec!["/* a; */ SELECT /* ; */ 1"]),
            ("SELECT 'ä;ö'; SELECT 'offen;", vec!["SELECT 'ä;ö'", "SELECT 'offen;"]),
            (";; \n ;", vec![]),
            ("", vec![]),
            ("/*/ ; */ 1", vec!["/*/ ; */ 1"]),
        ] {
            assert_eq!(split(text), statements, "{text}");
        }
    }

    #[test]
    fn what_is_not_ended_is_kept() {
        assert_eq!(ended("SELECT 1; SELECT '2;"), (vec!["SELECT 1".to_owned()], " SELECT '2;"));
        assert_eq!(ended("SELECT 1;"), (vec!["SELECT 1".to_owned()], ""));
    }
}
