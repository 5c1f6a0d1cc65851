//! The daemon before a POP3 server: the same promises as for IMAP.

use std::time::{Duration, Instant};

use super::stage::Stage;
use crate::support::binary::Daemon;
use crate::support::pop3_server::{Action, Fault, Mail};
use crate::support::scene::{PASSWORD, SOON, address, assert_sound, mail};

fn end(stage: &Stage, daemon: &mut Daemon) {
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_sound(&stage.scene.program.database());
}

#[test]
fn mail_becomes_issues_once_and_is_not_read_twice() {
    let stage = Stage::support("");
    for number in 0..3 {
        stage.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 3);
    stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
    stage.wait_looks(3);
    assert_eq!(stage.server.count("RETR"), 3, "{:?}", stage.server.log());
    let uidl = stage.deliver(&mail("later"));
    stage.scene.wait_rows(&mut daemon, 4);
    assert_eq!(stage.scene.verdicts(), ["issue new-mail"; 4]);
    assert_eq!(stage.server.count("DELE"), 0);
    assert_eq!(stage.left().len(), 4);
    assert_eq!(daemon.events("mailbox.connected").len(), 1, "{}", daemon.log());
    assert_eq!(daemon.events("mailbox.disconnected").len(), 0, "{}", daemon.log());
    assert_eq!(daemon.events("message.ingested").len(), 4);
    let listed = stage.scene.program.json(&["message", "list"]);
    assert_eq!(listed[0]["source"], "pop3");
    assert!(listed[0]["uid"].is_null() && listed[0]["folder"].is_null());
    assert_eq!(listed[0]["remote_id"], uidl);
    let status = stage.scene.program.json(&["status"]);
    assert_eq!(status["mailboxes"][0]["state"], "watching");
    assert_eq!(status["mailboxes"][0]["ingested"], 4);
    end(&stage, &mut daemon);
    // Nor after a restart.
    stage.server.clear_log();
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
    stage.wait_looks(2);
    assert_eq!(stage.server.count("RETR"), 0, "{:?}", stage.server.log());
    stage.scene.program.ok(&["audit"]);
    end(&stage, &mut daemon);
}

#[test]
fn what_is_deleted_is_committed_and_at_most_fifty_at_a_time() {
    let stage = Stage::support("after = \"delete\"");
    for number in 0..120 {
        stage.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 120);
    assert_eq!(stage.left(), [] as [&str; 0]);
    assert_eq!(
        stage
            .scene
            .query("SELECT count(*) FROM messages WHERE server_action = 'done'"),
        [["120"]]
    );
    let log = stage.server.log();
    let deleted = log
        .split(|line| line == "QUIT")
        .map(|session| session.iter().filter(|line| line.starts_with("DELE")).count());
    let deleted: Vec<usize> = deleted.filter(|count| *count > 0).collect();
    assert_eq!(deleted, [50, 50, 20]);
    assert_eq!(daemon.events("server_action.done").len(), 3);
    end(&stage, &mut daemon);
}

#[test]
fn a_session_that_dies_before_quit_doubles_nothing_and_deletes_in_the_end() {
    // Before QUIT is carried out, after it, at a DELE, and while the daemon is away.
    for (command, action) in [
        ("QUIT", Action::HangUp),
        ("QUIT", Action::HangUpAfter(0)),
        ("DELE", Action::HangUp),
        ("QUIT", Action::No("some messages were not removed".into())),
        ("DELE", Action::No("read only".into())),
    ] {
        let stage = Stage::support("after = \"delete\"");
        for number in 0..5 {
            stage.deliver(&mail(&format!("m{number}")));
        }
        stage.server.fault(Fault::at(command, action).times(2));
        let mut daemon = stage.scene.program.daemon();
        stage.scene.wait_rows(&mut daemon, 5);
        assert_eq!(stage.left(), [] as [&str; 0], "{command}");
        assert_eq!(stage.scene.verdicts(), ["issue new-mail"; 5], "{command}");
        stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
        daemon.wait_for("no alert", SOON, |_| stage.scene.alerts().is_empty().then_some(()));
        end(&stage, &mut daemon);
    }
}

