//! Group commit: many transactions' events, one database commit.
//!
//! An append resolves only when its row is durable. Appends to one `Gid` resolve in the order they were made; across gids
//! no order is promised. A batch closes when the previous commit returns, so batches grow exactly as fast as the database
//! is slow and an idle coordinator adds no delay.
