//! What an account is made of, and the one form in which a user name is stored and looked up.

use sha2::{Digest, Sha256};
use tidings_schemas::limits::{PASSWORD_BYTES, TITLE_CHARS_MAX, USERNAME_CHARS_MAX};

use crate::error::ApiError;

/// Stands between the issuer and the subject in an outside user's name. Not allowed in other names, so that nobody can
/// register as somebody of an outside issuer.
const OUTSIDE: char = '|';

/// The canonical form of a user name: lower case. Allowed are ASCII letters, digits, `.`, `_` and `-`, beginning with a
/// letter or digit: names that look alike are not two names. (A display name may be anything.)
///
/// # Errors
/// `invalid_argument`: it is empty, too long, or has another character.
pub fn canonical_username(username: &str) -> Result<String, ApiError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = username.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if !begins_well || username.len() > USERNAME_CHARS_MAX || !username.bytes().all(is_allowed) {
        return Err(ApiError::invalid_argument(format!(
            "username must be 1 to {USERNAME_CHARS_MAX} of the characters a-z, 0-9, '.', '_' and '-', beginning with a \
             letter or digit"
        )));
    }
    Ok(username.to_ascii_lowercase())
}

/// The form in which a name is looked up: an outside user's name as it is, any other in its canonical form.
///
/// # Errors
/// `invalid_argument`: it cannot be a name.
pub fn lookup_username(username: &str) -> Result<String, ApiError> {
    if username.contains(OUTSIDE) && username.len() <= USERNAME_CHARS_MAX {
        return Ok(username.to_owned());
    }
    canonical_username(username)
}

/// The name of an outside issuer's user: `issuer|subject`, or a hash of it where that is too long or not plain text.
pub fn outside_username(issuer: &str, subject: &str) -> String {
    let name = format!("{issuer}{OUTSIDE}{subject}");
    if name.len() <= USERNAME_CHARS_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return name;
    }
    let mut hasher = Sha256::new();
    // With its length in front, no issuer and subject can be taken for another pair.
    hasher.update((issuer.len() as u64).to_be_bytes());
    hasher.update(issuer);
    hasher.update(subject);
    let digits = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256{OUTSIDE}{digits}")
}

/// A display name: trimmed, and the user name where it is empty.
///
/// # Errors
/// `invalid_argument`: it is too long or has control characters.
pub fn display_name(display_name: &str, username: &str) -> Result<String, ApiError> {
    let name = display_name.trim();
    if name.chars().count() > TITLE_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::invalid_argument(format!(
            "display_name must be at most {TITLE_CHARS_MAX} characters, without control characters"
        )));
    }
    Ok(if name.is_empty() { username } else { name }.to_owned())
}

/// Checks a new password's length.
///
/// # Errors
/// `invalid_argument`: it is too short or too long.
pub fn check_password(password: &str) -> Result<(), ApiError> {
    if PASSWORD_BYTES.contains(&password.len()) {
        return Ok(());
    }
    let (least, most) = (PASSWORD_BYTES.start(), PASSWORD_BYTES.end());
    Err(ApiError::invalid_argument(format!("password must be {least} to {most} bytes long")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(canonical_username("Ann.Lee_7-x").as_deref(), Ok("ann.lee_7-x"));
        let longest = "a".repeat(USERNAME_CHARS_MAX);
        assert_eq!(canonical_username(&longest).as_deref(), Ok(longest.as_str()));
        for bad in ["", " ann", "ann ", ".ann", "an|n", "änn", "аnn", "a/b", "a\0", &"a".repeat(USERNAME_CHARS_MAX + 1)]
        {
            assert!(canonical_username(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_outside_name_is_distinct_and_fits() {
        assert_eq!(outside_username("https://id.example", "7"), "https://id.example|7");
        let long = outside_username("https://id.example", &"7".repeat(300));
        assert_ne!(long, outside_username("https://id.example", &"7".repeat(301)));
        assert!(long.len() <= USERNAME_CHARS_MAX && canonical_username(&long).is_err());
        assert_ne!(outside_username("a b|", "c"), outside_username("a b", "|c"));
        assert_eq!(lookup_username(&long).as_deref(), Ok(long.as_str()));
    }

    #[test]
    fn a_display_name_is_any_printable_text() {
        assert_eq!(display_name(" Änn 🌻 ", "ann").as_deref(), Ok("Änn 🌻"));
        assert_eq!(display_name("  ", "ann").as_deref(), Ok("ann"));
        assert!(display_name("a\nb", "ann").is_err());
        assert!(display_name(&"é".repeat(TITLE_CHARS_MAX), "ann").is_ok());
        assert!(display_name(&"é".repeat(TITLE_CHARS_MAX + 1), "ann").is_err());
    }
}
