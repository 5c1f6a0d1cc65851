//! The `mailintake` command.

fn main() -> std::process::ExitCode {
    mailintake::cli::main().into()
}
