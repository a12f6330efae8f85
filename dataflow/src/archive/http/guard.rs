//! What a reading port does not run, whatever the engine's rights say: functions that read files, and those of the
//! engine's own tables that tell of other people's queries, of users, or of this machine. (The engine gives everybody all
//! of its own tables: rights cannot take them away.)

use super::{
    reply::Refusal,
    request::SqlRequest,
    statement::{Kind, Token, Tokens},
};
use crate::archive::analyst::{AnalystLimits, SYSTEM_TABLES};

/// Functions that read files and that no right governs.
const FILE_FUNCTIONS: [&str; 2] = ["file", "catboostEvaluate"];

/// Table functions that name other tables in a text.
const NAMING_FUNCTIONS: [&str; 8] = [
    "merge",
    "loop",
    "mergeTreeIndex",
    "mergeTreeProjection",
    "mergeTreeTextIndex",
    "mergeTreeAnalyzeIndexes",
    "dictionary",
    "remote",
];

/// What SHOW shows of others.
const SHOWN_OF_OTHERS: [&str; 13] = [
    "PROCESSLIST",
    "USER",
    "USERS",
    "ROLE",
    "ROLES",
    "ACCESS",
    "PROFILE",
    "PROFILES",
    "QUOTA",
    "QUOTAS",
    "MERGES",
    "CLUSTERS",
    "POLICIES",
];

/// The engine's own database.
const SYSTEM: &str = "system";

/// Refuses a statement that reaches for what is not for analysts.
pub(super) fn check(request: &SqlRequest, limits: &AnalystLimits) -> Result<(), Refusal> {
    if request.database.as_deref() == Some(SYSTEM) {
        return Err(Refusal::denied(
            "This port looks names up in the archive: name the engine's tables as system.NAME",
        ));
    }
    let tokens: Vec<Token<'_>> = Tokens::of(&request.text).collect();
    let is_name = |token: &Token<'_>| matches!(token.kind, Kind::Word | Kind::Quoted);
    let is_show = tokens.first().is_some_and(|first| first.is_word("SHOW"));
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| is_name(token)) {
        if token.kind == Kind::Quoted && token.text.contains(&b'\\') {
            return Err(Refusal::denied("This port takes no name with a backslash in it"));
        }
        let next = tokens.get(at + 1);
        let is_set = next.is_some_and(|next| next.is_mark(b'='));
        if is_set && !limits.allow(token.text, tokens.get(at + 2).map(|value| value.text).unwrap_or_default()) {
            let name = String::from_utf8_lossy(token.text);
            return Err(Refusal::beyond_limit(&format!("The setting {name} cannot be set to this")));
        }
        let is_called = next.is_some_and(|next| next.is_mark(b'('));
        let is_one_of = |names: &[&str]| names.iter().any(|name| token.text.eq_ignore_ascii_case(name.as_bytes()));
        if is_called && is_one_of(&FILE_FUNCTIONS) {
            return Err(Refusal::denied("This port gives no access to files"));
        }
        if is_called && is_one_of(&NAMING_FUNCTIONS) {
            return Err(Refusal::denied(
                "This port takes no table function that names other tables: name them yourself",
            ));
        }
        if is_show && is_one_of(&SHOWN_OF_OTHERS) {
            return Err(Refusal::denied("This port shows nothing of other people's queries and users"));
        }
        if token.text == SYSTEM.as_bytes() && next.is_some_and(|next| next.is_mark(b'.')) {
            let table = tokens.get(at + 2).map(|table| table.text).unwrap_or_default();
            if !SYSTEM_TABLES.iter().any(|known| known.as_bytes() == table) {
                return Err(Refusal::denied(
                    "This port shows those of the engine's own tables that are about tables, columns, functions and \
                     settings, such as system.tables and system.columns",
                ));
            }
        }
    }
    let names_by_parameter = tokens.iter().any(|token| token.is_word("Identifier"));
    let is_system = |value: &String| value.trim().starts_with(SYSTEM) || value.contains('\\') || value.contains('`');
    if names_by_parameter && request.parameters.iter().any(|(_, value)| is_system(value)) {
        return Err(Refusal::denied("This port takes no parameter that names the engine's own tables"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, parameters: &[(&str, &str)]) -> bool {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(
            &SqlRequest { text: text.to_owned().into(), parameters, ..SqlRequest::default() },
            &AnalystLimits::default(),
        )
        .is_ok()
    }

    #[test]
    fn what_is_not_for_analysts_is_refused_however_it_is_written() {
        for text in [
            "SELECT file('x')",
            "SELECT FILE /* */ ('x')",
            "SELECT `file`('x')",
            "SELECT \"file\"\n('x')",
            "SELECT * FROM system.processes",
            "SELECT * FROM `system`.`processes`",
            "SELECT * FROM \"system\" /* . */ . processes",
            "SELECT 1 IN system.processes",
            "SELECT * FROM `sys\\x74em`.processes",
            "SELECT * FROM merge('system', 'processes')",
            "SELECT * FROM LOOP('system', 'processes')",
            "show full processlist",
            "SHOW CREATE USER default",
            "EXPLAIN SELECT * FROM system.query_log",
        ] {
            assert!(!checked(text, &[]), "{text}");
        }
        for value in ["system", " system", "sys\\x74em", "`system`"] {
            assert!(!checked("SELECT * FROM {d:Identifier}.processes", &[("d", value)]), "{value}");
        }
    }

    #[test]
    fn the_rest_is_let_through() {
        for text in [
            "SELECT 'file(x)', 'system.processes'",
            "SELECT file FROM messages",
            "SELECT profile('x')",
            "SELECT 1 -- file('x')",
            "SELECT count() FROM system.tables",
            "SELECT name FROM `system`.columns",
            "SHOW TABLES FROM system",
            "SHOW CREATE VIEW messages",
            "SELECT user, merge FROM x",
        ] {
            assert!(checked(text, &[]), "{text}");
        }
        assert!(checked("SELECT {x:String}", &[("x", "system")]));
        assert!(checked("SELECT * FROM {t:Identifier}", &[("t", "messages")]));
    }
}
