//! Who may log in by which method, and the methods by which somebody else vouches for a client.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use tokio::time::Instant;

use crate::auth::hba::{
    Certificate, CertificateName, HostName, Known, Ldap, Method, Origin, Pam, Question, Rule, Rules, Scheme,
    Verdict, Visitor,
};
use crate::auth::{AuthRequest, Files, IdentMaps, Learned, Password, Proof, password_in};
use crate::authority::{Authorities, Doubt, LdapQuestion, PamQuestion};
use crate::config::{AuthType, Config, Settings, TlsVersions};
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::tls::{Authority, Connector, PemFile, Roots};

use super::credentials::{Caller, REFUSAL_PAUSE, denial};
use super::door::Door;
use crate::client::front::{Front, House};

/// The rules and the maps of a configuration.
#[derive(Debug)]
pub(in crate::client) struct Access {
    rules: Rules,
    maps: IdentMaps,
    /// Begins TLS with LDAP servers, if a rule wants that.
    ldap_tls: Option<Connector>,
}

/// Files on the disk.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }
}

impl Access {
    /// Reads the files of a configuration; the error is everything that is wrong with them.
    pub(in crate::client) fn load(config: &Config) -> Result<Self, String> {
        let settings = &config.settings;
        let rules = match own_method(settings)? {
            Some(method) => Ok(Rules::everybody(method)),
            None => Rules::parse(&config.path(&settings.auth_hba_file), &Disk),
        };
        let maps = match settings.auth_ident_file.as_str() {
            "" => Ok(IdentMaps::default()),
            file => IdentMaps::parse(&config.path(file), &Disk),
        };
        let (rules, maps) = match (rules, maps) {
            (Ok(rules), Ok(maps)) => (rules, maps),
            (Err(faults), Err(more)) => return Err(format!("{faults}\n{more}")),
            (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => return Err(faults.to_string()),
        };
        let misfits: Vec<_> = rules
            .iter()
            .filter_map(|rule| Some(format!("{}: {}", rule.place(), misfit(rule, &maps, settings)?)))
            .collect();
        if !misfits.is_empty() {
            return Err(misfits.join("\n"));
        }
        Ok(Self {
            ldap_tls: ldap_tls(&rules, config)?,
            rules,
            maps,
        })
    }

    /// Whether both configurations take their rules from the same files and settings.
    pub(in crate::client) fn has_same_sources(one: &Config, other: &Config) -> bool {
        let sources = |config: &Config| {
            let settings = config.settings.clone();
            let files = (settings.auth_hba_file, settings.auth_ident_file);
            let ldap = (settings.auth_ldap_options, settings.auth_ldap_ca_file);
            (settings.auth_type, files, ldap)
        };
        sources(one) == sources(other)
    }

    /// How many rules there are, if they come from a file.
    pub(in crate::client) fn summary(&self, config: &Config) -> Option<String> {
        let settings = &config.settings;
        let (count, file) = (self.rules.len(), config.path(&settings.auth_hba_file));
        (settings.auth_type == AuthType::Hba).then(|| format!("{count} rules in {}", file.display()))
    }
}

/// The method for everybody; none if there is a file of rules.
fn own_method(settings: &Settings) -> Result<Option<Method>, String> {
    Ok(Some(match settings.auth_type {
        AuthType::Trust => Method::Trust,
        AuthType::Password => Method::Password,
        AuthType::Md5 => Method::Md5,
        AuthType::Scram => Method::Scram,
        AuthType::Cert => Method::Cert,
        AuthType::Peer => Method::Peer,
        AuthType::Pam => Method::Pam(Pam::default()),
        AuthType::Ldap => {
            let ldap = Ldap::parse(settings.auth_ldap_options.expose());
            Method::Ldap(
                ldap.map_err(|message| format!("auth_ldap_options: {message}"))?
                    .into(),
            )
        }
        AuthType::Hba => return Ok(None),
    }))
}

fn ldap_tls(rules: &Rules, config: &Config) -> Result<Option<Connector>, String> {
    let is_wanted = |rule: &Rule| matches!(&rule.method, Method::Ldap(ldap) if ldap.scheme != Scheme::Plain);
    if !rules.iter().any(is_wanted) {
        return Ok(None);
    }
    let blame = |message: String| format!("auth_ldap_ca_file: {message}");
    let roots = match config.settings.auth_ldap_ca_file.as_str() {
        "" => Roots::System,
        file => Roots::File(PemFile::read(&config.path(file)).map_err(blame)?),
    };
    let versions = TlsVersions {
        tls12: true,
        tls13: true,
    };
    let connector = Connector::new(&Authority::ChainAndName(roots), None, versions).map_err(blame)?;
    Ok(Some(connector.without_alpn()))
}

/// Why a rule that is sound by itself cannot be followed.
fn misfit(rule: &Rule, maps: &IdentMaps, settings: &Settings) -> Option<String> {
    if let Some(map) = rule.map.as_deref().filter(|map| !maps.has(map)) {
        return Some(format!("there is no map \"{map}\" in auth_ident_file"));
    }
    if rule.certificate != Certificate::Any && settings.client_tls_ca_file.is_empty() {
        return Some("certificates of clients cannot be checked without client_tls_ca_file".to_owned());
    }
    Authorities::lacks(&rule.method).map(str::to_owned)
}

/// The rule that a caller falls under.
pub(super) async fn rule_for<'h>(
    caller: &Caller<'_>,
    front: &Front,
    house: &'h House,
) -> Result<&'h Rule, Farewell> {
    let visitor = Visitor {
        database: caller.database,
        user: caller.user,
        origin: caller.origin,
        is_physical_replication: caller.is_physical_replication,
    };
    let limit = house.config.settings.auth_answer_timeout;
    let mut known = Known::default();
    let refusal = loop {
        match (house.access.rules.find(&visitor, &known), caller.origin.address()) {
            (Verdict::Rule(rule), _) if rule.method == Method::Reject => break visitor.rejected(),
            (Verdict::Rule(rule), _) => return Ok(rule),
            (Verdict::Unknown(Question::Interfaces), _) => {
                known.interfaces = Some(Box::pin(front.authorities.interfaces(limit)).await);
            }
            (Verdict::Unknown(Question::Host), Some(address)) => {
                known.host = Box::pin(front.authorities.host_name(address, limit)).await;
            }
            (Verdict::None | Verdict::Unknown(Question::Host), _) => break visitor.no_entry(),
        }
    };
    Err(Farewell::LoginRefused(Denial::Rule, refusal))
}

