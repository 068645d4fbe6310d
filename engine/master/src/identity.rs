//! Which library the database belongs to.

use braidcast_media::LibraryId;
use sqlx::SqlitePool;

use crate::db;
use crate::random;

const SETTING: &str = "library_id";

/// The id in the database, drawn if there is none.
pub(crate) async fn settle(pool: &SqlitePool) -> Result<LibraryId, sqlx::Error> {
    let id = db::setting_or(pool, SETTING, &random::draw::<16>()).await?;
    let id = id.try_into().map_err(|_| sqlx::Error::Decode("the library's id is not 16 bytes".into()))?;
    Ok(LibraryId(id))
}