#[test]
fn a_uidl_that_comes_to_another_mail_before_the_deletion_deletes_nothing_unread() {
    let stage = Stage::support("after = \"delete\"");
    stage.server.deliver_as(&address("support"), "same", mail("one"));
    stage.server.fault(Fault::at("QUIT", Action::HangUp));
    let mut daemon = stage.scene.program.daemon();
    stage.wait_query(
        &mut daemon,
        "SELECT count(*) FROM messages WHERE server_action = 'pending'",
        "1",
    );
    daemon.kill();
    // As long as the other, to the byte.
    stage.server.change(&address("support"), Vec::clear);
    stage.server.deliver_as(&address("support"), "same", mail("two"));
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 2);
    let ids = stage
        .scene
        .query("SELECT message_id FROM messages WHERE verdict = 'issue' ORDER BY id");
    assert_eq!(ids, [["one@customer.example"], ["two@customer.example"]]);
    assert_eq!(stage.left(), [] as [&str; 0]);
    end(&stage, &mut daemon);
}

#[test]
fn a_uidl_that_is_used_again_for_another_mail_is_noticed() {
    let stage = Stage::support("");
    let put = |uidl: &str, name: &str| stage.server.deliver_as(&address("support"), uidl, mail(name));
    put("1", "m1");
    put("2", "m2");
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 2);
    stage.wait_looks(2);
    // By its size.
    stage.server.change(&address("support"), |mails| mails.remove(1));
    put("2", "a longer name");
    stage.scene.wait_rows(&mut daemon, 3);
    // From then on by its bytes alone.
    stage.server.change(&address("support"), |mails| mails.remove(0));
    put("1", "m3");
    stage.scene.wait_rows(&mut daemon, 4);
    assert_eq!(stage.scene.verdicts(), ["issue new-mail"; 4]);
    assert!(
        daemon.log().contains("one UIDL to different messages"),
        "{}",
        daemon.log()
    );
    // The ledger knows it after a restart, too.
    daemon.kill();
    stage.server.change(&address("support"), Vec::clear);
    put("1", "m4");
    put("2", "m2");
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 5);
    stage.wait_looks(3);
    stage.scene.wait_rows(&mut daemon, 5);
    stage.scene.program.ok(&["audit"]);
    end(&stage, &mut daemon);
}

#[test]
fn a_uidl_that_was_gone_and_comes_back_with_a_mail_of_the_same_size_is_noticed() {
    let stage = Stage::support("");
    stage.server.deliver_as(&address("support"), "1", mail("m1"));
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 1);
    stage.server.change(&address("support"), Vec::clear);
    stage.wait_looks(2);
    stage.server.deliver_as(&address("support"), "1", mail("m2"));
    stage.scene.wait_rows(&mut daemon, 2);
    end(&stage, &mut daemon);
}

#[test]
fn copies_under_one_uidl_are_one_mail_and_all_of_them_are_deleted() {
    let stage = Stage::support("after = \"delete\"");
    for _ in 0..3 {
        stage.server.deliver_as(&address("support"), "hash", mail("one"));
    }
    stage.server.deliver_as(&address("support"), "other", mail("one"));
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 2);
    assert_eq!(stage.scene.verdicts(), ["issue new-mail", "duplicate same-bytes"]);
    assert_eq!(stage.left(), [] as [&str; 0]);
    end(&stage, &mut daemon);
}

