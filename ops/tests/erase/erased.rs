//! Somebody is erased: nothing of it is anywhere, and everybody else's history is what it was.

use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::{
    harness::{Person, Server, eventually, text},
    replay::{replay, replayed},
    tool::{erase, files_with, held, run},
};

const NAME: &str = "vanishing-zebra-77";
const MARKERS: [&str; 8] = [
    "MARKER-direct-qx81",
    "MARKER-owned-group-qx82",
    "MARKER-joined-group-qx83",
    "MARKER-edited-qx84",
    "MARKER-replaced-qx85",
    "MARKER-deleted-qx86",
    "MARKER-former-group-qx87",
    "MARKER-device-qx88",
];

/// Number, sender, text and whether it was deleted, of each message that a person sees.
async fn page(person: &Person, conversation: &str) -> Vec<(String, String, String, bool)> {
    let page = person.get(&format!("/v1/conversations/{conversation}/messages?limit=100")).await;
    let of = |message: &Value| {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        (text("seq"), text("sender_id"), text("text"), message["deleted_at"].is_string())
    };
    page["messages"].as_array().unwrap().iter().map(of).collect()
}

/// The answer of the program's SQL port.
pub(crate) async fn sql(server: &Server, statement: &str) -> String {
    let address = std::fs::read_to_string(server.folder().join("data/archive/sql-address")).unwrap();
    let url = format!("http://{address}");
    run(server.folder(), &["sql", "--url", &url, statement]).out.lines().last().unwrap_or_default().to_owned()
}

