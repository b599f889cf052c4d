//! A database that went back in time, as after a fail-over to a standby that lacked the end: it cannot be undone here, so it
//! is told. Only this node knows what it had acknowledged.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use skald_protocol::{Gid, Timestamp};

use super::{Shared, session::NodeSession};
use crate::{
    journal::{Acknowledged, Since},
    store::{Error, NodeId},
};

/// The row of a node that was not heard of for longer may have been tidied away.
const ROW_IS_KEPT: Duration = Duration::from_secs(1800);

/// One line of the list of what was lost.
#[derive(Debug, Serialize)]
struct Line<'a> {
    gid: &'a Gid,
    seq: u64,
    batch: i64,
    acknowledged_at: Timestamp,
}

impl Shared {
    /// After a session that was ended from outside: whether the database still has all that the session acknowledged.
    pub(super) async fn look_back(&self, session: &NodeSession, timelines: [Option<u32>; 2]) -> Result<(), Error> {
        let acknowledged = session.journal.batch();
        let there = match self.members().batch(session.node).await? {
            Some(batch) if batch >= acknowledged => return Ok(()),
            None if acknowledged == 0 || session.clock.silence() > ROW_IS_KEPT => return Ok(()),
            known => known.unwrap_or(0),
        };
        self.rewound(session.node, there..acknowledged, &session.journal.since(there), timelines);
        Ok(())
    }

    fn rewound(&self, node: NodeId, batches: std::ops::Range<i64>, lost: &Since, [before, now]: [Option<u32>; 2]) {
        self.metrics.database_rewound(lost.appends.len());
        let transactions: std::collections::BTreeSet<_> = lost.appends.iter().map(|append| &append.gid).collect();
        let listed = match list(&self.options.reports, node, &lost.appends) {
            Ok(path) => format!("They are listed in {}", path.display()),
            Err(error) => format!("They cannot be listed: {error}"),
        };
        let more = if lost.more { ", and more before that are not known any more" } else { "" };
        tracing::error!(
            node = %node.0,
            database_batch = batches.start,
            acknowledged_batch = batches.end,
            timeline_before = before,
            timeline = now,
            from = lost.appends.first().map(|append| append.at.to_string()),
            to = lost.appends.last().map(|append| append.at.to_string()),
            "The database went back in time: {} records of {} transactions that this node acknowledged are lost{more}. \
             {listed}. What to do: \"A database that went back in time\" in docs/operations.md",
            lost.appends.len(),
            transactions.len(),
        );
    }
}

/// In `folder`, or where that cannot be written in the system's temporary one.
fn list(folder: &Path, node: NodeId, lost: &[Acknowledged]) -> io::Result<PathBuf> {
    let name = format!("skald-lost-{}.jsonl", node.0);
    let folder = std::path::absolute(folder)?;
    write(folder.join(&name), lost).or_else(|_| write(std::env::temp_dir().join(&name), lost))
}

fn write(path: PathBuf, lost: &[Acknowledged]) -> io::Result<PathBuf> {
    let mut file = BufWriter::new(File::create(&path)?);
    for Acknowledged { gid, seq, batch, at } in lost {
        serde_json::to_writer(&mut file, &Line { gid, seq: *seq, batch: *batch, acknowledged_at: *at })?;
        file.write_all(b"\n")?;
    }
    file.into_inner()?.sync_all()?;
    Ok(path)
}
