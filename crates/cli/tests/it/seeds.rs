//! Every command line of the four pages from which the product was asked for, taken out of their text, run in the pages' order with `ml` for the program's
//! name, at a terminal, as their readers would.
//!
//! What the pages name only as a placeholder (`USER_NAME`) gets a name here, and what they take for granted (that somebody uses a link, or types a password) is done.
//! A command line that this file does not know fails the test. Page 002 has none: it describes pages in a browser and one flag of the agent
//! (`--use-owner-token`).

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use crate::place::{PASSWORD, Place};

const PAGES: [(&str, &str, &str); 4] = [
    ("000", "ml", include_str!("../seeds/000.txt")),
    ("001", "zenml", include_str!("../seeds/001.txt")),
    ("002", "clearml-agent", include_str!("../seeds/002.txt")),
    ("003", "det", include_str!("../seeds/003.txt")),
];

/// The command lines of a page, as they stand there: what begins with the program's name, at the start of a line or right behind a sentence's full stop.
fn command_lines(page: &str) -> Vec<String> {
    let (_, program, text) = PAGES
        .iter()
        .find(|(name, ..)| *name == page)
        .expect("there is such a page");
    let start = format!("{program} ");
    let lines = text.lines().filter_map(|line| {
        let glued = line.find(&format!(".{start}")).map(|at| &line[at + 1..]);
        let command = line.strip_prefix(&start).map(|_| line).or(glued)?;
        Some(command[start.len()..].trim().to_owned())
    });
    lines.collect()
}

/// A terminal with somebody at it who answers what is asked.
struct Terminal<'a> {
    place: &'a Place,
}

impl Terminal<'_> {
    /// Runs `ml …` by a shell on a terminal of its own. `answers`: what is asked (a part of it), and what is typed then. Gives all that the terminal showed.
    fn try_run(&self, line: &str, answers: &[(&str, &str)]) -> (bool, String) {
        let size = Winsize {
            ws_row: 50,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("there are terminals left");
        let copy = |end: &OwnedFd| Stdio::from(end.try_clone().expect("a descriptor can be copied"));
        let ml = std::path::Path::new(env!("CARGO_BIN_EXE_ml"));
        let paths = [
            ml.parent().expect("a program lies in a directory").as_os_str(),
            "/usr/bin".as_ref(),
            "/bin".as_ref(),
        ];
        let path = paths.join(std::ffi::OsStr::new(":"));
        // setsid -c: this terminal becomes the one that passwords are asked on.
        let mut child = Command::new("setsid")
            .args(["-c", "-w", "sh", "-c", line])
            .current_dir(self.place.path("."))
            .env_clear()
            .env("PATH", path)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env("HOME", self.place.path(".."))
            .env("ML_HOME", self.place.home())
            .stdin(copy(&pty.slave))
            .stdout(copy(&pty.slave))
            .stderr(copy(&pty.slave))
            .spawn()
            .expect("setsid is there");
        drop(pty.slave);
        let mut keyboard = std::fs::File::from(pty.master.try_clone().expect("a descriptor can be copied"));
        let mut screen = std::fs::File::from(pty.master);
        let (send, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last one to close the terminal makes reading fail.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut seen: Vec<u8> = Vec::new();
        let mut answered_up_to = 0;
        let mut answers = answers.iter();
        let mut next = answers.next();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match shown.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => seen.extend(bytes),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    if Instant::now() > deadline {
                        let _ = child.kill();
                        panic!("`{line}` waits for something: {}", String::from_utf8_lossy(&seen));
                    }
                }
            }
            if let Some((question, answer)) = next
                && String::from_utf8_lossy(&seen[answered_up_to..]).contains(question)
            {
                answered_up_to = seen.len();
                writeln!(keyboard, "{answer}").expect("somebody reads");
                next = answers.next();
            }
        }
        let status = child.wait().expect("it ends");
        assert!(
            next.is_none(),
            "`{line}` did not ask {next:?}: {}",
            String::from_utf8_lossy(&seen)
        );
        (status.success(), String::from_utf8_lossy(&seen).replace("\r\n", "\n"))
    }

    /// What the command shows, which does what it says.
    #[track_caller]
    fn run(&self, line: &str, answers: &[(&str, &str)]) -> String {
        let (done, shown) = self.try_run(line, answers);
        println!("$ {line}\n{shown}");
        assert!(done, "`{line}` failed: {shown}");
        shown
    }

    /// A new colleague follows her link and chooses a password; who is active at this place stays so.
    fn follow_link(&self, shown: &str, name: &str, active: &str) {
        let link = shown
            .split_whitespace()
            .find(|word| word.contains("/activate#mll_"))
            .expect("a link was printed");
        let both = [("New password", PASSWORD), ("Once more", PASSWORD)];
        self.run(&format!("ml login --link '{link}'"), &both);
        assert!(self.run("ml whoami", &[]).contains(name));
        self.run(&format!("ml login {active}"), &[("Password", PASSWORD)]);
    }
}

