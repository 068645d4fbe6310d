//! Signed tokens: short-lived access tokens of users, and the tokens of media servers.
//!
//! HMAC under a key in the database: only masters make them and only masters read them. The audience keeps the two
//! kinds apart.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use zeroize::Zeroizing;

use crate::accounts::{Account, Role, UserId};
use crate::auth::standing::{Credential, Standing};
use crate::clock;
use crate::db;
use crate::errors::ServiceError;
use crate::limits::SERVER_TOKEN_LIFETIME;
use crate::random;

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
    standing: Arc<Standing>,
}

/// Who makes a call, by the word of an access token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: UserId,
    pub(crate) username: String,
    pub(crate) role: Role,
    /// The password that the token was given for.
    pub(crate) credential: Credential,
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
    /// [`Credential::to_hex`]; tokens of earlier versions have none.
    #[serde(default)]
    credential: String,
}

#[derive(Serialize, Deserialize)]
struct ServerClaims {
    aud: String,
    sub: String,
    join: u64,
    exp: u64,
}

impl Tokens {
    /// Reads the key from the database, or draws it. A token is good for accounts of `standing`.
    pub(crate) async fn open(
        pool: &SqlitePool,
        lifetime: Duration,
        standing: Arc<Standing>,
    ) -> Result<Self, sqlx::Error> {
        let fresh = Zeroizing::new(random::draw::<KEY_BYTES>());
        let key = Zeroizing::new(db::setting_or(pool, KEY_SETTING, &*fresh).await?);
        Ok(Self::new(&key, lifetime, standing))
    }

    fn new(key: &[u8], lifetime: Duration, standing: Arc<Standing>) -> Self {
        let (encoding, decoding) = (EncodingKey::from_secret(key), DecodingKey::from_secret(key));
        Self { encoding, decoding, lifetime, standing }
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
            credential: Credential::of(&account.password_hash).to_hex(),
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
        let role = Role::from_number(claims.role).ok_or(ServiceError::TokenInvalid)?;
        let credential = Credential::from_hex(&claims.credential);
        let caller = Caller { user, username: claims.name, role, credential };
        self.standing.check(&caller)?;
        Ok(caller)
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
        let standing = Standing::default();
        standing.set(UserId(7), Credential::of(&anna().password_hash));
        Tokens::new(&[key; KEY_BYTES], lifetime, Arc::new(standing))
    }

    fn anna() -> Account {
        Account { id: UserId(7), username: "anna".into(), role: Role::Publisher, password_hash: "first".into() }
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
    fn a_token_is_good_for_the_account_and_the_password_that_it_was_given_for() {
        let tokens = tokens(1, Duration::from_secs(60));
        let before = tokens.sign_client(&anna()).expect("signs");
        let unknown = tokens.sign_client(&Account { id: UserId(8), ..anna() }).expect("signs");
        assert!(matches!(tokens.read_client(&unknown), Err(ServiceError::TokenVoid)));
        tokens.standing.set(UserId(7), Credential::of("second"));
        assert!(matches!(tokens.read_client(&before), Err(ServiceError::TokenVoid)));
        let after = tokens.sign_client(&Account { password_hash: "second".into(), ..anna() }).expect("signs");
        assert!(tokens.read_client(&after).is_ok());
        tokens.standing.remove(UserId(7));
        assert!(matches!(tokens.read_client(&after), Err(ServiceError::TokenVoid)));
    }

    #[test]
    fn an_expired_token_is_told_from_a_forged_one() {
        let tokens = tokens(1, Duration::ZERO);
        let (aud, sub, name) = (CLIENTS.into(), "7".into(), "anna".into());
        let claims = ClientClaims { aud, sub, name, role: 1, exp: 1, credential: String::new() };
        let token = tokens.sign(&claims).expect("signs");
        assert!(matches!(tokens.read_client(&token), Err(ServiceError::TokenStale)));
    }
}
