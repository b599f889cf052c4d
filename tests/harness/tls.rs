//! TLS before a server that speaks none, with a certificate of an authority of its own.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

pub struct Tls {
    url: String,
    authority: NamedTempFile,
}

impl Tls {
    /// Before the gRPC server at this address.
    ///
    /// # Panics
    /// Where no certificate can be made, or nothing can listen on loopback.
    pub async fn before(server: &str) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = || KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
        let own = key();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&own, &authority).expect("a certificate");
        let file = NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), authority.pem()).expect("the file takes it");

        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions of TLS").with_no_client_auth();
        let chain = vec![certificate.der().clone()];
        let key = own.serialize_der().try_into().expect("a key");
        let mut config = config.with_single_cert(chain, key).expect("the key is the certificate's");
        config.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let (acceptor, server) = (TlsAcceptor::from(Arc::new(config)), server.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let mut inner = acceptor.accept(stream).await?;
                    let mut outer = TcpStream::connect(server).await?;
                    tokio::io::copy_bidirectional(&mut inner, &mut outer).await
                });
            }
        });
        Self { url, authority: file }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file with the authority's certificate.
    #[must_use]
    pub fn authority(&self) -> &Path {
        self.authority.path()
    }
}
