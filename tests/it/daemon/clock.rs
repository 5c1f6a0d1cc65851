//! What recurs, seen to happen by the clock: the daemon runs with a wall clock that is ahead by so many seconds.

use std::process::Command;

use mailintake::time::Clock;

use crate::support::binary::Program;
use crate::support::scene::{SOON, assert_sound, mail, query};

/// Moves the wall clock of a process on; the monotonic one stays.
const AHEAD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, time);
    const char *ahead = getenv("AHEAD");
    if (id == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
    return result;
}
"#;

const DAY: i64 = 86_400;

/// Lets the daemon believe that it is some days later, at this second of an hour.
fn at(program: &mut Program, days: i64, second_of_hour: i64) {
    let now = Clock::system().now().0;
    let ahead = days * DAY + (second_of_hour - now % 3600).rem_euclid(3600);
    program.set("AHEAD", &ahead.to_string());
}

#[test]
fn copies_are_made_and_old_bytes_deleted_when_the_clock_says_so() {
    let mut program = Program::bare();
    let secret = program.secret("password", "secret");
    program.configure(
        "log = \"debug\"",
        &format!(
            "[[mailbox]]\naddress = \"support@example.org\"\nhost = \"127.0.0.1\"\nport = 9\npassword = {secret}\n\
             [[project]]\nkey = \"SUP\"\nclasses = {{ list = \"hold\" }}\n[retention]\nraw_messages = \"2d\"\n"
        ),
    );
    let source = program.file("ahead.c", AHEAD);
    let library = source.with_extension("so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("skipped: this needs a C compiler");
        return;
    }
    let held = mail("held").replace("\n\n", "\nList-Id: <news.example>\n\n");
    for (name, text) in [("one.eml", mail("one")), ("held.eml", held)] {
        let path = program.file(name, text);
        program.ok(&["ingest", path.to_str().unwrap()]);
    }
    program.set("LD_PRELOAD", library.to_str().unwrap());
    for days in 1..=2 {
        // Three seconds before what is due at 47 minutes past.
        at(&mut program, days, 46 * 60 + 57);
        let mut daemon = program.daemon();
        daemon.wait_for("a copy", SOON, |daemon| {
            daemon.log().contains("copied the database to").then_some(())
        });
        assert_eq!(daemon.terminate(), Some(0));
    }
    let copies = std::fs::read_dir(program.state_dir().join("backups")).unwrap();
    let copies: Vec<_> = copies.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    for copy in &copies {
        assert_sound(copy);
    }
    at(&mut program, 3, 36 * 60 + 57);
    let mut daemon = program.daemon();
    daemon.wait_for("retention", SOON, |daemon| {
        daemon
            .log()
            .contains("deleted the original bytes of 1 messages")
            .then_some(())
    });
    assert_eq!(daemon.terminate(), Some(0));
    let left = "SELECT verdict FROM original o JOIN message m ON m.id = o.message";
    assert_eq!(query(&program.database(), left), [["held"]]);
}
