//! The agent as its users meet it: jobs leased by a server, run by real shims.

mod agent;
mod isolation;
mod jobs;
mod server;
mod vault;

/// Agents under test start this very program as their jobs' shims, as the agent of the product starts its own: `PROGRAM job-shim DIR`.
/// The test harness would take the arguments for names of tests, so they are looked at before it runs.
#[used]
#[unsafe(link_section = ".init_array")]
static BECOME_A_SHIM: extern "C" fn() = become_a_shim;

extern "C" fn become_a_shim() {
    let arguments = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    if arguments.next() == Some(b"job-shim") {
        use std::os::unix::ffi::OsStrExt;
        let dir = std::ffi::OsStr::from_bytes(arguments.next().unwrap_or_default());
        std::process::exit(bailiwick_agent::shim(std::path::Path::new(dir)));
    }
    if std::env::var_os("ML_TEST_AGENT").is_some() {
        std::process::exit(agent::run_from_environment());
    }
}
