//! The command line against a server of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::place::{PASSWORD, Place, finish, mode, read};

#[test]
fn a_new_colleague_signs_in_with_a_link_and_the_session_is_kept_private() {
    let place = Place::served();
    let link = place.ml("user create ana").done();
    let link = link.trim();
    assert!(
        link.starts_with(place.url()) && link.contains("/activate#mll_"),
        "{link}"
    );
    let said = place.ml(&format!("login --link {link}")).failed(2);
    assert!(said.contains("hint: use --password-file FILE"), "{said}");
    place
        .ml(&format!("login --link {link} --password-file ../password"))
        .done();
    assert!(place.ml("whoami").done().starts_with("name\tana\n"));
    assert!(place.ml("whoami -u admin").done().starts_with("name\tadmin\n"));
    let home = place.home();
    assert_eq!((mode(&home), mode(&home.join("sessions.toml"))), (0o700, 0o600));
    assert!(
        !place
            .ml(&format!("login --link {link} --password-file ../password"))
            .err
            .is_empty()
    );

    place.ml("logout").done();
    assert_eq!(place.ml("whoami").status, Some(4));
    assert!(place.ml("whoami -u admin").done().starts_with("name\tadmin\n"));
}

#[test]
fn many_logins_at_once_lose_nothing() {
    let place = Place::served();
    let names: Vec<String> = (0..6).map(|n| format!("user-{n}")).collect();
    for name in &names {
        place
            .ml(&format!("user create {name} --password-file ../password"))
            .done();
    }
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command =
                place.command(&["login", name, "--server", place.url(), "--password-file", "../password"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in names {
        assert!(
            place
                .ml(&format!("whoami -u {name}"))
                .done()
                .starts_with(&format!("name\t{name}\n"))
        );
    }
}

#[test]
fn a_run_is_followed_to_its_end_and_its_outcome_passed_on() {
    let place = Place::served();
    place.user("ana", "");
    place.write(
        "my-experiment/train.sh",
        "echo one; echo two >&2; printf 'a b=%s\\n' \"$1\"; exit 7",
    );
    let said = place.ml_args(&["run", "-u", "ana", "my-experiment/train.sh", "--follow", "--", "x y"]);
    assert_eq!(said.status, Some(7), "{said:?}");
    for line in ["one\n", "two\n", "a b=x y\n"] {
        assert!(said.out.contains(line), "{said:?}");
    }
    let id = place.ml("status -u ana -o id").done();
    let id = id.trim();
    let logs = place.ml(&format!("logs {id} -u ana")).done();
    assert_eq!(logs, said.out);
    assert_eq!(
        place.ml(&format!("logs {id} -u ana --tail 1")).done().lines().count(),
        1
    );
    let described = place.ml("describe train -u ana --json").done();
    assert!(
        described.contains("\"exit_code\": 7") && described.contains("\"events\""),
        "{described}"
    );

    place.write("good/train.sh", "true");
    let id = place.ml("run -u ana good/train.sh --wait").done();
    assert!(
        place
            .ml(&format!("status {} -u ana", id.trim()))
            .done()
            .contains("\tCOMPLETED\t")
    );
}

#[test]
fn each_sees_his_own_and_the_administrator_everything() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.user("ben", "");
    place.user("vic", "--role OwnViewer");
    place.write("long/train.py", "import time\ntime.sleep(1000)\n");
    let id = place.ml("run long -u ana").done();
    let id = id.trim();
    assert!(id.parse::<i64>().is_ok(), "{id}");

    let said = place.ml("status -u ana");
    assert!(
        said.err.starts_with(&format!("ana at {}: you see ", place.url())),
        "{said:?}"
    );
    assert!(said.out.starts_with(&format!("{id}\tlong\tQUEUED\tana\t")), "{said:?}");
    assert_eq!(place.ml("status -u ben").done(), "");
    assert_eq!(place.ml("status -u admin -o id").done(), format!("{id}\n"));

    let refused = place.ml("cancel long -u ben").failed(1);
    assert!(
        refused.starts_with("error: You can only cancel your own jobs"),
        "{refused}"
    );
    let missing = place.ml("cancel lang -u ben").failed(1);
    assert_eq!(
        refused.replace("long", "lang"),
        missing,
        "what one may not see is as if it were not there"
    );
    let refused = place.ml("run long -u vic").failed(1);
    assert!(refused.starts_with("error: Insufficient permissions"), "{refused}");
    let refused = place.ml("user create eve -u ben").failed(1);
    assert!(refused.starts_with("error: Insufficient permissions"), "{refused}");
    assert_eq!(place.ml("logs long -u ben").status, Some(1));

    assert!(place.ml("cancel long -u admin").done().contains("\tCANCELED\t"));
    assert!(place.ml("audit list -u admin --denied -o csv").done().contains("ben"));
    assert!(place.ml("audit verify -u admin").done().starts_with("intact\tyes\n"));
    place.ml("audit export -u admin -o all.jsonl").done();
    let exported = String::from_utf8(read(&place.path("all.jsonl"))).unwrap();
    assert!(
        exported.lines().all(|line| line.starts_with('{')) && exported.lines().count() > 5,
        "{exported}"
    );
}

#[test]
fn a_name_that_is_nearly_right_is_hinted_at() {
    let place = Place::served_with(&["--no-agent"]);
    place.write("green-light/train.py", "");
    place.ml("run green-light").done();
    let said = place.ml("describe gren-light").failed(1);
    assert!(said.ends_with("\n\nhint: did you mean `green-light`?\n"), "{said}");
    let said = place.ml("user show admni").failed(1);
    assert!(said.ends_with("\n\nhint: did you mean `admin`?\n"), "{said}");
}

#[test]
fn the_code_comes_back_as_it_was_submitted_and_overwrites_nothing() {
    let place = Place::served_with(&["--no-agent"]);
    place.write("code/train.py", "print(1)\n");
    place.write("code/deep/data.csv", "1,2\n");
    place.write("code/.mlignore", "left-out\n");
    place.write("code/left-out", "x");
    let id = place.ml("run code --name green/light").done();
    let directory = place.ml("download green/light").done();
    assert_eq!(directory, format!("green-light-{id}"));
    let directory = directory.trim();
    assert_eq!(read(&place.path(directory).join("deep/data.csv")), b"1,2\n");
    assert!(!place.path(directory).join("left-out").exists());
    assert!(place.ml("download green/light").failed(1).contains("is there already"));
    place.ml("download green/light elsewhere").done();
    assert_eq!(read(&place.path("elsewhere/train.py")), b"print(1)\n");
}

#[test]
fn keys_work_from_the_configuration_and_the_environment_until_they_are_revoked() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    let key = place.ml("token create --label laptop --expires 30d -u ana").done();
    assert!(key.starts_with("ml_"), "{key}");
    let other = Place::new();
    other.write(
        "../home/config.toml",
        &format!("server = \"{}\"\n[worker]\napi_key = \"{}\"\n", place.url(), key.trim()),
    );
    assert!(other.ml("whoami").done().starts_with("name\tana\n"));

    let mut command = Place::new().command(&["whoami", "--server", place.url()]);
    command.current_dir("/").env("ML_API_KEY", key.trim());
    assert!(finish(command).done().starts_with("name\tana\n"));

    let id = place.ml("token list -u ana -o id").done();
    place
        .ml(&format!("token revoke {} --yes -u ana", id.lines().next().unwrap()))
        .done();
    let said = other.ml("status").failed(4);
    assert!(said.starts_with("error: Invalid API key"), "{said}");
    other.write(
        "../home/config.toml",
        &format!(
            "server = \"{}\"\n[worker]\napi_key = \"your-api-key-here\"\n",
            place.url()
        ),
    );
    let said = other.ml("status").failed(4);
    assert!(said.starts_with("error: Invalid API key"), "{said}");
    assert!(
        said.contains("[worker] api_key in") && said.contains("ml token create"),
        "{said}"
    );
}

