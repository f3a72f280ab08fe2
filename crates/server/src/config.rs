//! Configuration: flags > environment (`ML_…`) > TOML file > defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bailiwick_api::agents::OnLostAgent;
use bailiwick_api::names::{check_email, nearest};
use bailiwick_api::server::AccessMode;
use bailiwick_api::time::{lifetime_words, parse_duration_ms};
use toml::{Table, Value};

use crate::ServeFlags;
use crate::mail::{Security, Smtp};

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct Config {
    pub data: PathBuf,
    pub listen: String,
    pub database: String,
    pub admin_password_file: Option<PathBuf>,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub behind_proxy: bool,
    pub agent: Option<BuiltInAgent>,
    pub public_url: Option<String>,
    pub access: AccessMode,
    pub lease_ms: i64,
    pub on_lost_agent: OnLostAgent,
    pub max_code_bytes: u64,
    pub log_bytes_max: i64,
    pub session_ms: i64,
    /// What whoever makes a workspace holds on it, if anything.
    pub workspace_creator_role: Option<String>,
    pub metrics_open: bool,
    /// The keys that seal vaults; never in the database.
    pub vault_key_file: PathBuf,
    /// Whom to ask for an account or a new link, as the page to sign in says it.
    pub contact: Option<String>,
    /// How many users may be active or pending at once; any number where it is left out.
    pub seats: Option<i64>,
    /// Where mail is handed in; none is sent where it is left out.
    pub smtp: Option<Smtp>,
    /// Adds a route without checks, for measuring; no setting turns it on.
    #[cfg(feature = "bench")]
    pub unchecked_twin: bool,
}

/// How the server starts its own agent.
#[derive(Debug, Clone, Default)]
pub struct BuiltInAgent {
    pub slots: Option<i64>,
    pub gpus: Option<String>,
    pub isolate: Option<String>,
    pub job_env: BTreeMap<String, String>,
}

/// Every setting: its key in the TOML file. The environment variable is `ML_` and the key in capitals, dots as `_`.
const KEYS: &[&str] = &[
    "data",
    "listen",
    "database",
    "admin_password_file",
    "tls_cert",
    "tls_key",
    "behind_proxy",
    "no_agent",
    "public_url",
    "security.access",
    "security.off_beyond_loopback",
    "lease_time",
    "on_lost_agent",
    "max_code_bytes",
    "log_bytes_max",
    "session_time",
    "workspace_creator_role",
    "metrics_open",
    "contact",
    "vault_key_file",
    "seats",
    "smtp.host",
    "smtp.port",
    "smtp.tls",
    "smtp.ca_file",
    "smtp.user",
    "smtp.password_file",
    "smtp.from",
    "agent.slots",
    "agent.gpus",
    "agent.isolate",
];
const JOB_ENV: &str = "agent.job_env.";

impl Config {
    /// Puts the four sources together.
    pub fn load(flags: &ServeFlags, env: impl Fn(&str) -> Option<String>) -> Result<Config, String> {
        let mut settings: BTreeMap<String, Value> = BTreeMap::new();
        let file = flags
            .config
            .clone()
            .or_else(|| env("ML_CONFIG_FILE").map(PathBuf::from));
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
            let table: Table = text.parse().map_err(|why| format!("{}: {why}", path.display()))?;
            flatten(&table, "", &mut settings).map_err(|why| format!("{}: {why}", path.display()))?;
        }
        for key in KEYS {
            let variable = format!("ML_{}", key.to_uppercase().replace('.', "_"));
            if let Some(text) = env(&variable) {
                settings.insert((*key).to_owned(), typed(&text));
            }
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let flag = |on: bool| on.then(|| "true".to_owned());
        let given = [
            ("data", path(&flags.data)),
            ("listen", flags.listen.clone()),
            ("database", flags.database.clone()),
            ("admin_password_file", path(&flags.admin_password_file)),
            ("tls_cert", path(&flags.tls_cert)),
            ("tls_key", path(&flags.tls_key)),
            ("behind_proxy", flag(flags.behind_proxy)),
            ("no_agent", flag(flags.no_agent)),
            ("public_url", flags.public_url.clone()),
            ("security.access", flags.access.clone()),
            ("lease_time", flags.lease_time.clone()),
            ("seats", flags.seats.map(|seats| seats.to_string())),
        ];
        for (key, text) in given {
            if let Some(text) = text {
                settings.insert(key.to_owned(), typed(&text));
            }
        }
        for assignment in &flags.set {
            let (key, text) = assignment
                .split_once('=')
                .ok_or_else(|| format!("--set {assignment}: write it as key=value"))?;
            check_key(key)?;
            settings.insert(key.to_owned(), typed(text));
        }
        Config::build(&settings)
    }

