//! Lists: newest first, page by page, by what a client may ask for.

use std::collections::BTreeMap;

use skald::store::{Filter, Projection, Store};
use skald_protocol::{Status, Timestamp, WorkflowRef};
use skald_tests::{Backend, promises};

use super::{Fresh, Writer, batch, begin_with, projection};

/// `shop:0` … `shop:9` and `bank:0` … `bank:9`, two in each millisecond; even ones are red.
async fn filled(backend: Backend) -> (Fresh, Writer) {
    let fresh = Fresh::new(backend).await;
    let mut writer = Writer::alone(&fresh.connect().await).await;
    let mut all = Vec::new();
    for index in 0..10_i64 {
        for name in ["shop", "bank"] {
            let team = if index % 2 == 0 { "red" } else { "blue" };
            let mut append =
                begin_with(&format!("{name}:{index}"), Timestamp(1_000 + index), &[("team", team), ("name", name)]);
            if let Some(begin) = append.begin.as_mut().filter(|_| name == "shop") {
                begin.workflow = Some(WorkflowRef { name: "order".into(), version: format!("1.{index}.0") });
            }
            all.push(append);
        }
    }
    writer.commit(&batch(all)).await.expect("a commit");
    (fresh, writer)
}

async fn gids(writer: &Writer, filter: Filter) -> Vec<String> {
    let listed = writer.store.list(&filter).await.expect("a list");
    listed.into_iter().map(|summary| summary.gid.to_string()).collect()
}

fn labels(wanted: &[(&str, &str)]) -> BTreeMap<String, String> {
    wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

promises! {
    async fn pages_follow_each_other_without_gap_or_double(backend: Backend) {
        let (_fresh, writer) = filled(backend).await;
        for labels in [labels(&[]), labels(&[("name", "shop")]), labels(&[("name", "shop"), ("team", "red")])] {
            let all = gids(&writer, Filter { labels: labels.clone(), limit: 100, ..Filter::default() }).await;
            let mut paged = Vec::new();
            let mut before = None;
            loop {
                let filter = Filter { labels: labels.clone(), before, limit: 3, ..Filter::default() };
                let page = writer.store.list(&filter).await.expect("a page");
                before = page.last().map(|last| (last.created_at, last.gid.clone()));
                paged.extend(page.into_iter().map(|summary| summary.gid.to_string()));
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(paged, all);
        }
        let newest = gids(&writer, Filter { limit: 3, ..Filter::default() }).await;
        assert_eq!(newest, ["shop:9", "bank:9", "shop:8"]);
    }

    async fn labels_narrow_together(backend: Backend) {
        let (_fresh, writer) = filled(backend).await;
        let by = |wanted| Filter { labels: labels(wanted), limit: 100, ..Filter::default() };
        let red = gids(&writer, by(&[("team", "red"), ("name", "bank")])).await;
        assert_eq!(red, ["bank:8", "bank:6", "bank:4", "bank:2", "bank:0"]);
        assert!(gids(&writer, by(&[("team", "green")])).await.is_empty());
        assert!(gids(&writer, by(&[("team", "red"), ("nobody", "x")])).await.is_empty());
        let quoted = by(&[("team", "' OR 1 = 1 --")]);
        assert!(gids(&writer, quoted).await.is_empty());
        let one = writer.store.list(&by(&[("name", "shop")])).await.expect("a list").remove(0);
        assert_eq!(one.labels, labels(&[("name", "shop"), ("team", "blue")]));
        assert_eq!(one.workflow.map(|workflow| workflow.version), Some("1.9.0".into()));
    }

    async fn every_filter_narrows(backend: Backend) {
        let (_fresh, mut writer) = filled(backend).await;
        let at = |ms| Some(Timestamp(ms));
        let shop = Filter { gid_prefix: Some("shop:".into()), limit: 100, ..Filter::default() };
        assert_eq!(gids(&writer, shop.clone()).await.len(), 10);
        let some = Filter { created_after: at(1_003), created_before: at(1_006), ..shop.clone() };
        assert_eq!(gids(&writer, some).await, ["shop:5", "shop:4"]);
        let order = Filter { workflow: Some("order".into()), limit: 100, ..Filter::default() };
        assert_eq!(gids(&writer, order.clone()).await.len(), 10);
        assert!(gids(&writer, Filter { gid_prefix: Some("bank".into()), ..order }).await.is_empty());

        writer.project(projection("shop:0", 1, Status::Suspended)).await;
        writer.project(Projection { settled_at: at(5), ..projection("shop:1", 1, Status::Failed) }).await;
        let by = |status: &[Status]| Filter { status: status.to_vec(), limit: 100, ..Filter::default() };
        assert_eq!(gids(&writer, by(&[Status::Suspended])).await, ["shop:0"]);
        assert_eq!(gids(&writer, by(&[Status::Suspended, Status::Failed])).await, ["shop:1", "shop:0"]);
        assert_eq!(gids(&writer, by(&[Status::Running])).await.len(), 18);
        assert!(gids(&writer, by(&[Status::Succeeded])).await.is_empty());
        let labelled = Filter { labels: labels(&[("name", "shop")]), ..by(&[Status::Failed]) };
        assert_eq!(gids(&writer, labelled).await, ["shop:1"]);
    }
}
