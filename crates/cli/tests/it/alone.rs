//! What works, or fails well, without a server.

use std::os::unix::fs::symlink;

use crate::place::{Place, finish, mode};

/// A port on which nobody listens: discard, refused at once.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn help_goes_to_standard_output_and_wrong_usage_to_standard_error() {
    let place = Place::new();
    assert!(place.ml("--help").done().contains("Usage: ml"));
    assert!(
        place
            .ml("user create --help")
            .done()
            .contains("ml user create bob --email bob@example.org --role OwnViewer")
    );
    assert!(place.ml("").failed(2).contains("Usage: ml"));
    assert!(place.ml("user").failed(2).contains("Usage: ml user"));
    let unknown = place.ml("statsu").failed(2);
    assert!(
        unknown.starts_with("error: unrecognized subcommand 'statsu'\n\nhint: "),
        "{unknown}"
    );
    assert!(place.ml("run").failed(2).contains("<PATH>"));
    assert!(
        place
            .ml("status --state gone")
            .failed(2)
            .contains("there is no state `gone`")
    );
    let said = place.ml("run . --timeout 5s").failed(2);
    assert_eq!(
        said,
        "error: --timeout says how long to wait: it needs --wait or --follow\n"
    );
}

#[test]
fn a_server_that_is_not_there_is_named_with_a_hint() {
    let place = Place::new();
    let said = place.ml(&format!("status --server {NOBODY}")).failed(1);
    assert!(said.starts_with(&format!("error: cannot reach {NOBODY}: ")), "{said}");
    assert!(said.contains("\n\nhint: "), "{said}");
    assert!(
        place
            .ml("status --server ftp://x")
            .failed(2)
            .contains("it begins with http:// or https://")
    );
    assert!(
        place
            .ml(&format!("--version --server {NOBODY}"))
            .done()
            .starts_with("ml ")
    );
}

#[test]
fn settings_say_where_they_come_from() {
    let place = Place::new();
    assert_eq!(
        place.ml("config show --origin").done(),
        "server\thttp://127.0.0.1:8080\tdefault\n"
    );
    place.ml("config set server http://user.example").done();
    place.ml("config set workspace vision").done();
    let file = place.home().join("config.toml");
    let shown = place.ml("config show --origin").done();
    assert_eq!(
        shown,
        format!(
            "server\thttp://user.example\t{0}\nworkspace\tvision\t{0}\n",
            file.display()
        )
    );
    let project = place.write(".ml.toml", "server = 'http://project.example'");
    let shown = place.ml("config show --origin").done();
    assert!(
        shown.starts_with(&format!(
            "server\thttp://project.example\t{}\n",
            project.canonicalize().unwrap().display()
        )),
        "{shown}"
    );
    let mut command = place.command(&["config", "show", "--origin"]);
    command.env("ML_SERVER", "http://environment.example");
    assert!(
        finish(command)
            .done()
            .starts_with("server\thttp://environment.example\tenvironment ML_SERVER\n")
    );
    let shown = place.ml("config show --origin --server http://flag.example").done();
    assert!(
        shown.starts_with("server\thttp://flag.example\tflag --server\n"),
        "{shown}"
    );
}

#[test]
fn a_key_is_neither_taken_from_the_command_line_nor_shown() {
    let place = Place::new();
    assert!(
        place
            .ml("config set worker.api_key ml_secret")
            .failed(2)
            .contains("does not belong on the command line")
    );
    place.ml_with_input("config set worker.api_key", "ml_secret\n").done();
    assert_eq!(
        std::fs::read_to_string(place.home().join("config.toml")).unwrap(),
        "[worker]\napi_key = \"ml_secret\"\n"
    );
    assert_eq!(
        (mode(&place.home()), mode(&place.home().join("config.toml"))),
        (0o700, 0o600)
    );
    let shown = place.ml("config show --json").done();
    assert!(
        shown.contains("worker.api_key") && !shown.contains("ml_secret"),
        "{shown}"
    );
    assert!(
        place
            .ml("config set sever x")
            .failed(2)
            .contains("did you mean `server`?")
    );
}

#[test]
fn a_damaged_file_is_named() {
    let place = Place::new();
    place.write("../home/config.toml", "server = \n");
    let said = place.ml("status").failed(1);
    assert!(said.contains("config.toml is not as it should be"), "{said}");
}

