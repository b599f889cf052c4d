//! Takes spans by OTLP over gRPC and answers Jaeger's `/api/traces`, both on free ports of loopback. Prints the two
//! base URLs on one line once both listen, and ends when its standard input does.

use std::{error::Error, io::Read, net::Ipv4Addr};

use otlp_embedded::{Config, State, TraceServiceImpl, TraceServiceServer, ui_app};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = State::new(Config { max_length: 10_000, max_memory_usage: 1 << 28 });
    let (spans, pages) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    println!("http://{} http://{}", spans.local_addr()?, pages.local_addr()?);

    let app = ui_app(state.clone(), "/");
    tokio::spawn(async move { axum::serve(pages, app).await });
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(TraceServiceImpl::new(state)))
        .serve_with_incoming(TcpIncoming::from(spans))
        .await?;
    Ok(())
}
