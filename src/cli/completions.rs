//! `completions` and `man`, for packagers: made from the arguments themselves, so that they never disagree.

use clap::CommandFactory;

use super::context::{Failure, OK};
use super::{Arguments, print};

/// Prints the completions for a shell.
///
/// # Errors
/// [`Failure::Output`].
pub fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mailintake", &mut script);
    print::bytes(&script)?;
    Ok(OK)
}

/// Prints the manual page: the program, then each command.
///
/// # Errors
/// [`Failure::Output`].
pub fn man() -> Result<u8, Failure> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    describe(&command, "mailintake", &mut text)?;
    print::bytes(&text)?;
    Ok(OK)
}

/// A section for each command below one, with its own options.
fn describe(command: &clap::Command, path: &str, text: &mut Vec<u8>) -> Result<(), Failure> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let path = format!("{path} {}", below.get_name());
        if below.has_subcommands() {
            describe(below, &path, text)?;
            continue;
        }
        let heading = format!(".SH \"{}\"\n", path.to_uppercase());
        text.extend_from_slice(heading.as_bytes());
        let page = clap_mangen::Man::new(below.clone());
        page.render_synopsis_section(text)?;
        page.render_description_section(text)?;
        page.render_options_section(text)?;
    }
    Ok(())
}
