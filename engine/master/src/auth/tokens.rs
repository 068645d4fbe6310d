//! Signed tokens: short-lived access tokens of users, and the tokens of media servers.
//!
//! HMAC under a key in the database: only masters make them and only masters read them. The audience keeps the two
//! kinds apart.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use zeroize::Zeroizing;

use crate::accounts::{Account, Role, UserId};
use crate::clock;
use crate::db;
use crate::errors::ServiceError;
use crate::limits::SERVER_TOKEN_LIFETIME;
use crate::random;
use crate::sync::lock;

const ALGORITHM: Algorithm = Algorithm::HS256;
const CLIENTS: &str = "braidcast client";
const SERVERS: &str = "braidcast server";
const KEY_SETTING: &str = "token_key";
const KEY_BYTES: usize = 32;

/// Makes and reads tokens.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    lifetime: Duration,
    /// Accounts whose access tokens are void up to one signed at this Unix time in milliseconds, until all of those have
    /// expired. A master that starts anew does not know them: the Users service asks the database besides.
    revoked: Mutex<HashMap<UserId, u64>>,
}

/// Who makes a call, by the word of an access token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: UserId,
    pub(crate) username: String,
    pub(crate) role: Role,
}

/// Which media server makes a call, by the word of its token.
#[derive(Clone, Debug)]
pub(crate) struct ServerCaller {
    pub(crate) server_id: String,
    /// The Join that the token was given at: it tells two processes with one id apart.
    pub(crate) join: u64,
}

#[derive(Serialize, Deserialize)]
struct ClientClaims {
    aud: String,
    sub: String,
    name: String,
    role: i64,
    exp: u64,
    /// When it was signed, as a Unix time in milliseconds; `iat` has seconds.
    signed_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct ServerClaims {
    aud: String,
    sub: String,
    join: u64,
    exp: u64,
}

impl Tokens {
    /// Reads the key from the database, or draws it.
    pub(crate) async fn open(pool: &SqlitePool, lifetime: Duration) -> Result<Self, sqlx::Error> {
        let fresh = Zeroizing::new(random::draw::<KEY_BYTES>());
        let key = Zeroizing::new(db::setting_or(pool, KEY_SETTING, &*fresh).await?);
        Ok(Self::new(&key, lifetime))
    }

    fn new(key: &[u8], lifetime: Duration) -> Self {
        let (encoding, decoding) = (EncodingKey::from_secret(key), DecodingKey::from_secret(key));
        Self { encoding, decoding, lifetime, revoked: Mutex::default() }
    }

    /// Makes all access tokens of an account void that were signed before: it was removed, or has a new password, and
    /// whoever holds one may be the one who was to be kept out.
    pub(crate) fn revoke(&self, user: UserId) {
        let now_ms = clock::unix_ms();
        let lifetime_ms = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut revoked = lock(&self.revoked);
        revoked.retain(|_, at_ms| at_ms.saturating_add(lifetime_ms) > now_ms);
        revoked.insert(user, now_ms);
    }

    fn is_revoked(&self, user: UserId, signed_ms: u64) -> bool {
        lock(&self.revoked).get(&user).is_some_and(|at_ms| signed_ms <= *at_ms)
    }

    /// How long an access token lasts.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// An access token for a user.
    pub(crate) fn sign_client(&self, account: &Account) -> Result<String, ServiceError> {
        self.sign(&ClientClaims {
            aud: CLIENTS.to_owned(),
            sub: account.id.0.to_string(),
            name: account.username.clone(),
            role: account.role as i64,
            exp: (clock::since_epoch() + self.lifetime).as_secs(),
            signed_ms: clock::unix_ms(),
        })
    }

    /// A token for a media server.
    pub(crate) fn sign_server(&self, server_id: &str, join: u64) -> Result<String, ServiceError> {
        self.sign(&ServerClaims {
            aud: SERVERS.to_owned(),
            sub: server_id.to_owned(),
            join,
            exp: (clock::since_epoch() + SERVER_TOKEN_LIFETIME).as_secs(),
        })
    }