/// Lets somebody else say who the caller is, by the method of the rule. What is about secrets that howdah knows is not
/// for here.
pub(super) async fn vouch(
    rule: &Rule,
    caller: &Caller<'_>,
    door: &mut Door,
    front: &Front,
    house: &House,
) -> Result<Learned, Farewell> {
    let settings = &house.config.settings;
    let limit = settings.auth_answer_timeout;
    let authorities = &front.authorities;
    match &rule.method {
        Method::Peer => {
            let known = who_is_peer(rule, caller, door, front, house).await;
            known.map_err(|doubt| refused("Peer", caller, &doubt, door))?;
            Ok(Learned::default())
        }
        Method::Pam(pam) => {
            let password = ask_for_password(caller, door).await?;
            let heard_at = Instant::now();
            let question = PamQuestion {
                service: pam
                    .service
                    .clone()
                    .unwrap_or_else(|| settings.auth_pam_service.clone()),
                user: caller.user.to_owned(),
                password: password.clone(),
                host: host_for_pam(pam, caller.origin, front, limit).await,
            };
            let answer = heard(authorities.ask_pam(question, limit), door).await?;
            if let Err(doubt) = answer {
                tokio::time::sleep_until(heard_at + REFUSAL_PAUSE).await;
                return Err(refused("PAM", caller, &doubt, door));
            }
            Ok(Learned::from_proof(Proof::Password(password), None))
        }
        Method::Ldap(ldap) => {
            let password = ask_for_password(caller, door).await?;
            let heard_at = Instant::now();
            let question = LdapQuestion {
                ldap,
                tls: house.access.ldap_tls.as_ref(),
                user: caller.user,
                password: &password,
            };
            let answer = heard(authorities.ask_ldap(question, limit), door).await?;
            if let Err(doubt) = answer {
                tokio::time::sleep_until(heard_at + REFUSAL_PAUSE).await;
                return Err(refused("LDAP", caller, &doubt, door));
            }
            Ok(Learned::from_proof(Proof::Password(password), None))
        }
        _ => Ok(Learned::default()),
    }
}

/// Whether the user of this machine at the other end of the socket may be the caller.
async fn who_is_peer(
    rule: &Rule,
    caller: &Caller<'_>,
    door: &Door,
    front: &Front,
    house: &House,
) -> Result<(), Doubt> {
    let Some(uid) = door.stream.peer_uid() else {
        let why = "the system tells who the peer is on local sockets only";
        return Err(Doubt::Refused(why.to_owned()));
    };
    let limit = house.config.settings.auth_answer_timeout;
    let name = front.authorities.user_name(uid, limit).await?;
    if house.access.maps.allow(rule.map.as_deref(), &name, caller.user) {
        Ok(())
    } else {
        Err(Doubt::Refused(mismatch(rule, caller, &name)))
    }
}

