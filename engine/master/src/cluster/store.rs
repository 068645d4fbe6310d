//! Media servers in the database: what must outlive the master so that running sessions go on.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::clock;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::limits::FORGET_AFTER;
use crate::tickets::{KeyRing, NumberedKey};

/// The servers in the database.
#[derive(Clone)]
pub(crate) struct ServerStore {
    database: Database,
}

/// A server as it was kept.
pub(crate) struct StoredServer {
    pub(crate) server_id: String,
    pub(crate) address: SocketAddr,
    pub(crate) keys: KeyRing,
}

type Row = (String, String, i64, Vec<u8>, Option<i64>, Option<Vec<u8>>, i64);

fn stored(row: Row) -> Result<StoredServer, sqlx::Error> {
    let (server_id, address, key_id, key, previous_key_id, previous_key, rotated_at) = row;
    let broken = |what: &str| sqlx::Error::Decode(format!("server {server_id}: {what}").into());
    let numbered = |id: i64, bytes: Vec<u8>| {
        let id = u32::try_from(id).map_err(|_| broken("key number"))?;
        let bytes = Zeroizing::new(bytes);
        let bytes = Zeroizing::new(bytes.as_slice().try_into().map_err(|_| broken("key"))?);
        Ok::<_, sqlx::Error>(NumberedKey { id, bytes })
    };
    Ok(StoredServer {
        address: address.parse().map_err(|_| broken("address"))?,
        keys: KeyRing {
            current: numbered(key_id, key)?,
            previous: previous_key_id.zip(previous_key).map(|(id, bytes)| numbered(id, bytes)).transpose()?,
            rotated_at: u64::try_from(rotated_at).map_err(|_| broken("time"))?,
        },
        server_id,
    })
}

impl ServerStore {
    pub(crate) fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    /// All servers, less those that have not been seen for a month: keys of one that is there are rotated, so their
    /// age tells.
    pub(crate) async fn load(&self) -> Result<Vec<StoredServer>, sqlx::Error> {
        let oldest = clock::since_epoch().saturating_sub(FORGET_AFTER).as_secs().cast_signed();
        sqlx::query("DELETE FROM servers WHERE rotated_at < ?").bind(oldest).execute(self.database.pool()).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT server_id, address, key_id, key, previous_key_id, previous_key, rotated_at FROM servers",
        )
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(stored).collect()
    }

    /// Keeps a server and its keys.
    pub(crate) async fn save(&self, server_id: &str, address: SocketAddr, keys: &KeyRing) -> Result<(), ServiceError> {
        self.database.write(|| self.try_save(server_id, address, keys)).await
    }

    /// Forgets a server and its keys.
    pub(crate) async fn remove(&self, server_id: &str) -> Result<(), ServiceError> {
        let delete =
            || sqlx::query("DELETE FROM servers WHERE server_id = ?").bind(server_id).execute(self.database.pool());
        self.database.write(delete).await.map(|_| ())
    }

    async fn try_save(&self, server_id: &str, address: SocketAddr, keys: &KeyRing) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO servers (server_id, address, key_id, key, previous_key_id, previous_key, rotated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (server_id) DO UPDATE SET
                 address = excluded.address, key_id = excluded.key_id, key = excluded.key,
                 previous_key_id = excluded.previous_key_id, previous_key = excluded.previous_key,
                 rotated_at = excluded.rotated_at",
        )
        .bind(server_id)
        .bind(address.to_string())
        .bind(i64::from(keys.current.id))
        .bind(&keys.current.bytes[..])
        .bind(keys.previous.as_ref().map(|key| i64::from(key.id)))
        .bind(keys.previous.as_ref().map(|key| key.bytes.to_vec()))
        .bind(keys.rotated_at.cast_signed())
        .execute(self.database.pool())
        .await?;
        Ok(())
    }
}