    /// Who holds this access token.
    pub(crate) fn read_client(&self, token: &str) -> Result<Caller, ServiceError> {
        let claims: ClientClaims = self.read(token, CLIENTS)?;
        let user = UserId(claims.sub.parse().map_err(|_| ServiceError::TokenInvalid)?);
        if self.is_revoked(user, claims.signed_ms) {
            // The client asks for a new one, and learns there that it must log in again.
            return Err(ServiceError::TokenStale);
        }
        let role = Role::from_number(claims.role).ok_or(ServiceError::TokenInvalid)?;
        Ok(Caller { user, username: claims.name, role })
    }

    /// Which media server holds this token.
    pub(crate) fn read_server(&self, token: &str) -> Result<ServerCaller, ServiceError> {
        let claims: ServerClaims = self.read(token, SERVERS)?;
        Ok(ServerCaller { server_id: claims.sub, join: claims.join })
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, ServiceError> {
        jsonwebtoken::encode(&Header::new(ALGORITHM), claims, &self.encoding).map_err(ServiceError::Signing)
    }

    fn read<C: DeserializeOwned>(&self, token: &str, audience: &str) -> Result<C, ServiceError> {
        let mut validation = Validation::new(ALGORITHM);
        // One clock both signs and reads.
        validation.leeway = 0;
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        match jsonwebtoken::decode(token, &self.decoding, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => Err(ServiceError::TokenStale),
            Err(_) => Err(ServiceError::TokenInvalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(key: u8, lifetime: Duration) -> Tokens {
        Tokens::new(&[key; KEY_BYTES], lifetime)
    }

    fn anna() -> Account {
        Account { id: UserId(7), username: "anna".into(), role: Role::Publisher, password_hash: String::new() }
    }

    #[test]
    fn a_token_tells_who_holds_it() {
        let tokens = tokens(1, Duration::from_secs(60));
        let caller = tokens.read_client(&tokens.sign_client(&anna()).expect("signs")).expect("reads");
        assert_eq!((caller.user, caller.username.as_str(), caller.role), (UserId(7), "anna", Role::Publisher));
        let server = tokens.read_server(&tokens.sign_server("s1", u64::MAX).expect("signs")).expect("reads");
        assert_eq!((server.server_id.as_str(), server.join), ("s1", u64::MAX));
    }

    #[test]
    fn a_token_is_good_for_its_own_kind_key_and_bytes_only() {
        let ours = tokens(1, Duration::from_secs(60));
        let token = ours.sign_client(&anna()).expect("signs");
        assert!(matches!(ours.read_server(&token), Err(ServiceError::TokenInvalid)));
        assert!(matches!(tokens(2, Duration::from_secs(60)).read_client(&token), Err(ServiceError::TokenInvalid)));
        let server = ours.sign_server("s1", 1).expect("signs");
        assert!(matches!(ours.read_client(&server), Err(ServiceError::TokenInvalid)));
        for garbage in ["", ".", "a.b.c", &token[..token.len() - 1]] {
            assert!(matches!(ours.read_client(garbage), Err(ServiceError::TokenInvalid)), "{garbage}");
        }
    }

    #[test]
    fn tokens_of_an_account_that_was_removed_or_has_a_new_password_are_void_and_later_ones_are_not() {
        let tokens = tokens(1, Duration::from_secs(60));
        let other = Account { id: UserId(8), ..anna() };
        let [before, of_other] = [anna(), other].map(|account| tokens.sign_client(&account).expect("signs"));
        tokens.revoke(UserId(7));
        assert!(matches!(tokens.read_client(&before), Err(ServiceError::TokenStale)));
        assert!(tokens.read_client(&of_other).is_ok());
        std::thread::sleep(Duration::from_millis(2));
        assert!(tokens.read_client(&tokens.sign_client(&anna()).expect("signs")).is_ok());
    }

    #[test]
    fn an_expired_token_is_told_from_a_forged_one() {
        let tokens = tokens(1, Duration::ZERO);
        let claims =
            ClientClaims { aud: CLIENTS.into(), sub: "7".into(), name: "anna".into(), role: 1, exp: 1, signed_ms: 0 };
        let token = tokens.sign(&claims).expect("signs");
        assert!(matches!(tokens.read_client(&token), Err(ServiceError::TokenStale)));
    }
}
