//! What a hostile job tries, on a real server and with real agents: everything that is not its own begins with `canary-` or is a key, and nothing of that kind may
//! come to its eyes.

use std::path::Path;
use std::process::Stdio;

use crate::agents::{Agent, eventually, shows};
use crate::place::Place;

/// Whose files, variables and name are to be found by nobody else. Not a word of it stands in the code.
const VICTIM: &str = "
import os, sys, time
word = 'can' + 'ary-'
for name in ['mine.txt', os.environ['TMPDIR'] + '/mine.txt', '/tmp/mine.txt', '/dev/shm/mine.txt']:
    open(name, 'w').write(word + 'file')
    os.chmod(name, 0o644)
os.chmod('.', 0o755)
print('ready', flush=True)
if len(sys.argv) > 1:
    time.sleep(1000)
";

/// Looks everywhere. What it can read of others shows in its log as `SEEN`, what it can do to them as `DONE`.
const HOSTILE: &str = r"
import ctypes, glob, os, pwd, re, signal, sys, urllib.error, urllib.request

place, pids, own, victims, other = sys.argv[1], sys.argv[2].split(','), os.environ['ML_EXPERIMENT_ID'], sys.argv[3], sys.argv[4]
key = os.environ['ML_API_KEY'].encode()
secret = re.compile(rb'canary-[a-z]+|ml[sl]?_[A-Za-z0-9]{30,}')

def look(path):
    try:
        # A pipe would keep it waiting.
        if not os.path.isfile(path):
            return
        with open(path, 'rb') as file:
            for found in set(secret.findall(file.read(50000000))) - {key}:
                print('SEEN', found.decode(), path, flush=True)
    except OSError:
        pass

def walk(top):
    for directory, _, names in os.walk(top):
        for name in names:
            look(os.path.join(directory, name))

tops = [place, '/tmp', '/var/tmp', '/dev/shm', '/run', pwd.getpwuid(0).pw_dir + '/.ml']
for top in tops:
    walk(top)
for process in glob.glob('/proc/[0-9]*') + ['/proc/' + pid for pid in pids]:
    for name in ['environ', 'cmdline', 'cwd/mine.txt', 'root' + place + '/data/bailiwick.db']:
        look(process + '/' + name)
    for fd in glob.glob(process + '/fd/*'):
        look(fd)
print('looked everywhere', flush=True)

# What may be written of what is not its own.
for path in [place + '/data/new', place + '/data/agent/jobs/new', place + '/agent/jobs/new', place + '/home/new']:
    try:
        open(path, 'w').close()
    except OSError:
        pass

libc = ctypes.CDLL(None, use_errno=True)
for pid in map(int, pids):
    # Its own processes may have the number of another's, seen from inside.
    if os.path.exists('/proc/%d' % pid):
        print('there is a process', pid, open('/proc/%d/cmdline' % pid).read().replace('\0', ' ')[:200], flush=True)
        continue
    if libc.ptrace(16, pid, 0, 0) == 0:
        print('DONE ptrace', pid, flush=True)
    for what in [signal.SIGSTOP, signal.SIGKILL]:
        try:
            os.kill(pid, what)
            print('DONE kill', pid, flush=True)
        except OSError:
            pass

def ask(method, path, body=None):
    request = urllib.request.Request(os.environ['ML_SERVER'] + path, data=body, method=method)
    request.add_header('Authorization', 'Bearer ' + key.decode())
    request.add_header('Content-Type', 'application/json')
    try:
        status = urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        status = error.code
    names = {own: 'OWN', victims: 'VICTIM', other: 'OTHER'}
    path = '/'.join(names.get(part, part) if 'experiments' in path else part for part in path.split('/'))
    print('API', method, path[7:], status, flush=True)

for id in [own, victims, other]:
    ask('GET', '/api/v1/experiments/' + id)
for id in [victims, other]:
    at = '/api/v1/experiments/' + id
    ask('GET', at + '/logs')
    ask('GET', at + '/code')
    ask('PUT', at + '/progress', b'{\x22progress\x22: 0.5}')
    for act in ['cancel', 'kill', 'archive', 'unarchive']:
        ask('POST', at + '/' + act, b'{}')
    ask('DELETE', at)
ask('POST', '/api/v1/experiments', b'{\x22config\x22: {\x22name\x22: \x22x\x22, \x22entrypoint\x22: \x22true\x22}}')
for path in ['/api/v1/vault', '/api/v1/vaults', '/api/v1/vaults/1', '/api/v1/vault?reveal=true', '/api/v1/users', '/api/v1/service-accounts', '/api/v1/audit', '/api/v1/tokens']:
    ask('GET', path)
