//! Sends links by e-mail, while whoever asked for the link waits: nothing is queued, so that no link lies anywhere in clear.

use std::path::PathBuf;
use std::time::Duration;

use bailiwick_api::users::Mail;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

/// One command of the conversation with the mail server takes at most this.
const COMMAND: Duration = Duration::from_secs(5);
/// The whole conversation takes at most this.
const WHOLE: Duration = Duration::from_secs(8);
/// Most characters of a mail server's own words that are passed on.
const WORDS_MAX: usize = 200;

/// Where mail is handed in: `smtp.…` of the configuration.
#[derive(Debug, Clone)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// A PEM file of a certificate authority to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub from: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS is asked for after the greeting, and must be had.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None: on loopback alone.
    None,
}

pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    server: String,
}

impl Mailer {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn new(smtp: &Smtp) -> Result<Mailer, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|why| format!("cannot read {}: {why}", path.display()));
        let parameters = || {
            let mut builder = TlsParameters::builder(smtp.host.clone());
            if let Some(path) = &smtp.ca_file {
                let authority = Certificate::from_pem(&read(path)?);
                builder = builder.add_root_certificate(authority.map_err(|why| format!("smtp.ca_file: {why}"))?);
            }
            builder.build_rustls().map_err(|why| format!("smtp.tls: {why}"))
        };
        let tls = match smtp.security {
            Security::StartTls => Tls::Required(parameters()?),
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
            .port(smtp.port)
            .timeout(Some(COMMAND))
            .tls(tls);
        if let (Some(user), Some(path)) = (&smtp.user, &smtp.password_file) {
            let password = String::from_utf8(read(path)?).map_err(|_| format!("{} is not text", path.display()))?;
            transport = transport.credentials(Credentials::new(user.clone(), password.trim_end().to_owned()));
        }
        Ok(Mailer {
            transport: transport.build(),
            from: smtp.from.parse().map_err(|why| format!("smtp.from: {why}"))?,
            server: format!("{}:{}", smtp.host, smtp.port),
        })
    }

    /// Sends a link, and says what became of it. The mail is plain text; its head holds no word that a user chose but the address, which has been checked.
    pub async fn send_link(&self, to: &str, text: String) -> Mail {
        let why = match self.message(to, text) {
            Err(why) => Some(why),
            Ok(message) => {
                // Beside the request: it is sent even if whoever asked for it hangs up.
                let transport = self.transport.clone();
                let sending = tokio::spawn(tokio::time::timeout(
                    WHOLE,
                    async move { transport.send(message).await },
                ));
                match sending.await {
                    Ok(Ok(Ok(_))) => None,
                    Ok(Ok(Err(why))) => Some(self.words(&why)),
                    Ok(Err(_)) => Some(self.silent()),
                    Err(why) => Some(why.to_string()),
                }
            }
        };
        if let Some(why) = &why {
            tracing::warn!("a link could not be sent by e-mail: {why}");
        }
        Mail {
            to: to.to_owned(),
            sent: why.is_none(),
            why,
        }
    }

    fn message(&self, to: &str, text: String) -> Result<Message, String> {
        let to = to.parse().map_err(|why| format!("the address cannot be used: {why}"))?;
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject("Your link to sign in to Bailiwick")
            .header(lettre::message::header::MIME_VERSION_1_0)
            .message_id(None)
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|why| why.to_string())
    }

    fn silent(&self) -> String {
        format!("the mail server {} did not answer in time", self.server)
    }

    fn words(&self, why: &lettre::transport::smtp::Error) -> String {
        let mut text = why.to_string();
        let mut source = std::error::Error::source(why);
        while let Some(inner) = source {
            if !text.contains(&inner.to_string()) {
                text = format!("{text}: {inner}");
            }
            source = inner.source();
        }
        let text: String = text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        let server = &self.server;
        match why.status().map(|code| code.to_string()).as_deref() {
            Some("530" | "534" | "535" | "538") => {
                format!("the mail server {server} refused the sign-in with smtp.user and its password")
            }
            Some(_) => format!("the mail server {server} refused it: {text}"),
            None if why.is_timeout() => self.silent(),
            // A certificate that is not trusted comes as a fault of the connection.
            None if why.is_tls() || text.contains("certificate") => {
                format!("there is no secure connection to the mail server {server}: {text}")
            }
            None => format!("the mail server {server} cannot be talked to: {text}"),
        }
    }
}
