//! The commands: arguments, output, exit codes; one file a noun. Nothing is decided here.

pub mod again;
pub mod alert;
pub mod audit;
pub mod authorize;
pub mod backup;
pub mod check;
pub mod completions;
pub mod context;
pub mod explain;
pub mod guide;
pub mod ingest;
pub mod init;
pub mod issue;
pub mod key;
pub mod message;
pub mod output;
pub mod print;
pub mod progress;
pub mod restore;
pub mod run;
pub mod sign_in;
pub mod simulate;
pub mod status;
pub mod test;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::context::Failure;

/// Turns mailboxes into issues, exactly once, and keeps its OAuth 2.0 tokens fresh.
#[derive(Debug, Parser)]
#[command(
    name = "mailintake",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "MAILINTAKE_CONFIG",
        default_value = "/etc/mailintake/config.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run,
    /// Find the provider of an address; print a configuration to begin with, and what to do next
    Init {
        /// The mail address of the mailbox
        address: String,
    },
    /// Read and validate the configuration; say what to enter at the providers
    Check(Json),
    /// Test the connection of integrations, mailboxes and smtp servers, step by step
    Test {
        /// Names of mailboxes, integrations or smtp servers; all where none is given
        names: Vec<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Sign in: obtain the grant that a mailbox or smtp server needs
    Authorize(sign_in::Authorize),
    /// Forget a grant
    Revoke(sign_in::Revoke),
    /// Show mailboxes, grants and alerts
    Status {
        /// One line with perfdata and exit 0, 1, 2 or 3, as monitoring plug-ins do
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Look at issues, comment on them, close, merge or erase them
    #[command(subcommand, arg_required_else_help = true)]
    Issue(issue::Issue),
    /// Look at the ledger; decide on held and quarantined mail
    #[command(subcommand, arg_required_else_help = true)]
    Message(message::Message),
    /// Look at alerts and acknowledge them
    #[command(subcommand, arg_required_else_help = true)]
    Alert(alert::Alert),
    /// Compare the servers with the ledger
    Audit {
        /// Names of mailboxes; all where none is given
        names: Vec<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Copy the database to a new file, while the daemon runs or not
    Backup {
        /// The new file
        path: PathBuf,
    },
    /// Put a copy of the database in its place; the daemon must not run
    Restore {
        /// The copy
        path: PathBuf,
    },
    /// The key that the tokens are sealed with
    #[command(subcommand, arg_required_else_help = true)]
    Key(key::KeyCommand),
    /// Take messages from files, or from standard input as a mail system gives them
    Ingest(ingest::Ingest),
    /// Show what would become of messages; nothing is written
    ///
    /// Each is judged by itself, by what the database holds now: an answer to another message of the same run is
    /// shown as a new issue.
    Simulate(simulate::Simulate),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    #[command(name = crate::intake::probe::COMMAND, hide = true)]
    ParseProbe,
    #[command(name = output::COMMAND, hide = true)]
    RemoveUnlessWhole(output::Waited),
}

/// Whether a command prints JSON.
#[derive(Debug, Clone, Copy, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command of the process's arguments; returns its exit code.
pub fn main() -> u8 {
    // Whatever is written belongs to its owner alone: the database, its log, keys, copies.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    // A crash writes no secret to a file. A limit may always be lowered; where it may not, it was none of ours.
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap_or_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is no fault. A closed pipe is not worth a word.
            let is_fault = error.use_stderr();
            error.print().unwrap_or_default();
            return match is_fault {
                false => context::OK,
                true if ingest::is_pipe(std::env::args_os()) => context::TRY_AGAIN,
                true => context::USAGE,
            };
        }
    };
    match dispatch(arguments) {
        Ok(code) => code,
        Err(failure) => {
            print::complaint(&failure.to_string());
            failure.code()
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<u8, Failure> {
    let config = arguments.config;
    match arguments.command {
        Command::Run => run::run(&config),
        Command::Init { address } => init::command(&config, &address),
        Command::Check(Json { json }) => check_configuration(&config, json),
        Command::Test {
            names,
            json: Json { json },
        } => context::with_config(&config, async |context| test::run(context, &names, json).await),
        Command::Authorize(authorize) => {
            context::with_config(&config, async |context| sign_in::authorize(context, &authorize).await)
        }
        Command::Revoke(revoke) => {
            context::with_config(&config, async |context| sign_in::revoke(context, &revoke).await)
        }
        Command::Status {
            check,
            json: Json { json },
        } => status::command(&config, check, json),
        Command::Issue(command) => {
            let open = |state_dir: &std::path::Path| command.open_file(state_dir);
            let run = async |database: &_, opened| issue::run(database, &command, opened).await;
            context::with_database_and(&config, open, run)
        }
        Command::Message(command) => message::command(&config, command),
        Command::Alert(command) => {
            context::with_database(&config, async |database| alert::run(database, command).await)
        }
        Command::Audit {
            names,
            json: Json { json },
        } => context::with_config(&config, async |context| audit::run(context, &names, json).await),
        Command::Backup { path } => backup::command(&config, &path),
        Command::Restore { path } => restore::command(&config, &path),
        Command::Key(command) => key::command(&config, &command),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man => completions::man(),
        Command::Ingest(command) => ingest::command(&config, &command),
        Command::Simulate(command) => simulate::command(&config, &command),
        Command::RemoveUnlessWhole(waited) => {
            output::remove_unless_whole(&waited)?;
            Ok(context::OK)
        }
        Command::ParseProbe => {
            crate::intake::probe::run(&mut std::io::stdin().lock()).map_err(Failure::Output)?;
            Ok(context::OK)
        }
    }
}

fn check_configuration(path: &std::path::Path, json: bool) -> Result<u8, Failure> {
    let config = context::load_or_explain(path)?;
    context::admit(&config.daemon.state_dir)?;
    let page = check::run(&config, json);
    if json {
        print::json_line(&page)?;
    } else {
        print::line(&page)?;
    }
    Ok(context::OK)
}
