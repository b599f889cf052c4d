//! A server that says exactly the bytes it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

#[derive(Debug, Clone)]
pub(super) enum Act {
    Say(Vec<u8>),
    /// One byte, then a pause, for ever.
    Dribble,
    /// RST instead of FIN.
    Reset,
    Close,
    /// Keeps the connection open and says nothing more.
    Hang,
    /// Goes on when the test lets it.
    Wait,
}

pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    pub(super) gate: Arc<Semaphore>,
}

pub(super) fn say(text: impl AsRef<[u8]>) -> Act {
    Act::Say(text.as_ref().to_vec())
}

/// A whole answer on a connection that stays open.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> Vec<Act> {
    vec![say(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))]
}

impl Server {
    /// Every request gets the same acts.
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        Self::each(move |_| acts.clone()).await
    }

    /// `acts` is told how many requests came before.
    pub(super) async fn each(acts: impl Fn(usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let acts = Arc::new(acts);
        let (log, pass) = (requests.clone(), gate.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acts, log, pass) = (acts.clone(), log.clone(), pass.clone());
                tokio::spawn(async move { serve(stream, &*acts, &log, &pass).await });
            }
        });
        Self { address, requests, gate }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Heads in lower case and bodies, in the order they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) async fn came(&self, count: usize) {
        while self.requests().len() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Ends with the connection.
async fn serve(
    mut stream: TcpStream,
    acts: &(dyn Fn(usize) -> Vec<Act> + Send + Sync),
    log: &Mutex<Vec<String>>,
    gate: &Semaphore,
) -> Option<()> {
    loop {
        let request = read(&mut stream).await?;
        let before = {
            let mut log = log.lock().unwrap();
            log.push(request);
            log.len() - 1
        };
        for act in acts(before) {
            match act {
                Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
                Act::Dribble => loop {
                    stream.write_all(b" ").await.ok()?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                },
                Act::Reset => {
                    stream.set_zero_linger().unwrap();
                    return None;
                }
                Act::Close => return None,
                Act::Hang => std::future::pending().await,
                Act::Wait => gate.acquire().await.unwrap().forget(),
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut text = String::from_utf8(head).unwrap();
    let length = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()))
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.push_str(&String::from_utf8(body).unwrap());
    Some(text)
}