fn nothing_is_anywhere(folder: &Path) {
    for bytes in MARKERS.into_iter().chain([NAME]) {
        assert_eq!(files_with(&folder.join("data"), bytes), Vec::<std::path::PathBuf>::new(), "{bytes}");
    }
    // Its files are compressed.
    let holds: Vec<String> = [("timeline_entries", "text"), ("timeline_entries", "event"), ("message_changes", "text")]
        .into_iter()
        .chain([("message_changes", "event"), ("session_events", "device_id")])
        .map(|(table, column)| format!("(SELECT countIf(position({column}, 'MARKER') > 0) FROM {table})"))
        .collect();
    let count = run(folder, &["sql", "--data", "data", &format!("SELECT {} AS found", holds.join(" + "))]);
    assert_eq!((count.code, count.out.lines().last()), (0, Some("0")), "{count:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_user_and_all_of_everybody_else() {
    let mut server = Server::start_with(&["archive.http_listen=127.0.0.1:0"]).await;
    let (zebra, bob, eve) = (server.person(NAME).await, server.person("bob").await, server.person("eve").await);
    let chat = zebra.chat_with(&bob).await;
    let owned = zebra.group("of zebra", &[&bob, &eve]).await;
    let joined = bob.group("of bob", &[&zebra, &eve]).await;
    let former = bob.group("once with zebra", &[&zebra]).await;
    drop(zebra.connect_as(MARKERS[7], &Default::default()).await);
    for number in 0..5 {
        zebra.post(&chat, &format!("c{number}"), MARKERS[0]).await;
        bob.post(&chat, &format!("b{number}"), "bob to zebra").await;
        zebra.post(&owned, &format!("o{number}"), MARKERS[1]).await;
        eve.post(&owned, &format!("e{number}"), "eve to all").await;
        zebra.post(&joined, &format!("j{number}"), MARKERS[2]).await;
    }
    let message = |conversation: &str, said: &Value| {
        format!("/v1/conversations/{conversation}/messages/{}", text(&said["message_id"]))
    };
    let said = zebra.post(&joined, "edited", MARKERS[3]).await;
    zebra.call(Method::PATCH, &message(&joined, &said), json!({"text": MARKERS[4]})).await;
    let said = zebra.post(&joined, "deleted", MARKERS[5]).await;
    zebra.call(Method::DELETE, &message(&joined, &said), Value::Null).await;
    let of_bob = bob.post(&joined, "of bob", "of bob, deleted by bob").await;
    bob.call(Method::DELETE, &message(&joined, &of_bob), Value::Null).await;
    zebra.post(&former, "former", MARKERS[6]).await;
    let leave = format!("/v1/conversations/{former}/members/{}", zebra.user_id);
    zebra.call(Method::DELETE, &leave, Value::Null).await;
    let (in_chat, in_owned, in_former) = (page(&bob, &chat).await, page(&bob, &owned).await, page(&bob, &former).await);
    eventually("all of it in the archive", || async {
        let found = sql(&server, "SELECT (SELECT count() FROM messages) + (SELECT count() FROM message_changes)").await;
        (found == "32").then_some(())
    })
    .await;
    eventually("the session in the archive", || async {
        (sql(&server, "SELECT count() > 0 FROM session_events").await == "1").then_some(())
    })
    .await;
    server.terminate().await;

    let folder = server.folder();
    assert_eq!(replay(folder, &["verify", "--data", "data", "--complete"]).code, 0);
    assert!(!files_with(&folder.join("data/log"), MARKERS[0]).is_empty(), "the test looks where it was");
    let unknown = run(folder, &["erase", "nobody", "--data", "data", "--yes"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    let unasked = run(folder, &["erase", NAME, "--data", "data"]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{unasked:?}");
    let dry = run(folder, &["erase", NAME, "--data", "data", "--dry-run"]);
    assert!(dry.code == 0 && dry.out.contains("nothing was changed"), "{dry:?}");
    assert!(!files_with(&folder.join("data/log"), MARKERS[0]).is_empty(), "nothing was changed");

    let report = erase(folder, NAME);
    for place in ["log events.v1", "log timeline.v1", "log fanout.v1", "log deliveries.v1", "log directory.v1"]
        .into_iter()
        .chain(["log signals.v1", "views", "archive timeline_entries", "archive message_changes"])
        .chain(["archive session_events"])
    {
        assert!(held(&report, place) > 0, "{place}: {report:#}");
    }
    assert_eq!(report["announced"], json!({"messages_deleted": 17, "groups_left": 2, "accounts_ended": 1}));
    assert!(report["searched_for"].as_u64().unwrap() >= 8, "{report:#}");
    nothing_is_anywhere(folder);
    replayed(folder, &["verify", "--data", "data"]);

    server.restart().await;
    let bob = server.signs_in("bob").await;
    let refused = server.api().create_token(NAME, "a good password").await;
    assert!(refused.is_err(), "the account is gone");
    assert_eq!(zebra.refused(Method::GET, "/v1/conversations", Value::Null).await.0, 401, "its token is no good");
    let expected = |before: &[(String, String, String, bool)]| -> Vec<(String, String, String, bool)> {
        let of = |(seq, sender, text, deleted): &(String, String, String, bool)| match *sender == zebra.user_id {
            // What was said by the server of zebra stays.
            true if text.is_empty() => (seq.clone(), sender.clone(), text.clone(), *deleted),
            true => (seq.clone(), sender.clone(), String::new(), true),
            false => (seq.clone(), sender.clone(), text.clone(), *deleted),
        };
        before.iter().map(of).collect()
    };
    for (conversation, before) in [(&chat, &in_chat), (&former, &in_former)] {
        eventually("the same history without zebra's words", || async {
            (page(&bob, conversation).await == expected(before)).then_some(())
        })
        .await;
    }
    let members = eventually("zebra has left", || async {
        let found = bob.get(&format!("/v1/conversations/{owned}/members")).await;
        (found["members"].as_array()?.len() == 2).then_some(found)
    })
    .await;
    assert!(members.to_string().contains("owner") && !members.to_string().contains(&zebra.user_id), "{members}");
    let found = page(&bob, &owned).await;
    assert!(expected(&in_owned).iter().all(|before| found.contains(before)), "{found:?}");
    let profile = bob.get(&format!("/v1/users/{}", zebra.user_id)).await;
    assert_eq!((&profile["username"], &profile["display_name"]), (&json!(""), &json!("Deleted account")), "{profile}");

    let other = server.person(NAME).await;
    assert_ne!(other.user_id, zebra.user_id, "the name is free, and whoever takes it is somebody else");
    assert_eq!(other.get("/v1/conversations").await["conversations"], json!([]));
    eventually("the deletions in the archive", || async {
        let deleted =
            format!("SELECT countIf(deleted_at IS NOT NULL) FROM messages WHERE sender_id = '{}'", zebra.user_id);
        (sql(&server, &deleted).await == "18").then_some(())
    })
    .await;
    server.terminate().await;
    let folder = server.folder();
    replayed(folder, &["verify", "--data", "data", "--complete"]);
    // Whoever has the name now is not touched by what is erased of who had it.
    let again = run(folder, &["erase", "--deleted", "--data", "data", "--yes", "--json"]);
    assert_eq!(again.code, 0, "{again:?}");
    server.restart().await;
    assert_eq!(server.signs_in(NAME).await.user_id, other.user_id);
}