    fn build(settings: &BTreeMap<String, Value>) -> Result<Config, String> {
        let text = |key: &str| {
            settings.get(key).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let yes = |key: &str| match settings.get(key) {
            None => Ok(false),
            Some(Value::Boolean(yes)) => Ok(*yes),
            Some(Value::Integer(number @ (0 | 1))) => Ok(*number == 1),
            Some(other) => Err(format!("{key} is {other}, not true or false")),
        };
        let number = |key: &str, default: i64, least: i64| match settings.get(key) {
            None => Ok(default),
            Some(Value::Integer(number)) if *number >= least => Ok(*number),
            Some(other) => Err(format!("{key} is {other}; it is a whole number of at least {least}")),
        };
        let duration = |key: &str, default: i64, least: i64| match text(key) {
            None => Ok(default),
            Some(text) => match parse_duration_ms(&text) {
                Ok(ms) if ms >= least => Ok(ms),
                Ok(_) => Err(format!("{key} is shorter than {}", lifetime_words(least))),
                Err(why) => Err(format!("{key}: {why}")),
            },
        };
        let data = PathBuf::from(text("data").unwrap_or_else(|| "bailiwick-data".into()));
        let access = match text("security.access").as_deref() {
            None | Some("rbac") => AccessMode::Rbac,
            Some("basic") => AccessMode::Basic,
            Some("shadow") => AccessMode::Shadow,
            Some("off") => AccessMode::Off,
            Some(other) => {
                return Err(format!(
                    "security.access is `{other}`; it is off, basic, shadow or rbac"
                ));
            }
        };
        let listen = text("listen").unwrap_or_else(|| "127.0.0.1:8080".into());
        let tls = match (text("tls_cert"), text("tls_key")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return Err("tls_cert and tls_key belong together: give both or neither".into()),
        };
        let behind_proxy = yes("behind_proxy")?;
        if listen
            .rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(format!(
                "listen is `{listen}`; write it as ADDRESS:PORT, such as 127.0.0.1:8080"
            ));
        }
        let beyond = !is_loopback(&listen);
        if beyond && tls.is_none() && !behind_proxy {
            return Err(format!(
                "refusing to listen on {listen} without TLS: passwords and keys would cross the network in the clear\n\nhint: give --tls-cert and --tls-key, or --behind-proxy if a proxy in front does TLS, or listen on 127.0.0.1"
            ));
        }
        if beyond && access == AccessMode::Off && !yes("security.off_beyond_loopback")? {
            return Err(format!(
                "refusing to listen on {listen} with access control switched off: whoever reaches it could do everything\n\nhint: listen on 127.0.0.1, or force it with --set security.off_beyond_loopback=true"
            ));
        }
        let job_env = settings
            .iter()
            .filter_map(|(key, value)| {
                Some((
                    key.strip_prefix(JOB_ENV)?.to_owned(),
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                ))
            })
            .collect();
        // What the agent would refuse is refused here: it would be started again and again.
        if let Some(isolate) =
            text("agent.isolate").filter(|isolate| !["auto", "require", "none"].contains(&isolate.as_str()))
        {
            return Err(format!("agent.isolate is `{isolate}`; it is auto, require or none"));
        }
        if let Some(gpus) =
            text("agent.gpus").filter(|gpus| gpus.split(',').any(|index| index.trim().parse::<u32>().is_err()))
        {
            return Err(format!(
                "agent.gpus is `{gpus}`; it is a list of GPU numbers such as 0,1"
            ));
        }
        if let Some(url) = text("public_url").filter(|url| !(url.starts_with("http://") || url.starts_with("https://")))
        {
            return Err(format!("public_url is `{url}`; it begins with http:// or https://"));
        }
        let smtp = match text("smtp.host") {
            None => match settings.keys().find(|key| key.starts_with("smtp.")) {
                Some(key) => return Err(format!("{key} is set, but not smtp.host: which mail server is meant?")),
                None => None,
            },
            Some(host) => {
                let (security, usual) = match text("smtp.tls").as_deref() {
                    None | Some("starttls") => (Security::StartTls, 587),
                    Some("tls") => (Security::Tls, 465),
                    Some("none") if is_loopback(&format!("{host}:25")) => (Security::None, 25),
                    Some("none") => {
                        return Err(format!(
                            "refusing to send mail to {host} without TLS: links would cross the network in the clear\n\nhint: set smtp.tls to starttls or tls; none is for a mail server on loopback"
                        ));
                    }
                    Some(other) => return Err(format!("smtp.tls is `{other}`; it is starttls, tls or none")),
                };
                let port = number("smtp.port", usual, 1)?;
                let (user, password_file) = (text("smtp.user"), text("smtp.password_file").map(PathBuf::from));
                if user.is_some() != password_file.is_some() {
                    return Err("smtp.user and smtp.password_file belong together: give both or neither".into());
                }
                let from =
                    text("smtp.from").ok_or("smtp.from is not set: whose address do mails bear as their sender?")?;
                check_email(&from).map_err(|why| format!("smtp.from: {why}"))?;
                Some(Smtp {
                    port: u16::try_from(port).map_err(|_| format!("smtp.port is {port}; it is at most 65535"))?,
                    host,
                    security,
                    ca_file: text("smtp.ca_file").map(PathBuf::from),
                    user,
                    password_file,
                    from,
                })
            }
        };
        let vault_key_file = text("vault_key_file").map_or_else(|| data.join("vault.keys"), PathBuf::from);
        let agent = BuiltInAgent {
            slots: settings
                .contains_key("agent.slots")
                .then(|| number("agent.slots", 1, 0))
                .transpose()?,
            gpus: text("agent.gpus"),
            isolate: text("agent.isolate"),
            job_env,
        };
        Ok(Config {
            database: text("database").unwrap_or_else(|| format!("sqlite:{}", data.join("bailiwick.db").display())),
            data,
            listen,
            admin_password_file: text("admin_password_file").map(PathBuf::from),
            tls,
            behind_proxy,
            agent: (!yes("no_agent")?).then_some(agent),
            public_url: text("public_url"),
            access,
            lease_ms: duration("lease_time", 300_000, 1000)?,
            on_lost_agent: match text("on_lost_agent").as_deref() {
                None | Some("requeue") => OnLostAgent::Requeue,
                Some("fail") => OnLostAgent::Fail,
                Some(other) => return Err(format!("on_lost_agent is `{other}`; it is requeue or fail")),
            },
            max_code_bytes: number("max_code_bytes", 100 * 1024 * 1024, 1024)? as u64,
            log_bytes_max: number("log_bytes_max", 100 * 1024 * 1024, 64 * 1024)?,
            session_ms: duration("session_time", 7 * 86_400_000, 60_000)?,
            workspace_creator_role: Some(text("workspace_creator_role").unwrap_or_else(|| "WorkspaceAdmin".into()))
                .filter(|role| role != "none"),
            metrics_open: yes("metrics_open")?,
            vault_key_file,
            contact: text("contact").filter(|contact| !contact.trim().is_empty()),
            seats: settings
                .contains_key("seats")
                .then(|| number("seats", 1, 1))
                .transpose()?,
            smtp,
            #[cfg(feature = "bench")]
            unchecked_twin: false,
        })
    }
}

