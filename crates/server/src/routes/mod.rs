//! The route table: method, path, what it is for, handler. Who may come stands in each handler's first argument.

use crate::access::Routes;
use crate::pages;

pub(crate) mod access;
pub(crate) mod agents;
pub(crate) mod assignments;
pub(crate) mod audit;
pub(crate) mod authzen;
pub(crate) mod code;
pub(crate) mod document;
pub(crate) mod experiments;
pub(crate) mod groups;
pub(crate) mod logs;
pub(crate) mod models;
pub(crate) mod projects;
pub(crate) mod queues;
pub(crate) mod requests;
pub(crate) mod roles;
pub(crate) mod server;
pub(crate) mod service_accounts;
pub(crate) mod stacks;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod vaults;
pub(crate) mod workspaces;

#[cfg(feature = "bench")]
pub(crate) use experiments::show as show_experiment;
pub(crate) use users::{link_view, secret, use_link};

pub fn table() -> Routes {
    let mut r = Routes::default();

    // Open to anyone: says only that the process lives, or describes the same interface that every installation has.
    r.get("/healthz", "whether the process lives", server::health);
    r.get("/readyz", "whether it can serve: the database answers", server::ready);
    r.get("/openapi.json", "this description", server::openapi);
    r.get("/docs/api", "page of this description", server::docs);
    r.get("/metrics", "counters for Prometheus", server::metrics);
    r.get("/api/v1/info", "what one may know before signing in", server::info);

    r.get("/", "page of experiments", pages::work::show);
    r.post(
        "/experiments",
        "cancel or archive the experiments that are ticked",
        pages::work::act,
    );
    r.get("/sign-in", "page to sign in", pages::session::show);
    r.post("/sign-in", "sign in from the page", pages::session::sign_in);
    r.post("/sign-out", "sign out from the page", pages::session::sign_out);
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
        "/static/{file}",
        "style, scripts and pictures of the pages",
        pages::assets::file,
    );

    r.get("/access", "page of who may do what, and why", pages::explorer::show);
    r.get(
        "/access/shadow",
        "page of what mode rbac would decide differently",
        pages::explorer::shadow,
    );
    r.post(
        "/access/shadow",
        "forget the differences from the page",
        pages::explorer::change_shadow,
    );
    r.get(
        "/access/requests",
        "page of requests for access",
        pages::explorer::requests,
    );
    r.post(
        "/access/requests",
        "ask, decide or break the glass from the page",
        pages::explorer::change_requests,
    );
    r.get("/audit", "page of the audit", pages::audit::show);
    r.post("/audit", "verify the audit from the page", pages::audit::verify);
    r.get(
        "/audit/export.ndjson",
        "audit events, oldest first, for a browser",
        audit::export,
    );
    r.get("/stacks", "page of stacks", pages::stacks::list);
    r.get("/stacks/new", "page of a new stack", pages::stacks::new);
    r.post("/stacks/new", "make a stack from the page", pages::stacks::create);
    r.get("/stacks/{stack}", "page of a stack", pages::stacks::show);
    r.post(
        "/stacks/{stack}",
        "change or share a stack from the page",
        pages::stacks::act,
    );
    r.get("/models", "page of models", pages::models::list);
    r.get("/models/new", "page of a new model", pages::models::new);
    r.post("/models/new", "make a model from the page", pages::models::create);
    r.get(
        "/models/{model}",
        "page of a model and its versions",
        pages::models::show,
    );
    r.post(
        "/models/{model}",
        "change, move or share a model from the page",
        pages::models::act,
    );
    r.get("/vaults", "page of vaults", pages::vaults::list);
    r.get("/vaults/new", "page of a new vault", pages::vaults::new);
    r.post("/vaults/new", "make a vault from the page", pages::vaults::create);
    r.get("/vaults/{vault}", "page of a vault", pages::vaults::show);
    r.post("/vaults/{vault}", "change a vault from the page", pages::vaults::act);
    r.get("/queues", "page of queues and agents", pages::agents::show);
    r.get("/queues/new", "page of a new queue", pages::queues::new);
    r.post("/queues/new", "make a queue from the page", pages::queues::create);
    r.get("/queues/{queue}", "page of a queue", pages::queues::show);
    r.post("/queues/{queue}", "change a queue from the page", pages::queues::act);
    r.get("/agents/{agent}", "page of an agent", pages::agents::one);
    r.post(
        "/agents/{agent}",
        "enable, drain or disable an agent from the page",
        pages::agents::act,
    );
    r.get("/settings", "page of one's profile and rights", pages::settings::show);
    r.post(
        "/settings",
        "change one's name or password from the page",
        pages::settings::change,
    );
    r.get("/settings/tokens", "page of one's API keys", pages::settings::tokens);
    r.post(
        "/settings/tokens",
        "make or revoke a key from the page",
        pages::settings::change_tokens,
    );
    r.get(
        "/settings/sessions",
        "page of one's sessions",
        pages::settings::sessions,
    );
    r.post(
        "/settings/sessions",
        "end a session from the page",
        pages::settings::change_sessions,
    );

    r.get(
        "/experiments/{experiment}",
        "page of an experiment",
        pages::experiment::show,
    );
    r.post(
        "/experiments/{experiment}",
        "stop, delete, move or share from the page",
        pages::experiment::act,
    );
    r.get(
        "/experiments/{experiment}/again",
        "page to run it again with changes",
        pages::experiment::again,
    );
    r.post(
        "/experiments/{experiment}/again",
        "run it again from the page",
        pages::experiment::run_again,
    );
    r.get(
        "/experiments/{experiment}/code",
        "page of the code as submitted",
        pages::code::show,
    );
    r.get(
        "/experiments/{experiment}/code.tar.gz",
        "the code as submitted, for a browser",
        experiments::code,
    );
    r.get(
        "/experiments/{experiment}/log",
        "page of the log",
        pages::experiment::log,
    );
    r.get(
        "/experiments/{experiment}/log.txt",
        "the whole log as text",
        pages::experiment::log_text,
    );
    r.get(
        "/experiments/{experiment}/log/stream",
        "follow the log in a browser",
        logs::stream,
    );
    r.get("/workspaces", "page of workspaces", pages::places::list);
    r.post(
        "/workspaces",
        "make a workspace from the page",
        pages::places::act_on_list,
    );
    r.get(
        "/workspaces/{workspace}",
        "page of a workspace and its projects",
        pages::places::show,
    );
    r.post(
        "/workspaces/{workspace}",
        "make a project from the page",
        pages::places::act,
    );
    r.get(
        "/workspaces/{workspace}/members",
        "page of who holds which role there",
        pages::places::members,
    );
    r.post(
        "/workspaces/{workspace}/members",
        "give, change or take a role from the page",
        pages::places::act_on_members,
    );
    r.get(
        "/workspaces/{workspace}/settings",
        "page to change a workspace",
        pages::places::settings,
    );
    r.post(
        "/workspaces/{workspace}/settings",
        "change a workspace from the page",
        pages::places::act_on_settings,
    );
    r.get(
        "/workspaces/{workspace}/projects/{project}",
        "page of a project",
        pages::places::project,
    );
    r.post(
        "/workspaces/{workspace}/projects/{project}",
        "change a project from the page",
        pages::places::act_on_project,
    );

    r.get("/users", "page of users", pages::users::list);
    r.post(
        "/users",
        "invite a user, or deactivate those that are ticked",
        pages::users::act_on_list,
    );
    r.get("/users/{user}", "page of a user or service account", pages::users::show);
    r.post("/users/{user}", "change a user from the page", pages::users::act);
    r.get(
        "/service-accounts",
        "page of service accounts",
        pages::users::list_service_accounts,
    );
    r.post(
        "/service-accounts",
        "make a service account from the page",
        pages::users::act_on_service_accounts,
    );
    r.get(
        "/names",
        "names of users that go on from what was typed",
        pages::held::suggest,
    );
    r.get("/groups", "page of groups", pages::groups::list);
    r.post("/groups", "make a group from the page", pages::groups::act_on_list);
    r.get(
        "/groups/export.csv",
        "groups and who belongs to them as CSV, for a browser",
        groups::export_csv,
    );
    r.get(
        "/groups/export.ndjson",
        "groups and who belongs to them as JSON lines, for a browser",
        groups::export_ndjson,
    );
    r.get("/groups/{group}", "page of a group", pages::groups::show);
    r.post("/groups/{group}", "change a group from the page", pages::groups::act);
    r.get("/roles", "page of roles and what they permit", pages::roles::list);
    r.post("/roles", "make a role from the page", pages::roles::act_on_list);
    r.get("/roles/{role}", "page of a role and who holds it", pages::roles::show);
    r.post("/roles/{role}", "change a role from the page", pages::roles::act);
    r.get("/assignments", "page of role assignments", pages::assignments::list);
    r.post(
        "/assignments",
        "give, change or take a role from the page",
        pages::assignments::act,
    );

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
    r.patch(
        "/api/v1/users/{user}",
        "change a user: name, display name, remote, active",
        users::change,
    );
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
    r.delete(
        "/api/v1/users/{user}/invitation",
        "withdraw an invitation that nobody has followed",
        users::withdraw,
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
        service_accounts::list,
    );
    r.post(
        "/api/v1/service-accounts",
        "make a service account with its first key",
        service_accounts::create,
    );
    r.get(
        "/api/v1/service-accounts/{user}",
        "show a service account",
        service_accounts::show,
    );
    r.patch(
        "/api/v1/service-accounts/{user}",
        "rename a service account, let it impersonate or not",
        service_accounts::change,
    );
    r.delete(
        "/api/v1/service-accounts/{user}",
        "remove a service account",
        service_accounts::remove,
    );
    r.get(
        "/api/v1/service-accounts/{user}/credentials",
        "list the keys of a service account",
        service_accounts::credentials,
    );
    r.post(
        "/api/v1/service-accounts/{user}/credentials",
        "make a key for a service account",
        service_accounts::add_credential,
    );
    r.delete(
        "/api/v1/service-accounts/{user}/credentials/{token}",
        "revoke a key of a service account",
        service_accounts::revoke_credential,
    );
    r.get("/api/v1/roles", "list roles", roles::list);
    r.post("/api/v1/roles", "make a role", roles::create);
    r.get("/api/v1/roles/{role}", "show a role, and who holds it", roles::show);
    r.patch(
        "/api/v1/roles/{role}",
        "change a role of one's own making",
        roles::update,
    );
    r.delete(
        "/api/v1/roles/{role}",
        "delete a role of one's own making",
        roles::delete,
    );
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

    r.get("/api/v1/groups", "list groups, all or one's own", groups::list);
    r.post("/api/v1/groups", "make a group", groups::create);
    r.get(
        "/api/v1/groups/{group}",
        "show a group: what it holds and who belongs to it",
        groups::show,
    );
    r.patch(
        "/api/v1/groups/{group}",
        "change name or description of a group",
        groups::change,
    );
    r.delete(
        "/api/v1/groups/{group}",
        "delete a group and what its members held through it",
        groups::delete,
    );
    r.post("/api/v1/groups/{group}/members", "put users into a group", groups::add);
    r.post(
        "/api/v1/groups/{group}/members/remove",
        "take users out of a group",
        groups::remove,
    );

    r.get("/api/v1/tokens", "list API keys", tokens::list);
    r.get("/api/v1/tokens/{token}", "show an API key or session", tokens::show);
    r.post("/api/v1/tokens", "make an API key", tokens::create);
    r.delete("/api/v1/tokens/{token}", "revoke an API key or session", tokens::revoke);

    r.get("/api/v1/workspaces", "list workspaces, oldest first", workspaces::list);
    r.post(
        "/api/v1/workspaces",
        "make a workspace with its project `default`",
        workspaces::create,
    );
    r.get("/api/v1/workspaces/{workspace}", "show a workspace", workspaces::show);
    r.patch(
        "/api/v1/workspaces/{workspace}",
        "change name or description of a workspace",
        workspaces::change,
    );
    r.delete(
        "/api/v1/workspaces/{workspace}",
        "delete a workspace without experiments",
        workspaces::delete,
    );
    r.put(
        "/api/v1/workspaces/{workspace}/default-queue",
        "set what submissions to a workspace that name no queue go into",
        workspaces::set_default_queue,
    );
    r.post(
        "/api/v1/workspaces/{workspace}/archive",
        "let a workspace take nothing new",
        workspaces::archive,
    );
    r.post(
        "/api/v1/workspaces/{workspace}/unarchive",
        "let an archived workspace take experiments again",
        workspaces::unarchive,
    );
    r.get(
        "/api/v1/workspaces/{workspace}/members",
        "list who holds which role in a workspace",
        workspaces::members,
    );
    r.get("/api/v1/projects", "list projects of every workspace", projects::list);
    r.get(
        "/api/v1/workspaces/{workspace}/projects",
        "list projects of a workspace, oldest first",
        projects::list_of,
    );
    r.post(
        "/api/v1/workspaces/{workspace}/projects",
        "make a project",
        projects::create,
    );
    r.get(
        "/api/v1/workspaces/{workspace}/projects/{project}",
        "show a project",
        projects::show,
    );
    r.patch(
        "/api/v1/workspaces/{workspace}/projects/{project}",
        "change name or description of a project",
        projects::change,
    );
    r.delete(
        "/api/v1/workspaces/{workspace}/projects/{project}",
        "delete a project without experiments",
        projects::delete,
    );
    r.post(
        "/api/v1/workspaces/{workspace}/projects/{project}/archive",
        "let a project take nothing new",
        projects::archive,
    );
    r.post(
        "/api/v1/workspaces/{workspace}/projects/{project}/unarchive",
        "let an archived project take experiments again",
        projects::unarchive,
    );
    r.get(
        "/api/v1/workspaces/{workspace}/projects/{project}/members",
        "list who holds which role in a project",
        projects::members,
    );

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
    r.patch(
        "/api/v1/experiments/{experiment}/job",
        "move a waiting job to another queue or priority",
        experiments::move_job,
    );
    r.put(
        "/api/v1/experiments/{experiment}/progress",
        "say how far an experiment is",
        experiments::report_progress,
    );
    r.post(
        "/api/v1/experiments/{experiment}/move",
        "put an experiment into another project",
        experiments::move_to,
    );
    r.post(
        "/api/v1/experiments/{experiment}/archive",
        "leave an ended experiment out of lists",
        experiments::archive,
    );
    r.post(
        "/api/v1/experiments/{experiment}/unarchive",
        "take an archived experiment back into lists",
        experiments::unarchive,
    );
    r.delete(
        "/api/v1/experiments/{experiment}",
        "delete an ended experiment with its log",
        experiments::delete,
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

    r.post("/api/v1/access/can-i", "whether one may do something", access::can_i);
    r.post(
        "/api/v1/access/explain",
        "why somebody may, or may not, do something",
        access::explain,
    );
    r.post(
        "/api/v1/access/who-can",
        "everybody who may do something",
        access::who_can,
    );
    r.post("/api/v1/access/what-can", "all that somebody may do", access::what_can);
    r.post(
        "/api/v1/access/diff",
        "what changes of rights would give and take",
        access::diff,
    );
    r.get(
        "/api/v1/access/shadow-report",
        "what mode rbac would have decided differently",
        access::shadow_report,
    );
    r.delete(
        "/api/v1/access/shadow-report",
        "forget what mode shadow has recorded",
        access::clear_shadow_report,
    );
    r.get("/api/v1/access/check", "whom mode rbac would lock out", access::check);
    r.get(
        "/api/v1/access/export",
        "who may do what, as one document",
        document::export,
    );
    r.post(
        "/api/v1/access/plan",
        "what applying a document would change, give and take",
        document::plan,
    );
    r.post(
        "/api/v1/access/apply",
        "make everything as a document says, or nothing",
        document::apply,
    );
    r.get(
        "/api/v1/access/requests",
        "list requests for access: one's own, and those that one may decide",
        requests::list,
    );
    r.post("/api/v1/access/requests", "ask for a role for a while", requests::ask);
    r.post(
        "/api/v1/access/requests/{request}/approve",
        "give what was asked for, or for a shorter time",
        requests::approve,
    );
    r.post(
        "/api/v1/access/requests/{request}/decline",
        "say no to a request for access",
        requests::decline,
    );
    r.post(
        "/api/v1/access/requests/{request}/withdraw",
        "take back one's own request for access",
        requests::withdraw,
    );
    r.post(
        "/api/v1/access/break-glass",
        "become ClusterAdmin for a few hours, on record",
        requests::break_glass,
    );
    r.post(
        "/api/v1/access/break-glass/end",
        "end one's break-glass before its time",
        requests::end_break_glass,
    );
    r.get(
        "/.well-known/authzen-configuration",
        "where the AuthZEN interface is",
        authzen::metadata,
    );
    r.post("/access/v1/evaluation", "one question, as AuthZEN", authzen::evaluation);
    r.post(
        "/access/v1/evaluations",
        "many questions at once, as AuthZEN",
        authzen::evaluations,
    );
    r.post(
        "/access/v1/search/subject",
        "who may do something, as AuthZEN",
        authzen::search_subject,
    );
    r.post(
        "/access/v1/search/resource",
        "on what somebody may do something, as AuthZEN",
        authzen::search_resource,
    );
    r.post(
        "/access/v1/search/action",
        "what somebody may do on something, as AuthZEN",
        authzen::search_action,
    );

    r.get("/api/v1/queues", "list queues", queues::list);
    r.post("/api/v1/queues", "make a queue", queues::create);
    r.get(
        "/api/v1/queues/{queue}",
        "show a queue, and how busy it was",
        queues::show,
    );
    r.patch(
        "/api/v1/queues/{queue}",
        "rename, bind, pause, drain or limit a queue",
        queues::update,
    );
    r.delete(
        "/api/v1/queues/{queue}",
        "delete a queue in which nothing waits",
        queues::delete,
    );
    r.get("/api/v1/stacks", "list stacks", stacks::list);
    r.post("/api/v1/stacks", "make a stack", stacks::create);
    r.get("/api/v1/stacks/{stack}", "show a stack", stacks::show);
    r.patch("/api/v1/stacks/{stack}", "rename or change a stack", stacks::update);
    r.delete("/api/v1/stacks/{stack}", "delete a stack", stacks::delete);
    r.get("/api/v1/models", "list models of every workspace", models::list);
    r.post("/api/v1/workspaces/{workspace}/models", "make a model", models::create);
    r.get("/api/v1/models/{model}", "show a model", models::show);
    r.patch("/api/v1/models/{model}", "rename or describe a model", models::change);
    r.delete(
        "/api/v1/models/{model}",
        "delete a model with its versions",
        models::delete,
    );
    r.post(
        "/api/v1/models/{model}/move",
        "put a model into another workspace",
        models::move_to,
    );
    r.get(
        "/api/v1/models/{model}/versions",
        "list the versions of a model",
        models::versions,
    );
    r.post(
        "/api/v1/models/{model}/versions",
        "register a version of a model",
        models::add_version,
    );
    r.delete(
        "/api/v1/models/{model}/versions/{version}",
        "delete a version of a model",
        models::delete_version,
    );
    r.get("/api/v1/agents", "list agents", agents::list);
    r.post("/api/v1/agents", "make an agent known", agents::register);
    r.get("/api/v1/agents/{agent}", "show an agent", agents::show);
    r.post(
        "/api/v1/agents/{agent}/enable",
        "let an agent take work again",
        agents::enable,
    );
    r.post(
        "/api/v1/agents/{agent}/drain",
        "give an agent no more work; what it runs goes on",
        agents::drain,
    );
    r.post(
        "/api/v1/agents/{agent}/disable",
        "give an agent no more work and end what it runs",
        agents::disable,
    );
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

    r.get(
        "/api/v1/vaults",
        "list one's own vault, and those of administrators",
        vaults::list,
    );
    r.post("/api/v1/vaults", "make a vault", vaults::create);
    r.get(
        "/api/v1/vaults/applied",
        "the vaults that apply to somebody, and what they come to",
        vaults::applied,
    );
    r.get(
        "/api/v1/vaults/{vault}",
        "show a vault, its values only where asked for",
        vaults::show,
    );
    r.patch(
        "/api/v1/vaults/{vault}",
        "change a vault, switch it on or off",
        vaults::update,
    );
    r.delete("/api/v1/vaults/{vault}", "delete a vault", vaults::delete);
    r.get(
        "/api/v1/vaults/{vault}/changes",
        "who changed a vault, newest first",
        vaults::changes,
    );
    r.post(
        "/api/v1/admin/rotate-key",
        "seal all vaults with a new key",
        vaults::rotate_key,
    );

    r.get("/api/v1/audit", "list audit events, newest first", audit::list);
    r.get("/api/v1/audit/export", "all audit events, oldest first", audit::export);
    r.post("/api/v1/audit/verify", "check the chain over the audit", audit::verify);
    r
}
