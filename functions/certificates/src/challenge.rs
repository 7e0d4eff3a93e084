//! The http-01 challenge, shared by both sides of the bucket: the function that orders stores a key
//! authorization under the token; the function behind the load balancer reads it.
//!
//! [RFC 8555, section 8.3](https://www.rfc-editor.org/rfc/rfc8555#section-8.3). Paths and object
//! keys are built only here, from a checked [`Token`]: no other character ever reaches them.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The path where an authority asks for the answer to an http-01 challenge; a token follows.
pub const WELL_KNOWN_PREFIX: &str = "/.well-known/acme-challenge/";

/// The bucket's prefix of key authorizations; a token follows.
pub const OBJECT_PREFIX: &str = "challenges/";

/// The token of a challenge: 1 to [`Token::MAX_LENGTH`] characters of the base64url alphabet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(String);

impl Token {
    /// The longest token that is accepted.
    pub const MAX_LENGTH: usize = 128;

    /// Returns the token in a request's path, if the path is exactly the well-known one.
    ///
    /// Nothing is decoded, trimmed or normalised: the token must match letter by letter.
    pub fn from_path(path: &str) -> Option<Self> {
        path.strip_prefix(WELL_KNOWN_PREFIX)?.parse().ok()
    }

    /// Returns the path where the authority asks for the key authorization.
    pub fn well_known_path(&self) -> String {
        format!("{WELL_KNOWN_PREFIX}{self}")
    }

    /// Returns the key of the object that holds the key authorization.
    pub fn object_key(&self) -> String {
        format!("{OBJECT_PREFIX}{self}")
    }

    /// Returns the token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(is_base64url) {
            true => Ok(Self(text.to_owned())),
            false => Err(MalformedToken),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedToken;

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a challenge token is 1 to {} characters of A-Z, a-z, 0-9, - and _",
            Token::MAX_LENGTH
        )
    }
}

impl Error for MalformedToken {}

/// Returns whether a stored object can be a key authorization: token, dot, thumbprint of the
/// account's key.
///
/// It checks only the alphabet and [`KEY_AUTHORIZATION_MAX_LENGTH`]. That is enough never to serve
/// an object of another kind, such as a page or a private key.
pub fn is_key_authorization(stored: &[u8]) -> bool {
    (1..=KEY_AUTHORIZATION_MAX_LENGTH).contains(&stored.len())
        && stored
            .iter()
            .all(|&byte| is_base64url(byte) || byte == b'.')
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The maximum length of a key authorization: the longest token, a dot, and a SHA-256 in base64url.
pub const KEY_AUTHORIZATION_MAX_LENGTH: usize = Token::MAX_LENGTH + 1 + 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_checked_to_the_letter() {
        let longest = "a".repeat(Token::MAX_LENGTH);
        for accepted in [
            "a",
            "-",
            "_",
            "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
            &longest,
        ] {
            assert!(accepted.parse::<Token>().is_ok(), "{accepted:?}");
        }

        let too_long = "a".repeat(Token::MAX_LENGTH + 1);
        for refused in [
            "",
            ".",
            "..",
            "a/b",
            "a.b",
            "a b",
            "a\n",
            "a%2Fb",
            "a=",
            "a+b",
            "é",
            "../state/a",
            "a\0",
            &too_long,
        ] {
            assert_eq!(refused.parse::<Token>(), Err(MalformedToken), "{refused:?}");
        }
    }

    #[test]
    fn names_are_built_from_the_token() {
        let token: Token = "abc-_9".parse().unwrap();
        assert_eq!(token.object_key(), "challenges/abc-_9");
        assert_eq!(
            token.well_known_path(),
            "/.well-known/acme-challenge/abc-_9"
        );
        assert_eq!(Token::from_path(&token.well_known_path()), Some(token));
    }

    #[test]
    fn only_the_exact_path_holds_a_token() {
        for path in [
            "",
            "/",
            "abc",
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/abc/",
            "/.well-known/acme-challenge//abc",
            "/.well-known/acme-challenge/abc?x=y",
            "/.well-known/acme-challenge/%61bc",
            "/.well-known/acme-challenge/../acme-challenge/abc",
            "/.Well-Known/acme-challenge/abc",
            "//.well-known/acme-challenge/abc",
            " /.well-known/acme-challenge/abc",
        ] {
            assert_eq!(Token::from_path(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_key_authorization_is_distinguished_from_anything_else() {
        let longest = format!("{}.{}", "a".repeat(128), "b".repeat(43));
        for accepted in [
            "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.\
             9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI",
            &longest,
        ] {
            assert!(is_key_authorization(accepted.as_bytes()), "{accepted:?}");
        }

        let too_long = format!("{longest}b");
        for refused in [
            "",
            "a.b\n",
            "a b",
            "<script>",
            "{\"a\":1}",
            "-----BEGIN PRIVATE KEY-----",
            "é",
            &too_long,
        ] {
            assert!(!is_key_authorization(refused.as_bytes()), "{refused:?}");
        }
    }
}
