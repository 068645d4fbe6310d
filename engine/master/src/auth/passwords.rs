//! Passwords: argon2id with its crate's defaults (19 MiB, two passes; OWASP's choice), away from the threads that
//! serve calls.

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::errors::ServiceError;
use crate::limits::{HASH_WAIT, HASHES_AT_ONCE};
use crate::random;

/// Hashes and verifies passwords, a few at a time.
pub(crate) struct Passwords {
    permits: Semaphore,
    /// Of a password that nobody knows: verified in place of the hash that an unknown user has not, so that both
    /// answers take the same time.
    nobody: String,
}

impl Passwords {
    pub(crate) async fn new() -> Result<Self, ServiceError> {
        let permits = Semaphore::new(HASHES_AT_ONCE);
        let nobody = in_background(|| hash(random::draw_hex::<16>().as_bytes())).await?;
        Ok(Self { permits, nobody })
    }

    /// The hash to keep of a password, as a PHC string.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, ServiceError> {
        let _permit = self.permit().await?;
        in_background(move || hash(password.as_bytes())).await
    }

    /// Whether `password` is the one that `kept` was made from. With no hash it is wrong, after the same work.
    pub(crate) async fn verify(&self, password: Zeroizing<String>, kept: Option<String>) -> Result<bool, ServiceError> {
        let _permit = self.permit().await?;
        let known = kept.is_some();
        let kept = kept.unwrap_or_else(|| self.nobody.clone());
        let fits = in_background(move || verify(password.as_bytes(), &kept)).await?;
        Ok(known && fits)
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ServiceError> {
        match tokio::time::timeout(HASH_WAIT, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(ServiceError::ShuttingDown),
            Err(_elapsed) => Err(ServiceError::LoginsBusy),
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await?.map_err(ServiceError::Hashing)
}

fn hash(password: &[u8]) -> Result<String, password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(password, &random::draw::<16>())?;
    Ok(hash.to_string())
}

fn verify(password: &[u8], kept: &str) -> Result<bool, password_hash::Error> {
    let kept = PasswordHash::new(kept)?;
    match Argon2::default().verify_password(password, &kept) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new().await.expect("hashes");
        let kept = passwords.hash(password("open sesame")).await.expect("hashes");
        assert!(kept.starts_with("$argon2id$"), "{kept}");
        assert!(passwords.verify(password("open sesame"), Some(kept.clone())).await.expect("verifies"));
        assert!(!passwords.verify(password("open barley"), Some(kept)).await.expect("verifies"));
        assert!(!passwords.verify(password("open sesame"), None).await.expect("verifies"));
    }
}