print('done', flush=True)
";

/// Starts an agent with a key in its environment, and something of the host's beside it.
fn agent(place: &Place, name: &str, queue: &str, flags: &[&str]) -> Agent {
    place.ml(&format!("-u admin queue create {queue}")).done();
    let key = place
        .ml(&format!("-u admin service-account create {name} --serve {queue}"))
        .done();
    place
        .ml(&format!(
            "-u admin service-account edit {name} --allow-impersonation true"
        ))
        .done();
    let mut command = place.command(&["agent", "--server", place.url(), "--name", name, "--queue", queue]);
    command
        .arg("--dir")
        .arg(place.path("../agent"))
        .args(["--slots", "4"])
        .args(flags)
        .env("ML_API_KEY", key.trim())
        .env("OF_THE_HOST", "canary-host");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    shows(place, "-u admin agent list", &format!("\t{name}\tup\t"));
    Agent(child)
}

fn isolates(place: &Place) -> bool {
    let holds = place.ml("agent doctor").out;
    let holds = holds.lines().any(|line| line.starts_with("namespaces\tyes"));
    if !holds {
        eprintln!("namespaces do not hold on this machine: what a hostile job can do here is not tried");
    }
    holds
}

/// The first process of a job that runs, as the machine counts them: whatever agent runs it.
fn first_process(place: &Place, job: &str) -> Option<String> {
    ["../agent/jobs", "../data/agent/jobs"].iter().find_map(|jobs| {
        let mut entries = std::fs::read_dir(place.path(jobs)).ok()?.flatten();
        let of_job = entries.find(|entry| {
            let spec = std::fs::read_to_string(entry.path().join("spec.json")).unwrap_or_default();
            spec.contains(&format!("\"experiment\":{job},"))
        })?;
        std::fs::read_to_string(of_job.path().join("init.pid")).ok()
    })
}

/// Runs the hostile job on this queue beside a running victim and after an ended one; its log.
fn attempt(place: &Place, queue: &str, agent: &str) -> String {
    place.write("victim.py", VICTIM);
    place.write("hostile.py", HOSTILE);
    place.write("plain.py", "print('plain')\n");
    let run = |line: &str| place.ml(line).done().trim().to_owned();
    let env = "--env SECRET=canary-env";
    run(&format!(
        "run victim.py -u ana --queue {queue} --name canary-ended {env} --wait --timeout 60s"
    ));
    let victim = run(&format!(
        "run victim.py -u ana --queue {queue} --name canary-runs {env} -- stay"
    ));
    shows(place, &format!("logs {victim} -u ana"), "ready");
    let process = eventually("the victim's first process", || first_process(place, &victim));
    let other = run(&format!(
        "run plain.py -u mal --queue {queue} --name mals-other --wait --timeout 60s"
    ));
    let top = place.path("..").canonicalize().unwrap();
    let pids = format!("{agent},{}", process.trim());
    let top = top.to_str().unwrap();
    let words = [
        "run",
        "hostile.py",
        "-u",
        "mal",
        "--queue",
        queue,
        "--follow",
        "--",
        top,
        &pids,
        &victim,
        &other,
    ];
    let said = place.ml_args(&words);
    assert_eq!(said.status, Some(0), "{said:?}");
    let log = said.out;
    for there in ["looked everywhere\n", "API GET /experiments/OWN 200\n", "done\n"] {
        assert!(log.contains(there), "{log}");
    }
    assert!(!log.contains("SEEN") && !log.contains("DONE"), "{log}");
    for new in [
        "../data/new",
        "../data/agent/jobs/new",
        "../agent/jobs/new",
        "../home/new",
    ] {
        assert!(!place.path(new).exists(), "{new}");
    }
    // Unharmed, and as it was.
    for pid in [agent, process.trim()] {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap();
        assert!(
            !status.contains("State:\tT") && !status.contains("State:\tZ"),
            "{status}"
        );
    }
    let described = place.ml(&format!("experiment describe {victim} -u ana")).done();
    assert!(described.contains("RUNNING"), "{described}");
    place.ml(&format!("kill {victim} -u ana")).done();
    // Nothing of it is left running when the test ends.
    shows(place, &format!("experiment describe {victim} -u ana"), "CANCELED");
    log
}

/// That each line of the interface about this experiment, or this path, has one of these answers.
fn answers(log: &str, about: &str, allowed: &[&str]) {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("API ") && line.contains(about))
        .collect();
    assert!(!lines.is_empty(), "nothing about {about}: {log}");
    for line in lines {
        let status = line.rsplit(' ').next().unwrap();
        assert!(allowed.contains(&status), "{line}");
    }
}

