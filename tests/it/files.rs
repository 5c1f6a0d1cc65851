//! Mail from files and pipes, what would become of mail, and mail that is looked at again.

use std::path::Path;
use std::sync::Arc;

use mailintake::intake::{Intake, IntakeError, Origin};
use mailintake::issue::Verdict;
use mailintake::mailbox::MailboxId;
use mailintake::notice::Notice;
use mailintake::store::Store;
use mailintake::store::message::{MessageId, revise};
use mailintake::time::Clock;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::binary::Program;
use crate::support::scene::{Scene, address, alerts, assert_sound, mail, query};

/// A program with the mailbox `support`, whose server nobody reaches, and these further sections.
fn offline(sections: &str) -> Program {
    let program = Program::bare();
    let secret = program.secret("support.password", "secret");
    program.configure(
        "",
        &format!(
            "[[mailbox]]\naddress = \"support@example.org\"\nname = \"support\"\nhost = \"127.0.0.1\"\nport = 9\n\
             password = {secret}\n{sections}"
        ),
    );
    program
}

/// The folder of the configuration.
fn home(program: &Program) -> std::path::PathBuf {
    program.config().parent().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verdicts(program: &Program) -> Vec<String> {
    let rows = query(
        &program.database(),
        "SELECT source || ' ' || verdict || ' ' || reason FROM messages ORDER BY id",
    );
    rows.into_iter().flatten().collect()
}

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Changes the database behind the program's back, as an older version may have left it.
fn execute(database: &Path, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(database);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        let statement = sqlx::query(AssertSqlSafe(sql.to_owned()));
        statement.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn files_of_every_kind_become_issues_once() {
    let program = offline("");
    let one = program.file("one.eml", mail("one"));
    let postmark = "From a@b Mon Nov  2 10:00:00 2026\n";
    let mbox = format!("{postmark}{}\n{postmark}{}\n", mail("two"), mail("three"));
    let mbox = program.file("box", mbox);
    let maildir = home(&program).join("maildir");
    for part in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(maildir.join(part)).unwrap();
    }
    std::fs::write(maildir.join("new/1.x"), mail("four")).unwrap();
    std::os::unix::fs::symlink(&one, maildir.join("cur/2.x")).unwrap();
    let named = ["ingest", text(&one), text(&mbox), text(&maildir)];
    let output = program.run(&named);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout, "4 messages: 4 issue\n");
    assert!(
        output.stderr.contains("2.x is a link and is left out"),
        "{}",
        output.stderr
    );
    program.run_with(&["ingest", "-"], mail("five").as_bytes());
    assert_eq!(program.ok(&named), "4 messages: 4 duplicate\n");
    let rows = program.json(&["ingest", text(&mbox)]);
    assert_eq!(
        (&rows[1]["index"], &rows[1]["reason"]),
        (&1.into(), &"same-bytes".into())
    );
    assert_eq!(query(&program.database(), "SELECT count(*) FROM issues"), [["5"]]);
    assert!(query(&program.database(), "SELECT remote_id FROM messages WHERE id = 3")[0][0].ends_with("/box#1"));
    assert_sound(&program.database());
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anything_is_taken() {
    let program = offline("");
    let good = program.file("good.eml", mail("good"));
    let picture = program.file("picture.png", b"\x89PNG\r\n\x1a\n");
    let mbox = format!("From a@b Mon Nov  2 10:00:00 2026\n{}\n", mail("half"));
    let cut = program.file("cut.mbox", &mbox.as_bytes()[..mbox.len() / 2]);
    let empty = home(&program).join("empty");
    std::fs::create_dir(&empty).unwrap();
    let missing = home(&program).join("missing.eml");
    for wrong in [&picture, &cut, &empty, &missing] {
        let output = program.run(&["ingest", text(&good), text(wrong)]);
        assert_eq!(output.code, Some(1), "{}: {}", wrong.display(), output.stderr);
        assert!(output.stderr.contains(text(wrong)), "{}", output.stderr);
    }
    let unknown = program.run(&["ingest", "--mailbox", "nobody", text(&good)]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(!program.database().exists());
}

#[test]
fn each_route_that_was_tested_is_explained_and_simulated() {
    let program = offline(
        "[[project]]\nkey = \"SUP\"\n[[route]]\nto = \"*+billing@example.org\"\nproject = \"SUP\"\n\
         [[route]]\nfrom = \"*@customer.example\"\nsubject = \"held*\"\naction = \"hold\"\n\
         [[route]]\nheader = { \"List-Id\" = \"*\" }\naction = \"ignore\"\n",
    );
    let one = program.file("one.eml", mail("one").replace("About one", "Held back"));
    let other = program.file("other.eml", mail("another"));
    let simulated = lines(&program.ok(&["simulate", text(&one), text(&other), "--json"]));
    program.ok(&["ingest", text(&one), text(&other)]);
    let no = "to *+billing@example.org: SUP false";
    for (number, expected) in [
        (0, &[no, "from *@customer.example, subject held*: hold true"][..]),
        (
            1,
            &[
                no,
                "from *@customer.example, subject held*: hold false",
                "List-Id *: ignore false",
            ],
        ),
    ] {
        let explained = program.json(&["message", "explain", &(number + 1).to_string()]);
        for explain in [&simulated[number]["explain"], &explained] {
            let tested: Vec<_> = explain["policy"]["routes"].as_array().unwrap().iter().collect();
            let tested: Vec<_> = tested
                .iter()
                .map(|tested| format!("{} {}", tested["route"].as_str().unwrap(), tested["fits"]))
                .collect();
            assert_eq!(tested, expected);
        }
    }
    let said = program.ok(&["message", "explain", "1"]);
    assert!(
        said.contains("2. from *@customer.example, subject held*: hold  fits, and decides"),
        "{said}"
    );
}

#[test]
fn of_a_duplicate_only_what_is_known_is_said() {
    let program = offline("");
    let one = program.file("one.eml", mail("one"));
    let other = program.file("other.eml", format!("Received: by elsewhere\n{}", mail("one")));
    let taken = program.json(&["ingest", text(&one), text(&one), text(&other)]);
    for row in taken.as_array().unwrap() {
        assert_eq!(row["issue"], "MAIL-1", "{row}");
    }
    assert_eq!(
        verdicts(&program),
        [
            "file issue new-mail",
            "file duplicate same-bytes",
            "file duplicate same-content"
        ]
    );
    for id in ["2", "3"] {
        let said = program.ok(&["message", "explain", id]);
        assert!(!said.contains("does not fit"), "{said}");
        assert!(said.trim_end().ends_with("the same mail is message 1"), "{said}");
        assert_eq!(program.json(&["message", "explain", id])["original"], 1);
    }
    assert_eq!(program.run(&["message", "raw", "2"]).stderr, "");
    let raw = program.run(&["message", "raw", "3"]);
    assert_eq!(
        (raw.code, raw.stdout.as_str()),
        (Some(0), mail("one").as_str()),
        "{}",
        raw.stderr
    );
    assert!(
        raw.stderr.contains("these are the bytes of message 1"),
        "{}",
        raw.stderr
    );
}

#[test]
fn what_a_sender_wrote_commands_no_terminal_and_stays_in_json() {
    let program = offline("");
    let one = program.file(
        "one.eml",
        mail("one").replace("The text", "\u{1b}]0;title\u{7}The text\u{9b}2J"),
    );
    program.ok(&["ingest", text(&one)]);
    for arguments in [
        &["issue", "show", "MAIL-1"][..],
        &["issue", "list"],
        &["simulate", text(&one)],
    ] {
        let said = program.ok(arguments);
        let is_command = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(is_command), "{arguments:?}: {said:?}");
    }
    let shown = program.json(&["issue", "show", "MAIL-1"]);
    let description = shown["description"].as_str().unwrap();
    assert!(description.contains('\u{1b}'), "{description:?}");
}

#[test]
fn a_pipe_ends_with_0_once_committed_and_else_with_75() {
    let program = offline("");
    let mail = mail("piped");
    for _ in 0..2 {
        let output = program.run_with(&["ingest", "-"], mail.as_bytes());
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(0), ""),
            "{}",
            output.stderr
        );
    }
    assert_eq!(verdicts(&program), ["pipe issue new-mail", "pipe duplicate same-bytes"]);
    for (arguments, input) in [
        (&["ingest", "--mailbox", "nobody", "-"][..], mail.as_str()),
        (&["ingest", "--no-such-option", "-"], mail.as_str()),
        (&["ingest", "-", "also.eml"], mail.as_str()),
        (&["ingest", "-"], ""),
    ] {
        let output = program.run_with(arguments, input.as_bytes());
        assert_eq!(output.code, Some(75), "{arguments:?}: {}", output.stderr);
    }
    program.write("[nonsense]\n");
    let output = program.run_with(&["ingest", "-"], mail.as_bytes());
    assert_eq!(output.code, Some(75), "{}", output.stderr);
    assert!(output.stderr.contains("nonsense"), "{}", output.stderr);
}

