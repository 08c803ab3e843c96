//! Sessions against rustls's own buffered ones, and against bytes that are none.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::net::UnixStream;

use super::trust::ServerTrust;
use super::{Acceptor, ClientCertificates, Connector, Identity, provider, versions};
use crate::config::TlsVersions;
use crate::net::Stream;

const BOTH: TlsVersions = TlsVersions {
    tls12: true,
    tls13: true,
};
const LIMIT: Duration = Duration::from_secs(20);

type Peer = StreamOwned<ClientConnection, StdStream>;

fn acceptor() -> Acceptor {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let identity = Identity::read(&certificate, &key).unwrap();
    Acceptor::new(&identity, &ClientCertificates::NotAsked, BOTH).unwrap()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Both ends of a connection, one of them for a thread.
fn pair() -> (Stream, StdStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(LIMIT)).unwrap();
    (UnixStream::from_std(ours).unwrap().into(), theirs)
}

/// A client of rustls's own in a thread, which writes its records in pieces of `piece` bytes.
fn client(
    socket: StdStream,
    wanted: TlsVersions,
    talk: impl FnOnce(&mut Peer) + Send + 'static,
) -> JoinHandle<()> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(wanted))
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerTrust::blind()))
        .with_no_client_auth();
    thread::spawn(move || {
        let connection = ClientConnection::new(Arc::new(config), name()).unwrap();
        let mut peer = StreamOwned::new(connection, socket);
        talk(&mut peer);
        peer.conn.send_close_notify();
        peer.flush().ok();
    })
}

/// Sends back whatever comes, to the end.
async fn echo(stream: &mut Stream) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while stream.fill(&mut buffer).await? > 0 {
        stream.drain(&mut buffer).await?;
    }
    Ok(())
}

fn hears_itself(peer: &mut Peer, len: usize) {
    let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
    peer.write_all(&text).unwrap();
    peer.flush().unwrap();
    let mut heard = vec![0; len];
    peer.read_exact(&mut heard).unwrap();
    assert!(heard == text, "{len} bytes come back as others");
}

#[tokio::test]
async fn every_length_comes_through_in_both_versions() {
    let acceptor = acceptor();
    let only = |tls12| TlsVersions { tls12, tls13: !tls12 };
    for (wanted, protocol) in [(only(true), "TLSv1.2"), (only(false), "TLSv1.3")] {
        let (mut stream, socket) = pair();
        let lens = [1, 2, 100, 4095, 16_255, 16_256, 16_257, 16_384, 16_385, 40_000];
        let peer = client(socket, wanted, move |peer| {
            for len in lens {
                hears_itself(peer, len);
            }
        });
        stream.accept_tls(&acceptor, BytesMut::new()).await.unwrap();
        let tls = stream.tls().unwrap();
        assert_eq!(
            (tls.protocol, tls.is_resumed, tls.has_alpn),
            (protocol, false, false)
        );
        assert!(tls.end_point.as_ref().is_some_and(|hash| hash.len() == 32));
        echo(&mut stream).await.unwrap();
        peer.join().unwrap();
    }
}

#[tokio::test]
async fn keys_may_be_changed_at_any_time() {
    let (mut stream, socket) = pair();
    let peer = client(socket, BOTH, |peer| {
        for _ in 0..20 {
            hears_itself(peer, 1000);
            peer.conn.refresh_traffic_keys().unwrap();
        }
        hears_itself(peer, 1000);
    });
    stream.accept_tls(&acceptor(), BytesMut::new()).await.unwrap();
    echo(&mut stream).await.unwrap();
    peer.join().unwrap();
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    let (mut stream, theirs) = pair();
    let (near, far) = StdStream::pair().unwrap();
    near.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut from, mut to) = (far.try_clone().unwrap(), theirs.try_clone().unwrap());
    let slow = thread::spawn(move || {
        let mut byte = [0];
        while from.read(&mut byte).is_ok_and(|read| read > 0) && to.write_all(&byte).is_ok() {}
        to.shutdown(std::net::Shutdown::Write).ok();
    });
    let (mut from, mut to) = (theirs, far);
    thread::spawn(move || std::io::copy(&mut from, &mut to).ok());
    let peer = client(near, BOTH, |peer| hears_itself(peer, 5000));
    stream.accept_tls(&acceptor(), BytesMut::new()).await.unwrap();
    echo(&mut stream).await.unwrap();
    drop(stream);
    peer.join().unwrap();
    slow.join().unwrap();
}

