//! Certificates for tests, and TLS around clients that cannot speak it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::cluster::{Options, give_away};
use super::{Target, msg, run};

/// An authority, and what it has signed, in a directory of its own.
pub struct Certificates {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// `root.crt`, and `server.crt` with `server.key` for this machine.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("howdah-tls-").tempdir();
        let dir = dir.expect("a directory for certificates");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a directory of ours");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("howdah test authority");
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let all = Self { dir, issuer };
        all.write("root.crt", &all.issuer.pem());
        all.sign("server", |params| params.distinguished_name = named("localhost"));
        all
    }

    /// Writes `NAME.crt` and `NAME.key`, signed by the authority, for `localhost` and 127.0.0.1 unless changed.
    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names of hosts");
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// A certificate of a client, by its common name: `NAME.crt` and `NAME.key`.
    pub fn client(&self, name: &str) {
        self.sign(name, |params| {
            params.subject_alt_names.clear();
            params.distinguished_name = named(name);
        });
    }

    /// Writes a file that only its owner can read. It belongs to whoever PostgreSQL runs as.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a file of ours");
        self.protect(name);
    }

    fn protect(&self, name: &str) {
        let path = self.dir.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
        give_away(&path);
    }

    /// Copies a certificate and its key over another one.
    pub fn replace(&self, name: &str, by: &str) {
        for end in ["crt", "key"] {
            let text = fs::read_to_string(self.path(&format!("{by}.{end}"))).expect("it is there");
            self.write(&format!("{name}.{end}"), &text);
        }
    }

    /// Makes `NAME.crt` and `NAME.key` by `openssl req -x509` with these arguments.
    pub fn openssl(&self, name: &str, arguments: &[&str]) {
        let (certificate, key) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-keyout", &key, "-out", &certificate])
            .args(arguments);
        run::succeed(&mut command, Duration::from_secs(60));
        self.protect(&format!("{name}.crt"));
        self.protect(&format!("{name}.key"));
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> String {
        self.path_of(name).to_str().expect("a plain path").to_owned()
    }

    fn identity(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let pem = |end: &str| fs::read(self.path_of(&format!("{name}.{end}"))).expect("it is there");
        let chain = CertificateDer::pem_slice_iter(&pem("crt")).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(&pem("key")).expect("a key");
        (chain.expect("certificates"), key)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A cluster that takes TLS with the certificate NAME.
    pub fn cluster(&self, name: &str) -> Options {
        super::Cluster::options()
            .conf("ssl = on")
            .conf(&format!(
                "ssl_cert_file = '{}'",
                self.path(&format!("{name}.crt"))
            ))
            .conf(&format!("ssl_key_file = '{}'", self.path(&format!("{name}.key"))))
            .conf(&format!("ssl_ca_file = '{}'", self.path("root.crt")))
    }

    /// The settings by which howdah offers TLS to clients, with the certificate `server`.
    pub fn offered(&self, config: super::howdah::Config, mode: &str) -> super::howdah::Config {
        config
            .set("client_tls_sslmode", mode)
            .set("client_tls_cert_file", self.path("server.crt"))
            .set("client_tls_key_file", self.path("server.key"))
    }
}

/// A name of only a common name.
pub fn named(name: &str) -> rcgen::DistinguishedName {
    let mut named = rcgen::DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A client that believes any server.
pub fn trusting() -> ClientConfig {
    blind().with_no_client_auth()
}

/// The same with the certificate NAME.
pub fn showing(certificates: &Certificates, name: &str) -> ClientConfig {
    let (chain, key) = certificates.identity(name);
    blind()
        .with_client_auth_cert(chain, key)
        .expect("they belong together")
}

fn blind() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(aws_lc_rs::default_provider())))
}

#[derive(Debug)]
struct Trusting(CryptoProvider);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A port that takes clients without TLS and brings each to `target` with it: what comes from one side goes to the
/// other, and so do ends.
pub fn tunnel(target: Target, config: ClientConfig) -> Target {
    let connector = TlsConnector::from(Arc::new(config));
    listen(move |client| carry(client, target, connector.clone()))
}

/// Listens on a port of this machine and serves everybody who comes.
fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Target
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    });
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket of ours");
    let port = listener.local_addr().expect("it is bound").port();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("within the runtime");
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    Target { port }
}

/// A port that takes clients and brings each to a Unix socket.
pub fn unix_tunnel(path: &Path) -> Target {
    let path = path.to_owned();
    listen(move |client| bring(client, path.clone()))
}

async fn bring(mut client: TcpStream, path: PathBuf) -> std::io::Result<()> {
    let mut server = UnixStream::connect(path).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn carry(mut client: TcpStream, target: Target, connector: TlsConnector) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = connect(target, &connector).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn connect(target: Target, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let mut server = TcpStream::connect(target.addr()).await?;
    server.set_nodelay(true)?;
    server.write_all(&msg::ssl_request()).await?;
    assert_eq!(server.read_u8().await?, b'S', "TLS is on offer");
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, server).await
}

/// A port that takes clients by TLS with the certificate NAME and passes what they say on to `target`, by TLS as well:
/// somebody in between who reads everything.
pub fn interceptor(target: Target, certificates: &Certificates, name: &str) -> Target {
    let (chain, key) = certificates.identity(name);
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let (acceptor, connector) = (
        TlsAcceptor::from(Arc::new(config)),
        TlsConnector::from(Arc::new(trusting())),
    );
    listen(move |client| intercept(client, target, acceptor.clone(), connector.clone()))
}

async fn intercept(
    mut client: TcpStream,
    target: Target,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    assert_eq!(request[..], msg::ssl_request(), "it asks for TLS");
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = connect(target, &connector).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Runs a program in Python, which finds its server in the `PG*` variables.
fn python(target: Target, program: &str, arguments: &[&str]) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let mut command = run::client(python.to_str().expect("a plain path"), target, "app", "app");
    command
        .env_remove("PGSSLMODE")
        .args(["-c", program])
        .args(arguments);
    run::succeed(&mut command, Duration::from_secs(60))
}

/// What libpq of version 18 makes of each line of its arguments: `tls`, `plain` or its error.
pub fn attempts(target: Target, conninfos: &[&str]) -> Vec<String> {
    const PROGRAM: &str = "
import psycopg, sys
for conninfo in sys.argv[1:]:
    try:
        with psycopg.connect(conninfo) as conn:
            assert conn.execute('select 6 * 7').fetchone() == (42,)
            print('tls' if conn.pgconn.ssl_in_use else 'plain')
    except psycopg.OperationalError as error:
        print(str(error).replace('\\n', ' '))
";
    let said = python(target, PROGRAM, conninfos);
    said.lines().map(str::to_owned).collect()
}