#[test]
fn a_password_is_changed_and_a_deactivated_user_is_shut_out() {
    let place = Place::served_with(&["--no-agent"]);
    place.user("ana", "");
    place.write("../new", "another long enough password\n");
    let both = format!("{PASSWORD}\nanother long enough password\n");
    place
        .ml_with_input("change-password -u ana --old-password-file - --password-file -", &both)
        .done();
    place
        .ml_args(&["login", "ana", "--server", place.url(), "--password-file", "../new"])
        .done();
    place.ml("user deactivate ana -u admin").done();
    assert_eq!(place.ml("status -u ana").status, Some(4));
    place.ml("user activate ana -u admin").done();
    assert_eq!(place.ml("status -u ana").status, Some(4), "what has ended stays ended");
    place.ml("user remove ana --yes -u admin").done();
    assert!(!place.ml("user list -u admin").done().contains("\tana\t"));
    assert!(place.ml("user list --all -u admin").done().contains("\tana\tremoved\t"));
}

#[test]
fn a_service_account_shows_its_key_alone_in_a_pipe() {
    let place = Place::served_with(&["--no-agent"]);
    let key = place.ml("service-account create machine-7 --serve default").done();
    assert!(key.starts_with("ml_") && key.lines().count() == 1, "{key}");
    let shown = place
        .ml("service-account create machine-8 --serve default -o table")
        .done();
    assert!(shown.contains("[worker]\napi_key = \"ml_"), "{shown}");
    assert!(place.ml("service-account list").done().contains("\tmachine-7\t"));
    place.ml("service-account remove machine-7 --yes").done();
    let mut command = place.command(&["whoami"]);
    command.env("ML_API_KEY", key.trim());
    assert_eq!(finish(command).status, Some(4));
}

