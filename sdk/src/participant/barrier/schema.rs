use std::time::Duration;

use skald_protocol::Timestamp;
use sqlx::Pool;

use super::{super::service::now, Dialect};

/// Longer than any local transaction of a service may take.
const LONGEST_LOCAL: Duration = Duration::from_secs(3600);

/// Creates the barrier's tables where they are missing. Services with migrations of their own copy `Dialect::TABLES`.
///
/// # Errors
/// Those of the database.
pub async fn create_tables<DB: Dialect>(pool: &Pool<DB>) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    for table in DB::TABLES {
        DB::execute(&mut conn, table).await?;
    }
    Ok(())
}

/// What a run of `remove_old` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleanUp {
    /// Rows that are gone.
    pub removed: u64,
    /// Calls of transactions that began before this are refused as `barrier_expired`.
    pub horizon: Timestamp,
}

/// Forgets transactions that began longer than `age` ago: choose more than the longest transaction can take.
///
/// Run it every day or so, by as many processes as you like. The first run only draws the line; the rows behind it go
/// with a later one, an hour on at least, when no local transaction is left that looked before the line was drawn.
///
/// # Errors
/// Those of the database; run it again then.
pub async fn remove_old<DB: Dialect>(pool: &Pool<DB>, age: Duration) -> sqlx::Result<CleanUp> {
    remove_old_at(pool, age, now()).await
}

async fn remove_old_at<DB: Dialect>(pool: &Pool<DB>, age: Duration, now: Timestamp) -> sqlx::Result<CleanUp> {
    let mut conn = pool.acquire().await?;
    let wanted = Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
    let Some((drawn, drawn_at)) = DB::drawn(&mut conn).await? else {
        DB::draw(&mut conn, None, wanted, now).await?;
        return Ok(CleanUp { removed: 0, horizon: wanted });
    };
    if drawn_at.until(now) < LONGEST_LOCAL {
        return Ok(CleanUp { removed: 0, horizon: drawn });
    }
    let removed = DB::remove(&mut conn, drawn).await?;
    // What is forgotten stays forgotten, also where the age is longer now.
    let horizon = wanted.max(drawn);
    DB::draw(&mut conn, Some(drawn_at), horizon, now).await?;
    Ok(CleanUp { removed, horizon })
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use sqlx::SqlitePool;

    use super::*;
    use crate::participant::{
        Answer, CallContext,
        barrier::{Entry, enter},
        context::tests::headers,
    };

    const DAY: Duration = Duration::from_secs(86_400);

    async fn call(pool: &SqlitePool, began: Timestamp) -> Entry {
        let mut context = CallContext::from_headers(&headers("action", "shop:1/reserve/action")).expect("a call");
        context.began = began;
        let mut tx = pool.begin().await.expect("a database");
        let entry = enter::<sqlx::Sqlite>(&mut tx, &context).await.expect("a database");
        if let Entry::Run(pass) = entry {
            let answer = pass.complete::<sqlx::Sqlite>(&mut tx, None).await.expect("a database");
            tx.commit().await.expect("a database");
            return Entry::Decided(answer);
        }
        entry
    }

    #[tokio::test]
    async fn a_row_goes_only_after_its_transaction_is_refused_for_a_while() {
        let pool = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(1)
            .connect("sqlite::memory:")
            .await
            .expect("a database");
        create_tables(&pool).await.expect("a database");
        create_tables(&pool).await.unwrap();
        let began = Timestamp(1_000_000_000_000);
        let executed = |entry| matches!(entry, Entry::Decided(Answer::Succeeded(None, _)));
        assert!(executed(call(&pool, began).await));

        let later = began.plus(31 * DAY);
        let drawn = remove_old_at(&pool, 30 * DAY, later).await.unwrap();
        assert_eq!((drawn.removed, drawn.horizon), (0, began.plus(DAY)));
        let Entry::Decided(answer) = call(&pool, began).await else { panic!("it ran again") };
        assert_eq!(answer, Answer::expired());
        assert!(executed(call(&pool, began.plus(DAY)).await), "what began on the line is known");

        assert_eq!(remove_old_at(&pool, 30 * DAY, later.plus(DAY / 48)).await.unwrap().removed, 0, "too soon");
        let gone = remove_old_at(&pool, 90 * DAY, later.plus(DAY)).await.unwrap();
        assert_eq!((gone.removed, gone.horizon), (1, drawn.horizon), "the line never goes back");
        let Entry::Decided(answer) = call(&pool, began).await else { panic!("it ran again") };
        assert_eq!(answer, Answer::expired());
    }
}
