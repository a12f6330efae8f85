//! Tokens that are ended before their time: at once for live connections, on every edge, whatever crosses with it.

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    Backend, Client, Edge, User,
    client::{PATIENCE, Received, http, text},
};

const PASSWORD: &str = "correct horse";

async fn sign_in(edge: &Edge, username: &str, password: &str) -> Result<User, StatusCode> {
    let pair = json!({"username": username, "password": password});
    let (status, answer) = http(edge.handle.address(), "POST", "/v1/tokens", None, &pair).await;
    if status != StatusCode::OK {
        return Err(status);
    }
    Ok(User { address: edge.handle.address(), id: text(&answer["user_id"]), token: text(&answer["token"]) })
}

/// What a connection with the token comes to: `welcome`, or the code it is closed with.
async fn hello(user: &User) -> Result<Client, u16> {
    answered(say_hello(user).await).await
}

async fn say_hello(user: &User) -> Client {
    let mut client = Client::open(user.address).await;
    client.tell("hello", json!({"token": user.token, "device_id": ""})).await;
    client
}

async fn answered(mut client: Client) -> Result<Client, u16> {
    match client.receive().await {
        Received::Frame(reply) if reply["welcome"].is_object() => Ok(client),
        Received::Frame(reply) => {
            assert_eq!(reply["error"]["code"], "unauthenticated", "{reply}");
            Err(client.closed().await)
        }
        Received::Closed(code) => Err(code),
        Received::Broken => panic!("it ended without a word"),
    }
}

/// Until every edge refuses the token: those that have looked at it lately may take it for some seconds more.
async fn is_refused(user: &User) {
    let refused = async {
        while user.http("GET", "/v1/conversations", Value::Null).await.0 != StatusCode::UNAUTHORIZED {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the token is refused");
    assert_eq!(hello(user).await.err(), Some(4500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_ends_one_token_on_every_edge() {
    let backend = Backend::start();
    let (here, there) = (backend.edge(|_| {}), backend.edge(|_| {}));
    let phone = User::register(here.handle.address(), "ann").await;
    let laptop = sign_in(&here, "ann", PASSWORD).await.unwrap();
    assert_ne!(phone.token, laptop.token);
    let (phone_there, laptop_there) = (phone.at(there.handle.address()), laptop.at(there.handle.address()));
    let mut ended = [phone.connect("phone").await, phone_there.connect("phone there").await];
    let mut lasting = [laptop.connect("laptop").await, laptop_there.connect("laptop there").await];
    assert_eq!(phone_there.http("GET", "/v1/conversations", Value::Null).await.0, StatusCode::OK, "it is remembered");

    let (status, answer) = phone.http("DELETE", "/v1/tokens/current", Value::Null).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({})));
    assert_eq!(phone.http("GET", "/v1/conversations", Value::Null).await.0, StatusCode::UNAUTHORIZED, "at once here");
    for client in &mut ended {
        assert_eq!(client.closed().await, 4500);
    }
    is_refused(&phone).await;
    is_refused(&phone_there).await;
    for client in &mut lasting {
        assert!(client.call("watch_presence", json!({"user_ids": []})).await["ok"].is_object(), "the other goes on");
    }
    assert!(hello(&laptop_there).await.is_ok());
    let (status, _) = phone.http("DELETE", "/v1/tokens/current", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_everywhere_ends_all_tokens_and_no_later_one() {
    let backend = Backend::start();
    let (here, there) = (backend.edge(|_| {}), backend.edge(|_| {}));
    let first = User::register(here.handle.address(), "ann").await;
    let second = sign_in(&there, "ann", PASSWORD).await.unwrap();
    let bob = here.user("bob").await;
    let mut ended = [first.connect("phone").await, second.connect("laptop").await];
    let mut bobs = bob.connect("phone").await;

    assert_eq!(second.http("DELETE", "/v1/tokens", Value::Null).await.0, StatusCode::OK);
    let third = sign_in(&here, "ann", PASSWORD).await.unwrap();
    for client in &mut ended {
        assert_eq!(client.closed().await, 4500);
    }
    is_refused(&first).await;
    is_refused(&second).await;
    assert!(hello(&third).await.is_ok());
    assert!(hello(&third.at(there.handle.address())).await.is_ok());
    assert!(bobs.call("watch_presence", json!({"user_ids": []})).await["ok"].is_object(), "others are not concerned");
    // An edge that starts later knows, too.
    let late = backend.edge(|_| {});
    assert_eq!(hello(&first.at(late.handle.address())).await.err(), Some(4500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_ends_all_tokens_and_gives_a_new_one() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let ann = User::register(edge.handle.address(), "ann").await;
    let mut phone = ann.connect("phone").await;
    let change = |password: &str, new_password: &str| json!({"password": password, "new_password": new_password});
    for (body, status, code) in [
        (change("wrong", "battery staple"), 403, "permission_denied"),
        (change("", "battery staple"), 403, "permission_denied"),
        (change(&"x".repeat(5_000), "battery staple"), 403, "permission_denied"),
        (change(PASSWORD, "short"), 400, "invalid_argument"),
        (change(PASSWORD, &"x".repeat(5_000)), 400, "invalid_argument"),
        (json!({"password": PASSWORD}), 400, "invalid_argument"),
    ] {
        let (found, answer) = ann.http("PATCH", "/v1/accounts/me", body).await;
        assert_eq!((found.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    assert!(phone.call("watch_presence", json!({"user_ids": []})).await["ok"].is_object(), "nothing has changed yet");

    let (status, answer) = ann.http("PATCH", "/v1/accounts/me", change(PASSWORD, "battery staple")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let renewed = User { token: text(&answer["token"]), ..ann.clone() };
    assert_eq!(phone.closed().await, 4500);
    assert!(hello(&renewed).await.is_ok(), "the new one is good at once");
    is_refused(&ann).await;
    assert_eq!(sign_in(&edge, "ann", PASSWORD).await.err(), Some(StatusCode::UNAUTHORIZED));
    assert!(sign_in(&edge, "ann", "battery staple").await.is_ok());
}

/// Whatever comes first, a connection with an ended token does not stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_crosses_with_the_end_of_its_token_is_closed() {
    let backend = Backend::start();
    let (here, there) = (backend.edge(|_| {}), backend.edge(|_| {}));
    let _ann = User::register(here.handle.address(), "ann").await;
    for round in 0..40 {
        let ann = sign_in(&here, "ann", PASSWORD).await.unwrap();
        let (there, paths) = (ann.at(there.handle.address()), ["/v1/tokens/current", "/v1/tokens"]);
        let end = ann.http("DELETE", paths[round / 2 % 2], Value::Null);
        // At once, or when the token is already on its way.
        let (connected, (status, _)) = if round % 2 == 0 {
            tokio::join!(hello(&there), end)
        } else {
            let client = say_hello(&there).await;
            tokio::join!(answered(client), end)
        };
        assert_eq!(status, StatusCode::OK);
        match connected {
            Ok(mut client) => assert_eq!(client.closed().await, 4500),
            Err(code) => assert_eq!(code, 4500),
        }
    }
}