/// Takes the command lines of a page one after the other.
struct Page {
    lines: std::vec::IntoIter<String>,
}

impl Page {
    fn open(page: &str) -> Page {
        Page {
            lines: command_lines(page).into_iter(),
        }
    }

    /// The next line, which must be this one, with `ml` for the program's name and names for its placeholders.
    #[track_caller]
    fn next(&mut self, expected: &str, names: &[(&str, &str)]) -> String {
        let line = self.lines.next().expect("the page has another command line");
        assert_eq!(line, expected, "the page's next command line");
        let line = names
            .iter()
            .fold(line, |line, (placeholder, name)| line.replace(placeholder, name));
        format!("ml {line}")
    }

    #[track_caller]
    fn end(mut self) {
        assert_eq!(self.lines.next(), None, "a command line that nobody ran");
    }
}

/// A copy of the example that the page starts from.
fn example(place: &Place) {
    place.write("const.yaml", include_str!("../../../../examples/const/const.yaml"));
    place.write("train.py", include_str!("../../../../examples/const/train.py"));
}

/// The names in the column NAME of an experiment list.
fn listed(shown: &str) -> Vec<&'static str> {
    ["green light", "euro stop"]
        .into_iter()
        .filter(|name| shown.contains(name))
        .collect()
}

#[test]
fn the_walkthrough_of_role_based_access_control_runs_as_written() {
    let place = Place::served();
    example(&place);
    let at = Terminal { place: &place };
    let mut page = Page::open("003");
    // The page's cluster comes with a second user; ours does not.
    at.run("ml user create determined --role Viewer", &[]);

    at.run(&page.next("-u admin user create alice", &[]), &[]);
    at.run(
        &page.next("user change-password alice", &[]),
        &[("New password", PASSWORD), ("Once more", PASSWORD)],
    );
    let said = at.run(&page.next("rbac assign-role -u alice ClusterAdmin", &[]), &[]);
    assert!(said.contains("ClusterAdmin") && said.contains("alice"), "{said}");
    at.run(&page.next("user login alice", &[]), &[("Password", PASSWORD)]);
    at.run(&page.next("user deactivate admin", &[]), &[]);
    at.run(&page.next("user deactivate determined", &[]), &[]);
    let (done, said) = at.try_run("ml login admin", &[("Password", PASSWORD)]);
    assert!(!done, "a deactivated user is out: {said}");

    for name in ["mle-traffic-00", "mle-traffic-01", "mle-traffic-02", "mle-stop-00"] {
        let said = at.run(&page.next(&format!("user create {name}"), &[]), &[]);
        at.follow_link(&said, name, "alice");
    }
    at.run(&page.next("workspace create \"Traffic Lights\"", &[]), &[]);
    at.run(&page.next("workspace create \"Stop Signs\"", &[]), &[]);
    at.run(&page.next("user-group create \"Traffic Lights Team\"", &[]), &[]);
    let added = "user-group add-user \"Traffic Lights Team\" mle-traffic-00,mle-traffic-01,mle-traffic-02";
    at.run(&page.next(added, &[]), &[]);
    at.run(
        &page.next(
            "rbac assign-role -g \"Traffic Lights Team\" -w \"Traffic Lights\" Editor",
            &[],
        ),
        &[],
    );
    at.run(
        &page.next(
            "rbac assign-role -u mle-traffic-00 -w \"Traffic Lights\" WorkspaceAdmin",
            &[],
        ),
        &[],
    );
    at.run(
        &page.next("rbac assign-role -u mle-stop-00 -w \"Stop Signs\" WorkspaceAdmin", &[]),
        &[],
    );

    at.run(
        &page.next("-u mle-traffic-01 project create \"Traffic Lights\" \"Green\"", &[]),
        &[],
    );
    // Prose: "We use det -u USER_NAME", "you can run det user login USER_NAME" do not begin a line of their own.
    let submit = "-u mle-traffic-01 experiment create const.yaml . --config workspace=\"Traffic Lights\" --config project=\"Green\" --config name=\"green light\"";
    at.run(&page.next(submit, &[]), &[]);
    at.run(
        &page.next("-u mle-stop-00 project create \"Stop Signs\" \"Euro\"", &[]),
        &[],
    );
    let submit = "-u mle-stop-00 experiment create const.yaml . --config workspace=\"Stop Signs\" --config project=\"Euro\" --config name=\"euro stop\"";
    at.run(&page.next(submit, &[]), &[]);
    // Both are real experiments: they run to their end.
    for (who, name) in [("mle-traffic-01", "green light"), ("mle-stop-00", "euro stop")] {
        let log = at.run(&format!("ml -u {who} logs '{name}' -f"), &[]);
        assert!(log.contains("step 30: loss"), "{log}");
    }
    let all = at.run(&page.next("-u alice experiment list --all", &[]), &[]);
    assert_eq!(listed(&all), ["green light", "euro stop"]);
    let stop = at.run(&page.next("-u mle-stop-00 experiment list --all", &[]), &[]);
    assert_eq!(listed(&stop), ["euro stop"]);
    let traffic = at.run(&page.next("-u mle-traffic-00 experiment list --all", &[]), &[]);
    assert_eq!(listed(&traffic), ["green light"]);
    let (done, said) = at.try_run("ml -u mle-stop-00 project create \"Traffic Lights\" \"Mine\"", &[]);
    assert!(
        !done && said.contains("there is no workspace `Traffic Lights`"),
        "{said}"
    );

    // Manage RBAC, inspecting the setup.
    assert!(at.run(&page.next("user -h", &[]), &[]).contains("change-password"));
    let mine = at.run(&page.next("rbac my-permissions", &[]), &[]);
    assert!(mine.contains("experiments:read"), "{mine}");
    let role = at.run(&page.next("rbac describe-role ROLE", &[("ROLE", "Editor")]), &[]);
    assert!(
        role.contains("experiments:create") && role.contains("Traffic Lights Team"),
        "{role}"
    );
    let roles = at.run(&page.next("rbac list-roles", &[]), &[]);
    assert!(
        roles.contains("EditorProjectRestricted") && roles.contains("tasks:create"),
        "{roles}"
    );
    let users = at.run(&page.next("user list --all", &[]), &[]);
    assert!(users.contains("determined") && users.contains("mle-stop-00"), "{users}");
    let groups = at.run(&page.next("user-group list", &[]), &[]);
    assert!(
        groups.contains("Traffic Lights Team") && groups.contains("Queue admins"),
        "{groups}"
    );
    let team = [("GROUP_NAME", "'Traffic Lights Team'")];
    let members = at.run(&page.next("user-group describe GROUP_NAME", &team), &[]);
    assert!(members.contains("mle-traffic-02"), "{members}");
    let users = at.run(&page.next("user list", &[]), &[]);
    assert!(
        !users.contains("determined") && users.contains("mle-stop-00"),
        "{users}"
    );
    // The page has an active `admin` here.
    at.run("ml user activate admin", &[]);
    at.run("ml logout -u admin", &[]);
    at.run(
        &page.next("-u admin user create <username> --remote", &[("<username>", "remy")]),
        &[("Password of admin", PASSWORD)],
    );
    assert!(at.run("ml whoami", &[]).contains("alice"), "-u is for one command");
    let held = at.run(&page.next("rbac list-groups-roles GROUP_NAME", &team), &[]);
    assert!(held.contains("Editor") && held.contains("Traffic Lights"), "{held}");
    let held = at.run(
        &page.next("rbac list-users-roles USER_NAME", &[("USER_NAME", "mle-traffic-00")]),
        &[],
    );
    assert!(
        held.contains("WorkspaceAdmin") && held.contains("Editor") && held.contains("Traffic Lights Team"),
        "{held}"
    );

    // Managing user groups.
    let names = [
        ("GROUP_NAME", "night-shift"),
        ("USER_NAME1", "mle-traffic-00"),
        ("USER_NAME2", "mle-traffic-01"),
        ("USER_NAME3", "mle-stop-00"),
    ];
    at.run(&page.next("user-group create GROUP_NAME", &names), &[]);
    at.run(
        &page.next(
            "user-group add-user GROUP_NAME USER_NAME1,USER_NAME2,USER_NAME3",
            &names,
        ),
        &[],
    );
    at.run(
        &page.next(
            "user-group remove-user GROUP_NAME USER_NAME1,USER_NAME2,USER_NAME3",
            &names,
        ),
        &[],
    );
    at.run(
        &page.next("user-group change-name GROUP_NAME", &names),
        &[("ew name", "day-shift")],
    );
    at.run(
        &page.next("user-group delete GROUP_NAME", &[("GROUP_NAME", "day-shift")]),
        &[("?", "y")],
    );
    let groups = at.run(&page.next("user-group list", &[]), &[]);
    assert!(!groups.contains("-shift"), "{groups}");
    at.run(&page.next("user-group describe GROUP_NAME", &team), &[]);

    // Managing role assignments: globally, then at a workspace.
    let names = [
        ("USER_NAME", "mle-stop-00"),
        ("GROUP_NAME", "'Traffic Lights Team'"),
        ("ROLE_NAME", "Viewer"),
        ("WORKSPACE_NAME", "'Stop Signs'"),
    ];
    for place in ["", " -w WORKSPACE_NAME"] {
        for holder in ["-u USER_NAME", "-g GROUP_NAME"] {
            at.run(
                &page.next(&format!("rbac assign-role {holder} ROLE_NAME{place}"), &names),
                &[],
            );
            let seen = at.run("ml -u mle-traffic-00 experiment list --all", &[]);
            assert_eq!(seen.contains("euro stop"), holder.starts_with("-g"), "{seen}");
            let taken = page.next(&format!("rbac unassign-role {holder} ROLE_NAME{place}"), &names);
            at.run(&taken, &[]);
            let (done, said) = at.try_run(&taken, &[]);
            assert!(!done && said.contains("Viewer"), "taking away twice: {said}");
        }
    }
    for help in ["user -h", "user-group -h", "rbac -h", "rbac assign-role -h"] {
        assert!(at.run(&page.next(help, &[]), &[]).contains("Usage"));
    }
    at.run(&page.next("rbac list-roles", &[]), &[]);
    // Migrating: the administrator's own role, before strict rules.
    at.run(
        &page.next(
            "rbac assign-role -u ADMIN_USER_NAME ClusterAdmin",
            &[("ADMIN_USER_NAME", "mle-traffic-02")],
        ),
        &[],
    );
    page.end();
}

