//! What a node shows to a broker that is closed to outsiders.

use std::path::Path;

use ntcp_proto::access::{AccessError, Credentials};
use ntcp_settings::Access;

use crate::error::{Error, ErrorKind};

/// What every token begins with; a file is named otherwise.
const TOKEN_PREFIX: &str = "t1:";

/// The credentials that the configuration names, if any; a token may be in a file.
///
/// # Errors
///
/// It is none, or the file cannot be read.
pub(crate) fn credentials(access: &Access) -> Result<Option<Credentials>, Error> {
    if let Some(token) = &access.token {
        return read_token(token.reveal()).map(Some);
    }
    let (Some(user), Some(password)) = (&access.user, &access.password) else { return Ok(None) };
    let user = user.parse().map_err(|error| unusable("[access] user", error))?;
    Ok(Some(Credentials::of_account(user, password.reveal())))
}

/// A token, or what is in the file of that name.
pub(crate) fn read_token(token: &str) -> Result<Credentials, Error> {
    let token = match token.trim() {
        token if token.starts_with(TOKEN_PREFIX) => token.to_owned(),
        path => std::fs::read_to_string(Path::new(path))
            .map_err(Error::system("cannot read the file of [access] token"))?,
    };
    Credentials::of_token(token.trim()).map_err(|error| unusable("[access] token", error))
}

fn unusable(what: &'static str, error: AccessError) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    ErrorKind::System { what, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the key 00 01 … 1f, made with openssl.
    const TOKEN: &str = "t1:2026a:1796000000:bob-*:bfc5a2bff0b3046b29655ebbb4b95c70b73cd6bd2657ca320493bf3ed5453526";

    #[test]
    fn a_token_is_taken_from_the_configuration_or_from_a_file() {
        let path = std::env::temp_dir().join(format!("ntcp-token-{}", std::process::id()));
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        let written = read_token(TOKEN).unwrap();
        assert_eq!(written.account.as_str(), "t1:2026a:1796000000:bob-*");
        assert_eq!(read_token(path.to_str().unwrap()).unwrap(), written);
        std::fs::write(&path, "t1:nonsense").unwrap();
        let error = read_token(path.to_str().unwrap()).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("t1:KEY:EXPIRES:NAMES:PASSWORD"), "{error}");
        let error = read_token(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("[access] token"), "{error}");
    }
}
