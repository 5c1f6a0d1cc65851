//! `completions` and `man`, for packagers: made from the arguments themselves, so that they never disagree.

use clap::{Command, CommandFactory};

use super::context::{Failure, OK};
use super::{Arguments, print};

/// What holds for all commands.
const REST: &str = r#".SH "EXIT STATUS"
.TP
0
All went well.
.TP
1
The answer is no, or something failed.
.TP
2
The arguments make no sense. (\fBstatus \-\-check\fR ends with 0, 1, 2 or 3, as monitoring plug-ins do.)
.TP
74
The database or the disk.
.TP
75
Try again later; another daemon runs on the state directory. \fBingest \-\fR ends with 0 or 75 only.
.TP
77
The command is for root and for the owner of the state directory.
.TP
78
The configuration is refused.
.SH ENVIRONMENT
.TP
MAILINTAKE_CONFIG
The configuration file, where \fB\-\-config\fR names none.
.TP
MAILINTAKE_LOG
What is logged (error, warn, info or debug), whatever the configuration says.
.TP
CREDENTIALS_DIRECTORY, STATE_DIRECTORY
Set by systemd: where credentials are, and where the database is if the configuration names no \fIstate_dir\fR.
.SH FILES
.TP
/etc/mailintake/config.toml
The configuration.
.TP
/var/lib/mailintake/mailintake.db
The database; \fBbackups/\fR beside it has a copy of each of the last seven nights.
.SH "SEE ALSO"
.BR journalctl (1),
.BR systemctl (1)
"#;

/// The commands that people type; the generator would offer the hidden ones, too.
fn shown() -> Command {
    let all = Arguments::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("mailintake")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(all.get_arguments().cloned())
        .subcommands(shown.cloned())
}

/// Prints the completions for a shell.
///
/// # Errors
/// [`Failure::Output`].
pub fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "mailintake", &mut script);
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
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    describe(&command, "mailintake", &mut text)?;
    text.extend_from_slice(REST.as_bytes());
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
        // Said once, of all.
        let page = clap_mangen::Man::new(below.clone().mut_arg("config", |config| config.hide(true)));
        page.render_synopsis_section(text)?;
        page.render_description_section(text)?;
        page.render_options_section(text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn no_shell_offers_a_command_that_people_do_not_type() {
        let all = Arguments::command();
        let hidden = all.get_subcommands().filter(|command| command.is_hide_set());
        let hidden: Vec<_> = hidden.map(Command::get_name).collect();
        assert!(!hidden.is_empty());
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(), "mailintake", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("reextract") && script.contains("against"), "{shell}");
            for command in &hidden {
                assert!(!script.contains(command), "{command} in {shell}");
            }
        }
    }
}