#[test]
fn the_page_on_users_permissions_and_roles_runs_as_written() {
    let place = Place::served();
    let at = Terminal { place: &place };
    let mut page = Page::open("001");
    let said = at.run(&page.next("user create USERNAME", &[("USERNAME", "una")]), &[]);
    at.follow_link(&said, "una", "admin");
    let permissions = at.run(&page.next("permission list", &[]), &[]);
    assert!(permissions.contains("experiments:create"), "{permissions}");
    let roles = at.run(&page.next("role list", &[]), &[]);
    assert!(roles.contains("ClusterAdmin") && roles.contains("guest"), "{roles}");
    let names = [("<ROLE_NAME>", "owner-of-all"), ("<USER_NAME>", "una")];
    at.run(
        &page.next("role create <ROLE_NAME> -p read -p write -p me", &names),
        &[],
    );
    at.run(&page.next("role assign <ROLE_NAME> --user <USER_NAME>", &names), &[]);
    assert!(
        at.run("ml -u una user create by-una", &[]).contains("/activate#"),
        "una may do everything now"
    );
    let names = [("<ROLE_NAME>", "guest"), ("<USER_NAME>", "gus")];
    let said = at.run(&page.next("user create <USER_NAME> --role <ROLE_NAME>", &names), &[]);
    at.follow_link(&said, "gus", "admin");
    let (done, said) = at.try_run("ml -u gus user create by-gus", &[]);
    assert!(!done && said.contains("users:create"), "a guest reads only: {said}");
    assert!(at.run("ml -u gus user list", &[]).contains("una"));
    let assigned = at.run(&page.next("role assignment list", &[]), &[]);
    assert!(
        assigned.contains("owner-of-all") && assigned.contains("gus"),
        "{assigned}"
    );
    page.end();
}

