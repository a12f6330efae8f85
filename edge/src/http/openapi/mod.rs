//! The OpenAPI document: the endpoints' own texts, and schemas made from `client.proto`. It is made once, at the start;
//! `schemas/openapi.json` is the same, kept in the repository, and a test fails when it is stale.

mod operation;
mod schemas;

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

pub(crate) use self::operation::Operation;
use self::schemas::Schemas;
use super::endpoints;

const DESCRIPTION: &str = "\
Accounts, conversations, messages and the update stream over HTTP. Live chat goes over the WebSocket at `/v1/connect` \
(subprotocol `tidings.v1.json` or `tidings.v1.protobuf`), whose frames are the schemas `ClientFrame` and `ServerFrame`.

JSON follows protobuf's mapping: 64-bit integers are strings (numbers are accepted, too), times are RFC 3339 in UTC with \
milliseconds, bytes are base64, and unknown fields are ignored. Ids are opaque strings of at most 64 characters.

An error is `{\"error\": {code, message, retryable, retry_after_ms?}}`. The `code` is of a closed list; `retryable` says \
whether the same request can succeed later.";

/// The groups of endpoints, in their order.
const TAGS: [(&str, &str); 6] = [
    ("Accounts", "Sign up and in."),
    ("Users", "Who there is, and who is online."),
    ("Conversations", "Direct chats and groups."),
    ("Members", "Who is in a conversation, with which role. Every change is a numbered entry, like a message."),
    ("Messages", "Sent, read, edited and deleted. `seq` is 1, 2, 3 … in each conversation, the same for everyone."),
    ("Updates", "Everything that happens to a user, in one stream, numbered without a gap."),
];

/// The document.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Its text, as it is served and kept in the repository.
static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", &*DOCUMENT));

/// `GET /openapi.json`.
pub(super) async fn serve() -> Response {
    let mut response = TEXT.as_str().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A reference to a component.
fn reference(message: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{message}")})
}

fn document() -> Value {
    let schemas = Schemas::of_contract();
    let mut paths: Map<String, Value> = Map::new();
    let mut bodies = Vec::new();
    let mut answers = vec!["ErrorResponse", "ServerFrame"];
    for endpoint in endpoints::all() {
        let (request, given) = endpoint.operation.messages();
        bodies.extend(request);
        answers.extend(given);
        let operation = endpoint.operation.document(endpoint.path, &schemas);
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, description)| json!({"name": name, "description": description})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidings",
            "version": "1.0.0",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The edge that serves this document."}],
        "security": [{"bearer": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.components(&bodies, &["ClientFrame"], &answers),
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A token from `POST /v1/tokens` or `POST /v1/accounts`, or of an outside issuer.",
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn the_document_in_the_repository_is_this_one() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
        if std::env::var_os("TIDINGS_BLESS").is_some() {
            fs::write(&file, TEXT.as_str()).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == *TEXT, "schemas/openapi.json is stale: run TIDINGS_BLESS=1 cargo test -p tidings-edge openapi");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, into: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|field| references(field, into));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, into)),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        references(&DOCUMENT, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            assert!(DOCUMENT.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_are_told_apart_and_in_known_groups() {
        let endpoints = endpoints::all();
        let ids: BTreeSet<&str> = endpoints.iter().map(|endpoint| endpoint.operation.id).collect();
        assert_eq!(ids.len(), endpoints.len());
        for endpoint in endpoints {
            assert!(TAGS.iter().any(|(tag, _)| *tag == endpoint.operation.tag), "{}", endpoint.path);
        }
    }

    #[test]
    fn schemas_follow_the_json_mapping() {
        let message = &DOCUMENT["components"]["schemas"]["Message"];
        assert_eq!(message["properties"]["seq"]["type"], "string");
        assert_eq!(message["properties"]["sent_at"]["format"], "date-time");
        assert_eq!(message["properties"]["kind"]["enum"], json!(["text", "media", "encrypted", "membership"]));
        let required: Vec<&str> = message["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(
            required.contains(&"attachments") && !required.contains(&"reply_to") && !required.contains(&"edited_at")
        );
        let send = DOCUMENT.pointer(
            "/paths/~1v1~1conversations~1{conversation_id}~1messages/post/requestBody/content/application~1json/schema",
        );
        assert!(send.unwrap()["properties"].get("conversation_id").is_none(), "the path has it");
    }
}
