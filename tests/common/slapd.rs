//! A private LDAP server, Debian's `slapd`, in a directory of its own.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::cluster::{give_away, unprivileged};
use super::net::{PATIENCE, eventually, free_port};
use super::run;
use super::tls::Certificates;

/// The password of the entry that may search, `cn=reader,dc=example,dc=org`.
pub const READER_PASSWORD: &str = "reader's secret";

/// People below `ou=people,dc=example,dc=org` whose password is that of the test users of this `uid`; two of them share
/// one, and one has a name that means something in filters and in distinguished names.
const ENTRIES: &str = r"dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: cn=reader,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader's secret

dn: uid=scram_u,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: scram_u
cn: Ann Example
sn: Example
mail: ann@example.org
userPassword: secret of scram_u

dn: uid=md5_u,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: md5_u
uid: twice
cn: Bob Example
sn: Example
userPassword: secret of md5_u

dn: uid=password_u,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: password_u
uid: twice
cn: Carol Example
sn: Example
userPassword: secret of password_u

dn: uid=a\2C(b)*\\,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: a,(b)*\
cn: Odd Example
sn: Example
userPassword: odd
";

/// A running server, gone when dropped.
pub struct Slapd {
    dir: TempDir,
    child: Option<Child>,
    /// Where it listens, in clear and for `StartTLS`.
    pub port: u16,
    /// Where it listens for TLS from the first byte.
    pub tls_port: u16,
}

impl Slapd {
    /// A server with the certificate `server` of these.
    pub fn start(certificates: &Certificates) -> Self {
        Self::with_entries(certificates, "")
    }

    /// The same with more entries (LDIF).
    pub fn with_entries(certificates: &Certificates, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("howdah-ldap-").tempdir();
        let dir = dir.expect("a directory for slapd");
        let home = dir.path().display();
        let file = |name: &str| certificates.path(name);
        let (key, certificate, root) = (file("server.key"), file("server.crt"), file("root.crt"));
        // Binds with a name and no password are let through, as some servers do: a trap that nobody shall walk into.
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             pidfile {home}/pid\nallow bind_anon_cred\nTLSCACertificateFile {root}\n\
             TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\ndatabase mdb\n\
             suffix \"dc=example,dc=org\"\ndirectory {home}/data\nmaxsize 10485760\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to dn.subtree=\"ou=people,dc=example,dc=org\" by dn.exact=\"cn=reader,dc=example,dc=org\" read by * none\n\
             access to * by * read\n"
        );
        fs::create_dir(dir.path().join("data")).expect("a directory of ours");
        fs::write(dir.path().join("slapd.conf"), config).expect("a file of ours");
        fs::write(dir.path().join("entries.ldif"), [ENTRIES, more].concat()).expect("a file of ours");
        for path in [dir.path().to_owned(), dir.path().join("data")] {
            give_away(&path);
        }
        let mut slapd = Self {
            dir,
            child: None,
            port: free_port(),
            tls_port: free_port(),
        };
        slapd.fill();
        slapd.launch();
        slapd
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(["/usr/sbin", name].join("/"));
        command
            .arg("-f")
            .arg(self.dir.path().join("slapd.conf"))
            .current_dir("/");
        unprivileged(&mut command);
        command
    }

    fn fill(&self) {
        let mut add = self.program("slapadd");
        run::succeed(
            add.arg("-l").arg(self.dir.path().join("entries.ldif")),
            Duration::from_secs(30),
        );
    }

    fn launch(&mut self) {
        let urls = format!(
            "ldap://127.0.0.1:{} ldaps://127.0.0.1:{}",
            self.port, self.tls_port
        );
        let log = fs::File::create(self.dir.path().join("log")).expect("a file of ours");
        let mut slapd = self.program("slapd");
        // With a level of debugging it stays in the foreground.
        slapd.args(["-h", &urls, "-d", "stats"]).stdin(Stdio::null());
        slapd
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        self.child = Some(slapd.spawn().expect("slapd is installed: run scripts/setup"));
        eventually("slapd answers", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop)
        });
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- slapd's log\n{}", super::cluster::tail(&self.log(), 30));
        }
    }
}
