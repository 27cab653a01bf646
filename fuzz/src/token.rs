//! Any bytes as a token, its claims, an account and a pattern of names.

use ntcp_proto::access::{
    AccountName, Credentials, KeyId, MAX_ACCOUNT_BYTES, NamePattern, Token, TokenClaims, TokenKey,
};

/// Reads and writes everything that people or peers may have written.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<AccountName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= MAX_ACCOUNT_BYTES);
    }
    if let Ok(pattern) = text.parse::<NamePattern>() {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.covers(None));
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(claims) = text.parse::<TokenClaims>() {
        assert_eq!(claims.to_string(), text, "there is one way of writing it");
        assert!(text.parse::<AccountName>().is_ok(), "claims are sent as an account");
        let token = Token::mint(&TokenKey::from_bytes([7; 32]), claims);
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    let token = text.parse::<Token>();
    assert_eq!(Credentials::of_token(text).is_ok(), token.is_ok());
    if let Ok(token) = token {
        assert_eq!(token.to_string(), text);
        assert!(text.starts_with(&token.claims().to_string()));
    }
}
