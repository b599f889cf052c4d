//! A shop's stock on each database, with the barrier and without, and calls as a coordinator makes them.

use std::time::{Duration, SystemTime};

use axum::{
    body::Bytes,
    http::{Request, Response},
};
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skald_protocol::{OperationKind, Timestamp};
use skald_sdk::participant::{Call, Failure, Participant, ParticipantService, Refusal, barrier};
use skald_tests::{database, mariadb};
use sqlx::{AssertSqlSafe, Executor as _, Pool, Transaction, pool::PoolOptions};
use tower::ServiceExt as _;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) item: i64,
    pub(crate) refuse: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reserved {
    left: i64,
}

/// One call of a coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) gid: String,
    pub(crate) operation: &'static str,
    pub(crate) asks_status: bool,
    pub(crate) began: Timestamp,
    pub(crate) deadline: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) barrier: Option<String>,
    pub(crate) body: Value,
}

impl Sent {
    pub(crate) fn new(gid: &str, operation: &'static str) -> Self {
        let now = now();
        Self {
            gid: gid.to_owned(),
            operation,
            asks_status: false,
            began: now,
            deadline: now.plus(Duration::from_secs(60)),
        }
    }

    pub(crate) fn request(&self, order: &Order) -> Request<Full<Bytes>> {
        let asked = if self.asks_status { "status" } else { self.operation };
        Request::post(format!("/{}", self.operation))
            .header("idempotency-key", format!("{}/b/{}", self.gid, self.operation))
            .header("skald-transaction", &self.gid)
            .header("skald-branch", "b")
            .header("skald-operation", asked)
            .header("skald-attempt", "1")
            .header("skald-began", self.began.to_string())
            .header("skald-deadline", self.deadline.to_string())
            .body(Full::new(Bytes::from(serde_json::to_vec(order).expect("JSON"))))
            .expect("a request")
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("a time of this age"))
}

pub(crate) async fn read(response: Response<Full<Bytes>>) -> Told {
    let status = response.status().as_u16();
    let barrier = response.headers().get("skald-barrier").map(|value| value.to_str().expect("text").to_owned());
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    Told { status, barrier, body }
}

/// A database that a shop can stand on.
pub(crate) trait Shop: barrier::Dialect + Sized {
    const ISOLATIONS: &'static [&'static str];

    /// An empty shop; every transaction has this isolation level.
    fn open(isolation: &'static str) -> impl Future<Output = Pool<Self>> + Send;

    /// A line in the ledger and a change of the stock; how many units are left.
    fn change(
        tx: &mut Transaction<'_, Self>,
        gid: &str,
        operation: &'static str,
        item: i64,
        by: i64,
    ) -> impl Future<Output = sqlx::Result<i64>> + Send;

    /// `(gid, operation)` in the order in which they were written.
    fn ledger(pool: &Pool<Self>) -> impl Future<Output = Vec<(String, String)>> + Send;

    /// Of all items.
    fn left(pool: &Pool<Self>) -> impl Future<Output = i64> + Send;
}

/// What each operation does, as a service would write it.
pub(crate) async fn work<DB: Shop>(
    tx: &mut Transaction<'_, DB>,
    call: Call<Order>,
) -> Result<Option<Reserved>, Failure> {
    let operation = call.context.operation;
    let by = match operation {
        OperationKind::Action | OperationKind::Try => -1,
        OperationKind::Compensate | OperationKind::Cancel => 1,
        OperationKind::Confirm | OperationKind::Status => 0,
    };
    let left = DB::change(tx, call.context.gid.as_str(), operation.as_str(), call.input.item, by).await?;
    // After the write, so that a refusal has something to roll back.
    if operation.is_forward() && call.input.refuse {
        return Err(Refusal::new("not_for_sale").message("this one is not sold").into());
    }
    Ok(operation.is_forward().then_some(Reserved { left }))
}

pub(crate) fn shop<DB: Shop>(pool: Pool<DB>) -> Participant<DB> {
    Participant::new(pool)
        .action("/action", work::<DB>)
        .compensate("/compensate", work::<DB>)
        .try_("/try", work::<DB>)
        .confirm("/confirm", work::<DB>)
        .cancel("/cancel", work::<DB>)
}