#[tokio::test]
async fn an_idle_session_holds_no_buffer() {
    let (mut stream, socket) = pair();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let peer = client(socket, BOTH, move |peer| {
        hears_itself(peer, 30_000);
        wait.recv().ok();
    });
    stream.accept_tls(&acceptor(), BytesMut::new()).await.unwrap();
    let mut buffer = BytesMut::new();
    let idle = tokio::time::timeout(Duration::from_millis(300), async {
        while stream.fill(&mut buffer).await.unwrap() > 0 {
            stream.drain(&mut buffer).await.unwrap();
        }
    });
    idle.await.unwrap_err();
    let session = stream.session().unwrap();
    assert_eq!((session.buffered(), buffer.capacity()), (0, 0));
    done.send(()).unwrap();
    peer.join().unwrap();
}

#[tokio::test]
async fn both_ends_are_ours() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut server, mut client) = (Stream::from(ours), Stream::from(theirs));
    let connector = Connector::new(&super::Authority::Nobody, None, BOTH).unwrap();
    let acceptor = acceptor();
    let (accepted, connected) = tokio::join!(
        server.accept_tls(&acceptor, BytesMut::new()),
        client.connect_tls(&connector, name())
    );
    accepted.unwrap();
    connected.unwrap();
    assert!(client.tls().unwrap().has_alpn && server.tls().unwrap().has_alpn);
    assert_eq!(client.tls().unwrap().end_point, server.tls().unwrap().end_point);
    assert!(client.tls().unwrap().peer.is_some() && server.tls().unwrap().peer.is_none());
    client.try_write(b"goodbye").unwrap();
    drop(client);
    let mut buffer = BytesMut::new();
    while server.fill(&mut buffer).await.unwrap() > 0 {}
    assert_eq!(&buffer[..], b"goodbye");
}

#[tokio::test]
async fn a_broken_record_ends_the_session() {
    let (mut stream, socket) = pair();
    let mut raw = socket.try_clone().unwrap();
    let peer = client(socket, BOTH, move |peer| {
        hears_itself(peer, 10);
        raw.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
        raw.write_all(&[7; 20]).unwrap();
        assert!(peer.read(&mut [0; 10]).is_err(), "an alert comes");
    });
    stream.accept_tls(&acceptor(), BytesMut::new()).await.unwrap();
    assert!(echo(&mut stream).await.is_err());
    let mut buffer = BytesMut::from(&b"more"[..]);
    assert!(stream.drain(&mut buffer).await.is_err());
    assert!(stream.fill(&mut BytesMut::new()).await.is_err());
    peer.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_a_handshake_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        kind in prop_oneof![Just(0x14_u8), Just(0x15), Just(0x16), Just(0x17), any::<u8>()],
        shape in 0..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let len = u16::try_from(noise.len()).unwrap().to_be_bytes();
        let bytes = match shape {
            0 => noise,
            1 => [&[kind, 3, 1], &len[..], &noise].concat(),
            // A handshake message that is cut into records of one byte.
            _ => noise.iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect(),
        };
        runtime.block_on(async {
            for is_server in [true, false] {
                let (mut stream, mut socket) = pair();
                socket.write_all(&bytes).unwrap();
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                let result = if is_server {
                    stream.accept_tls(&acceptor(), BytesMut::new()).await
                } else {
                    let connector = Connector::new(&super::Authority::Nobody, None, BOTH).unwrap();
                    stream.connect_tls(&connector, name()).await
                };
                assert!(result.is_err());
                assert!(stream.tls().is_none());
            }
        });
    }
}