/// ClearML's own wizards find the pair and the addresses in what is pasted. (Signing in with them needs ClearML's interface.)
fn wizards_read(place: &Place, section: &str) {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty());
    let cache = cache.map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("there is a home");
        PathBuf::from(home).join(".cache")
    });
    let key = section
        .lines()
        .find_map(|line| line.trim().strip_prefix("\"access_key\" = "));
    let key = key.expect("the section has a pair");
    let url = place.url();
    // The agent's asks for each address: Enter for the one that it found, and it reads no other than that of the pages.
    let typed = format!("\n{url}/api\n{url}/files\n");
    for (program, flags, typed, web) in [
        ("clearml-init", &[][..], "", "Web App: "),
        ("clearml-agent", &["init"], typed.as_str(), "WEB Host configured to: ["),
    ] {
        let mut child = Command::new(cache.join("bailiwick/clearml-python/bin").join(program))
            .args(flags)
            .env_clear()
            .env("HOME", place.path(".."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`scripts/setup.sh test` has set up ClearML's programs");
        let pasted = format!("{section}{typed}");
        let _ = child.stdin.take().expect("it is piped").write_all(pasted.as_bytes());
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        for part in [
            format!("Detected credentials key={key} "),
            format!("{web}{url}"),
            format!("API: {url}/api\nFile Store: {url}/files\n"),
        ] {
            assert!(said.contains(&part), "{program}: {part} in {said}");
        }
    }
}

#[test]
fn a_service_account_is_edited_and_gets_keys_for_ours_and_for_clearml() {
    let place = Place::served_with(&["--no-agent"]);
    let section = place.ml("service-account create robot --clearml").done();
    let lines: Vec<&str> = section.lines().collect();
    assert_eq!((lines[0], lines[lines.len() - 1]), ("api {", "}"), "{section}");
    assert!(
        section.contains(&format!("  api_server: {}/api\n", place.url())),
        "{section}"
    );
    assert!(section.contains("    \"secret_key\" = \"ml_"), "{section}");
    let key = place
        .ml("service-account add-key robot --label rack --expires 90d")
        .done();
    assert!(key.starts_with("ml_") && key.lines().count() == 1, "{key}");
    wizards_read(&place, &section);
    let shown = place.ml("service-account add-key robot -o table").done();
    assert!(shown.contains("[worker]\napi_key = \"ml_"), "{shown}");
    let said = place
        .ml("service-account edit robot --name android --allow-impersonation true")
        .done();
    assert!(said.contains("android"), "{said}");
    let listed = place.ml("service-account list").done();
    assert!(listed.contains("\tandroid\tactive\tUsers\t3\tyes\t"), "{listed}");
    let keys = place.ml("service-account keys android").done();
    let rack = keys
        .lines()
        .find(|line| line.contains("\track\t"))
        .expect("the key is listed");
    let number = rack.split('\t').next().unwrap();
    place
        .ml_args(&["service-account", "revoke-key", "android", number, "--yes"])
        .done();
    let mut command = place.command(&["whoami"]);
    command.env("ML_API_KEY", key.trim());
    assert_eq!(finish(command).status, Some(4));
    assert_eq!(
        place.ml("service-account edit android").status,
        Some(2),
        "nothing to change"
    );
    assert!(
        place
            .ml("service-account describe android -o json")
            .done()
            .contains("\"credentials\": 2")
    );
}

#[test]
fn an_agent_that_may_not_use_owners_tokens_does_not_start_and_one_that_may_runs_jobs_as_their_owners() {
    let place = Place::served_with(&["--no-agent"]);
    let key = place.ml("service-account create machine-7 --serve default").done();
    let agent = || {
        let mut command = place.command(&[
            "agent",
            "--use-owner-token",
            "--name",
            "seven",
            "--slots",
            "1",
            "--isolate",
            "none",
        ]);
        command
            .env("ML_API_KEY", key.trim())
            .arg("--dir")
            .arg(place.path("../agent-seven"));
        command
    };
    let refused = finish(agent());
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(
        refused
            .err
            .contains("ml service-account edit machine-7 --allow-impersonation true"),
        "{refused:?}"
    );
    place
        .ml("service-account edit machine-7 --allow-impersonation true")
        .done();
    let mut running = agent().spawn().unwrap();
    place.write("train.py", "import os, urllib.request\nrequest = urllib.request.Request(os.environ['ML_SERVER'] + '/api/v1/me', headers={'Authorization': 'Bearer ' + os.environ['ML_API_KEY']})\nprint(urllib.request.urlopen(request).read().decode())\n");
    let done = place.ml("run train.py --name whose --wait --timeout 60s");
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(done.status, Some(0), "{done:?}");
    let logs = place.ml("logs whose").done();
    assert!(
        logs.contains("\"credential\":\"job\"") && logs.contains("\"name\":\"admin\""),
        "{logs}"
    );
}

#[test]
fn the_account_of_the_servers_own_agent_stays_as_long_as_there_is_that_agent() {
    let place = Place::served();
    let said = place.ml("service-account remove built-in-agent --yes");
    assert!(
        said.status != Some(0) && said.err.contains("runs beside this server"),
        "{said:?}"
    );
    assert!(place.ml("service-account list").done().contains("\tbuilt-in-agent\t"));
}

#[test]
fn the_version_names_the_server_too() {
    let place = Place::served_with(&["--no-agent"]);
    let version = place.ml("--version").done();
    assert!(version.contains(&format!("at {}", place.url())), "{version}");
}

#[test]
fn experiments_are_listed_by_name_and_by_the_place_they_lie_in() {
    let place = Place::served_with(&["--no-agent"]);
    place.ml_args(&["workspace", "create", "Stop Signs"]).done();
    place.ml_args(&["project", "create", "Stop Signs", "Euro"]).done();
    place.write("train.py", "print('ready')\n");
    for (name, flags) in [
        ("c", &[][..]),
        ("b", &["--workspace", "Stop Signs"]),
        ("a", &["--workspace", "Stop Signs", "--project", "Euro"]),
    ] {
        place
            .ml_args(&[&["run", "train.py", "--name", name], flags].concat())
            .done();
    }
    let names = |arguments: &[&str]| -> Vec<String> {
        let listed = place
            .ml_args(&[&["experiment", "list", "-o", "jsonl"], arguments].concat())
            .done();
        let name = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["name"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        listed.lines().map(name).collect()
    };
    assert_eq!(names(&[]), ["a", "b", "c"], "newest first");
    assert_eq!(names(&["--sort", "name", "--limit", "2"]), ["a", "b"]);
    assert_eq!(names(&["--sort", "name", "--all"]), ["a", "b", "c"]);
    assert_eq!(names(&["-w", "stop signs"]), ["a", "b"]);
    assert_eq!(names(&["-w", "Stop Signs", "--project", "Euro"]), ["a"]);
    assert!(names(&["-w", "Nothing"]).is_empty());
    let wrong = place.ml("experiment list --sort age").failed(2);
    assert_eq!(
        wrong,
        "error: --sort: experiments are sorted by `newest` or `name`, not `age`\n"
    );
    let wrong = place.ml("experiment list --project Euro").failed(2);
    assert_eq!(wrong, "error: --project NAME needs --workspace beside it\n");
}

#[test]
fn ended_experiments_are_archived_found_again_and_their_attempts_and_use_described() {
    let place = Place::served();
    place.write("one.sh", "echo fine; echo Error: not really; exit 0");
    place.write("two.sh", "exit 3");
    place.ml("run one.sh --wait").done();
    assert_eq!(place.ml("run two.sh --wait --config max_restarts=1").status, Some(3));
    let listed = |words: &str| place.ml(&format!("experiment list -o id {words}")).done();
    assert_eq!(listed(""), "2\n1\n");
    let said = place.ml_args(&["-o", "table", "experiment", "archive", "one", "2"]);
    assert!(
        said.out.contains("Experiment 1 \"one\" is archived.") || said.err.contains("is archived."),
        "{said:?}"
    );
    assert_eq!((listed("").as_str(), listed("--archived").as_str()), ("", "2\n1\n"));
    assert_eq!(listed("--archived --owner admin --begins tw"), "2\n");
    assert!(
        place
            .ml("experiment list --owner admin --mine")
            .failed(2)
            .contains("--mine")
    );
    place.ml("experiment unarchive 1").done();
    assert_eq!(listed(""), "1\n");
    assert_ne!(place.ml("experiment archive 31337").status, Some(0));

    let detail: serde_json::Value = serde_json::from_str(&place.ml("describe 2 --json").done()).unwrap();
    let attempts = detail["trials"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert!(
        attempts
            .iter()
            .all(|one| one["cause"] == "exit code 3" && one["usage"]["cpu_ms"].is_i64())
    );
    let said = place.ml_args(&["-o", "table", "describe", "2"]);
    for there in [
        "Archived     yes",
        "CPU time",
        "Memory used",
        "Trial 1 (ERROR)",
        "attempt 2",
        ": exit code 3",
    ] {
        assert!(said.out.contains(there), "{there}: {said:?}");
    }
    assert_eq!(place.ml("logs 1 --errors").done(), "Error: not really\n");
    assert_eq!(place.ml("logs 1 --find FINE").done(), "fine\n");
}

#[test]
fn what_the_server_says_of_its_work_holds_no_secret() {
    let mut place = Place::new();
    let log = place.path("../server.log");
    let mut serve = place.command(&["serve", "--listen", "127.0.0.1:0", "--data", "../data"]);
    serve.args(["--admin-password-file", "../password"]);
    serve.env("ML_LOG", "debug").stdout(Stdio::null());
    serve.stderr(std::fs::File::create(&log).unwrap());
    place.keep_server(serve.spawn().unwrap(), || {
        let said = std::fs::read_to_string(&log).unwrap();
        let line = said.lines().find_map(|line| line.split_once("listening on "));
        line.map(|(_, url)| url.trim().to_owned())
    });
    place.login("admin");
    let value = "s3cr3t-fjord-quartz";
    place.write("vault.yaml", &format!("environment: {{TOKEN: {value}}}\n"));
    place.write("broken.yaml", &format!("environment: {{TOKEN: {value}}}\nsdk: 1\n"));
    place.write("job.sh", "echo $TOKEN; echo $ML_API_KEY > /tmp/key; cut -c 5- /tmp/key");
    let link = place.ml("user create ana").done();
    place
        .ml(&format!("login --link {} --password-file ../password", link.trim()))
        .done();
    place.ml("login --link http://127.0.0.1:1/activate#mll_nothing --password-file ../password");
    let key = place.ml("-u ana token create --label laptop").done();
    let account = place.ml("-u admin service-account create machines").done();
    place.ml("-u admin vault set --for built-in-agent -f vault.yaml").done();
    place
        .ml("-u admin vault set --for built-in-agent -f broken.yaml")
        .failed(1);
    let run = place.ml("-u ana run job.sh --follow").done();
    let token = run.lines().find(|line| line.len() > 30 && !line.contains(' '));
    let token = token.unwrap_or_else(|| panic!("most of the job's own key: {run}"));
    let sessions = String::from_utf8(read(&place.home().join("sessions.toml"))).unwrap();

    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("DEBUG") && said.lines().count() > 50,
        "it says a lot: {said}"
    );
    let words = [&link, &key, &account, &sessions].into_iter().flat_map(|text| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("ml") && word.len() > 30)
    });
    let words: Vec<&str> = words.collect();
    assert!(words.len() >= 5, "a link, two keys, two sessions: {words:?}");
    for secret in words.into_iter().chain([value, PASSWORD, token]) {
        assert!(!said.contains(secret), "{secret} stands in the log");
    }
}