#[test]
fn what_was_there_before_the_start_is_recorded_and_left_even_under_another_uidl() {
    for (start, taken, left) in [("\"new\"", 0, 2), ("2026-11-01", 1, 1), ("\"all\"", 2, 0)] {
        let stage = Stage::support(&format!("after = \"delete\"\nstart = {start}"));
        stage.deliver(&mail("old").replace("2 Nov 2026", "2 Oct 2026"));
        stage.deliver(&mail("recent"));
        let mut daemon = stage.scene.program.daemon();
        stage.scene.wait_rows(&mut daemon, 2);
        let before = stage
            .scene
            .query("SELECT count(*) FROM messages WHERE reason = 'before-start'");
        assert_eq!(before, [[left.to_string()]], "{start}");
        assert_eq!(stage.server.count("RETR"), taken, "{start}: {:?}", stage.server.log());
        stage.deliver(&mail("new"));
        stage.scene.wait_rows(&mut daemon, 3);
        assert_eq!(stage.left().len(), left, "{start}");
        // Gone for a while, and back under the same UIDL.
        let mails = stage.server.change(&address("support"), std::mem::take);
        stage.wait_looks(2);
        stage.server.change(&address("support"), |all| all.extend(mails));
        stage.wait_looks(2);
        stage.scene.wait_rows(&mut daemon, 3);
        for (number, mail) in stage.server.messages(&address("support")).iter().enumerate() {
            stage.server.change(&address("support"), |mails| {
                mails
                    .iter_mut()
                    .filter(|other| *other == mail)
                    .for_each(|mail| mail.uidl = format!("renamed{number}"));
            });
        }
        stage.scene.wait_rows(&mut daemon, 3 + left);
        let issues = stage.scene.query("SELECT count(*) FROM issues");
        assert_eq!(issues, [[(taken + 1).to_string()]], "{start}");
        assert_eq!(stage.left().len(), left, "what was left out is not deleted");
        end(&stage, &mut daemon);
    }
}

#[test]
fn a_server_without_uidl_is_known_by_bytes() {
    for (shape, start, taken) in [
        ("UIDL", "all", 2),
        ("UIDL", "new", 0),
        ("CAPA", "all", 2),
        ("CAPA", "new", 0),
    ] {
        let stage = Stage::shaped(&format!("start = \"{start}\""), |options| options.without(shape));
        stage.deliver(&mail("one"));
        stage.deliver(&mail("two"));
        let mut daemon = stage.scene.program.daemon();
        stage.scene.wait_rows(&mut daemon, 2);
        stage.wait_looks(2);
        stage.deliver(&mail("three"));
        stage.scene.wait_rows(&mut daemon, 3);
        stage.wait_looks(2);
        stage.scene.wait_rows(&mut daemon, 3);
        assert_eq!(
            stage.scene.query("SELECT count(*) FROM issues"),
            [[(taken + 1).to_string()]]
        );
        let ids = stage
            .scene
            .query("SELECT count(*) FROM messages WHERE remote_id LIKE 'sha256:%'");
        assert_eq!(ids, [["3"]]);
        stage.scene.program.ok(&["audit"]);
        stage.configure(&["support"], "after = \"delete\"");
        daemon.reload();
        daemon.wait_event("config.reloaded", SOON);
        stage.deliver(&mail("four"));
        stage.scene.wait_rows(&mut daemon, 4);
        assert_eq!(stage.left().len(), 3, "only what came since is deleted");
        end(&stage, &mut daemon);
    }
}

#[test]
fn sizes_that_are_estimates_cost_a_few_reads_and_double_nothing() {
    let stage = Stage::support("");
    for number in 0..40 {
        stage.deliver(&mail(&format!("m{number}")));
    }
    stage.server.change(&address("support"), |mails| {
        for mail in mails {
            mail.stated = Some(mail.raw.len() as u64 + 9);
        }
    });
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 40);
    daemon.kill();
    stage.server.clear_log();
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
    stage.wait_looks(3);
    assert!(stage.server.count("RETR") <= 8, "{:?}", stage.server.log());
    stage.scene.wait_rows(&mut daemon, 40);
    end(&stage, &mut daemon);
}

#[test]
fn the_time_that_a_server_wants_between_sign_ins_is_kept() {
    let stage = Stage::shaped("after = \"delete\"", |options| options.with("LOGIN-DELAY 3 USER"));
    for number in 0..120 {
        stage.deliver(&mail(&format!("m{number}")));
    }
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 120);
    assert_eq!(stage.server.count("QUIT"), 1, "one session took all of it");
    let begun = Instant::now();
    let before = stage.server.count("AUTH");
    assert!(stage.server.wait_until(|server| server.count("AUTH") >= before + 2));
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    end(&stage, &mut daemon);
}