#[test]
fn an_identity_that_never_signed_in_is_told_to() {
    let place = Place::new();
    let said = place.ml("status -u ana").failed(4);
    assert_eq!(
        said,
        "error: ana has not signed in at http://127.0.0.1:8080\n\nhint: run `ml login ana`\n"
    );
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let place = Place::new();
    assert!(place.ml("user remove ana").failed(2).ends_with("hint: use --yes\n"));
    assert!(place.ml("token revoke 1").failed(2).ends_with("hint: use --yes\n"));
    assert!(
        place
            .ml("login ana")
            .failed(2)
            .contains("hint: use --password-file FILE")
    );
    assert!(place.ml("login").failed(2).contains("hint: use `ml login NAME`"));
}

#[test]
fn what_cannot_be_an_experiment_is_refused_before_anything_is_sent() {
    let place = Place::new();
    place.write("good/train.py", "print(1)");
    let run = |path: &str| place.ml(&format!("run {path} --server {NOBODY}")).failed(1);

    assert!(
        run("good").contains("cannot reach"),
        "everything before the network is well"
    );
    let said = run("goood");
    assert_eq!(said, "error: there is no goood\n\nhint: did you mean good?\n");

    symlink("/etc/passwd", place.path("good/leak")).unwrap();
    assert!(run("good").starts_with("error: the link leak leads out of the directory, to /etc/passwd\n"));
    std::fs::remove_file(place.path("good/leak")).unwrap();

    place.write("good/.gitignore", "train.py\n");
    assert!(run("good").contains("good/train.py is not sent along"));
    std::fs::remove_file(place.path("good/.gitignore")).unwrap();

    symlink(".", place.path("good/loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("good/socket")).unwrap();
    let said = run("good");
    assert!(
        said.starts_with("warning: socket is left out") && said.contains("cannot reach"),
        "{said}"
    );

    nix::unistd::mkfifo(&place.path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(run("pipe.yaml").contains("is neither a directory nor a file"));

    place.write("../start.py", "");
    let said = run("../start.py");
    assert!(
        said.contains("is the whole home directory, which is not sent along"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_with_its_file() {
    let place = Place::new();
    let run = |yaml: &str| {
        place.write("e.yaml", yaml);
        place.ml(&format!("run e.yaml --server {NOBODY}")).failed(1)
    };
    assert!(run("entrypoint: x\n  y: z").starts_with("error: e.yaml: the configuration is not valid YAML: "));
    assert_eq!(
        run("entrypoint: x\nresources: {slot: 1}"),
        "error: unknown key `resources.slot`; known here: slots_per_trial, priority, queue, resource_pool, memory_mb, max_processes, time_limit, disk_mb\n"
    );
    assert!(run("name: x").contains("has no `entrypoint`"));

    let large = std::fs::File::create(place.path("e.yaml")).unwrap();
    large.set_len(100 << 20).unwrap();
    let said = place.ml(&format!("run e.yaml --server {NOBODY}")).failed(1);
    assert!(
        said.starts_with("error: e.yaml is too large for a configuration: the most is 1048576 bytes\n"),
        "{said}"
    );
}

#[test]
fn completions_and_manual_pages_are_made() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            place
                .ml(&format!("completions {shell}"))
                .done()
                .contains("service-account"),
            "{shell}"
        );
    }
    place.ml("man pages").done();
    assert!(place.path("pages/ml-user-create.1").exists());
}

#[test]
fn lists_come_in_every_format() {
    let place = Place::new();
    let first = |format: &str| {
        let text = place.ml(&format!("permission list {format}")).done();
        text.lines().take(2).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        first("").lines().next().unwrap(),
        "experiments:create\tanywhere\tsubmit experiments"
    );
    assert_eq!(
        first("-o csv"),
        "name,assigned,meaning\nexperiments:create,anywhere,submit experiments"
    );
    assert_eq!(first("-o id").lines().next().unwrap(), "experiments:create");
    assert!(first("-o table").starts_with("NAME"));
    assert!(first("-o jsonl").starts_with(r#"{"name":"experiments:create","#));
    assert!(first("--json").starts_with("[\n"));
}

/// Another product ran without access control where the file that names its users was not found.
#[test]
fn a_server_whose_settings_cannot_be_read_does_not_start_with_others() {
    let place = Place::new();
    let missing = place.ml("serve --listen 127.0.0.1:0 --config missing.toml").failed(1);
    assert!(
        missing.contains("cannot read") && missing.contains("missing.toml"),
        "{missing}"
    );
    place.write("wrong.toml", "acces = \"off\"\n");
    let wrong = place.ml("serve --listen 127.0.0.1:0 --config wrong.toml").failed(1);
    assert!(wrong.contains("unknown setting `acces`"), "{wrong}");
    assert!(!place.path("data").exists(), "and has made nothing");
}
