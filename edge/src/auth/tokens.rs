//! Our own tokens: JWTs that name the user and when they end.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidings_schemas::ids::UserId;

use super::{Authenticated, TokenError, TokenMark, keys::SigningKeys};
use crate::error::ApiError;

/// The `iss` of our tokens.
const ISSUER: &str = "tidings";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserIdText,
    /// Seconds, as the RFC has it.
    iat: i64,
    exp: i64,
    /// Makes two tokens of one moment two.
    jti: String,
    /// `iat` in milliseconds: a token is given right after all others were ended.
    iat_ms: i64,
}

/// A user id in its text form.
type UserIdText = String;

/// What tells a token from all others, whoever issued it: the beginning of SHA-256 over what its signature covers. Not
/// over the signature: some kinds have a second form that is as good.
pub fn token_id(token: &str) -> u128 {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let hash = Sha256::digest(signed.as_bytes());
    hash.first_chunk().copied().map_or(0, u128::from_be_bytes)
}

/// A new token of a user. `jti`: random.
///
/// # Errors
/// `internal`: it cannot be signed.
pub fn issue(keys: &SigningKeys, user: UserId, jti: u128, now_ms: i64, expires_at_ms: i64) -> Result<String, ApiError> {
    let key = keys.newest();
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: user.to_string(),
        iat: now_ms.div_euclid(1000),
        exp: expires_at_ms.div_euclid(1000),
        jti: URL_SAFE_NO_PAD.encode(jti.to_be_bytes()),
        iat_ms: now_ms,
    };
    encode(&header, &claims, &key.encoding).map_err(|error| {
        tracing::error!(%error, "a token cannot be signed");
        ApiError::internal("the token cannot be signed")
    })
}

/// Whose token this is. `None`: it names none of our keys, so it may be another issuer's.
pub fn verify(keys: &SigningKeys, token: &str, now_ms: i64) -> Option<Result<Authenticated, TokenError>> {
    let kid = decode_header(token).ok()?.kid?;
    let key = keys.find(&kid)?;
    // Times are checked below, against the injected clock.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    let Ok(decoded) = decode::<Claims>(token, &key.decoding, &validation) else {
        return Some(Err(TokenError::Invalid));
    };
    let expires_at_ms = decoded.claims.exp.saturating_mul(1000);
    Some(match decoded.claims.sub.parse() {
        Err(_) => Err(TokenError::Invalid),
        Ok(_) if expires_at_ms <= now_ms => Err(TokenError::Expired),
        Ok(user_id) => {
            let token = TokenMark { id: token_id(token), issued_at_ms: decoded.claims.iat_ms };
            Ok(Authenticated { user_id, expires_at_ms, token })
        }
    })
}

#[cfg(test)]
mod tests {
    use tidings_schemas::clock::{SystemClock, SystemEntropy};

    use super::*;

    fn keys() -> SigningKeys {
        let folder = tempfile::tempdir().unwrap();
        SigningKeys::open(&folder.path().join("keys.json"), &SystemClock::new(), &SystemEntropy).unwrap()
    }

    #[test]
    fn a_token_names_its_user_until_it_ends() {
        let keys = keys();
        let token = issue(&keys, UserId(7), 1, 1_234, 60_000).unwrap();
        let mark = TokenMark { id: token_id(&token), issued_at_ms: 1_234 };
        let good = Authenticated { user_id: UserId(7), expires_at_ms: 60_000, token: mark };
        assert_ne!(
            token_id(&issue(&keys, UserId(7), 2, 1_234, 60_000).unwrap()),
            mark.id,
            "another of the same moment"
        );
        assert_eq!(verify(&keys, &token, 59_999), Some(Ok(good)));
        assert_eq!(verify(&keys, &token, 60_000), Some(Err(TokenError::Expired)));
    }

    #[test]
    fn a_token_of_other_keys_is_not_ours() {
        let token = issue(&keys(), UserId(7), 1, 0, 60_000).unwrap();
        assert_eq!(verify(&keys(), &token, 0), None);
        for token in ["", ".", "a.b.c", "a.b", &"x".repeat(100)] {
            assert_eq!(verify(&keys(), token, 0), None, "{token}");
        }
    }

    #[test]
    fn a_changed_token_is_invalid() {
        let keys = keys();
        let token = issue(&keys, UserId(7), 1, 0, 60_000).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let other = claims.replace(&UserId(7).to_string(), &UserId(8).to_string());
        assert_ne!(claims, other);
        let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(&other), parts[2]);
        assert_eq!(verify(&keys, &forged, 0), Some(Err(TokenError::Invalid)));
        // The same head without a signature's algorithm.
        let head = format!(r#"{{"alg":"none","kid":"{}"}}"#, keys.newest().kid);
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(&other));
        assert!(!matches!(verify(&keys, &unsigned, 0), Some(Ok(_))));
        let unsigned = format!("{}.{}.", parts[0], parts[1]);
        assert_eq!(verify(&keys, &unsigned, 0), Some(Err(TokenError::Invalid)));
    }
}