#[test]
fn a_simulation_decides_as_the_intake_and_writes_nothing() {
    let program = offline("[[project]]\nkey = \"SUP\"\nname = \"Support\"\n");
    let one = program.file("one.eml", mail("one"));
    let reply = mail("two").replace(
        "\n\nThe text of two.\n",
        "\nIn-Reply-To: <one@customer.example>\n\nYes.\n\n> quoted\n",
    );
    let two = program.file("two.eml", reply);
    let odd = program.file("odd.eml", b"\0\0");
    let rows = lines(&program.ok(&["simulate", text(&one), text(&two), text(&odd), "--json"]));
    let verdicts: Vec<_> = rows.iter().map(|row| row["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["issue", "issue", "quarantined"]);
    assert!(!program.database().exists());
    program.ok(&["ingest", text(&one)]);
    let rows = lines(&program.ok(&["simulate", text(&one), text(&two), "--json"]));
    let short = |row: &Value| format!("{} {} {}", row["verdict"], row["reason"], row["issue"]);
    assert_eq!(short(&rows[0]), r#""duplicate" "same-bytes" "SUP-1""#);
    assert_eq!(short(&rows[1]), r#""comment" "reply-to-message" "SUP-1""#);
    assert_eq!(
        (&rows[1]["body"], &rows[1]["elided"]),
        (&"Yes.".into(), &"> quoted".into())
    );
    let said = program.ok(&["simulate", text(&two)]);
    assert!(
        said.contains("auto-submitted-replied") && said.contains("SUP-1 named by in-reply-to"),
        "{said}"
    );
    let stored = lines(&program.ok(&["simulate", "--since", "30d", "--json"]));
    assert_eq!(short(&stored[0]), r#""issue" "new-mail" null"#);
    let config = std::fs::read_to_string(program.config()).unwrap();
    let new = program.file(
        "new.toml",
        config.replace("\"Support\"\n", "\"Support\"\nblock = [\"customer.example\"]\n"),
    );
    let differences = lines(&program.ok(&["simulate", "--since", "30d", "--against", text(&new), "--json"]));
    assert_eq!(differences[0]["after"]["reason"], "sender-blocked");
    assert!(
        program
            .ok(&["simulate", text(&two), "--against", text(&new)])
            .contains("comment -> ignored")
    );
    let summed = program.ok(&["simulate", text(&two), "--against", text(&new)]);
    let row = |verdict: &str| {
        summed
            .lines()
            .find(|line| line.starts_with(verdict))
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        row("ignored").split_whitespace().collect::<Vec<_>>(),
        ["ignored", "0", "1"]
    );
    let same = program.ok(&["simulate", text(&odd), "--against", text(&new)]);
    assert!(same.starts_with("VERDICT") && !same.contains("->"), "{same}");
    assert_eq!(query(&program.database(), "SELECT count(*) FROM messages"), [["1"]]);
}

#[test]
fn a_simulation_answers_each_file_although_one_cannot_be_read() {
    let program = offline("");
    let mbox = format!("From a@b Mon Nov  2 10:00:00 2026\n{}\n", mail("first"));
    let cut = program.file(
        "cut.mbox",
        format!("{mbox}From a@b Mon Nov  2 10:00:00 2026\nFrom: Ann <ann@cus"),
    );
    let empty = home(&program).join("empty");
    std::fs::create_dir(&empty).unwrap();
    let last = program.file("last.eml", mail("last"));
    let output = program.run(&["simulate", text(&cut), text(&empty), text(&last), "--json"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let subjects: Vec<_> = lines(&output.stdout)
        .iter()
        .map(|row| row["subject"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(subjects, ["About first", "About last"], "{}", output.stderr);
    for words in ["is cut off in the middle of message 1", "has no .eml file"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
}

#[test]
fn a_simulation_looks_at_the_newest_mail_without_a_trace() {
    let scene = Scene::support("");
    for number in 0..5 {
        scene.deliver(&mail(&format!("m{number}")));
    }
    let rows = lines(
        &scene
            .program
            .ok(&["simulate", "--mailbox", "support", "--limit", "2", "--json"]),
    );
    let ids: Vec<_> = rows.iter().map(|row| row["message_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m3@customer.example", "m4@customer.example"]);
    assert!(!scene.program.database().exists());
    assert_eq!(scene.server.count("SELECT"), 0);
    assert_eq!(scene.server.count("STORE"), 0);
    assert!(
        scene.server.wait_until(|server| server.count("EXAMINE") == 1),
        "{}",
        address("support")
    );
}

#[test]
fn held_mail_is_released_or_discarded() {
    let program = offline("[[project]]\nkey = \"SUP\"\nname = \"Support\"\nunknown_sender = \"hold\"\n");
    let files = ["one", "two"].map(|name| program.file(name, mail(name)));
    program.ok(&["ingest", text(&files[0]), text(&files[1])]);
    assert_eq!(verdicts(&program), ["file held unknown-sender"; 2]);
    let explained = program.json(&["message", "explain", "1"]);
    assert_eq!(explained["policy"]["known_sender"], false);
    assert_eq!(
        program.ok(&["message", "release", "1"]),
        "message 1 is now issue (new-mail): SUP-1\n"
    );
    program.ok(&["message", "discard", "2"]);
    assert_eq!(verdicts(&program), ["file issue new-mail", "file ignored discarded"]);
    for again in ["release", "discard", "retry"] {
        let output = program.run(&["message", again, "1"]);
        assert_eq!(output.code, Some(1), "{again}");
        assert!(output.stderr.contains("message 1 is issue"), "{}", output.stderr);
    }
    assert_eq!(program.run(&["message", "release", "99"]).code, Some(1));
    assert_sound(&program.database());
}

#[test]
fn quarantined_mail_is_read_again_and_its_alert_ends() {
    let program = offline("");
    let file = program.file("one.eml", mail("one"));
    program.ok(&["ingest", text(&file)]);
    // As a version left it that could not read it.
    for sql in [
        "UPDATE message SET verdict = 'quarantined', reason = 'unreadable', issue = NULL, trace = NULL, class = NULL",
        "DELETE FROM carrier",
        "DELETE FROM participant",
        "DELETE FROM issue",
        "DELETE FROM project",
        "INSERT INTO alert (kind, severity, subject, login, code, summary, remedy, since, last_seen)
         VALUES ('message-quarantined', 'warning', 'support', '', 'unreadable', 's', 'r', 1, 1)",
    ] {
        execute(&program.database(), sql);
    }
    assert_eq!(alerts(&program).len(), 1);
    assert_eq!(
        program.ok(&["message", "retry", "1"]),
        "message 1 is now issue (new-mail): MAIL-1\n"
    );
    assert_eq!(alerts(&program), [] as [String; 0]);
    assert_eq!(
        program.json(&["issue", "show", "MAIL-1"])["description"],
        "The text of one."
    );
    assert_sound(&program.database());
}

#[test]
fn mail_that_still_cannot_be_read_stays_quarantined() {
    let program = offline("");
    program.run_with(&["ingest", "-"], b"\0\0");
    assert_eq!(verdicts(&program), ["pipe quarantined unreadable"]);
    assert_eq!(program.run(&["message", "retry", "1"]).code, Some(1));
    assert_eq!(alerts(&program).len(), 1);
    program.ok(&["message", "discard", "1"]);
    assert_eq!(alerts(&program), [] as [String; 0]);
}

#[test]
fn a_newer_extractor_reads_the_texts_again() {
    let program = offline("");
    let file = program.file("one.eml", mail("one"));
    program.ok(&["ingest", text(&file)]);
    assert_eq!(program.ok(&["message", "reextract", "1"]), "0 of 1 texts changed\n");
    execute(
        &program.database(),
        "UPDATE issue SET description = 'The', description_elided = 'text of one.'",
    );
    assert_eq!(
        program.ok(&["message", "reextract", "--since", "1d"]),
        "1 of 1 texts changed\n"
    );
    let shown = program.json(&["issue", "show", "MAIL-1"]);
    assert_eq!(
        (&shown["description"], &shown["description_elided"]),
        (&"The text of one.".into(), &Value::Null)
    );
}

#[test]
fn of_two_commands_that_decide_at_once_one_does_and_the_other_says_so() {
    let program = offline("[[project]]\nkey = \"SUP\"\nclasses = { list = \"hold\" }\n");
    let held = mail("held").replace("\n\n", "\nList-Id: <news.example>\n\n");
    let held = program.file("held.eml", held);
    program.ok(&["ingest", text(&held)]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(&program.state_dir()).await.unwrap();
        let config = mailintake::config::load(&program.config()).unwrap();
        let clock = Clock::system();
        let notice = Notice::new(store.clone(), clock.clone());
        let intake = Intake::beside(store.clone(), clock, notice, config.rules());
        let stored = revise::stored(store.readers(), MessageId(1)).await.unwrap().unwrap();
        let origin = Origin {
            mailbox: Arc::clone(&config.mailboxes[0]),
            id: MailboxId(stored.mailbox.0),
            suspects: Arc::default(),
        };
        // Each of them saw the message held.
        let first = intake.take_again(&origin, stored.clone(), true).await.unwrap();
        assert_eq!(first.verdict, Verdict::Issue);
        for released in [true, false] {
            let second = intake.take_again(&origin, stored.clone(), released).await.unwrap_err();
            assert!(matches!(second, IntakeError::Overtaken(MessageId(1))), "{second}");
        }
        let third = intake.discard(&origin, MessageId(1)).await.unwrap_err();
        assert!(third.to_string().contains("by another command meanwhile"), "{third}");
        store.close().await;
    });
    assert_eq!(query(&program.database(), "SELECT count(*) FROM issue"), [["1"]]);
    assert_sound(&program.database());
}
