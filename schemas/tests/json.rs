//! The JSON mapping is the contract's: names, 64-bit integers as strings, defaults present, unknown fields ignored.

use tidings_schemas::client::{self, client_frame::Command, server_frame::Body};

#[test]
fn a_command_frame_is_read_with_numbers_or_strings_and_unknown_fields() {
    let text =
        r#"{"id": 7, "receipt": {"conversation_id": "c", "delivered_seq": 5, "seen_seq": "4", "later": 1}, "x": {}}"#;
    let frame: client::ClientFrame = serde_json::from_str(text).unwrap();
    assert_eq!(frame.id, 7);
    let Some(Command::Receipt(receipt)) = frame.command else { panic!("{frame:?}") };
    assert_eq!((receipt.delivered_seq, receipt.seen_seq), (5, 4));
}

#[test]
fn an_unknown_command_is_none() {
    let frame: client::ClientFrame = serde_json::from_str(r#"{"id": 1, "dance": {}}"#).unwrap();
    assert_eq!(frame.command, None);
}

#[test]
fn an_update_is_written_as_the_contract_says() {
    let frame = client::ServerFrame {
        id: None,
        body: Some(Body::Update(client::Update {
            offset: 42,
            kind: Some(client::update::Kind::Receipt(client::Receipt { seen_seq: 3, ..Default::default() })),
        })),
    };
    assert_eq!(
        serde_json::to_string(&frame).unwrap(),
        r#"{"update":{"offset":"42","receipt":{"conversation_id":"","delivered_seq":"0","seen_seq":"3","delivered_to_all_seq":"0","seen_by_all_seq":"0"}}}"#
    );
}

#[test]
fn enums_are_lower_case_names() {
    let request: client::CreateConversation =
        serde_json::from_str(r#"{"kind": "group", "member_ids": ["a"]}"#).unwrap();
    assert_eq!(request.kind(), client::conversation_kind::Value::Group);
    assert!(serde_json::from_str::<client::CreateConversation>(r#"{"kind": "club"}"#).is_err());
}
