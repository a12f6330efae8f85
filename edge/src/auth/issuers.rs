//! Tokens of outside issuers: JWTs that an identity provider signed, taken as the settings say. Keys come from files, so
//! an edge calls nobody; a JWKS file is read again when a token names a key that is not in it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{PoisonError, RwLock},
};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Map, Value};

use super::{KeysError, TokenError, config::IssuerConfig, keys::read_secret_file};

/// How far an issuer's clock may be ahead of ours.
const CLOCK_SKEW_MAX_MS: i64 = 60_000;
/// A JWKS file is read again at most this often.
const JWKS_RELOAD_INTERVAL_MS: i64 = 10_000;

/// An outside issuer's user, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideIdentity {
    /// The issuer.
    pub issuer: String,
    /// What tells the issuer's users apart.
    pub subject: String,
    /// The name to show; may be empty.
    pub name: String,
    /// When the token ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
    /// When it was issued; zero: it does not say.
    pub issued_at_ms: i64,
}

/// The issuers whose tokens are taken.
pub struct Issuers {
    issuers: Vec<Issuer>,
}

struct Issuer {
    config: IssuerConfig,
    algorithm: Algorithm,
    keys: IssuerKeys,
}

enum IssuerKeys {
    One(DecodingKey),
    /// By key id.
    Set(RwLock<KeySet>),
}

#[derive(Default)]
struct KeySet {
    keys: HashMap<String, DecodingKey>,
    loaded_at_ms: i64,
}