/// Called until there is an answer, as a coordinator does.
pub(crate) async fn call<DB: Shop>(service: &ParticipantService<DB>, sent: &Sent, order: &Order) -> Told {
    for _ in 0..100 {
        let told = once(service, sent, order).await;
        if told.status != 500 {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no answer to {sent:?}");
}

pub(crate) async fn once<DB: Shop>(service: &ParticipantService<DB>, sent: &Sent, order: &Order) -> Told {
    match service.clone().oneshot(sent.request(order)).await {
        Ok(response) => read(response).await,
        Err(never) => match never {},
    }
}

const TABLES: [&str; 2] = [
    "CREATE TABLE ledger (id SERIAL_KEY, gid VARCHAR(128), operation VARCHAR(16))",
    "CREATE TABLE stock (item BIGINT PRIMARY KEY, units BIGINT NOT NULL)",
];
pub(crate) const ITEMS: i64 = 8;
pub(crate) const UNITS: i64 = 1_000_000;

async fn furnish<DB: Shop>(pool: &Pool<DB>, serial: &str, run: impl AsyncFn(&Pool<DB>, String)) {
    for table in TABLES {
        run(pool, table.replace("SERIAL_KEY", serial)).await;
    }
    for item in 0..ITEMS {
        run(pool, format!("INSERT INTO stock VALUES ({item}, {UNITS})")).await;
    }
    barrier::create_tables(pool).await.expect("the barrier's tables");
}

macro_rules! shop {
    ($database:ty, $serial:literal, $isolations:expr, $open:expr, $insert:literal, $update:literal, $select:literal, $sum:literal) => {
        impl Shop for $database {
            const ISOLATIONS: &'static [&'static str] = &$isolations;

            async fn open(isolation: &'static str) -> Pool<Self> {
                let pool: Pool<Self> = ($open)(isolation).await;
                furnish(&pool, $serial, async |pool: &Pool<Self>, statement| {
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.expect("a statement");
                })
                .await;
                pool
            }

            async fn change(
                tx: &mut Transaction<'_, Self>,
                gid: &str,
                operation: &'static str,
                item: i64,
                by: i64,
            ) -> sqlx::Result<i64> {
                sqlx::query($insert).bind(gid).bind(operation).execute(&mut **tx).await?;
                sqlx::query($update).bind(by).bind(item).execute(&mut **tx).await?;
                sqlx::query_scalar($select).bind(item).fetch_one(&mut **tx).await
            }

            async fn ledger(pool: &Pool<Self>) -> Vec<(String, String)> {
                sqlx::query_as("SELECT gid, operation FROM ledger ORDER BY id").fetch_all(pool).await.expect("rows")
            }

            async fn left(pool: &Pool<Self>) -> i64 {
                sqlx::query_scalar($sum).fetch_one(pool).await.expect("a sum")
            }
        }
    };
}

const CONNECTIONS: u32 = 24;

shop!(
    sqlx::Postgres,
    "bigserial PRIMARY KEY",
    ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    async |isolation: &'static str| {
        let url = database::shared().await.empty().await.expect("a database");
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("its URL");
        let options = options.options([("default_transaction_isolation", isolation.to_lowercase())]);
        PoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await.expect("a pool")
    },
    "INSERT INTO ledger (gid, operation) VALUES ($1, $2)",
    "UPDATE stock SET units = units + $1 WHERE item = $2",
    "SELECT units FROM stock WHERE item = $1",
    "SELECT CAST(SUM(units) AS bigint) FROM stock"
);

shop!(
    sqlx::MySql,
    "BIGINT AUTO_INCREMENT PRIMARY KEY",
    ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    async |isolation: &'static str| {
        let url = mariadb::shared().await.empty().await.expect("a database");
        let statement = format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}");
        PoolOptions::<sqlx::MySql>::new()
            .max_connections(CONNECTIONS)
            .after_connect(move |connection, _| {
                let statement = statement.clone();
                Box::pin(async move { connection.execute(AssertSqlSafe(statement)).await.map(|_| ()) })
            })
            .connect(&url)
            .await
            .expect("a pool")
    },
    "INSERT INTO ledger (gid, operation) VALUES (?, ?)",
    "UPDATE stock SET units = units + ? WHERE item = ?",
    "SELECT units FROM stock WHERE item = ?",
    "SELECT CAST(SUM(units) AS SIGNED) FROM stock"
);

shop!(
    sqlx::Sqlite,
    "INTEGER PRIMARY KEY AUTOINCREMENT",
    ["SERIALIZABLE"],
    async |_: &'static str| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(folder.join("shop.db"))
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10));
        PoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await.expect("a pool")
    },
    "INSERT INTO ledger (gid, operation) VALUES (?, ?)",
    "UPDATE stock SET units = units + ? WHERE item = ?",
    "SELECT units FROM stock WHERE item = ?",
    "SELECT SUM(units) FROM stock"
);
