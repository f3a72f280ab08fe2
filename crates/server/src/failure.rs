//! The one error of the HTTP side. What the caller reads and what the operator reads stand in different fields and cannot swap.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bailiwick_api::{ErrorBody, ErrorEnvelope, Permission};
use bailiwick_store::StoreError;
use bailiwick_store::access::Refusal;

#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// For the server's log alone.
    pub cause: Option<String>,
    pub retry_after_s: Option<u64>,
    /// The right that was missing, for pages that say whom to ask.
    pub lacks: Option<Box<Lacks>>,
}

/// A permission, and where, as one types it.
#[derive(Debug, Clone)]
pub struct Lacks {
    pub permission: Permission,
    pub on: String,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            status,
            code,
            message: message.into(),
            hint: None,
            cause: None,
            retry_after_s: None,
            lacks: None,
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub fn not_found(what: &str, which: impl std::fmt::Display) -> Failure {
        Failure::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {what} `{which}`"),
        )
        .hint("it may have another name, or be one that you may not see; an administrator can tell")
    }

    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub fn malformed(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, code, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn too_large(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub fn lease_lost() -> Failure {
        Failure::conflict(
            "lease_lost",
            "this agent does not hold the job under that fencing number (any more)",
        )
    }

    /// Seed 000's words.
    pub fn invalid_key() -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Invalid API key")
            .hint("it may be mistyped, revoked or past its time; sign in with `ml login NAME`, or make a new key with `ml token create`")
    }

    pub fn not_signed_in() -> Failure {
        Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Invalid API key: none was sent",
        )
        .hint("sign in with `ml login NAME`, or put a key under [worker] api_key in ~/.ml/config.toml")
    }

    pub fn wrong_password() -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", "wrong name or password")
    }

    pub fn too_many_attempts(wait_s: u64) -> Failure {
        let message = format!("too many failed attempts to sign in; the next one counts in {wait_s} s");
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message);
        Failure {
            retry_after_s: Some(wait_s),
            ..failure
        }
    }

    pub fn unavailable(cause: impl Into<String>) -> Failure {
        let message = "the server cannot write or read its data at the moment; nothing was changed";
        let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .hint("try again in a moment; the operator finds the cause (a full disk, a lost database) in the server's log under the request id");
        Failure {
            cause: Some(cause.into()),
            retry_after_s: Some(2),
            ..failure
        }
    }

    /// Something sealed that cannot be opened now; the words name no secret.
    pub fn sealed(words: impl Into<String>) -> Failure {
        let words = words.into();
        let failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "sealed", words.clone())
            .hint("nothing was changed; the operator finds what to do in docs/vaults.md");
        Failure {
            cause: Some(words),
            ..failure
        }
    }

    pub fn internal(cause: impl Into<String>) -> Failure {
        let failure = Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed on this request; this is a fault of ours",
        )
        .hint("the operator finds the cause in the server's log under the request id");
        Failure {
            cause: Some(cause.into()),
            ..failure
        }
    }

    /// The answer, and a line in the log where the operator has to know.
    pub fn respond(self, request_id: &str) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(request_id, status = self.status.as_u16(), cause, "request failed");
        }
        let error = ErrorBody {
            code: self.code.into(),
            message: self.message,
            hint: self.hint,
            request_id: request_id.into(),
        };
        let mut response = (self.status, axum::Json(ErrorEnvelope { error })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"bailiwick\""),
            );
        }
        response
    }
}

impl Failure {
    /// The answer with nothing but the words in its body, as AuthZEN has it.
    pub fn respond_in_words(self, request_id: &str) -> Response {
        let words = self.message.clone();
        let mut response = self.respond(request_id);
        *response.body_mut() = words.into();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotSignedIn { given: true } => Failure::invalid_key(),
            Refusal::NotSignedIn { given: false } => Failure::not_signed_in(),
            Refusal::NotFound { what, which } => Failure::not_found(what, which),
            Refusal::Forbidden {
                who,
                permission,
                place,
                on,
                question,
                ask,
                why: special,
            } => {
                let why = format!("`ml access explain {question}` says why, and who could give it");
                let ask = ask.map(|ask| format!("; `{ask}` asks for it"));
                let failure =
                    Failure::forbidden(format!("Insufficient permissions: {who} needs {permission} on {place}"));
                // Where something else than a right is the matter, its words say what to do.
                let lacks = special.is_none().then(|| Box::new(Lacks { permission, on }));
                let hint = special.unwrap_or_else(|| format!("{why}{}", ask.unwrap_or_default()));
                Failure { lacks, ..failure }.hint(hint)
            }
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => Failure::unavailable(cause),
            StoreError::Sealed(words) => Failure::sealed(words),
            // What may conflict is caught where it may; here it was not expected.
            StoreError::Conflict(cause) | StoreError::Broken(cause) => Failure::internal(cause),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::unavailable(error.to_string())
    }
}
