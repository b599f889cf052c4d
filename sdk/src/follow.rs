use std::{fmt, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::StatusCode;
use serde::Deserialize;
use skald_protocol::{Gid, PublicEvent};
use sse_stream::{Sse, SseStream};

use crate::{Client, Error};

/// A live stream says something (a comment at least) more often than this, else its connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Of a stream that was open before: the coordinator is restarting, or another one takes over. About a minute and a half.
const RECONNECTS: usize = 25;

type Connection = Pin<Box<dyn Stream<Item = Result<Sse, String>> + Send>>;

/// The events of one transaction, each once and in order, over as many connections as it takes.
pub struct Follow {
    client: Client,
    gid: Gid,
    connection: Option<Connection>,
    last: Option<String>,
    failures: usize,
    ended: bool,
}

/// Any event, also of a type that this library does not know.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    _type: String,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("gid", &self.gid).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Follow {
    pub(crate) fn new(client: Client, gid: Gid) -> Self {
        Self { client, gid, connection: None, last: None, failures: 0, ended: false }
    }

    /// The next event, or `None` after the last one (the settlement). Cancelling it loses no event.
    pub async fn next(&mut self) -> Result<Option<PublicEvent>, Error> {
        while !self.ended {
            if self.connection.is_none() {
                self.connect().await?;
            }
            let Some(connection) = &mut self.connection else { continue };
            // A stream that ends, breaks or falls silent is opened again after the last event seen.
            let Ok(Some(Ok(message))) = tokio::time::timeout(SILENCE, connection.next()).await else {
                self.connection = None;
                continue;
            };
            let Some(data) = message.data else { continue };
            self.failures = 0;
            let event: PublicEvent = match (serde_json::from_str(&data), message.id) {
                (Ok(event), _) => event,
                // What a newer coordinator tells, an older client need not know.
                (Err(_), Some(id)) if serde_json::from_str::<Typed>(&data).is_ok() => {
                    self.last = Some(id);
                    continue;
                }
                (Err(error), _) => {
                    return Err(self.client.unintelligible(self.client.url(), error.to_string()));
                }
            };
            self.last = Some(event.id.clone());
            self.ended = event.kind.is_last();
            return Ok(Some(event));
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<(), Error> {
        loop {
            if self.failures > 0 {
                let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6));
                tokio::time::sleep(doubled.min(LONGEST_PAUSE)).await;
            }
            self.failures += 1;
            match self.client.open_events(&self.gid, self.last.as_deref()).await {
                // The last event was seen by an earlier connection.
                Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(response) => {
                    let bytes = response.bytes_stream();
                    let messages = SseStream::from_bytes_stream(bytes).map_err(|error| error.to_string());
                    self.connection = Some(Box::pin(messages));
                    return Ok(());
                }
                Err(error) if error.is_transient() && self.failures <= self.patience() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn patience(&self) -> usize {
        if self.last.is_some() { RECONNECTS } else { self.client.retries() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_a_newer_coordinator_tells_is_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let newer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            let event = |id: &str, rest: &str| {
                format!("id: {id}\ndata: {{\"id\":\"{id}\",\"at\":\"2026-01-01T00:00:00.000Z\",{rest}}}\n\n")
            };
            let body = event("0.0", "\"type\":\"began\"")
                + &event("1.0", "\"type\":\"of_tomorrow\",\"more\":[1]")
                + &event("2.0", "\"type\":\"settled\",\"status\":\"succeeded\"");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        };
        let client = Client::new(&url).unwrap();
        let mut follow = client.follow(&Gid::new("g").unwrap());
        let seen = async {
            let mut seen = Vec::new();
            while let Some(event) = follow.next().await.unwrap() {
                seen.push(event.id);
            }
            seen
        };
        let (seen, ()) = tokio::join!(seen, newer);
        assert_eq!(seen, ["0.0", "2.0"]);
    }
}