fn is_loopback(listen: &str) -> bool {
    let host = listen
        .rsplit_once(':')
        .map_or(listen, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn flatten(table: &Table, path: &str, settings: &mut BTreeMap<String, Value>) -> Result<(), String> {
    for (key, value) in table {
        let key = format!("{path}{key}");
        match value {
            Value::Table(inner) => flatten(inner, &format!("{key}."), settings)?,
            other => {
                check_key(&key)?;
                settings.insert(key, other.clone());
            }
        }
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    if KEYS.contains(&key) || key.strip_prefix(JOB_ENV).is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    let meant = nearest(key, KEYS.iter().copied()).map(|meant| format!("; did you mean `{meant}`?"));
    Err(format!(
        "unknown setting `{key}`{}",
        meant.unwrap_or_else(|| format!("; known: {}", KEYS.join(", ")))
    ))
}

/// Text from a flag or the environment, typed as the file would type it.
fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => text
            .parse::<i64>()
            .map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: ServeFlags, env: &[(&str, &str)]) -> Result<Config, String> {
        Config::load(&flags, |name| {
            env.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ml.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nlease_time = \"10s\"\ndata = \"/from/file\"\n[security]\naccess = \"basic\"\n[agent.job_env]\nPATH = \"/x\"\n").unwrap();
        let flags = ServeFlags {
            config: Some(path),
            listen: Some("127.0.0.1:3".into()),
            ..ServeFlags::default()
        };
        let config = load(flags, &[("ML_LISTEN", "127.0.0.1:2"), ("ML_LEASE_TIME", "20s")]).unwrap();
        assert_eq!(
            (config.listen.as_str(), config.lease_ms, config.access),
            ("127.0.0.1:3", 20_000, AccessMode::Basic)
        );
        assert_eq!(config.database, "sqlite:/from/file/bailiwick.db");
        assert_eq!(config.agent.unwrap().job_env["PATH"], "/x");
    }

    #[test]
    fn it_does_not_listen_to_the_network_without_tls_or_access_control() {
        let listen = |listen: &str| ServeFlags {
            listen: Some(listen.into()),
            ..ServeFlags::default()
        };
        assert!(load(listen("0.0.0.0:80"), &[]).unwrap_err().contains("without TLS"));
        assert!(load(listen("[::1]:80"), &[]).is_ok());
        let proxied = ServeFlags {
            behind_proxy: true,
            ..listen("0.0.0.0:80")
        };
        assert!(load(proxied.clone(), &[]).is_ok());
        let off = ServeFlags {
            access: Some("off".into()),
            ..proxied
        };
        assert!(load(off, &[]).unwrap_err().contains("access control switched off"));
    }

    #[test]
    fn a_mail_server_is_set_whole_and_without_tls_on_loopback_alone() {
        let set = |set: &[&str]| {
            let set = set.iter().map(|one| (*one).to_owned()).collect();
            let flags = ServeFlags {
                set,
                ..ServeFlags::default()
            };
            load(flags, &[]).map(|config| config.smtp)
        };
        assert!(set(&[]).unwrap().is_none());
        assert!(set(&["smtp.user=ml"]).unwrap_err().contains("not smtp.host"));
        let host = "smtp.host=mail.example.org";
        assert!(set(&[host]).unwrap_err().contains("smtp.from is not set"));
        let from = "smtp.from=ml@example.org";
        let usual = set(&[host, from]).unwrap().unwrap();
        assert_eq!((usual.port, usual.security), (587, Security::StartTls));
        let open = set(&[host, from, "smtp.tls=none"]).unwrap_err();
        assert!(
            open.contains("refusing to send mail to mail.example.org without TLS"),
            "{open}"
        );
        assert_eq!(
            set(&["smtp.host=127.0.0.1", from, "smtp.tls=none"])
                .unwrap()
                .unwrap()
                .port,
            25
        );
        assert!(
            set(&[host, from, "smtp.user=ml"])
                .unwrap_err()
                .contains("belong together")
        );
        assert!(
            set(&[host, "smtp.from=no address"])
                .unwrap_err()
                .contains("is not an e-mail address")
        );
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_an_error_and_never_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ml.toml");
        let from_file = || {
            let flags = ServeFlags {
                config: Some(path.clone()),
                ..ServeFlags::default()
            };
            load(flags, &[]).unwrap_err()
        };
        assert!(from_file().contains("cannot read"), "a file that is not there");
        let named = path.display().to_string();
        let by_variable = load(ServeFlags::default(), &[("ML_CONFIG_FILE", &named)]).unwrap_err();
        assert!(by_variable.contains("cannot read"), "{by_variable}");
        for (text, why) in [
            ("[security\naccess = \"rbac\"", "ml.toml"),
            ("[security]\naccess = \"rabc\"", "security.access is `rabc`"),
            ("[security]\naccess = \"\"", "security.access is ``"),
            ("[security]\nacess = \"rbac\"", "unknown setting `security.acess`"),
            ("security = \"rbac\"", "unknown setting `security`"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(from_file().contains(why), "{text}: {}", from_file());
        }
    }

    #[test]
    fn a_mistyped_setting_is_named() {
        let set = |set: &str| ServeFlags {
            set: vec![set.into()],
            ..ServeFlags::default()
        };
        assert_eq!(
            load(set("lease_tme=3s"), &[]).unwrap_err(),
            "unknown setting `lease_tme`; did you mean `lease_time`?"
        );
        assert!(
            load(set("lease_time=soon"), &[])
                .unwrap_err()
                .contains("not a duration")
        );
        assert!(
            load(set("behind_proxy=maybe"), &[])
                .unwrap_err()
                .contains("not true or false")
        );
    }
}
