//! The route table: method, path, what it is for, handler. Who may come stands in each handler's first argument.

use crate::access::Routes;
use crate::pages;

mod agents;
mod assignments;
mod audit;
mod code;
mod experiments;
mod logs;
mod roles;
mod server;
mod tokens;
mod users;

#[cfg(feature = "bench")]
pub(crate) use experiments::show as show_experiment;
pub(crate) use users::{link_view, secret, use_link};

pub fn table() -> Routes {
    let mut r = Routes::default();

    // Open to anyone: says only that the process lives, or describes the same interface that every installation has.
    r.get("/healthz", "whether the process lives", server::health);
    r.get("/readyz", "whether it can serve: the database answers", server::ready);
    r.get("/openapi.json", "this description", server::openapi);
    r.get("/docs/api", "this description as a page", server::docs);
    r.get("/metrics", "counters for Prometheus", server::metrics);
    r.get("/api/v1/info", "what one may know before signing in", server::info);

    r.get(
        "/activate",
        "page for an activation or sign-in link",
        pages::activate::show,
    );
    r.post(
        "/activate",
        "use an activation link from the page",
        pages::activate::submit,
    );
    r.get(
        "/static/activate.js",
        "fills the link's token into the page's form",
        pages::activate::script,
    );
    r.get("/static/plain.css", "style of the pages", pages::activate::style);
    r.post("/api/v1/login", "sign in with a password", users::login);
    r.post(
        "/api/v1/login/link",
        "sign in with a one-time link",
        users::login_with_link,
    );

    r.post("/api/v1/logout", "end the session", users::logout);
    r.get("/api/v1/me", "who one is and what one sees", users::me);
    r.get("/api/v1/users", "list users", users::list);
    r.post("/api/v1/users", "make a user", users::create);
    r.get("/api/v1/users/{user}", "show a user", users::show);
    r.delete(
        "/api/v1/users/{user}",
        "remove a user; what the user made stays",
        users::remove,
    );
    r.post(
        "/api/v1/users/{user}/deactivate",
        "deactivate a user",
        users::deactivate,
    );
    r.post(
        "/api/v1/users/{user}/activate",
        "activate a deactivated user",
        users::activate,
    );
    r.post(
        "/api/v1/users/{user}/link",
        "make a new one-time link for a user",
        users::link,
    );
    r.post(
        "/api/v1/users/{user}/password",
        "set a password",
        users::change_password,
    );
    r.get(
        "/api/v1/service-accounts",
        "list service accounts",
        users::list_service_accounts,
    );
    r.post(
        "/api/v1/service-accounts",
        "make a service account with its first key",
        users::create_service_account,
    );
    r.delete(
        "/api/v1/service-accounts/{user}",
        "remove a service account",
        users::remove_service_account,
    );
    r.get("/api/v1/roles", "list roles", roles::list);
    r.post("/api/v1/roles", "make a role", roles::create);
    r.get("/api/v1/roles/{role}", "show a role, and who holds it", roles::show);
    r.patch("/api/v1/roles/{role}", "change a role of one's own making", roles::update);
    r.delete("/api/v1/roles/{role}", "delete a role of one's own making", roles::delete);
    r.get("/api/v1/assignments", "list role assignments", assignments::list);
    r.post("/api/v1/assignments", "assign roles, all or none", assignments::give);
    r.post(
        "/api/v1/assignments/remove",
        "take roles away, all or none",
        assignments::take,
    );
    r.patch(
        "/api/v1/assignments/{assignment}",
        "give an assignment another role or end",
        assignments::change,
    );
    r.delete(
        "/api/v1/assignments/{assignment}",
        "take a role assignment away",
        assignments::take_by_id,
    );

    r.get("/api/v1/tokens", "list API keys", tokens::list);
    r.post("/api/v1/tokens", "make an API key", tokens::create);
    r.delete("/api/v1/tokens/{token}", "revoke an API key or session", tokens::revoke);

    r.head(
        "/api/v1/code/{sha256}",
        "whether one has sent this code before",
        code::was_sent,
    );
    r.put("/api/v1/code/{sha256}", "send a code archive (.tar.gz)", code::send);
    r.get(
        "/api/v1/experiments",
        "list experiments, newest first",
        experiments::list,
    );
    r.post("/api/v1/experiments", "submit an experiment", experiments::create);
    r.get(
        "/api/v1/experiments/{experiment}",
        "show an experiment",
        experiments::show,
    );
    r.post(
        "/api/v1/experiments/{experiment}/cancel",
        "stop an experiment, letting it save",
        experiments::cancel,
    );
    r.post(
        "/api/v1/experiments/{experiment}/kill",
        "stop an experiment at once",
        experiments::kill,
    );
    r.get(
        "/api/v1/experiments/{experiment}/code",
        "the code as submitted",
        experiments::code,
    );
    r.get(
        "/api/v1/experiments/{experiment}/logs",
        "a piece of the log",
        logs::read,
    );
    r.get(
        "/api/v1/experiments/{experiment}/logs/stream",
        "follow the log",
        logs::stream,
    );

    r.get("/api/v1/queues", "list queues", agents::queues);
    r.get("/api/v1/agents", "list agents", agents::list);
    r.post("/api/v1/agents", "make an agent known", agents::register);
    r.post(
        "/api/v1/agents/{agent}/poll",
        "renew leases and wait for work",
        agents::poll,
    );
    r.get(
        "/api/v1/agents/{agent}/jobs/{job}/code",
        "the code of a held job",
        agents::code,
    );
    r.post(
        "/api/v1/agents/{agent}/jobs/{job}/report",
        "say what happened to a held job",
        agents::report,
    );
    r.post(
        "/api/v1/agents/{agent}/jobs/{job}/logs",
        "append to the log of a held job",
        agents::logs,
    );

    r.get("/api/v1/audit", "list audit events, newest first", audit::list);
    r.get("/api/v1/audit/export", "all audit events, oldest first", audit::export);
    r.post("/api/v1/audit/verify", "check the chain over the audit", audit::verify);
    r
}