#[test]
fn a_fault_before_the_list_is_over_by_itself() {
    std::thread::scope(|scope| {
        for (command, action) in [
            ("GREETING", Action::HangUp),
            ("GREETING", Action::Bye("[SYS/TEMP] too busy".into())),
            ("CAPA", Action::HangUp),
            ("AUTH", Action::HangUp),
            ("AUTH", Action::No("[IN-USE] another client is here".into())),
            ("AUTH", Action::No("[SYS/TEMP] the directory is away".into())),
            ("LIST", Action::HangUpAfter(8)),
            ("UIDL", Action::No("not now".into())),
            ("RETR", Action::HangUpAfter(40)),
            ("RETR", Action::No("[SYS/TEMP] not now".into())),
        ] {
            scope.spawn(move || {
                let stage = Stage::support("");
                stage.deliver(&mail("one"));
                stage.deliver(&mail("two"));
                stage.server.fault(Fault::at(command, action));
                let mut daemon = stage.scene.program.daemon();
                stage.scene.wait_rows(&mut daemon, 2);
                stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
                assert_eq!(stage.scene.verdicts(), ["issue new-mail"; 2], "{command}");
                assert_eq!(daemon.events("alert.raised").len(), 0, "{command}");
            });
        }
    });
}

#[test]
fn a_refused_password_is_told_of_once_and_mended_by_a_reload() {
    let stage = Stage::support("");
    stage.scene.program.secret("support.password", "incorrect horse");
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_alerts(&mut daemon, &["credentials-refused"], SOON);
    stage.scene.wait_state(&mut daemon, "support", "misconfigured", SOON);
    assert!(stage.server.count("AUTH") <= 3, "{:?}", stage.server.log());
    assert!(!daemon.log().contains("incorrect horse"), "{}", daemon.log());
    stage.deliver(&mail("one"));
    stage.scene.program.secret("support.password", PASSWORD);
    daemon.reload();
    stage.scene.wait_rows(&mut daemon, 1);
    daemon.wait_event("alert.resolved", SOON);
    stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
    end(&stage, &mut daemon);
}

#[test]
fn what_only_an_administrator_can_mend_is_told_of_as_that() {
    let stage = Stage::support("");
    let closed = Action::No("[SYS/PERM] POP is switched off".into());
    stage.server.fault(Fault::at("AUTH", closed).always());
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_alerts(&mut daemon, &["admin-action-required"], SOON);
    stage.scene.wait_state(&mut daemon, "support", "needs-admin", SOON);
    assert_eq!(stage.scene.alerts(), ["admin-action-required support SYS/PERM"]);
}

#[test]
fn a_message_that_the_server_does_not_hand_over_holds_up_no_other() {
    let endless = Action::Flood(b"+OK\r\n".to_vec(), vec![b'x'; 1 << 16]);
    for (action, verdict) in [
        (Action::No("cannot read it".into()), None),
        (Action::HangUp, None),
        (Action::HangUpAfter(20), None),
        (endless, Some("issue new-mail")),
    ] {
        let stage = Stage::support("after = \"delete\"\nmax_message_size = \"64 KiB\"");
        stage.deliver(&mail("bad"));
        for number in 0..3 {
            stage.deliver(&mail(&format!("m{number}")));
        }
        // It is the first that is asked for, until the others are through.
        stage.server.fault(Fault::at("RETR 1", action).always());
        let mut daemon = stage.scene.program.daemon();
        daemon.wait_for("the others", SOON, |_| {
            let rows = stage
                .scene
                .look("SELECT count(*) FROM messages WHERE message_id LIKE 'm%' AND server_action = 'done'");
            (rows == [["3"]]).then_some(())
        });
        if let Some(verdict) = verdict {
            stage.scene.wait_rows(&mut daemon, 4);
            assert_eq!(stage.scene.verdicts().len(), 4, "{verdict}");
            assert_eq!(stage.left().len(), 1, "it is whole on the server alone");
        } else {
            stage.deliver(&mail("late"));
            daemon.wait_for("mail that came later", SOON, |_| {
                let rows = stage
                    .scene
                    .look("SELECT count(*) FROM messages WHERE message_id LIKE 'late%'");
                (rows == [["1"]]).then_some(())
            });
            daemon.wait_for("the alert", SOON, |_| {
                let open = stage.scene.alerts();
                open.iter()
                    .any(|alert| alert == "mailbox-stalled support message-withheld")
                    .then_some(())
            });
            // Another client takes it away.
            stage.server.change(&address("support"), Vec::clear);
            stage.wait_query(
                &mut daemon,
                "SELECT count(*) FROM messages WHERE verdict = 'vanished'",
                "1",
            );
            daemon.wait_for("no alert", SOON, |_| stage.scene.alerts().is_empty().then_some(()));
        }
        end(&stage, &mut daemon);
    }
}

