//! How it is written who was online, and how far that is known.

use std::{collections::HashMap, fmt::Write as _};

use serde_json::{Value, json};
use tidings_dataflow::recipients::saved::SavedUser;
use tidings_replay::state::Present;
use tidings_schemas::{ids::UserId, topics::Topic};

use super::show::{Answer, name, start_json, time, time_or_null};
use crate::replay::table::Columns;

/// Whether nobody was heard for so long that everybody counts as gone, although nothing came to say so.
fn is_silent(moment_ms: i64, timeout_ms: i64, present: &Present) -> bool {
    present.clock_ms.is_none_or(|clock_ms| moment_ms.saturating_sub(clock_ms) > timeout_ms)
}

/// Where a partition of `signals` stands.
pub(super) fn present(moment_ms: i64, timeout_ms: i64, present: &Present) -> Value {
    json!({
        "topic": Topic::Signals.name(),
        "partition": present.partition,
        "next_offset": present.end,
        "built_from": start_json(present.start),
        "signals_from": time_or_null(present.signals_from_ms),
        "heard_at": time_or_null(present.clock_ms),
        "is_complete": present.is_complete,
        "is_silent": is_silent(moment_ms, timeout_ms, present),
    })
}

/// Whether somebody was online, and how far that is known.
pub(super) fn of_user(moment_ms: i64, timeout_ms: i64, at: &Present, user: Option<&SavedUser>) -> Value {
    let mut shown = present(moment_ms, timeout_ms, at);
    let online = user.and_then(|user| user.online.as_ref());
    let is_online = online.is_some_and(|online| online.is_online);
    shown["is_online"] = match (is_online, at.is_complete) {
        (true, _) => true.into(),
        (false, true) => false.into(),
        (false, false) => Value::Null,
    };
    shown["last_seen_at"] = time_or_null(user.map(|user| user.last_seen_ms));
    shown["sessions"] = user.map_or_else(Vec::new, sessions).into();
    shown
}

fn sessions(user: &SavedUser) -> Vec<Value> {
    let sessions = user.online.iter().flat_map(|online| &online.sessions);
    let session = sessions.map(|session| {
        json!({
            "session_id": session.session_id.to_string(),
            "edge_id": session.edge_id,
            "last_sign_at": time(session.last_sign_ms),
        })
    });
    session.collect()
}

pub(super) fn text(presence: &Value) -> String {
    let seen = presence["last_seen_at"].as_str().map(|at| format!(", last sign of life {at}")).unwrap_or_default();
    let silent = match (presence["is_silent"].as_bool(), presence["heard_at"].as_str()) {
        (Some(true), Some(at)) => format!(" (no edge was heard since {at})"),
        _ => String::new(),
    };
    match presence["is_online"].as_bool() {
        Some(true) => {
            let sessions = presence["sessions"].as_array().map_or(0, Vec::len);
            let s = if sessions == 1 { "" } else { "s" };
            format!("online, {sessions} session{s}{seen}{silent}")
        }
        Some(false) => format!("offline{seen}{silent}"),
        None => "whether online is not known: the signals of that moment are not kept".to_owned(),
    }
}

/// Who was online.
pub(super) fn online(online: &[SavedUser], partitions: Vec<Value>, names: &HashMap<UserId, String>) -> Answer {
    let mut columns = Columns::new(["USER", "NAME", "LAST SIGN OF LIFE", "SESSIONS"]);
    let mut users = Vec::new();
    for user in online {
        let sessions = sessions(user);
        let field = |session: &Value, name: &str| session[name].as_str().unwrap_or_default().to_owned();
        let listed =
            sessions.iter().map(|session| format!("{} on edge {}", field(session, "session_id"), session["edge_id"]));
        columns.row([
            user.id.to_string(),
            names.get(&user.id).cloned().unwrap_or_default(),
            time(user.last_seen_ms),
            listed.collect::<Vec<_>>().join(", "),
        ]);
        users.push(json!({
            "user_id": user.id.to_string(),
            "username": name(names, user.id),
            "last_seen_at": time_or_null(Some(user.last_seen_ms)),
            "sessions": sessions,
        }));
    }
    let mut text = String::new();
    let _ = writeln!(text, "{} online", users.len());
    if columns.has_rows() {
        let _ = writeln!(text, "{columns}");
    }
    for partition in &partitions {
        let number = &partition["partition"];
        let at = |name: &str| partition[name].as_str().unwrap_or("never").to_owned();
        if partition["is_complete"] == false {
            let _ = writeln!(
                text,
                "signals.v1 {number}: kept from {} only: others may have been online",
                at("signals_from")
            );
        } else if partition["is_silent"] == true && partition["heard_at"].is_string() {
            let _ = writeln!(
                text,
                "signals.v1 {number}: no edge was heard since {}: this is what was known then",
                at("heard_at")
            );
        }
    }
    Answer { json: json!({"online": users, "built": partitions}), text }
}