impl Issuers {
    /// Reads the issuers' keys.
    ///
    /// # Errors
    /// A setting is wrong, or a key file cannot be read or understood.
    pub fn open(configs: &[IssuerConfig]) -> Result<Self, KeysError> {
        Ok(Self { issuers: configs.iter().map(Issuer::open).collect::<Result<_, _>>()? })
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Expired`].
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<OutsideIdentity, TokenError> {
        // The issuer's name is read before anything is proved: it only says which key must prove it.
        let claimed = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(token);
        let claimed = claimed.map_err(|_| TokenError::Invalid)?;
        let name = claimed.claims.get("iss").and_then(Value::as_str).ok_or(TokenError::Invalid)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.config.issuer == name);
        issuer.ok_or(TokenError::Invalid)?.verify(token, now_ms)
    }
}

impl Issuer {
    fn open(config: &IssuerConfig) -> Result<Self, KeysError> {
        let wrong = |what: String| KeysError::Setting { name: "auth.issuers", what };
        let name = &config.issuer;
        let algorithm: Algorithm = config
            .algorithm
            .parse()
            .map_err(|_| wrong(format!("'{}' of {name} is not an algorithm such as RS256", config.algorithm)))?;
        let family = algorithm.family();
        let files = (&config.public_key_file, &config.jwks_file, &config.secret_file);
        let keys = match files {
            (Some(file), None, None) if family != AlgorithmFamily::Hmac => {
                let pem = read(file)?;
                let key = match family {
                    AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&pem),
                    AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&pem),
                    _ => DecodingKey::from_ed_pem(&pem),
                };
                IssuerKeys::One(key.map_err(|error| KeysError::Content {
                    file: file.clone(),
                    what: format!("no public key in PEM for {}: {error}", config.algorithm),
                })?)
            }
            (None, Some(file), None) if family != AlgorithmFamily::Hmac => {
                IssuerKeys::Set(RwLock::new(KeySet { keys: load_jwks(file)?, loaded_at_ms: i64::MIN }))
            }
            (None, None, Some(file)) if family == AlgorithmFamily::Hmac => {
                let mut secret = read_secret_file(file)?;
                // Editors end a file with a line break that is not meant.
                while secret.last().is_some_and(u8::is_ascii_whitespace) {
                    secret.pop();
                }
                if secret.is_empty() {
                    return Err(KeysError::Content { file: file.clone(), what: "it is empty".to_owned() });
                }
                IssuerKeys::One(DecodingKey::from_secret(&secret))
            }
            _ => {
                return Err(wrong(format!(
                    "{name} needs exactly one of public_key_file and jwks_file, or, for HS algorithms, secret_file"
                )));
            }
        };
        Ok(Self { config: config.clone(), algorithm, keys })
    }

    fn verify(&self, token: &str, now_ms: i64) -> Result<OutsideIdentity, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let key = self.key(&header, now_ms).ok_or(TokenError::Invalid)?;
        // Times are checked below, against the injected clock.
        let mut validation = Validation::new(self.algorithm);
        validation.validate_exp = false;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| {
            tracing::debug!(%error, issuer = self.config.issuer, "an outside token was refused");
            TokenError::Invalid
        })?;
        let claims = decoded.claims;
        let at_ms = |name: &str| claims.get(name).and_then(Value::as_f64).map(seconds_to_ms);
        let expires_at_ms = at_ms("exp").ok_or(TokenError::Invalid)?;
        if expires_at_ms <= now_ms {
            return Err(TokenError::Expired);
        }
        if at_ms("nbf").is_some_and(|not_before| not_before > now_ms.saturating_add(CLOCK_SKEW_MAX_MS)) {
            return Err(TokenError::Invalid);
        }
        let text = |name: &str| match claims.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let subject = text(&self.config.user_claim).filter(|subject| !subject.is_empty());
        Ok(OutsideIdentity {
            issuer: self.config.issuer.clone(),
            subject: subject.ok_or(TokenError::Invalid)?,
            name: text(&self.config.name_claim).unwrap_or_default(),
            expires_at_ms,
            issued_at_ms: at_ms("iat").unwrap_or(0),
        })
    }

    /// The key that a token's head names.
    fn key(&self, header: &Header, now_ms: i64) -> Option<DecodingKey> {
        let set = match &self.keys {
            IssuerKeys::One(key) => return Some(key.clone()),
            IssuerKeys::Set(set) => set,
        };
        let find = |set: &KeySet| match &header.kid {
            Some(kid) => set.keys.get(kid).cloned(),
            None if set.keys.len() == 1 => set.keys.values().next().cloned(),
            None => None,
        };
        if let Some(key) = find(&set.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(key);
        }
        let mut set = set.write().unwrap_or_else(PoisonError::into_inner);
        if set.loaded_at_ms.saturating_add(JWKS_RELOAD_INTERVAL_MS) <= now_ms {
            set.loaded_at_ms = now_ms;
            let file = self.config.jwks_file.as_deref()?;
            match load_jwks(file) {
                Ok(keys) => set.keys = keys,
                Err(error) => tracing::error!(%error, "the issuer's keys cannot be read: the old ones are kept"),
            }
        }
        find(&set)
    }
}

/// A JWT's time, which may have a fraction.
#[allow(clippy::cast_possible_truncation, reason = "a cast from a float ends at the bounds")]
fn seconds_to_ms(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

fn read(file: &Path) -> Result<Vec<u8>, KeysError> {
    std::fs::read(file).map_err(|error| KeysError::Io { action: "read", file: file.to_owned(), error })
}

/// The keys of a JWKS file by their ids. Those of a kind that we don't know are left out, as the RFC says.
fn load_jwks(file: &Path) -> Result<HashMap<String, DecodingKey>, KeysError> {
    let content = |what: String| KeysError::Content { file: file.to_owned(), what };
    let text = read(file)?;
    let set: Value = serde_json::from_slice(&text).map_err(|error| content(error.to_string()))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or_else(|| content("it is not a JWKS".to_owned()))?;
    let keys: Vec<_> = keys.iter().filter_map(|key| serde_json::from_value(key.clone()).ok()).collect();
    let keys: HashMap<String, DecodingKey> = JwkSet { keys }
        .keys
        .iter()
        .filter_map(|key| Some((key.common.key_id.clone().unwrap_or_default(), DecodingKey::from_jwk(key).ok()?)))
        .collect();
    if keys.is_empty() {
        return Err(content("it holds no key of a known kind".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, encode};
    use serde_json::json;

    use super::*;

    // Made for these tests with `openssl genpkey -algorithm ed25519`; they open nothing.
    const PRIVATE_PEM: &str = include_str!("testdata/ed25519_private.pem");
    const PUBLIC_PEM: &str = include_str!("testdata/ed25519_public.pem");

    fn config(folder: &Path) -> IssuerConfig {
        let file = folder.join("issuer.pem");
        fs::write(&file, PUBLIC_PEM).unwrap();
        IssuerConfig {
            issuer: "https://id.example".to_owned(),
            audience: "chat".to_owned(),
            algorithm: "EdDSA".to_owned(),
            public_key_file: Some(file),
            jwks_file: None,
            secret_file: None,
            user_claim: "sub".to_owned(),
            name_claim: "name".to_owned(),
        }
    }

    fn token(kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &EncodingKey::from_ed_pem(PRIVATE_PEM.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn claims_decide() {
        let folder = tempfile::tempdir().unwrap();
        let issuers = Issuers::open(&[config(folder.path())]).unwrap();
        let good = json!({"iss": "https://id.example", "aud": ["chat", "x"], "sub": "7", "name": "Ann", "exp": 100});
        let identity = issuers.verify(&token(None, &good), 50_000).unwrap();
        assert_eq!((identity.subject.as_str(), identity.name.as_str(), identity.expires_at_ms), ("7", "Ann", 100_000));
        assert_eq!(identity.issued_at_ms, 0);
        let mut dated = good.clone();
        dated["iat"] = json!(40.5);
        assert_eq!(issuers.verify(&token(None, &dated), 50_000).unwrap().issued_at_ms, 40_500);

        let table = [
            ("exp", json!(50), TokenError::Expired),
            ("exp", Value::Null, TokenError::Invalid),
            ("exp", json!("never"), TokenError::Invalid),
            ("aud", json!("other"), TokenError::Invalid),
            ("aud", Value::Null, TokenError::Invalid),
            ("iss", json!("https://other.example"), TokenError::Invalid),
            ("sub", json!(""), TokenError::Invalid),
            ("sub", json!({}), TokenError::Invalid),
            ("nbf", json!(1_000), TokenError::Invalid),
        ];
        for (claim, value, expected) in table {
            let mut claims = good.clone();
            claims[claim] = value.clone();
            assert_eq!(issuers.verify(&token(None, &claims), 50_000), Err(expected), "{claim} {value}");
        }
    }

    #[test]
    fn the_algorithm_is_the_issuers_and_not_the_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let issuers = Issuers::open(&[config(folder.path())]).unwrap();
        let claims = json!({"iss": "https://id.example", "aud": "chat", "sub": "7", "exp": 100});
        // The old trick: the public key taken for a shared secret.
        let secret = EncodingKey::from_secret(PUBLIC_PEM.as_bytes());
        let forged = encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        assert_eq!(issuers.verify(&forged, 0), Err(TokenError::Invalid));
    }

    #[test]
    fn a_jwks_is_read_again_for_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let pem = pem_body(PUBLIC_PEM);
        let x = URL_SAFE_NO_PAD.encode(&pem[pem.len() - 32..]);
        let jwks = |kid: &str| {
            json!({"keys": [
                {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"},
                {"kty": "of tomorrow", "kid": "skipped"},
            ]})
        };
        fs::write(&file, jwks("one").to_string()).unwrap();
        let config = IssuerConfig { public_key_file: None, jwks_file: Some(file.clone()), ..config(folder.path()) };
        let issuers = Issuers::open(&[config]).unwrap();
        let claims = json!({"iss": "https://id.example", "aud": "chat", "sub": "7", "exp": 1_000});
        assert!(issuers.verify(&token(Some("one"), &claims), 0).is_ok());
        assert!(issuers.verify(&token(None, &claims), 0).is_ok(), "there is only one");
        assert!(issuers.verify(&token(Some("two"), &claims), 0).is_err());
        fs::write(&file, jwks("two").to_string()).unwrap();
        assert!(issuers.verify(&token(Some("two"), &claims), 1).is_err(), "not yet: reading is bounded");
        assert!(issuers.verify(&token(Some("two"), &claims), JWKS_RELOAD_INTERVAL_MS).is_ok());
        assert!(issuers.verify(&token(Some("one"), &claims), JWKS_RELOAD_INTERVAL_MS).is_err(), "withdrawn");
    }

    #[test]
    fn settings_must_fit_together() {
        let folder = tempfile::tempdir().unwrap();
        let good = config(folder.path());
        let bad = [
            IssuerConfig { algorithm: "none".to_owned(), ..good.clone() },
            IssuerConfig { algorithm: "HS256".to_owned(), ..good.clone() },
            IssuerConfig { algorithm: "RS256".to_owned(), ..good.clone() },
            IssuerConfig { public_key_file: None, ..good.clone() },
            IssuerConfig { jwks_file: good.public_key_file.clone(), ..good.clone() },
            IssuerConfig { public_key_file: Some("/nowhere".into()), ..good.clone() },
        ];
        for config in bad {
            assert!(Issuers::open(std::slice::from_ref(&config)).is_err(), "{config:?}");
        }
    }

    fn pem_body(pem: &str) -> Vec<u8> {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    }
}
