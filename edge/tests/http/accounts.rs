//! Signing up and in, and finding each other.

use serde_json::json;

use crate::node::{Node, Settings};

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_once_and_signs_in() {
    let node = Node::start().await;
    let ann = node.user("Ann").await;

    // The same name in other letters is the same name.
    let again = json!({"username": "aNN", "password": "another password"});
    let answer = node.request("POST", "/v1/accounts").json(&again).send().await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "already_exists"));

    let pair = json!({"username": "ANN", "password": "Ann's password"});
    let answer = node.request("POST", "/v1/tokens").json(&pair).send().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["user_id"], ann.id);
    let expires_at = answer.json()["expires_at"].as_str().unwrap().to_owned();
    assert!(expires_at.ends_with("Z") && expires_at.contains('.'), "{expires_at}");
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let answer = node.request("GET", "/v1/conversations").token(&token).send().await;
    assert_eq!(answer.json(), json!({"conversations": [], "next_page_token": ""}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pair_is_401_whatever_is_wrong_with_it() {
    let node = Node::start().await;
    node.user("ann").await;
    let long = "x".repeat(2_000);
    for (username, password) in
        [("ann", "wrong password"), ("bob", "Ann's password"), ("", ""), ("ann", ""), ("no|name", "x"), ("ann", &long)]
    {
        let pair = json!({"username": username, "password": password});
        let answer = node.request("POST", "/v1/tokens").json(&pair).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{username} {password}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_a_name_one_gets_it() {
    let node = Node::start().await;
    let tries = (0..8).map(|number| {
        let body = json!({"username": "wanted", "password": format!("password {number}")});
        node.request("POST", "/v1/accounts").json(&body).send()
    });
    let mut statuses: Vec<u16> =
        futures_util::future::join_all(tries).await.into_iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_name_and_by_id() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("Bob").await);
    let expected = json!({"user_id": bob.id, "username": "bob", "display_name": "Bob"});
    assert_eq!(node.get(&ann, "/v1/users?username=BOB").await.json(), expected);
    assert_eq!(node.get(&ann, &format!("/v1/users/{}", bob.id)).await.json(), expected);
    let nobody = "0b5e7a44-9c3d-4f0e-8a51-2f6d1c9be7a3";
    for (path, status, code) in [
        ("/v1/users?username=carl", 404, "not_found"),
        ("/v1/users?username=", 400, "invalid_argument"),
        ("/v1/users", 400, "invalid_argument"),
        (&format!("/v1/users/{nobody}"), 404, "not_found"),
        (&format!("/v1/users/{nobody}/presence"), 404, "not_found"),
        ("/v1/users/me", 404, "not_found"),
    ] {
        let answer = node.get(&ann, path).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
    let presence = node.get(&ann, &format!("/v1/users/{}/presence", bob.id)).await;
    assert_eq!(presence.json(), json!({"user_id": bob.id, "online": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outside_issuers_user_is_registered_when_first_seen() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use tidings_edge::auth::{AuthConfig, IssuerConfig};

    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("secret");
    std::fs::write(&file, "a secret of at least 32 bytes, shared\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let issuer = IssuerConfig {
        issuer: "https://id.example".to_owned(),
        audience: "chat".to_owned(),
        algorithm: "HS256".to_owned(),
        public_key_file: None,
        jwks_file: None,
        secret_file: Some(file),
        user_claim: "sub".to_owned(),
        name_claim: "name".to_owned(),
    };
    let auth = AuthConfig { issuers: vec![issuer], registration_open: false, ..AuthConfig::default() };
    let node = Node::start_with(Settings { auth, ..Settings::default() }).await;

    let token = |subject: &str| {
        let claims = json!({
            "iss": "https://id.example", "aud": "chat", "sub": subject, "name": "Ann", "exp": 32_000_000_000_u64,
        });
        let key = EncodingKey::from_secret(b"a secret of at least 32 bytes, shared");
        encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
    };
    let find = |token: String| node.request("GET", "/v1/users?username=https://id.example|7").token(&token).send();
    // Two devices at once: one user.
    let (one, two) = (find(token("7")), find(token("7")));
    let (one, two) = futures_util::future::join(one, two).await;
    assert_eq!((one.status, one.json()["display_name"].as_str()), (200, Some("Ann")), "{}", one.body);
    assert_eq!(one.json(), two.json());

    let body = json!({"username": "bob", "password": "bob's password"});
    let closed = node.request("POST", "/v1/accounts").json(&body).send().await;
    assert_eq!((closed.status, closed.code().as_str()), (403, "permission_denied"));
    // Nobody signs in to an outside account with a password.
    let pair = json!({"username": "https://id.example|7", "password": ""});
    assert_eq!(node.request("POST", "/v1/tokens").json(&pair).send().await.status, 401);
}
