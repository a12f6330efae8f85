//! Accounts, tokens, users.

use hyper::Method;
use serde_json::{Value, json};
use tidings_ops::client::http::ApiError;

use super::harness::{Server, text};

#[tokio::test]
async fn an_account_is_made_once_and_signs_in() {
    let server = Server::start().await;
    let ann = server.person("ann").await;
    assert!(ann.user_id.len() <= 64);

    let taken = server.api().create_account("ann", "another password", "Ann").await.unwrap_err();
    let taken = ApiError::of(&taken).unwrap();
    assert_eq!((taken.status.as_u16(), taken.error.code.as_str()), (409, "already_exists"));
    let other_case = server.api().create_account("ANN", "another password", "Ann").await.unwrap_err();
    assert_eq!(ApiError::of(&other_case).unwrap().status.as_u16(), 409);

    let token = server.api().create_token("ann", "a good password").await.unwrap();
    assert_eq!(token.user_id, ann.user_id);
    assert!(token.expires_at.is_some());
    for (name, password) in [("ann", "a bad password"), ("nobody", "a good password")] {
        let wrong = server.api().create_token(name, password).await.unwrap_err();
        assert_eq!(ApiError::of(&wrong).unwrap().status.as_u16(), 401);
    }
}

#[tokio::test]
async fn of_many_who_want_a_name_at_once_one_gets_it() {
    let server = Server::start().await;
    let tries = (0..16).map(|_| {
        let api = server.api();
        tokio::spawn(async move { api.create_account("sought-after", "a good password", "x").await })
    });
    let mut made = 0;
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(ApiError::of(&error).unwrap().error.code, "already_exists"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn users_are_found_by_id_and_by_name() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let by_id = ann.get(&format!("/v1/users/{}", bob.user_id)).await;
    let by_name = ann.get("/v1/users?username=bob").await;
    let expected = json!({"user_id": bob.user_id, "username": "bob", "display_name": "bob"});
    assert_eq!(by_id, expected);
    assert_eq!(by_name, expected);
    let nobody = format!("/v1/users/{}", "0".repeat(8) + "-0000-4000-8000-000000000000");
    assert_eq!(ann.refused(Method::GET, &nobody, Value::Null).await, (404, "not_found".to_owned()));
    assert_eq!(ann.refused(Method::GET, "/v1/users?username=carl", Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_account_survives_kill_9() {
    let mut server = Server::start().await;
    let ann = server.person("ann").await;
    server.kill();
    server.restart().await;
    let token = server.api().create_token("ann", "a good password").await.unwrap();
    assert_eq!(token.user_id, ann.user_id);
    assert_eq!(text(&ann.get(&format!("/v1/users/{}", ann.user_id)).await["username"]), "ann", "the old token is good");
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told() {
    let server = Server::start().await;
    let mut ann = server.person("ann").await;
    for token in ["", "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."] {
        ann.token = token.to_owned();
        let refused = ann.refused(Method::GET, "/v1/conversations", Value::Null).await;
        assert_eq!(refused, (401, "unauthenticated".to_owned()), "{token:?}");
    }
}