#[test]
fn what_is_too_large_is_an_issue_from_its_header_and_stays() {
    let stage = Stage::support("after = \"delete\"\nmax_message_size = \"2 KiB\"");
    stage.deliver(&(mail("large") + &"x".repeat(5000)));
    stage.deliver(&(mail("liar") + &"x".repeat(5000)));
    stage
        .server
        .change(&address("support"), |mails| mails[1].stated = Some(100));
    stage.server.deliver_as(&address("support"), "empty", "");
    stage.deliver(&mail("small"));
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 4);
    stage.wait_looks(3);
    assert_eq!(stage.left(), ["u1", "u2", "empty"]);
    assert_eq!(stage.scene.query("SELECT count(*) FROM issues"), [["3"]]);
    stage.wait_query(
        &mut daemon,
        "SELECT count(*) FROM messages WHERE verdict = 'quarantined'",
        "1",
    );
    end(&stage, &mut daemon);
}

#[test]
fn a_limit_that_is_raised_makes_no_second_issue_of_what_was_over_it() {
    for shape in ["UIDL", "CAPA", ""] {
        let stage = Stage::shaped("start = \"all\"\nmax_message_size = \"2 KiB\"", |options| {
            options.without(shape)
        });
        stage.deliver(&(mail("large") + &"x".repeat(5000)));
        let mut daemon = stage.scene.program.daemon();
        stage.scene.wait_rows(&mut daemon, 1);
        stage.configure(&["support"], "max_message_size = \"1 MiB\"");
        daemon.reload();
        daemon.wait_event("config.reloaded", SOON);
        stage.deliver(&mail("small"));
        stage.scene.wait_rows(&mut daemon, 2);
        stage.wait_looks(2);
        assert_eq!(
            stage.scene.query("SELECT count(*) FROM message"),
            [["2"]],
            "without {shape}"
        );
        stage.scene.program.ok(&["audit"]);
        end(&stage, &mut daemon);
    }
}

#[test]
fn what_the_first_listing_found_is_not_acknowledged_and_what_comes_later_is() {
    let stage = Stage::with(&["support"], |options| options);
    stage.scene.configure(&[
        &stage.section("support", "start = \"all\""),
        "[[project]]\nkey = \"SUP\"\nacknowledge = true\n",
        "[[smtp]]\nhost = \"127.0.0.1\"\nport = 1\n",
    ]);
    let deliver = |name: &str, at: i64| {
        let at = chrono::DateTime::from_timestamp(at, 0).unwrap().to_rfc2822();
        let received = format!("Received: from a by b; {at}\r\n");
        stage.deliver(&(received + &mail(name).replace("ann@", &format!("{name}@"))));
    };
    deliver("before", mailintake::time::Clock::system().now().0 - 60);
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 1);
    let listed_at = stage.scene.query("SELECT listed_at FROM folder").concat()[0]
        .parse::<i64>()
        .unwrap();
    deliver("meanwhile", listed_at);
    deliver("later", listed_at + 1);
    stage.scene.wait_rows(&mut daemon, 3);
    assert_eq!(
        stage
            .scene
            .query("SELECT trace ->> '$.policy.acknowledged' FROM message ORDER BY id")
            .concat(),
        ["not-new", "not-new", "yes"]
    );
    end(&stage, &mut daemon);
}

#[test]
fn what_is_large_goes_by_way_of_the_disk() {
    let stage = Stage::support("start = \"all\"");
    let line = "..a line that begins with dots, as a server sends it twice\r\n.\r\n";
    let raw = mail("large").replace("\r\n", "\n").replace('\n', "\r\n") + &line.repeat(40_000);
    stage.deliver(&raw);
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 1);
    let spread = "SELECT count(DISTINCT message) FROM original_more";
    assert_eq!(stage.scene.query(spread), [["1"]], "it was held in memory");
    assert!(
        stage.scene.program.ok(&["message", "raw", "1"]) == raw,
        "other bytes than were sent"
    );
    end(&stage, &mut daemon);
}