fn refused_whoever_it_runs_as(log: &str) {
    answers(log, "/experiments/VICTIM", &["403", "404"]);
    answers(log, "GET /experiments/VICTIM", &["404"]);
    answers(log, "POST /experiments ", &["403", "404"]);
    for about in [
        "GET /vault",
        "GET /users",
        "GET /service-accounts",
        "GET /audit",
        "GET /tokens",
    ] {
        answers(log, about, &["401", "403", "404"]);
    }
}

/// The attempts are real ones: where an agent keeps nothing apart, and is root as the test is, they succeed.
#[test]
fn without_isolation_the_same_job_sees_and_harms_others() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("not root: what a job without isolation could do is not tried");
        return;
    }
    let place = Place::served_outside_tmp();
    place.user("ana", "");
    place.user("mal", "");
    let machine = agent(&place, "machine", "machine", &["--isolate", "none"]);
    place.write("victim.py", VICTIM);
    place.write("hostile.py", HOSTILE);
    let run = "run victim.py -u ana --queue machine --name canary-runs --env SECRET=canary-env -- stay";
    let victim = place.ml(run).done().trim().to_owned();
    shows(&place, &format!("logs {victim} -u ana"), "ready");
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let top = place.path("..").canonicalize().unwrap();
    let (top, pid) = (top.to_str().unwrap(), bystander.id().to_string());
    let process = eventually("the victim's first process", || first_process(&place, &victim));
    // It looks at this place alone, and not through all of the machine; and what it sees of a process does not make that its own.
    let processes = format!("['/proc/{}', '/proc/{}']", machine.0.id(), process.trim());
    let hostile = HOSTILE
        .replace("for top in tops:", "for top in [place]:")
        .replace("glob.glob('/proc/[0-9]*')", &processes)
        .replace("if os.path.exists('/proc/%d' % pid):", "if False:");
    place.write("hostile.py", &hostile);
    let words = [
        "run",
        "hostile.py",
        "-u",
        "mal",
        "--queue",
        "machine",
        "--follow",
        "--",
        top,
        &pid,
        &victim,
        &victim,
    ];
    let said = place.ml_args(&words);
    let _ = bystander.kill();
    bystander.wait().unwrap();
    place.ml(&format!("kill {victim} -u ana")).done();
    shows(&place, &format!("experiment describe {victim} -u ana"), "CANCELED");
    drop(machine);
    let log = said.out;
    for seen in [
        "SEEN canary-file ",
        "SEEN canary-env ",
        "SEEN canary-host ",
        "SEEN canary-runs ",
        "SEEN ml_",
    ] {
        assert!(log.contains(seen), "{seen}: {log}");
    }
    for done in [format!("DONE ptrace {pid}"), format!("DONE kill {pid}")] {
        assert!(log.contains(&done), "{done}: {log}");
    }
}

#[test]
fn a_hostile_job_gets_at_nothing_that_is_not_its_own() {
    let place = Place::served_outside_tmp();
    if !isolates(&place) {
        return;
    }
    place.user("ana", "");
    place.user("mal", "");
    let machine = agent(&place, "machine", "machine", &["--isolate", "require"]);
    let log = attempt(&place, "machine", &machine.0.id().to_string());
    refused_whoever_it_runs_as(&log);
    answers(&log, "/experiments/OTHER", &["403", "404"]);
    answers(&log, "GET /experiments/OTHER", &["404"]);
    // The server's own agent, with the server's data beside it.
    let builtin = std::fs::read_to_string(place.path("../data/agent/lock")).unwrap();
    let log = attempt(&place, "default", builtin.trim());
    refused_whoever_it_runs_as(&log);
    answers(&log, "GET /experiments/OTHER", &["404"]);
}

#[test]
fn a_hostile_job_that_runs_as_its_owner_reads_what_the_owner_may_and_changes_nothing() {
    let place = Place::served_outside_tmp();
    if !isolates(&place) {
        return;
    }
    place.user("ana", "");
    place.user("mal", "");
    let machine = agent(&place, "machine", "machine", &["--use-owner-token"]);
    let log = attempt(&place, "machine", &machine.0.id().to_string());
    refused_whoever_it_runs_as(&log);
    answers(&log, "GET /experiments/OTHER", &["200"]);
    for change in ["PUT", "POST", "DELETE"] {
        answers(&log, &format!("{change} /experiments/OTHER"), &["403", "404"]);
    }
    let described = place.ml("experiment describe mals-other -u mal").done();
    assert!(described.contains("COMPLETED"), "{described}");
}
