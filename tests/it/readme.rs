//! What the README tells people to write and to type is what the program takes.

use std::process::{Command, Stdio};
use std::time::Duration;

use mailintake::alert::AlertKind;

use crate::support::binary::{Program, project, wait};

fn readme() -> String {
    std::fs::read_to_string(project("README.md")).unwrap()
}

/// The code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let text = readme();
    let parts = text.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn each_configuration_in_the_readme_is_accepted() {
    let configurations = blocks("toml");
    assert!(configurations.len() >= 3, "Microsoft 365, Google, a password");
    for configuration in configurations {
        let program = Program::bare();
        // Secrets lie where this test may write.
        let folder = program.config().parent().unwrap().display().to_string();
        for path in configuration.split("/etc/mailintake/secrets/").skip(1) {
            program.secret(path.split('"').next().unwrap(), "a secret");
        }
        let text = configuration.replace("/etc/mailintake/secrets", &folder);
        if text.contains("[daemon]") {
            program.write(&text);
        } else {
            program.configure("", &text);
        }
        let output = program.run(&["check"]);
        assert_eq!(output.code, Some(0), "{}\n{configuration}", output.stderr);
        assert_eq!(output.stderr, "", "{configuration}");
    }
}

#[test]
fn each_command_in_the_readme_exists() {
    let program = Program::bare();
    let words = regex::Regex::new(r"mailintake((?: [a-z]+)+)").unwrap();
    let text = readme();
    let typed = blocks("sh").concat();
    let inline = text.split('`').skip(1).step_by(2);
    let mut commands: Vec<String> = typed
        .lines()
        .chain(inline.filter(|code| code.starts_with("mailintake ")))
        .filter(|line| line.trim_start_matches("sudo ").starts_with("mailintake "))
        .filter_map(|line| words.captures(line).map(|found| found[1].trim().to_owned()))
        .collect();
    commands.sort();
    commands.dedup();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        // The words before the first argument in capitals; a name in small letters may follow the command.
        let mut arguments: Vec<&str> = command.split(' ').take(2).collect();
        if !["issue", "message", "alert"].contains(&arguments[0]) {
            arguments.truncate(1);
        }
        arguments.push("--help");
        let output = program.run(&arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.stderr);
    }
}

#[test]
fn the_readme_says_what_each_alert_asks_for() {
    let text = readme();
    for kind in AlertKind::ALL {
        let row = format!("| `{}` |", kind.as_str());
        assert_eq!(text.matches(&row).count(), 1, "{row}");
    }
}

#[test]
fn each_file_that_the_readme_names_is_there() {
    let text = readme();
    let links = regex::Regex::new(r"\]\(([a-z.][A-Za-z0-9_./-]*)\)").unwrap();
    for link in links.captures_iter(&text) {
        assert!(project(&link[1]).exists(), "{}", &link[1]);
    }
}

#[test]
fn the_show_plays_to_its_end() {
    // As `tests/try` plays it; what it takes was built with the tests.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::current_exe().unwrap();
    let examples = target.parent().unwrap().parent().unwrap().join("examples");
    if !examples.join("demo").exists() {
        let built = Command::new(cargo)
            .current_dir(project("."))
            .args(["build", "--locked", "--quiet", "--example", "demo"])
            .status();
        assert!(built.unwrap().success(), "the show cannot be built");
    }
    let home = tempfile::tempdir().unwrap();
    let told = home.path().join("told");
    let sink = std::fs::File::create(&told).unwrap();
    let mut show = Command::new(examples.join("demo"))
        .env("TMPDIR", home.path())
        .stdin(Stdio::null())
        .stdout(sink.try_clone().unwrap())
        .stderr(sink)
        .spawn()
        .unwrap();
    let ended = wait(Duration::from_mins(2), || show.try_wait().unwrap());
    if ended.is_none() {
        // It ends its daemon at SIGTERM.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(show.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        show.wait().unwrap();
    }
    let text = std::fs::read_to_string(&told).unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{text}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "it leaves {left:?}");
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "too wide for a terminal: {wide:?}");
}