#[test]
fn the_page_on_user_permissions_runs_as_written() {
    let place = Place::served();
    let at = Terminal { place: &place };
    let mut page = Page::open("000");
    let long = "entrypoint: sleep 300\n";
    place.write("my-experiment/experiment.yaml", long);
    place.write("user-experiment/experiment.yaml", long);
    for name in ["ana", "bob"] {
        let said = at.run(&format!("ml user create {name}"), &[]);
        at.follow_link(&said, name, "admin");
    }
    at.run("ml -u bob run user-experiment", &[]);
    at.run("ml login ana", &[("Password", PASSWORD)]);
    at.run("ml run my-experiment", &[]);

    let own = at.run(&page.next("status", &[]), &[]);
    assert!(
        own.contains("my-experiment") && !own.contains("user-experiment"),
        "{own}"
    );
    assert!(own.contains("ana"), "with user context: {own}");
    at.run(&page.next("cancel <job-name>", &[("<job-name>", "my-experiment")]), &[]);
    let (done, said) = at.try_run("ml cancel user-experiment", &[]);
    assert!(!done && said.contains("You can only cancel your own jobs"), "{said}");

    at.run(&page.next("run my-experiment", &[]), &[]);
    let own = at.run(&page.next("status", &[]), &[]);
    assert!(
        own.contains("my-experiment") && !own.contains("user-experiment"),
        "{own}"
    );
    at.run(&page.next("cancel my-experiment", &[]), &[]);

    at.run("ml login admin", &[("Password", PASSWORD)]);
    let all = at.run(&page.next("status", &[]), &[]);
    assert!(
        all.contains("my-experiment") && all.contains("user-experiment"),
        "{all}"
    );
    at.run(&page.next("cancel user-experiment", &[]), &[]);
    page.end();
}

#[test]
fn the_page_on_users_and_groups_has_no_command_line() {
    assert!(command_lines("002").is_empty());
}
