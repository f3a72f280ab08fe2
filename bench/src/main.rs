//! What Bailiwick promises about speed and about surviving crashes, measured: `bailiwick-bench all`, `bailiwick-bench torture`. See `bench/README.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod can_i;
mod fill;
mod fleet;
mod get;
mod ground;
mod idle;
mod leaks;
mod lists;
mod load;
mod log_latency;
mod pages;
mod postgres;
mod start_latency;
mod status;
mod submit;
mod table;
mod torture;

/// What went wrong, in words.
type Outcome<T> = Result<T, String>;

#[derive(Parser)]
#[command(name = "bailiwick-bench", about = "Measure Bailiwick, or torture it")]
struct Cli {
    /// The program to measure [default: `ml` beside this one]
    #[arg(long, global = true)]
    ml: Option<PathBuf>,
    /// Leave PostgreSQL out
    #[arg(long, global = true)]
    sqlite_only: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything but `torture`
    All,
    /// From a submission's acceptance to the start of its process
    StartLatency,
    /// Submissions per second
    Submit {
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// From a printed line to its follower, alone and beside a flood
    LogLatency,
    /// What the two checks cost a read of one experiment
    Get,
    /// A page of 50 among 1,000 to 1,000,000 experiments
    Status {
        /// The largest size
        #[arg(long, default_value_t = 1_000_000)]
        most: i64,
    },
    /// A page of 50 among up to 1,000,000 experiments in 5,000 workspaces, in two orders, by how much one sees
    Lists {
        /// The largest size
        #[arg(long, default_value_t = 1_000_000)]
        most: i64,
    },
    /// Every page of the browser among 1,000,000 experiments and 10,000 users
    Pages {
        /// How many experiments
        #[arg(long, default_value_t = 1_000_000)]
        most: i64,
    },
    /// Questions about rights, one by one and a thousand at once
    CanI,
    /// Whether time tells what is hidden from what is not there
    Leaks {
        /// Of each sort
        #[arg(long, default_value_t = 2_000)]
        requests: usize,
    },
    /// Cold start, memory at rest, start of the command line
    Idle,
    /// A thousand agents of a hundred queues: at rest, at work, silent, killed
    Fleet(fleet::Options),
    /// Kill server and agent at random moments and count what is lost
    Torture(torture::Options),
    /// A server in which one route has a twin without checks
    #[cfg(feature = "unchecked")]
    #[command(hide = true)]
    ServeUnchecked {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        database: Option<String>,
        #[arg(long)]
        admin_password_file: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "unchecked")]
    if let What::ServeUnchecked {
        data,
        database,
        admin_password_file,
    } = cli.what
    {
        return finish(get::serve(data, database, admin_password_file));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    finish(runtime.block_on(run(cli)))
}

fn finish(outcome: Outcome<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Outcome<()> {
    let postgres = match &cli.what {
        What::Torture(options) => options.postgres,
        _ => !cli.sqlite_only,
    };
    let bench = ground::Bench::new(cli.ml, postgres)?;
    let work = async {
        match cli.what {
            What::StartLatency => start_latency::run(&bench).await,
            What::Submit { seconds } => submit::run(&bench, seconds).await,
            What::LogLatency => log_latency::run(&bench).await,
            What::Get => get::run(&bench).await,
            What::Status { most } => status::run(&bench, most).await,
            What::Lists { most } => lists::run(&bench, most).await,
            What::Pages { most } => pages::run(&bench, most).await,
            What::CanI => can_i::run(&bench).await,
            What::Leaks { requests } => leaks::run(&bench, requests).await,
            What::Idle => idle::run(&bench).await,
            What::Fleet(options) => fleet::run(&bench, options).await,
            What::Torture(options) => torture::run(&bench, options).await,
            What::All => {
                idle::run(&bench).await?;
                start_latency::run(&bench).await?;
                log_latency::run(&bench).await?;
                submit::run(&bench, 20).await?;
                get::run(&bench).await?;
                status::run(&bench, 1_000_000).await?;
                lists::run(&bench, 1_000_000).await?;
                pages::run(&bench, 1_000_000).await?;
                can_i::run(&bench).await?;
                leaks::run(&bench, 2_000).await?;
                fleet::run(&bench, fleet::Options::default()).await
            }
            #[cfg(feature = "unchecked")]
            What::ServeUnchecked { .. } => unreachable!("handled before"),
        }
    };
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|why| why.to_string())?;
    // Dropping the work ends every server, agent and job that it started.
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("ended by SIGTERM".into()),
    }
}
