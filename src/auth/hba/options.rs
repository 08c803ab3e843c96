//! The method of a rule and its options, each of which belongs to some methods or connections only.

use std::sync::Arc;

use super::ldap::LdapOptions;
use super::{Certificate, CertificateName, Method, Pam, Transport};

/// Reads the word for a method. Those that howdah does not have are named, so that nobody looks for a typing error.
pub(super) fn method(name: &str, transport: Transport) -> Result<Method, String> {
    let is_local = transport == Transport::Local;
    let method = match name {
        "trust" => Method::Trust,
        "reject" => Method::Reject,
        "password" => Method::Password,
        "md5" => Method::Md5,
        "scram-sha-256" => Method::Scram,
        "cert" => Method::Cert,
        // PostgreSQL takes the one for the other on sockets.
        "peer" | "ident" if is_local => Method::Peer,
        "peer" => return Err("peer authentication is only supported on local sockets".to_owned()),
        "ident" => {
            return Err(
                "authentication method \"ident\" is supported only on local sockets, where it means peer"
                    .to_owned(),
            );
        }
        "pam" => Method::Pam(Pam::default()),
        "ldap" => Method::Ldap(Arc::default()),
        "gss" | "sspi" | "radius" | "bsd" | "oauth" => {
            return Err(format!(
                "authentication method \"{name}\" is not supported by howdah"
            ));
        }
        other => return Err(format!("invalid authentication method \"{other}\"")),
    };
    if method == Method::Cert && transport != Transport::HostSsl {
        return Err("cert authentication is only supported on hostssl connections".to_owned());
    }
    Ok(method)
}

/// Options as they are read.
pub(super) struct Options {
    method: &'static str,
    is_ssl: bool,
    certificate: Certificate,
    name_of: CertificateName,
    map: Option<String>,
    pam: Pam,
    ldap: LdapOptions,
}

impl Options {
    pub(super) fn new(method: &Method, transport: Transport) -> Self {
        Self {
            method: method.as_str(),
            is_ssl: transport == Transport::HostSsl,
            certificate: Certificate::Any,
            name_of: CertificateName::CommonName,
            map: None,
            pam: Pam::default(),
            ldap: LdapOptions::default(),
        }
    }

    /// Reads `name=value`.
    pub(super) fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| match self.method {
            // It may be part of a password with a blank in it.
            "ldap" => "authentication option not in name=value format".to_owned(),
            _ => format!("authentication option not in name=value format: {text}"),
        })?;
        match name {
            "map" => {
                self.needs(name, &["peer", "cert"])?;
                self.map = (!value.is_empty()).then(|| value.to_owned());
            }
            "clientcert" => {
                self.needs_ssl(name)?;
                self.certificate = match value {
                    "verify-full" => Certificate::Named,
                    "verify-ca" if self.method == "cert" => {
                        return Err(
                            "clientcert only accepts \"verify-full\" when using \"cert\" authentication"
                                .to_owned(),
                        );
                    }
                    "verify-ca" => Certificate::Valid,
                    _ => return Err(format!("invalid value for clientcert: \"{value}\"")),
                };
            }
            "clientname" => {
                self.needs_ssl(name)?;
                self.name_of = match value {
                    "CN" => CertificateName::CommonName,
                    "DN" => CertificateName::DistinguishedName,
                    _ => return Err(format!("invalid value for clientname: \"{value}\"")),
                };
            }
            "pamservice" => {
                self.needs(name, &["pam"])?;
                self.pam.service = Some(value.to_owned());
            }
            "pam_use_hostname" => {
                self.needs(name, &["pam"])?;
                self.pam.use_hostname = value == "1";
            }
            name if name.starts_with("ldap") => {
                self.needs(name, &["ldap"])?;
                self.ldap.set(name, value)?;
            }
            _ => return Err(format!("unrecognized authentication option name: \"{name}\"")),
        }
        Ok(())
    }

    fn needs(&self, name: &str, methods: &[&str]) -> Result<(), String> {
        if methods.contains(&self.method) {
            return Ok(());
        }
        let (methods, plural) = (methods.join(" and "), if methods.len() > 1 { "s" } else { "" });
        Err(format!(
            "authentication option \"{name}\" is only valid for authentication method{plural} {methods}"
        ))
    }

    fn needs_ssl(&self, name: &str) -> Result<(), String> {
        if self.is_ssl {
            Ok(())
        } else {
            Err(format!("{name} can only be configured for \"hostssl\" rows"))
        }
    }

    /// The method with its options, and what holds for any method: what is asked of the certificate, which name of it
    /// counts, and the map.
    pub(super) fn finish(
        self,
        method: Method,
    ) -> Result<(Method, Certificate, CertificateName, Option<String>), String> {
        let method = match method {
            Method::Pam(_) => Method::Pam(self.pam),
            Method::Ldap(_) => Method::Ldap(Arc::new(self.ldap.finish()?)),
            other => other,
        };
        let certificate = match method {
            Method::Cert => Certificate::Named,
            _ => self.certificate,
        };
        Ok((method, certificate, self.name_of, self.map))
    }
}
