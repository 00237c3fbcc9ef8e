//! The URL of a database.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::{Config, config::TargetSessionAttrs};

/// Where a database is, and whom it has to be. Not `Debug`: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// Where it is.
    pub connect: Config,
    /// How closely its certificate is looked at.
    pub verify: Verify,
    /// The PEM file of those who vouch for it, if it is not those that the system trusts.
    pub root_certificates: Option<PathBuf>,
}

/// How closely the certificate of a database is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    Nothing,
    /// Whether an authority vouches for it.
    Authority,
    /// That, and whether it is for the host that was named.
    Host,
}

impl DatabaseUrl {
    /// The URL as libpq writes it, with `sslmode` and `sslrootcert` as libpq understands them; see
    /// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>. On an error: what is wrong with it, without a
    /// word of it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const NONE: &str = "is no URL of PostgreSQL, such as postgres://user:password@host/database";
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut rest, mut mode, mut root_certificates) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", word)) => mode = Some(word),
                Some(("sslrootcert", path)) => {
                    let path = percent_decode_str(path).decode_utf8().map_err(|_| NONE)?;
                    root_certificates = Some(path.into_owned()).filter(|path| path != "system").map(PathBuf::from);
                }
                Some(_) | None => rest.push(pair),
            }
        }
        let vouched = if root_certificates.is_some() { Verify::Authority } else { Verify::Nothing };
        let (mode, verify) = match mode {
            None => (None, vouched),
            Some("disable") => (Some("disable"), Verify::Nothing),
            Some("prefer") => (Some("prefer"), Verify::Nothing),
            Some("require") => (Some("require"), vouched),
            Some("verify-ca") => (Some("require"), Verify::Authority),
            Some("verify-full") => (Some("require"), Verify::Host),
            Some(_) => {
                return Err("has an sslmode that is none of disable, prefer, require, verify-ca and verify-full");
            }
        };
        // Whoever names authorities wants them asked.
        let mode = mode.or((verify == Verify::Authority).then_some("require")).map(|mode| format!("sslmode={mode}"));
        rest.extend(mode.as_deref());
        let mut connect: Config = format!("{place}?{}", rest.join("&")).parse().map_err(|_| NONE)?;
        if connect.get_hosts().is_empty() {
            return Err("names no host");
        }
        match connect.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => {}
            // A standby tells what was, and takes nothing.
            TargetSessionAttrs::Any if connect.get_hosts().len() > 1 => {
                connect.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            TargetSessionAttrs::Any => {}
            TargetSessionAttrs::ReadOnly | _ => {
                return Err("has target_session_attrs that do not find the server which takes writes; leave them out");
            }
        }
        Ok(Self { connect, verify, root_certificates })
    }
}