/// What a certificate has to do with it, beside the method: there must be one, before the client is asked for anything.
pub(super) fn check_presence(rule: &Rule, caller: &Caller<'_>) -> Result<(), Farewell> {
    if rule.certificate == Certificate::Any || caller.certificate.is_some() {
        return Ok(());
    }
    let message = "connection requires a valid client certificate";
    let refusal = Refusal::new(SqlState::INVALID_AUTHORIZATION, message);
    Err(Farewell::LoginRefused(Denial::Password, refusal))
}

/// Whether the name in the certificate is the user's, where the rule wants that, after the method has been content.
pub(super) fn check_name(
    rule: &Rule,
    caller: &Caller<'_>,
    door: &mut Door,
    house: &House,
) -> Result<(), Farewell> {
    let certificate = caller.certificate.as_ref();
    let Some(certificate) = certificate.filter(|_| rule.certificate == Certificate::Named) else {
        return Ok(());
    };
    let name = match rule.name_of {
        CertificateName::CommonName => certificate.common_name.as_deref().unwrap_or_default(),
        CertificateName::DistinguishedName => certificate.subject.as_str(),
    };
    let why = if name.is_empty() {
        "the client certificate contains no user name".to_owned()
    } else if house.access.maps.allow(rule.map.as_deref(), name, caller.user) {
        return Ok(());
    } else {
        mismatch(rule, caller, name)
    };
    let method = match &rule.method {
        Method::Cert => "certificate",
        Method::Trust => "\"trust\"",
        Method::Pam(_) => "PAM",
        Method::Ldap(_) => "LDAP",
        _ => "password",
    };
    let mut farewell = refused(method, caller, &Doubt::Refused(why), door);
    if let Farewell::LoginRefused(_, refusal) = &mut farewell
        && method == "password"
    {
        refusal.code = SqlState::INVALID_PASSWORD;
    }
    Err(farewell)
}

/// Why names do not match, for the log.
fn mismatch(rule: &Rule, caller: &Caller<'_>, name: &str) -> String {
    let user = caller.user;
    match &rule.map {
        Some(map) => format!("no match in usermap \"{map}\" for user \"{user}\" authenticated as \"{name}\""),
        None => format!("provided user name ({user}) and authenticated user name ({name}) do not match"),
    }
}

/// Asks for the password in clear. An empty one goes no further: LDAP servers take it for no password at all.
async fn ask_for_password(caller: &Caller<'_>, door: &mut Door) -> Result<Password, Farewell> {
    door.authentication(&AuthRequest::CleartextPassword.body());
    door.flush().await?;
    let answer = door.password_message().await?;
    let password = password_in(&answer)
        .map_err(|error| Farewell::LoginRefused(denial(&error), error.refusal(caller.user)))?;
    if password.reveal().is_empty() {
        let refusal = Refusal::new(SqlState::INVALID_PASSWORD, "empty password returned by client");
        return Err(Farewell::LoginRefused(Denial::Password, refusal));
    }
    Ok(password)
}

/// Waits for an answer for as long as the client is there.
async fn heard<T>(answer: impl Future<Output = T>, door: &mut Door) -> Result<T, Farewell> {
    tokio::select! {
        biased;
        answer = answer => Ok(answer),
        farewell = door.gone() => Err(farewell),
    }
}

/// What PAM is told of where the client is: nothing for a socket, where it is here.
async fn host_for_pam(pam: &Pam, origin: Origin, front: &Front, limit: Duration) -> Option<String> {
    let address = origin.address()?;
    if pam.use_hostname
        && let HostName::Is(name) = front.authorities.host_name(address, limit).await
    {
        return Some(name);
    }
    Some(address.to_string())
}

/// What a client is told for whom nobody vouches: PostgreSQL's words, and not why.
fn refused(method: &str, caller: &Caller<'_>, doubt: &Doubt, door: &mut Door) -> Farewell {
    let denial = match doubt {
        Doubt::Refused(_) => Denial::Password,
        Doubt::NoAnswer(_) => Denial::Lookup,
    };
    door.note = Some(doubt.to_string());
    let message = format!("{method} authentication failed for user \"{}\"", caller.user);
    Farewell::LoginRefused(denial, Refusal::new(SqlState::INVALID_AUTHORIZATION, message))
}