#[test]
fn a_server_that_falls_silent_or_never_ends_disturbs_no_other_mailbox_and_stops_in_time() {
    let users = ["support", "silent", "endless", "crowded"];
    let stage = Stage::with(&users, |options| options);
    stage.configure(&users, "");
    for user in ["silent", "endless"] {
        stage.server.deliver(&address(user), mail(user));
    }
    stage
        .server
        .fault(Fault::at("RETR", Action::Silence).of(&address("silent")).always());
    let line = Action::Flood(b"+OK\r\n".to_vec(), vec![b'x'; 1000]);
    stage
        .server
        .fault(Fault::at("LIST", line).of(&address("endless")).always());
    let list = Action::Flood(b"+OK\r\n".to_vec(), b"1 a\r\n".repeat(2000));
    stage
        .server
        .fault(Fault::at("UIDL", list).of(&address("crowded")).always());
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_state(&mut daemon, "support", "watching", SOON);
    for number in 0..3 {
        let name = format!("m{number}");
        stage.deliver(&mail(&name));
        let sql = format!("SELECT count(*) FROM messages WHERE message_id LIKE '{name}@%'");
        stage.wait_query(&mut daemon, &sql, "1");
    }
    for user in ["endless", "crowded"] {
        let sql = format!("SELECT error_code FROM mailbox WHERE name = '{user}'");
        stage.wait_query(&mut daemon, &sql, "over-limit");
    }
    let stopping = Instant::now();
    end(&stage, &mut daemon);
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
}

#[test]
fn a_stop_in_the_midst_ends_in_order_with_nothing_owed() {
    let stage = Stage::support("after = \"delete\"");
    for number in 0..120 {
        stage.deliver(&mail(&format!("m{number}")));
    }
    stage
        .server
        .fault(Fault::at("RETR", Action::Delay(Duration::from_millis(20))).always());
    let mut daemon = stage.scene.program.daemon();
    daemon.wait_event("message.ingested", SOON);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(
        stage
            .scene
            .query("SELECT count(*) FROM messages WHERE server_action = 'pending'"),
        [["0"]]
    );
    let taken: usize = stage.scene.query("SELECT count(*) FROM messages")[0][0]
        .parse()
        .unwrap();
    assert_eq!(stage.left().len(), 120 - taken);
    assert!(taken < 120, "it was not in the midst");
    stage.server.clear_faults();
    let mut daemon = stage.scene.program.daemon();
    daemon.wait_event("daemon.started", SOON);
    stage.scene.wait_rows(&mut daemon, 120);
    end(&stage, &mut daemon);
}

#[test]
fn commands_look_at_the_server_without_a_trace() {
    let stage = Stage::support("after = \"delete\"\nstart = \"all\"");
    stage.deliver(&mail("one"));
    stage.deliver(&mail("two"));
    let tested = stage.scene.program.ok(&["test"]);
    for words in ["a POP3 server", "2 messages, with a UIDL each", "takes 2 and leaves 0"] {
        assert!(tested.contains(words), "{tested}");
    }
    let simulated = stage
        .scene
        .program
        .ok(&["simulate", "--mailbox", "support", "--limit", "1", "--json"]);
    assert!(
        simulated.contains("two@customer.example") && !simulated.contains("one@"),
        "{simulated}"
    );
    let mut daemon = stage.scene.program.daemon();
    stage.scene.wait_rows(&mut daemon, 2);
    assert_eq!(daemon.terminate(), Some(0));
    stage.server.change(&address("support"), |mails| {
        mails.push(Mail {
            uidl: "x".into(),
            raw: mail("three").replace('\n', "\r\n").into_bytes(),
            stated: None,
        });
    });
    let audited = stage.scene.program.run(&["audit", "--json"]);
    assert_eq!(audited.code, Some(1), "{}", audited.stderr);
    let audited: serde_json::Value = serde_json::from_str(&audited.stdout).unwrap();
    assert_eq!(audited[0]["missing"][0]["message_id"], "three@customer.example");
    assert_eq!(audited[0]["missing"][0]["uidl"], "x");
    assert_eq!(stage.left(), ["x"], "{:?}", stage.server.log());
    stage.scene.program.secret("support.password", "incorrect horse");
    let refused = stage.scene.program.run(&["test"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stdout.contains("FAILED  sign-in"), "{}", refused.stdout);
}
