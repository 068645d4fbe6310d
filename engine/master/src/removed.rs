//! Assets that a person has removed or replaced, as the database remembers them.
//!
//! A copy of an asset may be deleted only if the asset is among these. An asset that the database does not know at all
//! may have been published after a backup that was put back.

use std::collections::HashSet;

use braidcast_media::AssetId;
use sqlx::{SqliteConnection, SqlitePool};

use crate::limits::REMOVED_MAX;

/// Gives all that are remembered. None is forgotten for its age: one start with a clock that is years ahead would forget
/// them all, and media servers that were away would keep their copies for ever.
pub(crate) async fn load(pool: &SqlitePool) -> Result<HashSet<AssetId>, sqlx::Error> {
    let assets: Vec<i64> = sqlx::query_scalar("SELECT asset FROM removed_assets").fetch_all(pool).await?;
    Ok(assets.into_iter().map(asset).collect())
}

/// Remembers that `asset` was removed, beside `remembered` others. Gives the assets that were forgotten to keep within
/// [`REMOVED_MAX`].
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    removed: AssetId,
    name: &str,
    now: i64,
    remembered: usize,
) -> Result<Vec<AssetId>, sqlx::Error> {
    let excess = (remembered + 1).saturating_sub(REMOVED_MAX);
    let forgotten: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM removed_assets
         WHERE asset IN (SELECT asset FROM removed_assets ORDER BY removed_at LIMIT ?) RETURNING asset",
    )
    .bind(i64::try_from(excess).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO removed_assets (asset, name, removed_at) VALUES (?, ?, ?)
         ON CONFLICT (asset) DO UPDATE SET removed_at = excluded.removed_at",
    )
    .bind(removed.0.cast_signed())
    .bind(name)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(forgotten.into_iter().map(asset).collect())
}

fn asset(id: i64) -> AssetId {
    AssetId(id.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db;

    #[tokio::test]
    async fn the_oldest_removals_are_forgotten_first() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = db::open(&dir.path().join("db")).await.expect("opens");
        let mut connection = pool.acquire().await.expect("connects");
        let (old, young, new) = (AssetId(u64::MAX), AssetId(2), AssetId(3));
        for (asset, at) in [(young, 20), (old, 10)] {
            let forgotten = insert(&mut connection, asset, "film", at, 0).await.expect("inserts");
            assert_eq!(forgotten, []);
        }
        let forgotten = insert(&mut connection, new, "film", 30, REMOVED_MAX).await.expect("inserts");
        assert_eq!(forgotten, [old]);
        drop(connection);
        assert_eq!(load(&pool).await.expect("loads"), HashSet::from([young, new]));
    }
}
