//! Settings that are one of a few words.

use super::value::{Kind, Raw};

/// An enum whose variants have names, the first of which is printed and all of which are read.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $wanted:literal { $($(#[$doc:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word for it in the configuration and in `SHOW`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Kind for $name {
            type Value = Self;
            const WORD: &'static str = concat!("one of ", $wanted);
            const WANTED: &'static str = concat!("one of ", $wanted);

            fn read(raw: &Raw) -> Result<Self, String> {
                match raw {
                    Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                        $($word $(| $alias)* => Ok(Self::$variant),)+
                        other => Err(format!("{}{}", raw.is_not(Self::WANTED), super::fault::suggestion(other, [$($word),+]))),
                    },
                    _ => Err(raw.is_not(Self::WANTED)),
                }
            }

            fn show(value: &Self) -> String {
                value.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// When a server goes back to its pool.
    PoolMode, "session, transaction, statement" {
        /// When the client leaves.
        Session = "session",
        /// When the transaction ends.
        Transaction = "transaction",
        /// After each statement; transactions of several statements are refused.
        Statement = "statement",
    }
}

choice! {
    /// What becomes of session state in transaction and statement mode.
    SessionState, "follow, refuse, ignore" {
        /// Settings follow the client; what cannot follow keeps its server.
        Follow = "follow",
        /// Settings follow the client; what cannot follow is refused.
        Refuse = "refuse",
        /// Nobody looks, as in PgBouncer.
        Ignore = "ignore",
    }
}

choice! {
    /// What becomes of statements whose text does not tell what they leave behind.
    Opaque, "check, trust" {
        /// The server is asked afterwards.
        Check = "check",
        /// They are taken to leave nothing.
        Trust = "trust",
    }
}

choice! {
    /// From where clients hear that listen.
    Listen, "share, pin" {
        /// From a connection that listens for all of them.
        Share = "share",
        /// From their servers, which they keep.
        Pin = "pin",
    }
}

choice! {
    /// What becomes of clients when the connection that listens for them is lost.
    ListenLost, "disconnect, resume" {
        /// They are told, and disconnected.
        Disconnect = "disconnect",
        /// Nothing; another connection takes its place.
        Resume = "resume",
    }
}

choice! {
    /// How clients prove who they are.
    AuthType, "scram-sha-256, md5, password, trust, cert, peer, pam, ldap, hba" {
        /// They need not.
        Trust = "trust",
        /// By sending the password as it is.
        Password = "password" | "plain",
        /// By a salted md5 hash.
        Md5 = "md5",
        /// By SCRAM (RFC 7677).
        Scram = "scram-sha-256" | "scram",
        /// By the common name of a certificate.
        Cert = "cert",
        /// By who they are on this machine, which a Unix-domain socket tells.
        Peer = "peer",
        /// By what PAM says to their password.
        Pam = "pam",
        /// By what an LDAP server says to their password.
        Ldap = "ldap",
        /// By what a file of rules says.
        Hba = "hba",
    }
}

impl AuthType {
    /// Whether everybody needs a secret that howdah knows or finds out.
    pub(super) fn needs_secret(self) -> bool {
        matches!(self, Self::Password | Self::Md5 | Self::Scram)
    }
}

choice! {
    /// How a line of the log is written.
    LogFormat, "text, json" {
        /// For people.
        Text = "text",
        /// For machines: one JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Whether TLS is spoken, and how far the peer's certificate is looked into.
    SslMode, "disable, allow, prefer, require, verify-ca, verify-full" {
        /// No TLS.
        Disable = "disable",
        /// TLS if the other side insists.
        Allow = "allow",
        /// TLS if the other side can.
        Prefer = "prefer",
        /// Nothing without TLS.
        Require = "require",
        /// Besides, the peer's certificate is signed by a trusted authority.
        VerifyCa = "verify-ca",
        /// Besides, it is the certificate of the host that was asked for.
        VerifyFull = "verify-full",
    }
}

choice! {
    /// How TLS with a server begins.
    SslNegotiation, "postgres, direct" {
        /// By asking for it in PostgreSQL's protocol.
        Postgres = "postgres",
        /// At once (PostgreSQL 17 and later).
        Direct = "direct",
    }
}

choice! {
    /// Whether a login to a server is bound to the TLS connection.
    ChannelBinding, "disable, prefer, require" {
        /// Never.
        Disable = "disable",
        /// Where the server offers it.
        Prefer = "prefer",
        /// Or there is no login.
        Require = "require",
    }
}

impl SslMode {
    /// Whether there is no way without TLS.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Require | Self::VerifyCa | Self::VerifyFull)
    }

    /// Whether the peer has to show a certificate that is trusted.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_know_their_aliases_and_suggest() {
        assert_eq!(AuthType::read(&Raw::text("plain")), Ok(AuthType::Password));
        assert_eq!(PoolMode::read(&Raw::text("Session")), Ok(PoolMode::Session));
        assert_eq!(
            PoolMode::read(&Raw::text("transactoin")).unwrap_err(),
            "\"transactoin\" is not one of session, transaction, statement (did you mean \"transaction\"?)"
        );
    }
}
